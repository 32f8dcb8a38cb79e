//! The rig: the whole tree on a broker in memory, for tests of tasks, of actors and of the tree itself.
//!
//! ```
//! use celeriac_actors::attempt::Attempt;
//! use celeriac_actors::task;
//! use celeriac_actors::testkit::Rig;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add(i64, i64);
//! task!(Add as "math.add" -> i64);
//!
//! actix_rt::System::new().block_on(async {
//!     let rig = Rig::builder()
//!         .task(|a: Attempt<Add>| async move { Ok(a.args.0 + a.args.1) })
//!         .start()
//!         .await;
//!     assert_eq!(rig.run(Add(2, 3)).await, Ok(5));
//!     rig.stop().await;
//! });
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::{MemoryBroker, MemoryStore, PATIENCE, Probe, RunningClock};
use crate::breaker::Breakers;
use crate::child::{ExitReason, TreeNode};
use crate::failure::Failure;
use crate::frame::{FrameLimits, decode_value};
use crate::lease::FinalRecord;
use crate::ports::{Broker, DeadLetter, QueueStatus};
use crate::producer::{EnqueueOptions, Producer, TaskHandle};
use crate::state::TaskState;
use crate::task::Task;
use crate::tree::Tree;

mod builder;

pub use builder::RigBuilder;

/// A running tree and everything a test needs beside it. Made by [`Rig::builder`].
///
/// Dropping it kills the tree. Its own calls go to the broker through a handle of their own, as another process would
/// make them, so a failure planned with [`faults`](Self::faults) meets the tree and not the test.
#[derive(Debug)]
pub struct Rig {
    tree: Tree,
    broker: Arc<MemoryBroker>,
    faults: Arc<MemoryBroker>,
    producer: Producer,
    store: Arc<MemoryStore>,
    clock: Arc<RunningClock>,
    breakers: Breakers,
    /// What was seen of the tree.
    pub probe: Probe,
}

impl Rig {
    /// Begins a rig without tasks: queue `default`, two lanes, a broker and a store of its own.
    #[must_use]
    pub fn builder() -> RigBuilder {
        RigBuilder::new()
    }

    /// Returns the tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the broker, through a handle on which nothing goes wrong.
    #[must_use]
    pub fn broker(&self) -> &Arc<MemoryBroker> {
        &self.broker
    }

    /// Returns the handle that the tree uses, to plan failures.
    #[must_use]
    pub fn faults(&self) -> &MemoryBroker {
        &self.faults
    }

    /// Returns the store of dead letters.
    #[must_use]
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// Returns the clock of broker and workers, unless the builder was given others.
    #[must_use]
    pub fn clock(&self) -> &RunningClock {
        &self.clock
    }

