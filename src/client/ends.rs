//! The ends of many tasks, as they come. Each is told by the broker; nobody polls.
//!
//! Tasks are waited for in chunks of at most 500 of one queue, a few of them at once. Dropping the [`Ends`] ends the waiting
//! and changes nothing about the tasks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{Broker, BrokerError};
use celeriac_actors::producer::TaskHandle;
use celeriac_actors::task::Task;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Client, SyncClient, WAIT_BATCH, WAIT_STEP, WaitError, output_of};

/// How many chunks are waited for at once.
const CHUNKS: usize = 8;

/// How long a watcher pauses while the broker is away.
const PAUSE: Duration = Duration::from_millis(100);

/// Tasks of one queue that are waited for together.
#[derive(Debug)]
struct Chunk {
    queue: QueueName,
    tasks: Vec<TaskId>,
}

/// What a watcher brings: its chunk, and what is kept of some of its tasks.
type Seen = (Chunk, Result<Vec<FinalRecord>, BrokerError>);

/// The output of a task, or why there is none.
pub type Output<T> = Result<<T as Task>::Output, WaitError>;

/// Which of several tasks ended first, by its place among their handles, with its output; `None` of no tasks.
pub type First<T> = Option<(usize, Output<T>)>;

/// The ends of tasks as they come. Made by [`Client::ends`].
///
/// ```no_run
/// # use celeriac::client::Client;
/// # use celeriac::producer::TaskHandle;
/// # use celeriac::policy::minutes;
/// # async fn example(client: Client, handles: Vec<TaskHandle>) -> Result<(), celeriac::client::WaitError> {
/// let mut ends = client.ends(&handles, minutes(5));
/// while let Some(end) = ends.next().await {
///     let record = end?;
///     println!("{} {}, {} left", record.id, record.state, ends.left());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ends {
    broker: Arc<dyn Broker>,
    deadline: Instant,
    later: VecDeque<Chunk>,
    watched: JoinSet<Seen>,
    ready: VecDeque<FinalRecord>,
    /// How often each task was asked for, and has not been told of.
    left: HashMap<TaskId, usize>,
}

impl Ends {
    fn new(broker: Arc<dyn Broker>, handles: &[TaskHandle], timeout: Duration) -> Self {
        let mut left: HashMap<TaskId, usize> = HashMap::new();
        let mut queues: HashMap<&QueueName, Vec<TaskId>> = HashMap::new();
        for handle in handles {
            let asked = left.entry(handle.id).or_default();
            *asked += 1;
            if *asked == 1 {
                queues.entry(&handle.queue).or_default().push(handle.id);
            }
        }
        let chunks = queues.into_iter().flat_map(|(queue, tasks)| {
            let chunk = |tasks: &[TaskId]| Chunk {
                queue: queue.clone(),
                tasks: tasks.to_vec(),
            };
            tasks.chunks(WAIT_BATCH).map(chunk).collect::<Vec<_>>()
        });
        let now = Instant::now();
        Self {
            broker,
            deadline: now.checked_add(timeout).unwrap_or(now + FOR_EVER),
            later: chunks.collect(),
            watched: JoinSet::new(),
            ready: VecDeque::new(),
            left,
        }
    }

