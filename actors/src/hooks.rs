//! Hooks: code of the program that is told what happens to its tasks, and may veto an enqueue.
//!
//! Nothing that a hook does reaches a worker: events wait in a queue with a bound, a service of its own calls the hooks on its
//! own thread, one event after the other, each for at most [`HOOK_LIMIT`]; panics are caught. What does not fit into the
//! queue is dropped. Drops, panics and timeouts are counted and logged, at most once each ten seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use slog::{Logger, warn};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::child::ChildSpec;
use crate::context::AttemptContext;
use crate::events::{Observer, TaskEvent};
use crate::ids::{QueueName, TaskId, TaskName, WorkerId};
use crate::intensity::Limit;
use crate::lease::Outcome;
use crate::panics;
use crate::state::DeadReason;

/// How long a hook may take over one event.
pub const HOOK_LIMIT: Duration = Duration::from_secs(5);

/// How many events wait for the hooks.
const WAITING: usize = 4_096;

/// How often what went wrong is logged.
const TELL: Duration = Duration::from_secs(10);

/// A task that something happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The task.
    pub id: TaskId,
    /// Its kind; `None` where its bytes do not tell.
    pub task: Option<TaskName>,
    /// Its queue.
    pub queue: QueueName,
    /// Which attempt, 1 for the first.
    pub attempt: u16,
}

/// A task that is about to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueueing {
    /// The id that it will have.
    pub id: TaskId,
    /// Its kind.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// The texts attached to it.
    pub headers: BTreeMap<String, String>,
}

/// What a program is told of its tasks. Each method does nothing unless it is written.
///
/// ```
/// use std::time::Duration;
/// use celeriac_actors::hooks::{About, Enqueueing, Hooks};
///
/// struct Alerts;
///
/// #[async_trait::async_trait]
/// impl Hooks for Alerts {
///     async fn before_enqueue(&self, task: &Enqueueing) -> Result<(), String> {
///         match task.headers.contains_key("tenant") {
///             true => Ok(()),
///             false => Err("a task of nobody".to_owned()),
///         }
///     }
///
///     async fn failed(&self, task: &About, error: &str, _: Duration) {
///         eprintln!("{} failed at attempt {}: {error}", task.id, task.attempt);
///     }
/// }
/// ```
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// A task is to be enqueued by this process: an error with the reason refuses it. One that panics or takes longer than
    /// [`HOOK_LIMIT`] refuses nothing.
    async fn before_enqueue(&self, _task: &Enqueueing) -> Result<(), String> {
        Ok(())
    }
    /// A task was fetched, and may start.
    async fn received(&self, _task: &About) {}
    /// An attempt starts.
    async fn started(&self, _task: &About) {}
    /// An attempt succeeded.
    async fn succeeded(&self, _task: &About, _elapsed: Duration) {}
    /// An attempt failed; whether the task is retried or buried is told next.
    async fn failed(&self, _task: &About, _error: &str, _elapsed: Duration) {}
    /// The task is tried again after so long.
    async fn retried(&self, _task: &About, _delay: Duration) {}
    /// The task is dead.
    async fn buried(&self, _task: &About, _reason: DeadReason, _note: &str) {}
    /// The task was revoked.
    async fn revoked(&self, _task: &About) {}
    /// The worker has started.
    async fn worker_ready(&self, _worker: &WorkerId) {}
    /// The worker has been told to stop; what runs may still finish.
    async fn worker_stopping(&self, _worker: &WorkerId) {}
}

/// What waits for the hooks.
#[derive(Clone, Debug)]
enum Event {
    Received(About),
    Started(About),
    Succeeded(About, Duration),
    Failed(About, String, Duration),
    Retried(About, Duration),
    Buried(About, DeadReason, String),
    Revoked(About),
    Ready(WorkerId),
    Stopping(WorkerId),
}

impl Event {
    async fn tell(&self, hooks: &dyn Hooks) {
        match self {
            Self::Received(about) => hooks.received(about).await,
            Self::Started(about) => hooks.started(about).await,
            Self::Succeeded(about, elapsed) => hooks.succeeded(about, *elapsed).await,
            Self::Failed(about, error, elapsed) => hooks.failed(about, error, *elapsed).await,
            Self::Retried(about, delay) => hooks.retried(about, *delay).await,
            Self::Buried(about, reason, note) => hooks.buried(about, *reason, note).await,
            Self::Revoked(about) => hooks.revoked(about).await,
            Self::Ready(worker) => hooks.worker_ready(worker).await,
            Self::Stopping(worker) => hooks.worker_stopping(worker).await,
        }
    }
}

/// What went wrong with hooks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookTrouble {
    /// Events that no hook was told, because too many waited.
    pub dropped: u64,
    /// Calls of hooks that panicked.
    pub panics: u64,
    /// Calls of hooks that took too long, and were dropped.
    pub timeouts: u64,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    panics: AtomicU64,
    timeouts: AtomicU64,
}

