//! The thread that relays: it carries what waits to the broker, queue by queue, while it holds the lock.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, BrokerError, SpoolError};
use slog::{Logger, error, info, warn};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Desk;
use super::book::Frozen;
use super::courier::{Courier, Verdict};
use super::lock::Lock;

/// How many calls of one queue are carried before it is another's turn.
const TURN: usize = 16;

/// How long the broker may take over one call.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a relay without news looks whether another process left something.
const LOOK: Duration = Duration::from_secs(5);
/// How often it looks whether the lock is free.
const LOCKED: Duration = Duration::from_millis(200);

/// The thread. Dropping it ends it, at once and at any moment.
#[derive(Debug)]
pub(super) struct Relay {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts to carry what is in `desk` to `broker`.
    pub(super) fn start(
        desk: Arc<Desk>,
        broker: Arc<dyn Broker>,
        log: Logger,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let work = Work {
            desk,
            broker,
            courier: Arc::default(),
            log,
        };
        let thread = std::thread::Builder::new().name("spool-relay".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = stopped => {}, () = work.serve() => {} }
            });
            // A broker that is being opened is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its sender is dropped, which tells it.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so already.
            drop(thread.join());
        }
    }
}

struct Work {
    desk: Arc<Desk>,
    broker: Arc<dyn Broker>,
    courier: Arc<Mutex<Courier>>,
    log: Logger,
}

impl Work {
    async fn serve(&self) {
        loop {
            // What cannot be read is tried all the same: that says why.
            if self.desk.held().is_ok_and(|held| held.tasks == 0) {
                drop(timeout(LOOK, self.desk.news.notified()).await);
                continue;
            }
            match Lock::take(&self.desk.options.path) {
                Ok(Some(lock)) => {
                    self.until_empty().await;
                    drop(lock);
                }
                Ok(None) => sleep(LOCKED).await,
                Err(cause) => {
                    error!(self.log, "the spool's lock cannot be taken; nothing is relayed"; "error" => %cause);
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// Carries until nothing waits, however long the broker is away.
    async fn until_empty(&self) {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut failures = 0;
        while let Err(reason) = self.round().await {
            if failures == 0 {
                let held = self.desk.held().unwrap_or_default();
                warn!(self.log, "tasks wait in the spool until the broker takes them"; "tasks" => held.tasks, "error" => reason);
            }
            failures += 1;
            self.desk.failed.send_modify(|count| *count += 1);
            let pause = backoff.delay(failures, &mut rand::rng());
            drop(timeout(pause, self.desk.hurry.notified()).await);
        }
        if failures > 0 {
            info!(self.log, "the spool is empty again");
        }
    }

    /// Carries what waits in every queue; a queue that the broker does not take holds up no other.
    ///
    /// # Errors
    /// What the broker, or the spool, said last.
    async fn round(&self) -> Result<(), String> {
        loop {
            let queues = self.desk.ask(super::Book::queues).await;
            let queues = queues.map_err(|error| error.to_string())?;
            if queues.is_empty() {
                return Ok(());
            }
            let mut failed = None;
            for name in queues {
                let carried = match QueueName::new(&name) {
                    Ok(queue) => self.carry(&queue).await,
                    Err(error) => Err(error.to_string()),
                };
                failed = carried.err().or(failed);
            }
            if let Some(reason) = failed {
                return Err(reason);
            }
        }
    }

    /// Carries some of one queue's calls, one after the other.
    async fn carry(&self, queue: &QueueName) -> Result<(), String> {
        let mut done: Option<Frozen> = None;
        for _ in 0..TURN {
            let next = self.next(queue, done.take()).await;
            let Some(frozen) = next.map_err(|error| error.to_string())? else {
                return Ok(());
            };
            let call = Arc::new(frozen.call.clone());
            let answer = timeout(ANSWER, self.broker.enqueue(call)).await;
            let late = || Err(BrokerError::Unavailable("no answer in time".to_owned()));
            let outcome = answer.unwrap_or_else(|_| late());
            let verdict = lock(&self.courier).judge(&frozen, outcome);
            match verdict {
                Verdict::Done => done = Some(frozen),
                Verdict::Later(reason) => return Err(reason),
                verdict => self.apply(frozen, verdict).await?,
            }
        }
        match done {
            Some(frozen) => self.apply(frozen, Verdict::Done).await,
            None => Ok(()),
        }
    }

    async fn next(
        &self,
        queue: &QueueName,
        done: Option<Frozen>,
    ) -> Result<Option<Frozen>, SpoolError> {
        let (queue, courier) = (queue.clone(), Arc::clone(&self.courier));
        let step = move |book: &mut super::Book| lock(&courier).next(book, &queue, done.as_ref());
        self.desk.ask(step).await
    }

    async fn apply(&self, frozen: Frozen, verdict: Verdict) -> Result<(), String> {
        if let Verdict::Reject(reason) = &verdict {
            error!(self.log, "the broker rejects a task for good; it is kept in the spool: `celeriac spool rejected list`";
                "queue" => %frozen.call.queue, "reason" => reason);
        }
        let courier = Arc::clone(&self.courier);
        let step = move |book: &mut super::Book| lock(&courier).apply(book, &frozen, &verdict);
        let applied = self.desk.ask(step).await;
        applied.map_err(|error| error.to_string())
    }
}

fn lock(courier: &Mutex<Courier>) -> std::sync::MutexGuard<'_, Courier> {
    courier.lock().unwrap_or_else(PoisonError::into_inner)
}
