//! Producers that enqueue without a pause, and remember what was acknowledged and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac::client::Client;
use celeriac_actors::producer::{EnqueueError, EnqueueOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::daemon::eventually;
use crate::redis_works::Job;

/// How many jobs one call adds.
const BATCH: u64 = 5;

/// The shape of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) producers: usize,
    /// Which job a number is.
    pub(crate) job: fn(u64) -> Job,
    /// How long it waits before it is ready.
    pub(crate) countdown: fn(u64) -> Option<Duration>,
    /// How long a producer rests after each call.
    pub(crate) rest: Duration,
}

/// What the producers share.
#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    ends: AtomicBool,
    acknowledged: Mutex<BTreeMap<u64, Instant>>,
    /// What was called for and not acknowledged.
    failed: Mutex<Vec<(Vec<u64>, EnqueueError)>>,
}

/// Producers at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) acknowledged: BTreeMap<u64, Instant>,
    pub(crate) failed: Vec<(Vec<u64>, EnqueueError)>,
}

impl Load {
    pub(crate) fn start(client: &Client, shape: Shape) -> Self {
        let shared = Arc::new(Shared::default());
        let produce = |_| {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            tokio::spawn(produce(client, shape, shared))
        };
        Self {
            producers: (0..shape.producers).map(produce).collect(),
            shared,
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many more were acknowledged.
    pub(crate) async fn more(&self, count: usize) {
        let before = self.acknowledged();
        let what = format!("{count} more than {before} tasks are acknowledged");
        eventually(&what, async || {
            (self.acknowledged() >= before + count).then_some(())
        })
        .await;
    }

    /// Lets each producer finish its call.
    pub(crate) async fn finish(self) -> Loaded {
        self.shared.ends.store(true, Ordering::Relaxed);
        for producer in self.producers {
            producer.await.unwrap();
        }
        let shared = Arc::into_inner(self.shared).unwrap();
        Loaded {
            acknowledged: shared.acknowledged.into_inner().unwrap(),
            failed: shared.failed.into_inner().unwrap(),
        }
    }
}

async fn produce(client: Client, shape: Shape, shared: Arc<Shared>) {
    while !shared.ends.load(Ordering::Relaxed) {
        let first = shared.next.fetch_add(BATCH, Ordering::Relaxed);
        let numbers: Vec<u64> = (first..first + BATCH).collect();
        let prepare = |number: &u64| {
            let mut options = EnqueueOptions::default();
            if let Some(countdown) = (shape.countdown)(*number) {
                options = options.countdown(countdown);
            }
            let job = (shape.job)(*number);
            client.producer().prepare(&job, options).unwrap()
        };
        let jobs = numbers.iter().map(prepare).collect();
        match client.producer().add(jobs).await {
            Ok(_) => {
                let now = Instant::now();
                let mut acknowledged = shared.acknowledged.lock().unwrap();
                acknowledged.extend(numbers.into_iter().map(|number| (number, now)));
            }
            Err(error) => shared.failed.lock().unwrap().push((numbers, error)),
        }
        tokio::time::sleep(shape.rest).await;
    }
}
