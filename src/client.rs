//! The client: enqueues tasks and waits for how they end. Needs no daemon in the process and no actix system.
//!
//! ```no_run
//! use celeriac::client::Client;
//! use celeriac::task::Task;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendReceipt {
//!     order: u64,
//! }
//! celeriac::task!(SendReceipt as "billing.send_receipt");
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::embedded("celeriac-data")?;
//! client.enqueue(&SendReceipt { order: 7 }).await?;
//! # Ok(())
//! # }
//! ```

mod revoke;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::failure::Failure;
use celeriac_actors::frame::{FrameError, decode_value};
use celeriac_actors::ids::TaskId;
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{Broker, BrokerError};
use celeriac_actors::producer::{
    EnqueueError, EnqueueOptions, Prepared, Producer, ProducerOptions, TaskHandle,
};
use celeriac_actors::state::TaskState;
use celeriac_actors::task::Task;
use celeriac_actors::time::Clock;
use tokio::time::{Instant, timeout_at};

use crate::clock::SystemClock;
use crate::sqlite::{OpenError, SqliteBroker, SqliteOptions};

mod ends;

pub use self::revoke::RevokeOptions;
pub use ends::{Ends, First, Output};

/// How many results are asked for in one call.
const WAIT_BATCH: usize = 500;

/// How long a broker call may take to answer while a client waits, before it asks again.
const WAIT_STEP: Duration = Duration::from_secs(5);

/// Enqueues tasks and waits for their ends. Cloning shares it; safe to use from any thread.
///
/// Its async methods run on any tokio runtime whose timer is enabled; [`Client::sync`] serves synchronous code.
#[derive(Clone, Debug)]
pub struct Client {
    producer: Producer,
}

/// Why waiting for a task gave no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It has not ended in time; it goes on.
    #[error("task {0} has not ended in time")]
    Timeout(TaskId),
    /// It died; the last failure where it is known.
    #[error("task {id} died: {}", .failure.as_ref().map_or("its failure was not kept", |f| f.message.as_str()))]
    Dead {
        /// Which one.
        id: TaskId,
        /// How its last attempt failed.
        failure: Option<Box<Failure>>,
    },
    /// It was revoked.
    #[error("task {0} was cancelled")]
    Cancelled(TaskId),
    /// It expired before it was started.
    #[error("task {0} expired")]
    Expired(TaskId),
    /// Its output is not what the task's type says.
    #[error("the output of task {id} cannot be read")]
    Output {
        /// Which one.
        id: TaskId,
        /// What does not fit.
        #[source]
        error: FrameError,
    },
    /// The broker cannot be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Client {
    /// Creates a client of the embedded broker in a data directory, which is made where it is missing.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn embedded(directory: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let broker = SqliteBroker::open(SqliteOptions::new(directory))?;
        let options = ProducerOptions {
            routes: celeriac_actors::route::built_in(),
            ..ProducerOptions::default()
        };
        Ok(Self::new(Arc::new(broker), Arc::new(SystemClock), options))
    }

    /// Creates a client of any broker.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, options: ProducerOptions) -> Self {
        Self {
            producer: Producer::new(broker, clock, options),
        }
    }

    /// Creates a client that enqueues through `producer`.
    #[must_use]
    pub fn from_producer(producer: Producer) -> Self {
        Self { producer }
    }

    /// Returns the producer beneath: for tasks given by name, and for preparing frames.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Returns the broker beneath.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        self.producer.broker()
    }

    /// Enqueues one task; returns when the broker, or else the spool, has acknowledged it.
    ///
    /// # Errors
    /// [`EnqueueError`]; whether the task may have been added is in it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn enqueue<T: Task>(&self, task: &T) -> Result<TaskHandle, EnqueueError> {
        self.producer.enqueue(task, EnqueueOptions::default()).await
    }

    /// Enqueues one task with options of its own.
    ///
    /// # Errors
    /// As [`Client::enqueue`].
    pub async fn enqueue_with<T: Task>(
        &self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<TaskHandle, EnqueueError> {
        self.producer.enqueue(task, options).await
    }

    /// Enqueues one task given by name. Of a client whose program's tasks are known (a runtime's, or with
    /// [`ProducerOptions::known`]), a task that the program does not know and arguments that its kind does not take are
    /// refused, with the place that is wrong.
    ///
    /// # Errors
    /// [`EnqueueError::Unknown`], [`EnqueueError::Misfit`], and as [`Client::enqueue`].
    pub async fn enqueue_named<A: serde::Serialize + ?Sized>(
        &self,
        task: &str,
        args: &A,
        options: EnqueueOptions,
    ) -> Result<TaskHandle, EnqueueError> {
        let prepared = self.producer.prepare_named(task, args, options)?;
        let handle = prepared.handle.clone();
        self.producer.add(vec![prepared]).await?;
        Ok(handle)
    }

    /// Enqueues many tasks of one kind in calls of up to 500; returns their handles in order.
    ///
    /// # Errors
    /// [`EnqueueError`] at the first call that fails; how many were accepted before is in it.
    pub async fn enqueue_many<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TaskHandle>, EnqueueError> {
        let tasks = tasks.into_iter();
        let route = self.producer.route::<T>()?;
        let mut handles = Vec::with_capacity(tasks.size_hint().0.min(1 << 16));
        let mut batch: Vec<Prepared> = Vec::new();
        for task in tasks {
            let options = EnqueueOptions::default();
            let prepared = self.producer.prepare_on(&route, &task, options)?;
            handles.push(prepared.handle.clone());
            batch.push(prepared);
            if batch.len() == WAIT_BATCH {
                self.add(std::mem::take(&mut batch), handles.len()).await?;
            }
        }
        self.add(batch, handles.len()).await?;
        Ok(handles)
    }

    /// Adds a batch that ends behind `so_far` tasks, and counts what was accepted before it into its error.
    async fn add(&self, batch: Vec<Prepared>, so_far: usize) -> Result<(), EnqueueError> {
        let before = so_far - batch.len();
        let added = self.producer.add(batch).await;
        added.map(drop).map_err(|error| error.after(before))
    }

    /// Waits for the end of a task and returns its output.
    ///
    /// A task whose kind has no output must be enqueued with [`EnqueueOptions::want_outcome`] to be waited for, else
    /// nothing of its end is kept and this ends with [`WaitError::Timeout`].
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn wait<T: Task>(
        &self,
        handle: &TaskHandle,
        timeout: Duration,
    ) -> Result<T::Output, WaitError> {
        let record = self.outcome(handle, timeout).await?;
        output_of::<T>(record, self.producer.limits())
    }

    /// Waits for the end of a task, whatever it is.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], [`WaitError::Broker`].
    pub async fn outcome(
        &self,
        handle: &TaskHandle,
        timeout: Duration,
    ) -> Result<FinalRecord, WaitError> {
        let deadline = Instant::now() + timeout;
        let ids = [handle.id];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let step = left.min(WAIT_STEP);
            let wait = self.broker().wait_results(&handle.queue, &ids, step);
            let Ok(answer) = timeout_at(deadline, wait).await else {
                return Err(WaitError::Timeout(handle.id));
            };
            match answer {
                Ok(records) => {
                    if let Some(record) = records.into_iter().find(|record| record.id == handle.id)
                    {
                        return Ok(record);
                    }
                }
                // It may be back in time.
                Err(error) if error.is_outage() && !left.is_zero() => {
                    tokio::time::sleep(Duration::from_millis(100).min(left)).await;
                }
                Err(error) => return Err(error.into()),
            }
            if left.is_zero() {
                return Err(WaitError::Timeout(handle.id));
            }
        }
    }

    /// Returns a client for synchronous code.
    ///
    /// # Errors
    /// When the operating system gives no means to wait.
    pub fn sync(&self) -> std::io::Result<SyncClient> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(SyncClient {
            client: self.clone(),
            runtime: Arc::new(std::sync::Mutex::new(runtime)),
        })
    }
}

