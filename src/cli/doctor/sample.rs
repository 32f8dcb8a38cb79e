//! A task sent through, each hop timed: by a worker that runs the demo tasks, or else by a runtime in this process.
//!
//! The runtime here drains a queue of its own, so that it never takes anybody's tasks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::events::{Observer, TaskEvent};
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::Broker;
use celeriac_actors::producer::EnqueueOptions;
use celeriac_actors::task::Task as _;
use celeriac_actors::time::Clock as _;
use celeriac_actors::tree::TreeOptions;
use serde_json::json;
use tokio::time::Instant;

use super::super::demo_tasks::{self, Echo};
use super::super::session::Session;
use super::finding::{Blame, Finding};
use crate::app::App;
use crate::client::{Client, WaitError};
use crate::clock::SystemClock;
use crate::runtime::{Runtime, RuntimeOptions, fresh_worker_id};

/// The queue of the runtime in this process.
const OWN_QUEUE: &str = crate::admin::queues::DOCTORS_QUEUE;
/// How long a worker has to run the task.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the runtime in this process has, which must start first.
const OWN_PATIENCE: Duration = Duration::from_secs(10);

/// When a task was seen where.
#[derive(Clone, Copy, Debug)]
struct Hops {
    sent: Instant,
    acknowledged: Instant,
    result: Instant,
}

/// Sends a task through and says how long each hop took.
pub(super) async fn send(session: &Session, broker: Option<Arc<dyn Broker>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(broker) = broker
        && let Ok(client) = session.client()
    {
        match through_worker(session, &client, &broker).await {
            Ok(Some(hops)) => return hops_seen(hops, None, "a worker"),
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
    }
    match here(session).await {
        Ok(more) => findings.extend(more),
        Err(text) => findings.push(Finding::failure(Blame::Data, "task", text)),
    }
    findings
}

fn echo() -> Echo {
    Echo {
        value: json!("from the doctor"),
    }
}

/// Tries the workers that are alive; `None` when none drains the task's queue.
async fn through_worker(
    session: &Session,
    client: &Client,
    broker: &Arc<dyn Broker>,
) -> Result<Option<Hops>, Finding> {
    let failed = |text: String| Finding::warning("task", text);
    let name = Echo::NAME
        .parse()
        .map_err(|error: celeriac_actors::ids::NameError| failed(error.to_string()))?;
    let queue = client.producer().queue_of(&name, Echo::QUEUE);
    let queue = queue.map_err(|error| failed(error.to_string()))?;
    let workers = Session::insist(|| broker.workers()).await;
    let workers = workers.map_err(|error| failed(error.to_string()))?;
    if !workers
        .iter()
        .any(|worker| worker.alive && !worker.quiet && worker.queues.contains(&queue))
    {
        return Ok(None);
    }
    let sent = Instant::now();
    let options = EnqueueOptions::default().queue(queue).want_outcome();
    let handle = client.enqueue_with(&echo(), options).await;
    let handle = handle.map_err(|error| failed(error.to_string()))?;
    let acknowledged = Instant::now();
    match client.wait::<Echo>(&handle, PATIENCE).await {
        Ok(_) => Ok(Some(Hops {
            sent,
            acknowledged,
            result: Instant::now(),
        })),
        Err(WaitError::Timeout(id)) => {
            let revoked = client.revoke(&handle.queue, id, SystemClock.now()).await;
            let undone = match revoked {
                Ok(()) => "it was revoked".to_owned(),
                Err(error) => format!("it could not be revoked: {error}"),
            };
            let text = format!("no worker ran task {id} within {PATIENCE:?}; {undone}");
            Err(failed(text).advise("workers run it when they are started with `run --demo`"))
        }
        Err(error) => Err(failed(unread(session, &**broker, error).await)),
    }
}

/// Returns why the end of the task was not seen.
async fn unread(session: &Session, broker: &dyn Broker, error: WaitError) -> String {
    match error {
        WaitError::Broker(error) => session.keeper().blame(broker, error).await.to_string(),
        error => error.to_string(),
    }
}

/// Notes when the attempt starts and ends.
#[derive(Debug, Default)]
struct Watch {
    seen: Mutex<(Option<Instant>, Option<Instant>)>,
}

impl Observer for Watch {
    fn task(&self, event: &TaskEvent<'_>) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            TaskEvent::Started { .. } => seen.0 = Some(now),
            TaskEvent::Ended { .. } => seen.1 = Some(now),
            _ => {}
        }
    }
}

/// Runs one task in a runtime of this process.
async fn here(session: &Session) -> Result<Vec<Finding>, String> {
    let text = |error: &dyn ToString| error.to_string();
    let queue = QueueName::new(OWN_QUEUE).map_err(|error| text(&error))?;
    let worker = fresh_worker_id();
    let broker = session
        .broker(Some(&worker))
        .map_err(|error| text(&error))?;
    let watch = Arc::new(Watch::default());
    let mut options = RuntimeOptions::new(broker, worker);
    options.tree = TreeOptions::new([queue.clone()]);
    options.limits = session.limits();
    options.observer = Some(Arc::clone(&watch) as Arc<dyn Observer>);
    let runtime = Runtime::start(demo_tasks::add(App::new()), options);
    let runtime = runtime.map_err(|error| text(&error))?;
    let client = runtime.client();
    let sent = Instant::now();
    let enqueue = EnqueueOptions::default().queue(queue).want_outcome();
    let outcome = async {
        let handle = client.enqueue_with(&echo(), enqueue).await;
        let handle = handle.map_err(|error| text(&error))?;
        let acknowledged = Instant::now();
        if let Err(error) = client.wait::<Echo>(&handle, OWN_PATIENCE).await {
            return Err(unread(session, &**client.broker(), error).await);
        }
        Ok(Hops {
            sent,
            acknowledged,
            result: Instant::now(),
        })
    };
    let outcome: Result<Hops, String> = outcome.await;
    runtime.stop(Duration::from_secs(1)).await;
    let seen = *watch.seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(hops_seen(outcome?, Some(seen), "a runtime in this process"))
}

/// Says when each hop was seen, counted from the sending.
fn hops_seen(
    hops: Hops,
    inside: Option<(Option<Instant>, Option<Instant>)>,
    who: &str,
) -> Vec<Finding> {
    let (started, finished) = inside.unwrap_or_default();
    let steps = [
        ("enqueue acknowledged", Some(hops.acknowledged)),
        ("started", started),
        ("finished", finished),
        ("result seen", Some(hops.result)),
    ];
    let mut findings = vec![Finding::ok(
        "task",
        format!("{} was run by {who}", Echo::NAME),
    )];
    let told = steps.into_iter().filter_map(|(step, at)| {
        let after = at?.saturating_duration_since(hops.sent);
        let text = format!("{step} after {:.2} ms", after.as_secs_f64() * 1_000.0);
        Some(Finding::ok("task", text))
    });
    findings.extend(told);
    findings
}
