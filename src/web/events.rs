//! The stream of events: what happens to the tree and to the tasks of this process, as server-sent events.
//!
//! Whoever makes an event never waits: each reader has a bounded buffer, and one that is too slow is told how much it
//! missed. Nothing is made while nobody reads.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use celeriac_actors::events::{Observer, TaskEvent};
use celeriac_actors::health::Change;
use celeriac_actors::lease::Outcome;
use celeriac_actors::supervisor::{Observer as TreeObserver, SupervisionEvent};
use celeriac_actors::time::{Clock, millis};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::asked::{Answer, Asked, serve};
use super::params::{Kind, Param};
use super::problem::Problem;
use super::routes::{Endpoint, shows};

/// How many events wait for each reader.
const BUFFER: usize = 1_024;
/// How many readers there may be.
const READERS: usize = 32;
/// How often a reader hears that the connection lives.
const PULSE: Duration = Duration::from_secs(10);
/// How many events are written at once.
const AT_ONCE: usize = 64;

/// The kinds of events; `verdict` is told when the health changes.
const KINDS: [&str; 3] = ["task", "tree", "verdict"];

pub(super) const ROUTES: &[Endpoint] = &[shows(
    "/api/v1/events",
    "A stream of server-sent events of this process: `task`, `tree`, `verdict`, and `missed` with a count for a reader that \
     is too slow.",
    &[Param {
        name: "kinds",
        kind: Kind::Text,
        doc: "Only these kinds, with commas between: task, tree, verdict.",
    }],
    || serve(listen),
)];

/// One event.
#[derive(Debug)]
struct Event {
    number: u64,
    kind: &'static str,
    data: Value,
}

/// Where events come together and readers listen.
pub(crate) struct Hub {
    sender: broadcast::Sender<Arc<Event>>,
    numbers: AtomicU64,
    readers: AtomicUsize,
    clock: Arc<dyn Clock>,
}

impl Hub {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            sender: broadcast::Sender::new(BUFFER),
            numbers: AtomicU64::new(1),
            readers: AtomicUsize::new(0),
            clock,
        })
    }

    /// Tells an event, made by `data`, to whoever listens. Never waits.
    pub(crate) fn tell(&self, kind: &'static str, data: impl FnOnce() -> Value) {
        // Not the channel's own count, which takes its lock: this is on the way of every task.
        if self.readers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut data = data();
        data["at"] = self.clock.now().to_string().into();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // The last reader may have gone meanwhile.
        let _unheard = self.sender.send(Arc::new(Event { number, kind, data }));
    }

    /// Tells of every change of the health, until nobody judges it any more.
    pub(crate) async fn verdicts(self: Arc<Self>, mut changes: broadcast::Receiver<Change>) {
        loop {
            match changes.recv().await {
                Ok(change) => self.tell("verdict", || of_health(&change)),
                // What is in force can be asked for.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Returns who tells it of the children of a tree.
    pub(crate) fn of_tree(self: &Arc<Self>) -> TreeObserver {
        let hub = Arc::clone(self);
        TreeObserver::new(move |event| hub.tell("tree", || of_child(event)))
    }
}

impl Observer for Hub {
    fn task(&self, event: &TaskEvent<'_>) {
        self.tell("task", || of_task(event));
    }

    fn is_listening(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }
}

fn of_health(change: &Change) -> Value {
    match change {
        Change::Verdict { from, to, .. } => {
            json!({ "event": "verdict", "from": from, "to": to })
        }
        Change::Raised { reason, .. } => json!({ "event": "raised", "reason": reason }),
        Change::Cleared { reason, .. } => json!({ "event": "cleared", "reason": reason }),
    }
}

fn of_child(event: &SupervisionEvent) -> Value {
    use SupervisionEvent as E;
    match event {
        E::ChildStarted { path, incarnation } => {
            json!({ "event": "started", "path": &**path, "incarnation": incarnation })
        }
        E::ChildExited {
            path,
            incarnation,
            reason,
            restart_in,
        } => json!({
            "event": "exited", "path": &**path, "incarnation": incarnation, "reason": reason.to_string(),
            "restart_in_ms": restart_in.map(millis),
        }),
        E::ChildUnresponsive { path, incarnation } => {
            json!({ "event": "unresponsive", "path": &**path, "incarnation": incarnation })
        }
        E::ChildParked { path, reason } => {
            json!({ "event": "parked", "path": &**path, "reason": reason.to_string() })
        }
        E::ChildRecovered { path } => json!({ "event": "recovered", "path": &**path }),
        E::Escalated { path, reason } => {
            json!({ "event": "escalated", "path": &**path, "reason": reason.to_string() })
        }
        _ => json!({ "event": "other" }),
    }
}

fn of_task(event: &TaskEvent<'_>) -> Value {
    use TaskEvent as E;
    match event {
        E::Received { about } => json!({
            "event": "received", "id": about.id, "task": about.task, "queue": about.queue, "attempt": about.attempt,
        }),
        E::Refused { about, outcome } => json!({
            "event": "refused", "id": about.id, "task": about.task, "queue": about.queue, "attempt": about.attempt,
            "outcome": word(outcome),
        }),
        E::Started { context } => json!({
            "event": "started", "id": context.id(), "task": context.task(), "queue": context.queue(),
            "attempt": context.number(),
        }),
        E::Ended {
            context,
            outcome,
            error,
            elapsed,
        } => json!({
            "event": "ended", "id": context.id(), "task": context.task(), "queue": context.queue(),
            "attempt": context.number(), "outcome": word(outcome), "error": error, "elapsed_ms": millis(*elapsed),
        }),
        _ => json!({ "event": "other" }),
    }
}

const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeed { .. } => "succeeded",
        Outcome::Retry { .. } => "retrying",
        Outcome::Release { .. } => "released",
        Outcome::Bury { .. } => "dead",
        Outcome::Cancel { .. } => "cancelled",
        Outcome::Expire { .. } => "expired",
    }
}