    /// Returns the circuit breakers of the process.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Returns the producer of the test.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Adds a task whose end will be waited for.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub async fn enqueue<T: Task>(&self, task: T) -> TaskHandle {
        self.enqueue_with(task, EnqueueOptions::default()).await
    }

    /// Adds a task with options; its end will be waited for.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub async fn enqueue_with<T: Task>(&self, task: T, options: EnqueueOptions) -> TaskHandle {
        let options = EnqueueOptions {
            want_outcome: true,
            ..options
        };
        let added = self.producer.enqueue(&task, options).await;
        added.expect("the broker takes the task")
    }

    /// Adds many tasks in as few calls as it takes; their ends are waited for.
    ///
    /// # Panics
    /// When the broker does not take them.
    pub async fn enqueue_all<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Vec<TaskHandle> {
        let options = || EnqueueOptions {
            want_outcome: true,
            ..EnqueueOptions::default()
        };
        let prepare = |task| self.producer.prepare(&task, options());
        let prepared: Result<Vec<_>, _> = tasks.into_iter().map(prepare).collect();
        let prepared = prepared.expect("the tasks fit into frames");
        let handles = prepared.iter().map(|p| p.handle.clone()).collect();
        let added = self.producer.add(prepared).await;
        added.expect("the broker takes the tasks");
        handles
    }

    /// Waits for the end of a task.
    ///
    /// # Panics
    /// With everything that was seen, when it does not end within [`PATIENCE`].
    pub async fn wait(&self, handle: &TaskHandle) -> FinalRecord {
        let ids = [handle.id];
        let waits = self.broker.wait_results(&handle.queue, &ids, PATIENCE);
        let mut records = waits.await.expect("the handle of a test does not fail");
        records.pop().unwrap_or_else(|| {
            let queue = self.broker.snapshot(&handle.queue);
            panic!("{handle:?} does not end: {queue}\n{}", self.probe)
        })
    }

    /// Adds a task, waits for its end, and returns its output, or the failure it died of.
    ///
    /// # Errors
    /// The last failure of a task that died.
    ///
    /// # Panics
    /// When it ends in another way, or not in time.
    pub async fn run<T: Task>(&self, task: T) -> Result<T::Output, Failure> {
        let record = self.wait(&self.enqueue(task).await).await;
        match record.state {
            TaskState::Succeeded => Ok(output(&record)),
            TaskState::Dead => Err(failure(&record)),
            state => panic!("the task was {state}\n{}", self.probe),
        }
    }

    /// Waits until `count` dead letters are stored, and returns them, oldest first.
    ///
    /// # Panics
    /// With everything that was seen, when that does not happen within [`PATIENCE`].
    pub async fn letters(&self, count: usize) -> Vec<DeadLetter> {
        self.probe
            .until(|| self.store.letters().len() >= count)
            .await;
        self.store.letters()
    }

    /// Waits until the tree looks as `looks` wants it.
    ///
    /// # Panics
    /// With everything that was seen, when that does not happen within [`PATIENCE`].
    pub async fn wait_for_tree(&self, looks: impl Fn(&TreeNode) -> bool) {
        self.probe.until(|| looks(&self.tree.inspect())).await;
    }

    /// Waits until the broker holds nothing of any queue but what ended.
    ///
    /// # Panics
    /// With everything that was seen, when that does not happen within [`PATIENCE`].
    pub async fn wait_until_empty(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.queues().await.iter().any(|queue| queue.held() > 0) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "tasks are left: {}\n{}",
                self.snapshot().await,
                self.probe
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns all queues.
    ///
    /// # Panics
    /// Never: the handle of a test does not fail.
    pub async fn queues(&self) -> Vec<QueueStatus> {
        let queues = self.broker.queues().await;
        queues.expect("the handle of a test does not fail")
    }

    /// Returns all queues as text, one a line.
    pub async fn snapshot(&self) -> String {
        let line = |status: QueueStatus| {
            format!("{} {}", status.queue, self.broker.snapshot(&status.queue))
        };
        let lines: Vec<String> = self.queues().await.into_iter().map(line).collect();
        lines.join("\n")
    }

    /// Restarts a child, named by its path below the root, such as `work/lane-0/consumer-default`.
    ///
    /// # Panics
    /// When there is no such child.
    pub async fn restart(&self, path: &str) {
        let restarted = self.tree.restart(path).await;
        assert!(restarted, "there is no child {path}");
    }

    /// Stops the tree; returns how it ended.
    pub async fn stop(self) -> ExitReason {
        self.tree.stop().await
    }
}

/// Returns the output in a record; that of `()` is not stored.
///
/// # Panics
/// When it does not decode.
#[must_use]
pub fn output<O: serde::de::DeserializeOwned>(record: &FinalRecord) -> O {
    const NIL: &[u8] = &[0xc0];
    let body = if record.body.is_empty() {
        NIL
    } else {
        &record.body
    };
    decode_value(body, &FrameLimits::default()).expect("the output decodes")
}

/// Returns the failure in the record of a task that died.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn failure(record: &FinalRecord) -> Failure {
    decode_value(&record.body, &FrameLimits::default()).expect("the failure decodes")
}
