//! A broker that is opened when it can be: for clients that start while it is away.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, Outcome, Place, Promoted, Swept,
};
use celeriac_actors::ports::{
    Broker, BrokerError, Capabilities, Durability, EnqueueCall, QueueStatus, ScanPage, ScanRequest,
    SharedValue, Wake, WorkerRecord,
};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How much time passes at least between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Opens the broker, or says why it cannot be. May block.
type Open = dyn Fn() -> Result<Arc<dyn Broker>, String> + Send + Sync;

/// A broker that is opened by the first call that finds it; until then every call is answered with
/// [`BrokerError::Away`], at most one attempt each half second being made.
///
/// Together with a [spool](crate::spool) it lets a client start, and enqueue, while the broker is away.
pub struct LateBroker {
    open: Arc<Open>,
    found: OnceLock<Arc<dyn Broker>>,
    /// When the last attempt failed, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

impl std::fmt::Debug for LateBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateBroker")
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl LateBroker {
    /// Creates one that is opened by `open`, which may block and is called on a thread for that.
    #[must_use]
    pub fn new(open: impl Fn() -> Result<Arc<dyn Broker>, String> + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::new(open),
            found: OnceLock::new(),
            failed: Mutex::default(),
        }
    }

    async fn get(&self) -> Result<&Arc<dyn Broker>, BrokerError> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let mut failed = self.failed.lock().await;
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        if let Some((at, reason)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(BrokerError::Away(reason.clone()));
        }
        let open = Arc::clone(&self.open);
        let opened = tokio::task::spawn_blocking(move || open()).await;
        match opened.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(broker) => Ok(self.found.get_or_init(|| broker)),
            Err(reason) => {
                *failed = Some((Instant::now(), reason.clone()));
                Err(BrokerError::Away(reason))
            }
        }
    }
}

type Reply<T> = Result<T, BrokerError>;

macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $reply:ty;)+) => {
        #[async_trait]
        impl Broker for LateBroker {
            fn capabilities(&self) -> Capabilities {
                let unknown = Capabilities { signal: false, shared: false };
                self.found.get().map_or(unknown, |broker| broker.capabilities())
            }

            fn evicts(&self) -> bool {
        self.found.get().is_some_and(|broker| broker.evicts())
    }

    fn durability(&self) -> Durability {
                self.found.get().map_or(Durability::Volatile, |broker| broker.durability())
            }

            fn is_whole(&self) -> bool {
                self.found.get().is_none_or(|broker| broker.is_whole())
            }

            $(async fn $name(&self, $($arg: $type),*) -> Reply<$reply> {
                self.get().await?.$name($($arg),*).await
            })+
        }
    };
}

delegate! {
    fn enqueue(call: Arc<EnqueueCall>) -> Timestamp;
    fn open(incarnation: &Incarnation) -> ();
    fn exchange(call: Arc<ExchangeCall>) -> Exchanged;
    fn renew(queue: &QueueName, incarnations: &[IncarnationId]) -> Vec<IncarnationId>;
    fn mark_started(place: &Place) -> bool;
    fn take(place: &Place, outcome: Outcome) -> bool;
    fn release(queue: &QueueName, incarnation: IncarnationId, tags: &[u64]) -> u32;
    fn close(queue: &QueueName, incarnation: IncarnationId) -> u32;
    fn sweep(queue: &QueueName, limit: u32) -> Swept;
    fn promote_due(queue: &QueueName, limit: u32) -> Promoted;
    fn wait(queues: &[QueueName], timeout: Duration) -> Vec<Wake>;
    fn ring(queue: &QueueName) -> ();
    fn take_dead(limit: u32) -> Vec<DeadTask>;
    fn drop_dead(burials: &[BurialId]) -> u32;
    fn revoke(queue: &QueueName, revocations: &[Revocation], forget_at: Timestamp) -> u64;
    fn revocations(queue: &QueueName) -> (u64, Vec<Revocation>);
    fn pause(queue: &QueueName, paused: bool) -> ();
    fn purge(queue: &QueueName, state: TaskState, limit: u32) -> u32;
    fn queues() -> Vec<QueueStatus>;
    fn scan(request: &ScanRequest) -> ScanPage;
    fn beat(record: &WorkerRecord) -> ();
    fn farewell(worker: &WorkerId) -> ();
    fn workers() -> Vec<WorkerRecord>;
    fn result(queue: &QueueName, task: TaskId) -> Option<FinalRecord>;
    fn wait_results(queue: &QueueName, tasks: &[TaskId], timeout: Duration) -> Vec<FinalRecord>;
    fn shared(key: &str) -> Option<SharedValue>;
    fn share(key: &str, expected: u64, value: &[u8], ttl: Duration) -> Option<u64>;
    fn housekeep(limit: u32) -> u32;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use celeriac_actors::testkit::{ManualClock, MemoryBroker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_away_until_it_can_be_opened() {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let broker = LateBroker::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not yet".to_owned()),
            _ => Ok(Arc::new(MemoryBroker::new(Arc::new(ManualClock::new())))),
        });
        for _ in 0..3 {
            let away = broker.queues().await.unwrap_err();
            assert_eq!(away, BrokerError::Away("not yet".to_owned()));
        }
        assert_eq!(attempts.load(Ordering::Relaxed), 1, "it is not stormed");
        tokio::time::advance(PAUSE).await;
        assert_eq!(broker.queues().await, Ok(Vec::new()));
        assert!(broker.capabilities().shared);
        assert_eq!(attempts.load(Ordering::Relaxed), 2);
    }
}