/// One reader.
struct Reader {
    hub: Arc<Hub>,
    events: broadcast::Receiver<Arc<Event>>,
    kinds: Vec<&'static str>,
    stopping: watch::Receiver<bool>,
    ready: VecDeque<Bytes>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.hub.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn listen(asked: Asked) -> Answer {
    let mut kinds = KINDS.to_vec();
    if let Some(text) = asked.params.text("kinds") {
        let wanted: Vec<&str> = text.split(',').map(str::trim).collect();
        if wanted.iter().any(|kind| !KINDS.contains(kind)) {
            return Err(Problem::invalid(
                "`kinds` are task, tree and verdict, with commas between",
            ));
        }
        kinds.retain(|kind| wanted.contains(kind));
    }
    let hub = Arc::clone(&asked.shared.hub);
    if hub.readers.fetch_add(1, Ordering::Relaxed) >= READERS {
        hub.readers.fetch_sub(1, Ordering::Relaxed);
        return Err(Problem::new(503, "busy", "too many readers listen already"));
    }
    let reader = Reader {
        events: hub.sender.subscribe(),
        hub,
        kinds,
        stopping: asked.shared.stopping.subscribe(),
        // Something at once, so that the reader knows that it is heard.
        ready: VecDeque::from([Bytes::from_static(b"retry: 2000\n\n")]),
    };
    let stream = stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), reader))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(stream))
}

impl Reader {
    /// Returns what is to be written next; `None` when the process ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            let received = tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                received = tokio::time::timeout(PULSE, self.events.recv()) => received,
            };
            let mut text = String::new();
            match received {
                Err(_) => text.push_str(": alive\n\n"),
                Ok(Ok(event)) => {
                    self.push(&mut text, &event);
                    for _ in 1..AT_ONCE {
                        match self.events.try_recv() {
                            Ok(event) => self.push(&mut text, &event),
                            Err(_) => break,
                        }
                    }
                }
                Ok(Err(broadcast::error::RecvError::Lagged(count))) => {
                    text.push_str(&format!("event: missed\ndata: {{\"count\":{count}}}\n\n"));
                }
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            }
            if !text.is_empty() {
                self.ready.push_back(Bytes::from(text));
            }
        }
    }

    fn push(&self, text: &mut String, event: &Event) {
        if self.kinds.contains(&event.kind) {
            // JSON has no line breaks of its own.
            let Event { number, kind, data } = event;
            text.push_str(&format!("id: {number}\nevent: {kind}\ndata: {data}\n\n"));
        }
    }
}
