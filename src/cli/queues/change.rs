//! `celeriac queues pause|resume|purge`: a queue hands out nothing, does so again, or loses what waits in it.

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, QueueStatus};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Clock as _;
use clap::Args;
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted};
use super::super::session::{Session, operator};
use crate::admin::fault::Fault;
use crate::admin::purge::{Purge, parts};
use crate::admin::queues;
use crate::clock::SystemClock;
use crate::look::Patience;
use crate::store::AuditEntry;

/// Which queue is paused or resumed.
#[derive(Args, Debug)]
pub(crate) struct OneQueue {
    /// The queue.
    #[arg(value_name = "QUEUE")]
    queue: String,
}

/// What is purged.
#[derive(Args, Debug)]
pub(crate) struct PurgeArgs {
    /// The queue.
    #[arg(value_name = "QUEUE")]
    queue: String,
    /// Also tasks that wait for their time.
    #[arg(long)]
    scheduled: bool,
    /// Also tasks that wait for their next attempt.
    #[arg(long)]
    retrying: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Returns a queue that is configured, or that the broker has heard of.
pub(crate) async fn known(
    session: &Session,
    broker: &dyn Broker,
    name: &str,
) -> Result<QueueName, Failure> {
    let config = &session.config;
    let found = queues::find((broker, Patience::ONE_SHOT), config, name).await;
    match (found, config.known_queue(name, "QUEUE")) {
        (Err(Fault::Missing(_)), Err(report)) => Err(Failure::new(Exit::Usage, report)),
        (found, _) => Ok(found?),
    }
}

async fn status(broker: &dyn Broker, queue: &QueueName) -> Result<Option<QueueStatus>, Failure> {
    let queues = Session::insist(|| broker.queues()).await?;
    Ok(queues.into_iter().find(|status| status.queue == *queue))
}

/// Pauses or resumes a queue.
pub(super) async fn pause(
    session: &Session,
    broker: &dyn Broker,
    (args, paused): (&OneQueue, bool),
) -> Result<Exit, Failure> {
    let queue = known(session, broker, &args.queue).await?;
    let was = status(broker, &queue).await?;
    let changed = was.as_ref().is_some_and(|status| status.paused) != paused;
    if changed {
        Session::insist(|| broker.pause(&queue, paused)).await?;
        let held = was.map_or(0, |status| status.held());
        let action = if paused {
            "queue.pause"
        } else {
            "queue.resume"
        };
        record(
            session,
            action,
            &queue,
            format!("{} held", counted(held, "task")),
        )
        .await?;
    }
    if session.json {
        output::json(&json!({ "queue": queue, "paused": paused, "changed": changed }));
        return Ok(Exit::Ok);
    }
    let text = match (paused, changed) {
        (true, true) => "is paused: it hands out nothing, what runs goes on",
        (true, false) => "was paused already; nothing was changed",
        (false, true) => "is resumed",
        (false, false) => "was not paused; nothing was changed",
    };
    output::line(&format!("the queue {queue} {text}"));
    Ok(Exit::Ok)
}

/// Ends what waits in a queue: as many tasks as there are now, so that it ends however much comes.
pub(super) async fn purge(
    session: &Session,
    broker: &dyn Broker,
    args: &PurgeArgs,
) -> Result<Exit, Failure> {
    let queue = known(session, broker, &args.queue).await?;
    let found = status(broker, &queue).await?;
    let parts = parts(found.as_ref(), (args.scheduled, args.retrying));
    agree(&queue, &parts, args.yes)?;
    let mut work = Purge::new(broker, &queue, Patience::ONE_SHOT);
    let ended = work.all(&parts, u64::MAX).await;
    let (purged, is_unsure) = (work.purged, work.is_unsure());
    if purged > 0 || is_unsure {
        record(session, "queue.purge", &queue, work.audited(&parts)).await?;
    }
    if session.json {
        output::json(&json!({ "queue": queue, "purged": purged, "at_least": is_unsure }));
    } else {
        let least = if is_unsure { "at least " } else { "" };
        let tasks = counted(purged, "task");
        output::line(&format!(
            "purged {least}{tasks} of the queue {queue}; they count as cancelled"
        ));
    }
    ended?;
    Ok(Exit::Ok)
}

/// Asks, unless that is not needed.
fn agree(queue: &QueueName, parts: &[(TaskState, u64)], yes: bool) -> Result<(), Failure> {
    if yes || parts.iter().all(|(_, count)| *count == 0) {
        return Ok(());
    }
    let counts = parts
        .iter()
        .map(|(state, count)| format!("{count} {state}"));
    let what = counts.collect::<Vec<_>>().join(", ");
    match output::confirm(&format!("end {what} of the queue {queue} for good?")) {
        Some(true) => Ok(()),
        Some(false) => {
            let nothing = anyhow::anyhow!("nothing was purged");
            Err(Failure::new(Exit::TaskFailed, nothing))
        }
        None => Err(Failure::usage(format!(
            "this ends {what} of the queue {queue} for good: say --yes"
        ))),
    }
}

/// Writes into the audit what was done.
async fn record(
    session: &Session,
    action: &str,
    queue: &QueueName,
    detail: String,
) -> Result<(), Failure> {
    let entry = AuditEntry {
        at: SystemClock.now(),
        actor: operator(),
        action: action.to_owned(),
        target: queue.to_string(),
        detail,
    };
    let written = async {
        let store = session.store()?;
        Ok::<(), Failure>(Session::insist(|| store.record(entry.clone())).await?)
    };
    written.await.map_err(|failure| {
        let error = anyhow::anyhow!("it is done, but not recorded in the audit: {failure}");
        Failure::unavailable(error)
    })
}