    /// Returns how many ends are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.values().sum()
    }

    /// Waits for the next end; `None` when all have come. A handle that was given twice is told of twice.
    ///
    /// Of more than 4,000 tasks the ends of the last ones are told when those before them have ended. A task is known to
    /// have ended only while something is kept of it, as for [`Client::wait`].
    ///
    /// # Errors
    /// [`WaitError::Timeout`] with one of those that have not ended, when the time is over; [`WaitError::Broker`]. Both
    /// may be asked again, and then look once more at those that are left.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Cancel-safe: what was not returned comes next time.
    pub async fn next(&mut self) -> Option<Result<FinalRecord, WaitError>> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(Ok(record));
            }
            let &missing = self.left.keys().next()?;
            while self.watched.len() < CHUNKS {
                let Some(chunk) = self.later.pop_front() else {
                    break;
                };
                self.watched.spawn(watch(Arc::clone(&self.broker), chunk));
            }
            let seen = timeout_at(self.deadline, self.watched.join_next()).await;
            let Ok(Some(Ok(seen))) = seen else {
                // In time, a watcher ends without a word only with its runtime: nobody waits here any more.
                return Some(Err(WaitError::Timeout(missing)));
            };
            if let Some(error) = self.take(seen) {
                return Some(Err(error.into()));
            }
        }
    }

    /// Takes in what a watcher brought, and has the rest of its chunk watched on.
    fn take(&mut self, (mut chunk, records): Seen) -> Option<BrokerError> {
        let (records, error) = match records {
            Ok(records) => (records, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        for record in records {
            for _ in 0..self.left.remove(&record.id).unwrap_or(0) {
                self.ready.push_back(record.clone());
            }
        }
        chunk.tasks.retain(|task| self.left.contains_key(task));
        if !chunk.tasks.is_empty() {
            self.later.push_front(chunk);
        }
        error
    }
}

/// Beyond any wait: thirty years.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Waits until something is kept of one of the tasks of a chunk, also through outages of the broker.
async fn watch(broker: Arc<dyn Broker>, chunk: Chunk) -> Seen {
    loop {
        let seen = broker.wait_results(&chunk.queue, &chunk.tasks, WAIT_STEP);
        match seen.await {
            Ok(records) if records.is_empty() => {}
            Err(error) if error.is_outage() => sleep(PAUSE).await,
            seen => return (chunk, seen),
        }
    }
}

impl Client {
    /// Waits for the ends of many tasks, of any kinds and queues, and tells each as it comes, for at most `timeout` in all.
    #[must_use]
    pub fn ends(&self, handles: &[TaskHandle], timeout: Duration) -> Ends {
        Ends::new(Arc::clone(self.broker()), handles, timeout)
    }

    /// Waits until all of these tasks have ended, for at most `timeout` in all.
    ///
    /// ```no_run
    /// # use celeriac::client::{Client, WaitError};
    /// # use celeriac::policy::minutes;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Add(i64, i64);
    /// # celeriac::task!(Add as "math.add" -> i64);
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let handles = client.enqueue_many((1..=10).map(|n| Add(n, n))).await?;
    /// for output in client.wait_all::<Add>(&handles, minutes(1)).await? {
    ///     println!("{}", output?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Returns the output of each, or why there is
    /// none, in the order of the handles; [`WaitError::Timeout`] for those that have not ended in time.
    ///
    /// The end of a task that dies, or whose kind has no output, is kept only where it was enqueued with
    /// [`EnqueueOptions::want_outcome`](celeriac_actors::producer::EnqueueOptions::want_outcome).
    ///
    /// # Errors
    /// [`WaitError::Broker`] when the broker cannot be asked at all; an outage is waited out.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn wait_all<T: Task>(
        &self,
        handles: &[TaskHandle],
        timeout: Duration,
    ) -> Result<Vec<Output<T>>, WaitError> {
        let mut records: HashMap<TaskId, FinalRecord> = HashMap::new();
        let mut ends = self.ends(handles, timeout);
        while let Some(end) = ends.next().await {
            match end {
                Ok(record) => drop(records.insert(record.id, record)),
                Err(WaitError::Timeout(_)) => break,
                Err(error) => return Err(error),
            }
        }
        let limits = self.producer().limits();
        let outcome = |handle: &TaskHandle| match records.get(&handle.id) {
            Some(record) => output_of::<T>(record.clone(), limits),
            None => Err(WaitError::Timeout(handle.id)),
        };
        Ok(handles.iter().map(outcome).collect())
    }

    /// Waits until one of these tasks has ended, for at most `timeout`. Returns its place among the handles, and its output
    /// or why there is none.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] with one of them when none has ended in time; [`WaitError::Broker`] when the broker cannot be
    /// asked at all. Without any handle, nothing ever ends: `None`.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn wait_any<T: Task>(
        &self,
        handles: &[TaskHandle],
        timeout: Duration,
    ) -> Result<First<T>, WaitError> {
        let Some(record) = self.ends(handles, timeout).next().await else {
            return Ok(None);
        };
        let record = record?;
        let at = handles.iter().position(|handle| handle.id == record.id);
        let output = output_of::<T>(record, self.producer().limits());
        Ok(at.map(|at| (at, output)))
    }
}

impl SyncClient {
    /// Waits until all of these tasks have ended, as [`Client::wait_all`].
    ///
    /// # Errors
    /// As [`Client::wait_all`].
    pub fn wait_all<T: Task>(
        &self,
        handles: &[TaskHandle],
        timeout: Duration,
    ) -> Result<Vec<Output<T>>, WaitError> {
        self.block_on(self.client.wait_all::<T>(handles, timeout))
    }

    /// Waits until one of these tasks has ended, as [`Client::wait_any`].
    ///
    /// # Errors
    /// As [`Client::wait_any`].
    pub fn wait_any<T: Task>(
        &self,
        handles: &[TaskHandle],
        timeout: Duration,
    ) -> Result<First<T>, WaitError> {
        self.block_on(self.client.wait_any::<T>(handles, timeout))
    }
}
