//! The port, method by method: each is one step of the state.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::exchange::misuse;
use super::{MemoryBroker, Method};
use crate::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use crate::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, Outcome, Place, Promoted, Swept,
};
use crate::ports::{
    Broker, BrokerError, Capabilities, Durability, EnqueueCall, QueueStatus, ScanPage, ScanRequest,
    SharedValue, Wake, WorkerRecord,
};
use crate::revocation::Revocation;
use crate::state::TaskState;
use crate::time::Timestamp;

type Reply<T> = Result<T, BrokerError>;

#[async_trait]
impl Broker for MemoryBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            signal: true,
            shared: true,
        }
    }

    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    async fn enqueue(&self, call: Arc<EnqueueCall>) -> Reply<Timestamp> {
        self.step(Method::Enqueue, |state, now| state.enqueue(&call, now))
    }

    async fn open(&self, incarnation: &Incarnation) -> Reply<()> {
        self.step(Method::Open, |state, now| state.open(incarnation, now))
    }

    async fn exchange(&self, call: Arc<ExchangeCall>) -> Reply<Exchanged> {
        let _alone = Alone::enter(self, call.incarnation)?;
        // Others get their turn while the call is under way: a second one of the same incarnation would show here.
        tokio::task::yield_now().await;
        let reply = self.step(Method::Exchange, |state, now| state.exchange(&call, now))?;
        if !reply.deliveries.is_empty() {
            self.hold(Method::Exchange).await;
        }
        Ok(reply)
    }

    async fn renew(
        &self,
        queue: &QueueName,
        incarnations: &[IncarnationId],
    ) -> Reply<Vec<IncarnationId>> {
        self.step(Method::Renew, |state, now| {
            Ok(state.renew(queue, incarnations, now))
        })
    }

    async fn mark_started(&self, place: &Place) -> Reply<bool> {
        self.step(Method::MarkStarted, |state, _| state.mark_started(place))
    }

    async fn take(&self, place: &Place, outcome: Outcome) -> Reply<bool> {
        self.step(Method::Take, |state, now| state.take(place, outcome, now))
    }

    async fn release(
        &self,
        queue: &QueueName,
        incarnation: IncarnationId,
        tags: &[u64],
    ) -> Reply<u32> {
        self.step(Method::Release, |state, now| {
            Ok(state.release(queue, incarnation, tags, now))
        })
    }

    async fn close(&self, queue: &QueueName, incarnation: IncarnationId) -> Reply<u32> {
        self.step(Method::Close, |state, now| {
            Ok(state.close(queue, incarnation, now))
        })
    }

    async fn sweep(&self, queue: &QueueName, limit: u32) -> Reply<Swept> {
        self.step(Method::Sweep, |state, now| {
            Ok(state.sweep(queue, limit, now))
        })
    }

    async fn promote_due(&self, queue: &QueueName, limit: u32) -> Reply<Promoted> {
        self.step(Method::PromoteDue, |state, now| {
            Ok(state.promote_due(queue, limit, now))
        })
    }

    async fn wait(&self, queues: &[QueueName], timeout: Duration) -> Reply<Vec<Wake>> {
        let waiter = Registered::new(self, queues)?;
        let look = || Ok(self.state().collect(waiter.id));
        self.wait_until(timeout, look).await
    }

    async fn ring(&self, queue: &QueueName) -> Reply<()> {
        self.step(Method::Ring, |state, _| {
            state.queue(queue).ring();
            Ok(())
        })
    }

    async fn take_dead(&self, limit: u32) -> Reply<Vec<DeadTask>> {
        self.step(Method::TakeDead, |state, _| Ok(state.take_dead(limit)))
    }

    async fn drop_dead(&self, burials: &[BurialId]) -> Reply<u32> {
        self.step(Method::DropDead, |state, _| Ok(state.drop_dead(burials)))
    }

    async fn revoke(
        &self,
        queue: &QueueName,
        revocations: &[Revocation],
        forget_at: Timestamp,
    ) -> Reply<u64> {
        self.step(Method::Revoke, |state, now| {
            state.revoke(queue, revocations, (forget_at, now))
        })
    }

    async fn revocations(&self, queue: &QueueName) -> Reply<(u64, Vec<Revocation>)> {
        self.step(Method::Revocations, |state, now| {
            Ok(state.revocations(queue, now))
        })
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Reply<()> {
        self.step(Method::Pause, |state, _| {
            state.pause(queue, paused);
            Ok(())
        })
    }

    async fn purge(&self, queue: &QueueName, state: TaskState, limit: u32) -> Reply<u32> {
        self.step(Method::Purge, |all, now| {
            all.purge(queue, state, (limit, now))
        })
    }

    async fn queues(&self) -> Reply<Vec<QueueStatus>> {
        self.step(Method::Queues, |state, _| Ok(state.statuses()))
    }

    async fn scan(&self, request: &ScanRequest) -> Reply<ScanPage> {
        self.step(Method::Scan, |state, _| state.scan(request))
    }

    async fn beat(&self, record: &WorkerRecord) -> Reply<()> {
        self.step(Method::Beat, |state, now| {
            state.beat(record, now);
            Ok(())
        })
    }

    async fn farewell(&self, worker: &WorkerId) -> Reply<()> {
        self.step(Method::Farewell, |state, _| {
            state.workers.remove(worker);
            Ok(())
        })?;
        self.hold(Method::Farewell).await;
        Ok(())
    }

    async fn workers(&self) -> Reply<Vec<WorkerRecord>> {
        self.step(Method::Workers, |state, now| Ok(state.workers(now)))
    }

    async fn result(&self, queue: &QueueName, task: TaskId) -> Reply<Option<FinalRecord>> {
        self.step(Method::Result, |state, now| {
            Ok(state.results(queue, &[task], now).pop())
        })
    }

    async fn wait_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        timeout: Duration,
    ) -> Reply<Vec<FinalRecord>> {
        self.step(Method::WaitResults, |_, _| Ok(()))?;
        let look = || Ok(self.state().results(queue, tasks, self.now()));
        self.wait_until(timeout, look).await
    }

    async fn shared(&self, key: &str) -> Reply<Option<SharedValue>> {
        self.step(Method::Shared, |state, now| Ok(state.shared(key, now)))
    }

    async fn share(
        &self,
        key: &str,
        expected: u64,
        value: &[u8],
        ttl: Duration,
    ) -> Reply<Option<u64>> {
        self.step(Method::Share, |state, now| {
            Ok(state.share((key, expected), value, ttl, now))
        })
    }

    async fn housekeep(&self, limit: u32) -> Reply<u32> {
        self.step(Method::Housekeep, |state, now| {
            Ok(state.housekeep(limit, now))
        })
    }
}