/// A client whose methods block. Cloning shares it; calls from several threads take turns.
///
/// # Panics
/// Every method panics when it is called from within an async runtime, whose thread it would block.
#[derive(Clone, Debug)]
pub struct SyncClient {
    client: Client,
    runtime: Arc<std::sync::Mutex<tokio::runtime::Runtime>>,
}

impl SyncClient {
    /// Enqueues one task, as [`Client::enqueue_with`].
    ///
    /// # Errors
    /// As [`Client::enqueue`].
    pub fn enqueue<T: Task>(
        &self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<TaskHandle, EnqueueError> {
        self.block_on(self.client.enqueue_with(task, options))
    }

    /// Enqueues many tasks, as [`Client::enqueue_many`].
    ///
    /// # Errors
    /// As [`Client::enqueue_many`].
    pub fn enqueue_many<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TaskHandle>, EnqueueError> {
        self.block_on(self.client.enqueue_many(tasks))
    }

    /// Waits for a task's output, as [`Client::wait`].
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn wait<T: Task>(
        &self,
        handle: &TaskHandle,
        timeout: Duration,
    ) -> Result<T::Output, WaitError> {
        self.block_on(self.client.wait::<T>(handle, timeout))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        runtime.block_on(future)
    }
}

/// Reads the output of a task that ended, or why there is none.
fn output_of<T: Task>(
    record: FinalRecord,
    limits: &celeriac_actors::frame::FrameLimits,
) -> Result<T::Output, WaitError> {
    let id = record.id;
    match record.state {
        TaskState::Succeeded => {
            // `()` is kept as nothing at all.
            let body = if record.body.is_empty() {
                &[0xc0][..]
            } else {
                &record.body[..]
            };
            decode_value(body, limits).map_err(|error| WaitError::Output { id, error })
        }
        TaskState::Cancelled => Err(WaitError::Cancelled(id)),
        TaskState::Expired => Err(WaitError::Expired(id)),
        _ => {
            let failure = decode_value::<Failure>(&record.body, limits)
                .ok()
                .map(Box::new);
            Err(WaitError::Dead { id, failure })
        }
    }
}
