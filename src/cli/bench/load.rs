//! What is enqueued, how, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_actors::frame::encode_value;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, QueueStatus, When};
use celeriac_actors::producer::EnqueueOptions;
use celeriac_actors::task::Task;
use celeriac_actors::time::Clock;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::ground::failed;
use crate::cli::exit::Failure;
use crate::client::Client;
use crate::clock::SystemClock;

/// The queue that everything goes through.
pub(super) const QUEUE: &str = "bench";

/// How many enqueue calls are under way at once.
pub(super) const CALLERS: u64 = 4;

/// How many tasks differ in their arguments, more than one call carries; fewer where they are large.
const DIFFERENT: usize = 1_024;

/// About how many bytes all different arguments have together.
const PAYLOADS: usize = 4 << 20;

/// How long nothing may end before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A task that does nothing, with arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Noop {
    payload: String,
}

impl Task for Noop {
    const NAME: &'static str = "bench.noop";
    const QUEUE: &'static str = QUEUE;
    type Output = ();
}

impl Noop {
    /// Makes some whose arguments take `bytes` as they are stored, if that is possible.
    fn some(bytes: usize) -> Result<Vec<Self>, Failure> {
        // Text that hardly shrinks, and differs: brokers and their scripts have shortcuts for what they have seen before.
        let mut state = 0x9e37_79b9_u32;
        let mut filled = |length: usize| {
            let payload = (0..length).map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                char::from(33 + state.to_be_bytes()[0] % 94)
            });
            Self {
                payload: payload.collect(),
            }
        };
        let whole = encode_value(&filled(bytes)).map_err(failed)?.len();
        let length = bytes.saturating_sub(whole - bytes);
        let different = (PAYLOADS / bytes.max(1)).clamp(1, DIFFERENT);
        Ok((0..different).map(|_| filled(length)).collect())
    }
}

/// How much is enqueued, and in which portions.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) tasks: u64,
    pub(super) batch: u64,
    noops: Arc<[Noop]>,
}

impl Load {
    pub(super) fn new(tasks: u64, payload: usize, batch: u64) -> Result<Self, Failure> {
        Ok(Self {
            tasks,
            batch,
            noops: Noop::some(payload)?.into(),
        })
    }

    /// Returns the same of another size.
    pub(super) fn of(&self, tasks: u64) -> Self {
        Self {
            tasks,
            ..self.clone()
        }
    }

    /// Returns tasks, without end.
    pub(super) fn noops(&self) -> impl Iterator<Item = &Noop> + Clone {
        self.noops.iter().cycle()
    }

    /// Returns tasks that are all different.
    pub(super) fn different(&self) -> &[Noop] {
        &self.noops
    }

    /// Returns how many tasks each of the callers adds, call by call.
    pub(super) fn calls(&self, caller: u64) -> impl Iterator<Item = u64> + use<> {
        let share = self.tasks / CALLERS + u64::from(caller < self.tasks % CALLERS);
        let batch = self.batch;
        (0..share.div_ceil(batch)).map(move |call| batch.min(share - call * batch))
    }

    /// Enqueues it all, several calls at once; returns how long that took.
    pub(super) async fn enqueue(&self, client: &Client) -> Result<Duration, Failure> {
        let start = SystemClock.since_boot();
        let caller = |caller| async move {
            let mut noops = self.noops();
            for count in self.calls(caller) {
                let some = (0..count).zip(&mut noops).map(|(_, noop)| noop.clone());
                client.enqueue_many(some).await.map_err(failed)?;
            }
            Ok::<(), Failure>(())
        };
        try_join_all((0..CALLERS).map(caller)).await?;
        Ok(SystemClock.since_boot().saturating_sub(start))
    }

    /// Schedules it all; returns how long that took.
    pub(super) async fn schedule(&self, client: &Client, when: When) -> Result<Duration, Failure> {
        let start = SystemClock.since_boot();
        let caller = |caller| async move {
            let mut noops = self.noops();
            for count in self.calls(caller) {
                let options = EnqueueOptions {
                    when: Some(when),
                    ..EnqueueOptions::default()
                };
                let prepare = |(_, noop)| client.producer().prepare(noop, options.clone());
                let some = (0..count).zip(&mut noops).map(prepare);
                let some = some.collect::<Result<_, _>>();
                let added = client.producer().add(some.map_err(failed)?);
                added.await.map_err(failed)?;
            }
            Ok::<(), Failure>(())
        };
        try_join_all((0..CALLERS).map(caller)).await?;
        Ok(SystemClock.since_boot().saturating_sub(start))
    }
}

/// Returns the queue as the broker sees it.
pub(super) async fn status(broker: &dyn Broker) -> Result<QueueStatus, Failure> {
    let queues = broker.queues().await?;
    let ours = queues
        .into_iter()
        .find(|queue| queue.queue.as_str() == QUEUE);
    ours.ok_or_else(|| failed("the broker does not know the queue that was enqueued to"))
}

/// Waits until the broker has counted so many settlements. `started` counts in the tasks: the broker is not asked, and
/// so not disturbed, before it can be so.
pub(super) async fn settled(
    broker: &dyn Broker,
    started: &Arc<AtomicU64>,
    goal: u64,
) -> Result<(), Failure> {
    let mut last = (0, SystemClock.since_boot());
    loop {
        let seen = started.load(Ordering::Relaxed);
        if seen >= goal && status(broker).await?.counters.succeeded >= goal {
            return Ok(());
        }
        let now = SystemClock.since_boot();
        if seen > last.0 {
            last = (seen, now);
        } else if now.saturating_sub(last.1) > PATIENCE {
            let queue = status(broker).await?;
            return Err(failed(format!(
                "{} of {goal} tasks have succeeded and nothing has been started for {PATIENCE:?}",
                queue.counters.succeeded
            )));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the queue's name.
pub(super) fn queue() -> Result<QueueName, Failure> {
    QueueName::new(QUEUE).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_as_large_as_asked() {
        for bytes in [20, 200, 300, 5_000] {
            let some = Noop::some(bytes).unwrap();
            assert!(
                some.iter()
                    .all(|noop| encode_value(noop).unwrap().len() == bytes)
            );
            assert_ne!(some[0].payload, some[1].payload);
        }
    }

    #[test]
    fn every_task_is_in_one_call() {
        for (tasks, batch) in [(1, 500), (2_001, 500), (10_000, 7)] {
            let load = Load::new(tasks, 20, batch).unwrap();
            let calls = (0..CALLERS).flat_map(|caller| load.calls(caller));
            let calls: Vec<u64> = calls.collect();
            assert_eq!(calls.iter().sum::<u64>(), tasks);
            assert!(calls.iter().all(|count| (1..=batch).contains(count)));
        }
    }
}