impl MemoryBroker {
    /// Looks now and after each step of anybody, until there is something or the time is over.
    async fn wait_until<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut() -> Reply<Vec<T>> + Send,
    ) -> Reply<Vec<T>> {
        let watch = async {
            loop {
                let rung = self.core.bell.notified();
                tokio::pin!(rung);
                rung.as_mut().enable();
                self.reach()?;
                let found = look()?;
                if !found.is_empty() {
                    return Ok(found);
                }
                rung.await;
            }
        };
        let in_time = tokio::time::timeout(timeout, watch).await;
        in_time.unwrap_or_else(|_| Ok(Vec::new()))
    }
}

/// Marks an exchange as under way; the mark goes with the future, finished or dropped.
struct Alone<'a> {
    broker: &'a MemoryBroker,
    incarnation: IncarnationId,
}

impl<'a> Alone<'a> {
    fn enter(broker: &'a MemoryBroker, incarnation: IncarnationId) -> Reply<Self> {
        if !broker.state().exchanging.insert(incarnation) {
            return misuse("two exchanges of one incarnation at a time");
        }
        Ok(Self {
            broker,
            incarnation,
        })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.broker.state().exchanging.remove(&self.incarnation);
    }
}

/// Somebody who waits; no longer when dropped.
struct Registered<'a> {
    broker: &'a MemoryBroker,
    id: u64,
}

impl<'a> Registered<'a> {
    fn new(broker: &'a MemoryBroker, queues: &[QueueName]) -> Reply<Self> {
        broker.step(Method::Wait, |_, _| Ok(()))?;
        let id = broker.state().register(queues);
        Ok(Self { broker, id })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.broker.state().waiters.remove(&self.id);
    }
}
