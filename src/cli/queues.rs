//! `celeriac queues`, `queues pause|resume|purge`: what every queue holds and has counted, and whether the two agree.

pub(super) mod change;

use celeriac_actors::ports::{Broker, QueueStatus};
use celeriac_actors::time::{Clock, Timestamp};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::change::{OneQueue, PurgeArgs};
use super::exit::{Exit, Failure};
use super::session::Session;
use super::{Global, output, text};
use crate::admin::queues::{Audit, document, read};
use crate::app::App;
use crate::clock::SystemClock;

/// Shows or changes queues.
#[derive(Args, Debug)]
pub(crate) struct QueuesArgs {
    #[command(subcommand)]
    command: Option<QueuesCommand>,
}

/// What is done to a queue; without it all are shown.
#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// Have a queue hand out nothing; what runs goes on, and what comes waits.
    Pause(OneQueue),
    /// Have a paused queue hand out tasks again.
    Resume(OneQueue),
    /// End the tasks that are ready in a queue, for good: they count as cancelled.
    Purge(PurgeArgs),
}

pub(crate) fn run(args: &QueuesArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    let broker = session.existing_broker()?;
    let Some(command) = &args.command else {
        return list(&session, &*broker);
    };
    Session::block_on(async {
        match command {
            QueuesCommand::Pause(args) => change::pause(&session, &*broker, (args, true)).await,
            QueuesCommand::Resume(args) => change::pause(&session, &*broker, (args, false)).await,
            QueuesCommand::Purge(args) => change::purge(&session, &*broker, args).await,
        }
    })?
}

fn list(session: &Session, broker: &dyn Broker) -> Result<Exit, Failure> {
    let queues = Session::block_on(Session::insist(|| read(broker, &session.config)))??;
    let audit = Audit::of(&queues);
    if session.json {
        let list: Vec<Value> = queues.iter().map(document).collect();
        output::json(&json!({ "queues": list, "audit": audit.document() }));
        return Ok(Exit::Ok);
    }
    output::line(&held(&queues, SystemClock.now()));
    output::line("");
    output::line(&counted(&queues));
    output::line("");
    output::line(&audit.to_string());
    Ok(Exit::Ok)
}

/// Draws what the queues hold.
pub(super) fn held(queues: &[QueueStatus], now: Timestamp) -> String {
    let row = |queue: &QueueStatus| {
        let oldest = queue.oldest_ready.filter(|_| queue.ready > 0);
        vec![
            queue.queue.to_string(),
            queue.ready.to_string(),
            queue.active.to_string(),
            queue.scheduled.to_string(),
            queue.retrying.to_string(),
            queue.dead_outbox.to_string(),
            queue.consumers.to_string(),
            oldest.map_or_else(|| "-".to_owned(), |at| text::span(now.since(at))),
            if queue.paused { "paused" } else { "" }.to_owned(),
        ]
    };
    let head = [
        "QUEUE",
        "READY",
        "ACTIVE",
        "SCHEDULED",
        "RETRYING",
        "UNSTORED",
        "CONSUMERS",
        "OLDEST",
        "",
    ];
    output::table(&head, &queues.iter().map(row).collect::<Vec<_>>())
}

/// Draws what the queues have counted.
pub(super) fn counted(queues: &[QueueStatus]) -> String {
    let row = |queue: &QueueStatus| {
        let counters = &queue.counters;
        let numbers = [
            counters.enqueued,
            counters.revived,
            counters.succeeded,
            counters.dead,
            counters.cancelled,
            counters.expired,
            counters.retried,
            counters.released,
            counters.rescued,
            counters.stale,
        ];
        let mut row = vec![queue.queue.to_string()];
        row.extend(numbers.map(|number| number.to_string()));
        row
    };
    let head = [
        "COUNTED",
        "ENQUEUED",
        "REVIVED",
        "SUCCEEDED",
        "DEAD",
        "CANCELLED",
        "EXPIRED",
        "RETRIED",
        "RELEASED",
        "RESCUED",
        "STALE",
    ];
    output::table(&head, &queues.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::queues::unused;
    use celeriac_actors::ids::QueueName;
    use celeriac_actors::ports::Counters;

    fn queue(ready: u64, counters: Counters) -> QueueStatus {
        QueueStatus {
            ready,
            counters,
            ..unused(&QueueName::new("billing").unwrap())
        }
    }

    #[test]
    fn the_audit_finds_what_is_missing() {
        let counters = Counters {
            enqueued: 10,
            revived: 1,
            succeeded: 5,
            dead: 2,
            ..Counters::default()
        };
        let right = Audit::of(&[queue(4, counters)]);
        assert_eq!(
            right.to_string(),
            "audit: 11 came in = 7 ended + 4 held; lost = 0"
        );
        assert_eq!(Audit::of(&[queue(3, counters)]).document()["lost"], 1);
        let more = Audit::of(&[queue(6, counters)]).to_string();
        assert!(more.ends_with("lost = 0, made up = 2"), "{more}");
    }

    #[test]
    fn a_table_shows_the_age_only_of_what_waits() {
        let now = Timestamp::from_millis(60_000);
        let mut waits = queue(2, Counters::default());
        waits.oldest_ready = Some(Timestamp::from_millis(30_000));
        waits.paused = true;
        let table = held(&[waits, queue(0, Counters::default())], now);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("QUEUE    READY  ACTIVE"), "{table}");
        assert!(lines[1].ends_with("30s     paused"), "{table}");
        assert!(lines[2].ends_with('-'), "{table}");
    }
}