/// The hooks of a program, and the line of events before them.
pub struct HookLine {
    hooks: Vec<Arc<dyn Hooks>>,
    sender: mpsc::Sender<Event>,
    events: Mutex<mpsc::Receiver<Event>>,
    /// How many events have not been told.
    waiting: AtomicUsize,
    told: Notify,
    counts: Counts,
    next: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for HookLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookLine")
            .field("hooks", &self.hooks.len())
            .field("waiting", &self.waiting)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl HookLine {
    /// Makes the line of these hooks; `next` is told everything too, at once.
    #[must_use]
    pub fn new(hooks: Vec<Arc<dyn Hooks>>, next: Option<Arc<dyn Observer>>) -> Arc<Self> {
        let (sender, events) = mpsc::channel(WAITING);
        Arc::new(Self {
            hooks,
            sender,
            events: Mutex::new(events),
            waiting: AtomicUsize::new(0),
            told: Notify::new(),
            counts: Counts::default(),
            next,
        })
    }

    /// Specifies the service that calls the hooks.
    #[must_use]
    pub fn service(self: &Arc<Self>, limit: Limit) -> ChildSpec {
        let line = Arc::clone(self);
        crate::service::spec("hooks", limit, move |birth| {
            let line = Arc::clone(&line);
            async move { line.serve(&birth.log).await }
        })
    }

    /// Returns what went wrong so far.
    #[must_use]
    pub fn trouble(&self) -> HookTrouble {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HookTrouble {
            dropped: read(&self.counts.dropped),
            panics: read(&self.counts.panics),
            timeouts: read(&self.counts.timeouts),
        }
    }

    /// Tells that the worker has started.
    pub fn ready(&self, worker: &WorkerId) {
        self.push(Event::Ready(worker.clone()));
    }

    /// Tells that the worker was told to stop.
    pub fn stopping(&self, worker: &WorkerId) {
        self.push(Event::Stopping(worker.clone()));
    }

    /// Waits until every event has been told, for at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let empty = async {
            loop {
                let told = self.told.notified();
                if self.waiting.load(Ordering::Acquire) == 0 {
                    return;
                }
                // The next look is due anyway: a service that is restarted tells nobody.
                let _either = timeout(Duration::from_millis(20), told).await;
            }
        };
        let _in_time = timeout(limit, empty).await;
    }

    /// Asks the hooks whether a task may be enqueued.
    ///
    /// # Errors
    /// The reason of the first hook that refuses it.
    pub async fn before_enqueue(&self, task: &Enqueueing) -> Result<(), String> {
        for hooks in &self.hooks {
            let answer = self.guard(hooks.before_enqueue(task)).await;
            answer.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    fn push(&self, event: Event) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.sender.try_send(event).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn serve(&self, log: &Logger) {
        let mut events = self.events.lock().await;
        let (mut told, mut at) = (HookTrouble::default(), None::<Instant>);
        loop {
            let event = timeout(TELL, events.recv()).await;
            if let Ok(Some(event)) = event {
                for hooks in &self.hooks {
                    self.guard(event.tell(&**hooks)).await;
                }
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                self.told.notify_waiters();
            }
            let now = self.trouble();
            if now != told && at.is_none_or(|at| at.elapsed() >= TELL) {
                warn!(log, "hooks are in trouble; the tasks are not";
                    "dropped" => now.dropped, "panics" => now.panics, "timeouts" => now.timeouts);
                (told, at) = (now, Some(Instant::now()));
            }
        }
    }

    /// Calls a hook: `None` when it panicked or took too long.
    async fn guard<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let count = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        match timeout(HOOK_LIMIT, panics::catch(call)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(_)) => {
                count(&self.counts.panics);
                None
            }
            Err(_) => {
                count(&self.counts.timeouts);
                None
            }
        }
    }
}

impl Observer for HookLine {
    fn task(&self, event: &TaskEvent<'_>) {
        if let Some(next) = &self.next {
            next.task(event);
        }
        match *event {
            TaskEvent::Received { about } => self.push(Event::Received(about.clone())),
            TaskEvent::Started { context } => self.push(Event::Started(about(context))),
            TaskEvent::Ended {
                context,
                outcome,
                error,
                elapsed,
            } => {
                if let Some(error) = error {
                    self.push(Event::Failed(about(context), error.to_owned(), elapsed));
                }
                self.end(about(context), outcome, elapsed);
            }
            TaskEvent::Refused { about, outcome } => {
                self.end(about.clone(), outcome, Duration::ZERO);
            }
        }
    }
}

impl HookLine {
    fn end(&self, about: About, outcome: &Outcome, elapsed: Duration) {
        match outcome {
            Outcome::Succeed { .. } => self.push(Event::Succeeded(about, elapsed)),
            Outcome::Retry { delay, .. } => self.push(Event::Retried(about, *delay)),
            Outcome::Bury { reason, note, .. } => {
                self.push(Event::Buried(about, *reason, note.clone()));
            }
            Outcome::Cancel { .. } => self.push(Event::Revoked(about)),
            Outcome::Release { .. } | Outcome::Expire { .. } => {}
        }
    }
}

fn about(context: &AttemptContext) -> About {
    About {
        id: context.id(),
        task: Some(context.task().clone()),
        queue: context.queue().clone(),
        attempt: context.number(),
    }
}
