//! The trial: one attempt of a task's function, run inline, and what came of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use slog::{Discard, Logger, o};
use tokio::time::Instant;

use super::{ManualClock, MemoryBroker};
use crate::attempt::Attempt;
use crate::blocking::BlockingPool;
use crate::breaker::Breakers;
use crate::context::{AppState, AttemptContext, Job, WorkerContext};
use crate::frame::{FrameLimits, decode_value};
use crate::header::Header;
use crate::ids::{QueueName, TaskName, WorkerId};
use crate::policy::ResultLimits;
use crate::ports::{Broker, ScanRequest};
use crate::producer::{EnqueueOptions, Producer, ProducerOptions};
use crate::state::TaskState;
use crate::task::{Task, TaskError};
use crate::time::{Clock, Timestamp};

/// An attempt that is about to be tried, on a broker in memory that nobody drains and a clock that stands still.
///
/// ```
/// use celeriac_actors::attempt::Attempt;
/// use celeriac_actors::task::{Task, TaskError};
/// use celeriac_actors::testkit::Trial;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Receipt { order: u64 }
/// celeriac_actors::task!(Receipt as "billing.receipt");
///
/// #[derive(Serialize, Deserialize)]
/// struct Charge { order: u64 }
/// celeriac_actors::task!(Charge as "billing.charge" -> u16);
///
/// async fn charge(charge: Attempt<Charge>) -> Result<u16, TaskError> {
///     charge.enqueue(&Receipt { order: charge.args.order }).await?;
///     Ok(charge.number())
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tried = Trial::new(Charge { order: 7 }).attempt(3).run(charge).await;
/// assert_eq!(tried.outcome.unwrap(), 3);
/// assert_eq!(tried.enqueued.of::<Receipt>(), [Receipt { order: 7 }]);
/// # });
/// ```
#[derive(Debug)]
pub struct Trial<T> {
    args: T,
    options: EnqueueOptions,
    attempts: u16,
    deliveries: u8,
    cancelled: bool,
    state: AppState,
    clock: Arc<ManualClock>,
    broker: MemoryBroker,
}

/// What came of a trial.
#[derive(Debug)]
pub struct Tried<O> {
    /// What the function returned.
    pub outcome: Result<O, TaskError>,
    /// What it enqueued.
    pub enqueued: Enqueued,
}

/// What a broker in memory holds, to assert on.
#[derive(Clone, Debug, Default)]
pub struct Enqueued {
    /// The tasks, queue by queue, each queue in the order in which they will be fetched or become due.
    pub tasks: Vec<EnqueuedTask>,
}

/// One task that was enqueued.
#[derive(Clone, Debug, PartialEq)]
pub struct EnqueuedTask {
    /// Its kind.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Its arguments, as JSON.
    pub args: Value,
    /// When it becomes ready; `None` for at once.
    pub due: Option<Timestamp>,
    encoded: Vec<u8>,
}

impl Enqueued {
    /// Returns what waits at a broker.
    ///
    /// # Panics
    /// When the broker cannot be read, or holds what is no task.
    pub async fn at(broker: &dyn Broker) -> Self {
        let mut tasks = Vec::new();
        let queues = broker.queues().await.expect("the queues");
        for queue in queues.into_iter().map(|status| status.queue) {
            for state in [TaskState::Ready, TaskState::Scheduled] {
                let mut request = ScanRequest {
                    queue: queue.clone(),
                    state,
                    after: None,
                    limit: 500,
                };
                loop {
                    let page = broker.scan(&request).await.expect("a page");
                    let read = |task: crate::ports::StoredTask| read(&queue, task.frame, task.due);
                    tasks.extend(page.tasks.into_iter().map(read));
                    request.after = page.next;
                    if request.after.is_none() {
                        break;
                    }
                }
            }
        }
        Self { tasks }
    }

    /// Returns the tasks of one kind.
    ///
    /// # Panics
    /// When the arguments of one are not what its kind takes.
    #[must_use]
    pub fn of<T: Task>(&self) -> Vec<T> {
        let of_kind = |task: &&EnqueuedTask| task.task.as_str() == T::NAME;
        let decode = |task: &EnqueuedTask| decode_value(&task.encoded, &FrameLimits::default());
        let decoded = self.tasks.iter().filter(of_kind).map(decode);
        decoded.map(|args| args.expect("its arguments")).collect()
    }
}

