//! The port, method by method: a writing step, a look, or a wait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, Outcome, Place, Promoted, Swept,
};
use celeriac_actors::ports::{
    Broker, Capabilities, Durability, EnqueueCall, QueueStatus, ScanPage, ScanRequest, SharedValue,
    Wake, WorkerRecord,
};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;

use super::SqliteBroker;
use super::job::Reply;
use super::steps::dead::{DropDead, Pause, Revoke};
use super::steps::enqueue::{Enqueue, Promote};
use super::steps::exchange::Exchange;
use super::steps::housekeep::Housekeep;
use super::steps::leases::{Close, MarkStarted, Open, Release, Renew, Take};
use super::steps::purge::Purge;
use super::steps::shared::{Beat, Farewell, Share};
use super::steps::sweep::Sweep;
use super::{reads, scan};

/// How often somebody who waits for a result looks, whatever the bells say.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

#[async_trait]
impl Broker for SqliteBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            signal: true,
            shared: true,
        }
    }

    fn durability(&self) -> Durability {
        if self.power_safe {
            Durability::PowerSafe
        } else {
            Durability::CrashSafe
        }
    }

    async fn enqueue(&self, call: Arc<EnqueueCall>) -> Reply<Timestamp> {
        self.keeping.ensure_room()?;
        self.write_from(&self.rooms.adding, Enqueue(call)).await
    }

    async fn open(&self, incarnation: &Incarnation) -> Reply<()> {
        self.write(Open(incarnation.clone())).await
    }

    async fn exchange(&self, call: Arc<ExchangeCall>) -> Reply<Exchanged> {
        self.write(Exchange(call)).await
    }

    async fn renew(
        &self,
        queue: &QueueName,
        incarnations: &[IncarnationId],
    ) -> Reply<Vec<IncarnationId>> {
        let (queue, incarnations) = (queue.clone(), incarnations.to_vec());
        self.write(Renew {
            queue,
            incarnations,
        })
        .await
    }

    async fn mark_started(&self, place: &Place) -> Reply<bool> {
        self.write(MarkStarted(place.clone())).await
    }

    async fn take(&self, place: &Place, outcome: Outcome) -> Reply<bool> {
        let place = place.clone();
        self.write(Take { place, outcome }).await
    }

    async fn release(
        &self,
        queue: &QueueName,
        incarnation: IncarnationId,
        tags: &[u64],
    ) -> Reply<u32> {
        let (queue, tags) = (queue.clone(), tags.to_vec());
        self.write(Release {
            queue,
            incarnation,
            tags,
        })
        .await
    }

    async fn close(&self, queue: &QueueName, incarnation: IncarnationId) -> Reply<u32> {
        let queue = queue.clone();
        self.write(Close { queue, incarnation }).await
    }

    async fn sweep(&self, queue: &QueueName, limit: u32) -> Reply<Swept> {
        let queue = queue.clone();
        self.write(Sweep { queue, limit }).await
    }

    async fn promote_due(&self, queue: &QueueName, limit: u32) -> Reply<Promoted> {
        let queue = queue.clone();
        self.write(Promote { queue, limit }).await
    }

    async fn wait(&self, queues: &[QueueName], timeout: Duration) -> Reply<Vec<Wake>> {
        self.keeping.ensure_present()?;
        let waiting = self.board.wait(queues);
        let woken = tokio::time::timeout(timeout, waiting.next()).await;
        Ok(woken.unwrap_or_default())
    }

    async fn take_dead(&self, limit: u32) -> Reply<Vec<DeadTask>> {
        self.look(move |db| reads::dead(db, limit)).await
    }

    async fn drop_dead(&self, burials: &[BurialId]) -> Reply<u32> {
        self.write(DropDead(burials.to_vec())).await
    }

    async fn revoke(
        &self,
        queue: &QueueName,
        revocations: &[Revocation],
        forget_at: Timestamp,
    ) -> Reply<u64> {
        let (queue, revocations) = (queue.clone(), revocations.to_vec());
        self.write_from(
            &self.rooms.adding,
            Revoke {
                queue,
                revocations,
                forget_at,
            },
        )
        .await
    }

    async fn revocations(&self, queue: &QueueName) -> Reply<(u64, Vec<Revocation>)> {
        let (queue, now) = (queue.clone(), self.clock.now());
        self.look(move |db| reads::revocations(db, &queue, now))
            .await
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Reply<()> {
        let queue = queue.clone();
        self.write(Pause { queue, paused }).await
    }

    async fn purge(&self, queue: &QueueName, state: TaskState, limit: u32) -> Reply<u32> {
        let queue = queue.clone();
        self.write(Purge {
            queue,
            state,
            limit,
        })
        .await
    }

    async fn queues(&self) -> Reply<Vec<QueueStatus>> {
        self.look(reads::queues).await
    }

    async fn scan(&self, request: &ScanRequest) -> Reply<ScanPage> {
        let request = request.clone();
        self.look(move |db| scan::page(db, &request)).await
    }

    async fn beat(&self, record: &WorkerRecord) -> Reply<()> {
        self.write(Beat(record.clone())).await
    }

    async fn farewell(&self, worker: &WorkerId) -> Reply<()> {
        self.write(Farewell(worker.clone())).await
    }

    async fn workers(&self) -> Reply<Vec<WorkerRecord>> {
        let now = self.clock.now();
        self.look(move |db| reads::workers(db, now)).await
    }

    async fn result(&self, queue: &QueueName, task: TaskId) -> Reply<Option<FinalRecord>> {
        self.results(queue, &[task])
            .await
            .map(|mut found| found.pop())
    }

    async fn wait_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        timeout: Duration,
    ) -> Reply<Vec<FinalRecord>> {
        let waiting = self.board.wait_results(tasks);
        let watch = async {
            loop {
                let found = self.results(queue, tasks).await?;
                if !found.is_empty() {
                    return Ok(found);
                }
                // Rung or not: it is time to look.
                drop(tokio::time::timeout(LOOK_AGAIN, waiting.rung()).await);
            }
        };
        let in_time = tokio::time::timeout(timeout, watch).await;
        in_time.unwrap_or_else(|_| Ok(Vec::new()))
    }

    async fn shared(&self, key: &str) -> Reply<Option<SharedValue>> {
        let (key, now) = (key.to_owned(), self.clock.now());
        self.look(move |db| reads::shared(db, &key, now)).await
    }

    async fn share(
        &self,
        key: &str,
        expected: u64,
        value: &[u8],
        ttl: Duration,
    ) -> Reply<Option<u64>> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.write(Share {
            key,
            expected,
            value,
            ttl,
        })
        .await
    }

    async fn housekeep(&self, limit: u32) -> Reply<u32> {
        self.write(Housekeep(limit)).await
    }
}

impl SqliteBroker {
    async fn results(&self, queue: &QueueName, tasks: &[TaskId]) -> Reply<Vec<FinalRecord>> {
        let (queue, tasks, now) = (queue.clone(), tasks.to_vec(), self.clock.now());
        self.look(move |db| reads::results(db, &queue, &tasks, now))
            .await
    }
}