fn read(queue: &QueueName, frame: Vec<u8>, due: Option<Timestamp>) -> EnqueuedTask {
    let limits = FrameLimits::default();
    let header = Header::read(&frame).expect("a header");
    let job = Job::open(header, frame, &limits).map_err(|(_, error)| error);
    let job = job.expect("a frame");
    EnqueuedTask {
        task: job.envelope.task.clone(),
        queue: queue.clone(),
        args: decode_value(job.args(), &limits).expect("arguments"),
        due,
        encoded: job.args().to_vec(),
    }
}

impl<T: Task> Trial<T> {
    /// Begins with the first attempt of a task, as its policy and default options have it.
    #[must_use]
    pub fn new(args: T) -> Self {
        let clock = Arc::new(ManualClock::new());
        Self {
            args,
            options: EnqueueOptions::default(),
            attempts: 0,
            deliveries: 0,
            cancelled: false,
            state: AppState::default(),
            broker: MemoryBroker::new(clock.clone()),
            clock,
        }
    }

    /// Makes it attempt number `number`, 1 for the first.
    #[must_use]
    pub fn attempt(mut self, number: u16) -> Self {
        self.attempts = number.saturating_sub(1);
        self
    }

    /// Has it taken back so often from workers that died.
    #[must_use]
    pub fn deliveries(mut self, count: u8) -> Self {
        self.deliveries = count;
        self
    }

    /// Enqueues it with these options: headers, limits, an id.
    #[must_use]
    pub fn options(mut self, options: EnqueueOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds a value to the program's state.
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(mut self, value: S) -> Self {
        self.state.insert(value);
        self
    }

    /// Has it told to stop before it starts.
    #[must_use]
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    /// Returns its broker, to plan failures of what the task enqueues.
    #[must_use]
    pub fn broker(&self) -> &MemoryBroker {
        &self.broker
    }

    /// Returns its clock, of broker and worker.
    #[must_use]
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// Runs the function on the caller's thread, without anything around it: a panic is the test's, and limits end nothing.
    ///
    /// # Panics
    /// When the task does not fit into a frame.
    pub async fn run<F, R>(self, function: F) -> Tried<T::Output>
    where
        F: FnOnce(Attempt<T>) -> R,
        R: Future<Output = Result<T::Output, TaskError>>,
    {
        let limits = FrameLimits::default();
        let read = self.broker.another();
        let clock: Arc<dyn Clock> = self.clock;
        let options = ProducerOptions {
            // A broker that was planned to be away stays away.
            timeout: Duration::from_millis(100),
            ..ProducerOptions::default()
        };
        let broker: Arc<dyn Broker> = Arc::new(self.broker);
        let producer = Producer::new(Arc::clone(&broker), Arc::clone(&clock), options);
        let prepared = producer.prepare(&self.args, self.options);
        let prepared = prepared.expect("a task that fits into a frame");
        let frame = prepared.task().frame.clone();
        let mut header = Header::read(&frame).expect("our own header");
        header.attempts = self.attempts;
        header.deliveries = self.deliveries;
        let job = Job::open(header, frame, &limits).map_err(|(_, error)| error);
        let mut job = job.expect("our own frame");
        job.delivered_at = clock.now();
        let limits_of_it = T::policy().limits_for(&job.envelope.overrides);
        let id = WorkerId::new("trial").expect("a name");
        let log = Logger::root(Discard, o!());
        let worker = WorkerContext {
            breakers: Breakers::new(broker, Arc::clone(&clock), &id, log.clone()),
            worker: id,
            state: self.state,
            blocking: BlockingPool::new(2),
            log,
            clock,
            producer,
            limits,
            results: ResultLimits::default(),
            isolation: None,
        };
        let started = (Arc::new(worker), Instant::now());
        let context = AttemptContext::new(1, job, prepared.handle.queue, limits_of_it, started);
        if self.cancelled {
            context.cancel();
        }
        let outcome = function(Attempt::new(self.args, context)).await;
        let enqueued = Enqueued::at(&read).await;
        Tried { outcome, enqueued }
    }
}
