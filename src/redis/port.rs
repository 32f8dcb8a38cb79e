//! The port, method by method: a script, a command, or a wait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::fence::{
    KEEP_CLOSED, KEEP_WORKER, check_enqueue, check_exchange, check_open, check_outcome, check_purge,
};
use celeriac_actors::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, MAX_BATCH, Outcome, Place,
    Promoted, Swept, WANTED_TTL,
};
use celeriac_actors::ports::{
    Broker, BrokerError, Capabilities, Durability, EnqueueCall, MAX_REVOCATIONS, QueueStatus,
    ScanPage, ScanRequest, SharedValue, Wake, WorkerRecord,
};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use redis::Value;

use super::decode::{self, Parts};
use super::encode::{self, Kept, hex, ms};
use super::script::{
    BEAT, CLOSE, DEAD, DROP_DEAD, ENQUEUE, EXCHANGE, EXCHANGE_WITH_RESULTS, FORGET, FORGET_WORKERS,
    MARK, OPEN, PAUSE, PROMOTE, PURGE, RELEASE, REVOCATIONS, REVOKE, RING, SHARE, SHARED, STATUS,
    TAKE,
};
use super::{RedisBroker, Reply, scan, sweep};

/// How long the version of a shared value is remembered after its end, so that it never comes back.
const KEEP_VERSION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn invalid(error: impl std::fmt::Display) -> BrokerError {
    BrokerError::Invalid(error.to_string())
}

#[async_trait]
impl Broker for RedisBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            signal: true,
            shared: true,
        }
    }

    fn durability(&self) -> Durability {
        self.boot.durability
    }

    fn evicts(&self) -> bool {
        self.boot.evicts
    }

    fn is_whole(&self) -> bool {
        self.links.is_whole()
    }

    async fn enqueue(&self, call: Arc<EnqueueCall>) -> Reply<Timestamp> {
        check_enqueue(&call).map_err(invalid)?;
        let mut sizes = call.tasks.iter().map(|task| task.frame.len());
        if let Some(size) = sizes.find(|size| *size > self.max_frame) {
            let most = self.max_frame;
            return Err(invalid(format!(
                "a frame of {size} bytes, allowed are {most}"
            )));
        }
        // That a queue is heard of adds no task to it: whatever became of that, the call was not sent.
        let heard_of = self.register(&call.queue).await;
        heard_of.map_err(|error| match error {
            BrokerError::Unavailable(text) => BrokerError::Away(text),
            error => error,
        })?;
        let command = encode::enqueue(&self.keys, &call);
        let reply = self.run(&ENQUEUE, &call.queue, &command).await?;
        decode::timestamp(reply)
    }

    async fn open(&self, incarnation: &Incarnation) -> Reply<()> {
        check_open(incarnation).map_err(invalid)?;
        // Whoever opens may do so because the server lost its data: it is told of the queue again.
        self.registered().remove(&incarnation.queue);
        self.register(&incarnation.queue).await?;
        let own = self.proof.as_ref();
        let proof = own.filter(|_| self.worker.as_ref() == Some(&incarnation.worker));
        let mut call = OPEN.call(&self.keys.root(&incarnation.queue));
        call.arg(hex(incarnation.id))
            .arg(ms(incarnation.lease))
            .arg(incarnation.lane)
            .arg(proof.map(ToString::to_string).unwrap_or_default())
            .arg(incarnation.worker.as_str());
        self.run(&OPEN, &incarnation.queue, &call).await.map(drop)
    }

    async fn exchange(&self, call: Arc<ExchangeCall>) -> Reply<Exchanged> {
        check_exchange(&call).map_err(invalid)?;
        let elsewhere = self.elsewhere.is_some();
        let bodies = encode::bodies(&call);
        if bodies > 0 {
            let kept = Kept {
                elsewhere,
                bodies: true,
            };
            let command = encode::exchange(&self.keys, &call, kept);
            let reply = self
                .run(&EXCHANGE_WITH_RESULTS, &call.queue, &command)
                .await;
            match reply {
                Err(BrokerError::Refused(why)) if why.contains("OOM ") => {}
                reply => {
                    self.results_wait();
                    return decode::exchanged(reply?, call.first_tag);
                }
            }
        }
        // Nothing of it happened: the server has no memory left. Settling matters more than what is kept of it.
        let kept = Kept {
            elsewhere,
            bodies: false,
        };
        let command = encode::exchange(&self.keys, &call, kept);
        let reply = self.run(&EXCHANGE, &call.queue, &command).await?;
        self.dropped.add(bodies as u64);
        if call
            .settlements
            .iter()
            .any(|settled| settled.outcome.record().is_some())
        {
            self.results_wait();
        }
        decode::exchanged(reply, call.first_tag)
    }

    async fn renew(
        &self,
        queue: &QueueName,
        incarnations: &[IncarnationId],
    ) -> Reply<Vec<IncarnationId>> {
        let question = (self.keys.root(queue), incarnations.to_vec());
        let call = |questions: Vec<_>| async move { self.renew_all(&questions).await };
        if self.links.is_one_server() {
            return self.renewals.ask(question, call).await;
        }
        let answers = call(vec![question]).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn mark_started(&self, place: &Place) -> Reply<bool> {
        let mut call = MARK.call(&self.keys.root(&place.queue));
        call.arg(hex(place.incarnation)).arg(place.tag);
        let marked: u64 = decode::number(self.run(&MARK, &place.queue, &call).await?)?;
        Ok(marked == 1)
    }

    async fn take(&self, place: &Place, outcome: Outcome) -> Reply<bool> {
        check_outcome(&outcome).map_err(invalid)?;
        let mut call = TAKE.call(&self.keys.root(&place.queue));
        call.arg(hex(place.incarnation))
            .arg(u8::from(self.elsewhere.is_some()));
        encode::outcome(&mut call, place.tag, &outcome, true);
        let taken: u64 = decode::number(self.run(&TAKE, &place.queue, &call).await?)?;
        self.results_wait();
        Ok(taken == 1)
    }

    async fn release(
        &self,
        queue: &QueueName,
        incarnation: IncarnationId,
        tags: &[u64],
    ) -> Reply<u32> {
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        let mut released = 0;
        // The last ones first: each step goes to the front of those before it.
        for some in tags.rchunks(MAX_BATCH as usize) {
            let mut call = RELEASE.call(&self.keys.root(queue));
            call.arg(hex(incarnation)).arg(some);
            released += decode::number::<u32>(self.run(&RELEASE, queue, &call).await?)?;
        }
        Ok(released)
    }

    async fn close(&self, queue: &QueueName, incarnation: IncarnationId) -> Reply<u32> {
        let mut released = 0;
        loop {
            let mut call = CLOSE.call(&self.keys.root(queue));
            call.arg(hex(incarnation))
                .arg(MAX_BATCH)
                .arg(ms(KEEP_CLOSED));
            let mut parts = Parts::of(self.run(&CLOSE, queue, &call).await?)?;
            released += parts.number::<u32>()?;
            if parts.number::<u64>()? == 0 {
                return Ok(released);
            }
        }
    }

    async fn sweep(&self, queue: &QueueName, limit: u32) -> Reply<Swept> {
        sweep::sweep(self, queue, limit).await
    }

    async fn promote_due(&self, queue: &QueueName, limit: u32) -> Reply<Promoted> {
        let mut call = PROMOTE.call(&self.keys.root(queue));
        call.arg(limit.min(MAX_BATCH));
        let mut parts = Parts::of(self.run(&PROMOTE, queue, &call).await?)?;
        Ok(Promoted {
            moved: parts.number()?,
            now: Timestamp::from_millis(parts.number()?),
            next_due: parts.optional_number()?.map(Timestamp::from_millis),
        })
    }

    async fn wait(&self, queues: &[QueueName], timeout: Duration) -> Reply<Vec<Wake>> {
        self.channels.hear_news(&self.keys, queues);
        let waiting = self.board.wait(queues);
        let woken = tokio::time::timeout(timeout, waiting.next()).await;
        woken.unwrap_or_else(|_| Ok(Vec::new()))
    }

    async fn ring(&self, queue: &QueueName) -> Reply<()> {
        let call = RING.call(&self.keys.root(queue));
        self.run(&RING, queue, &call).await.map(drop)
    }

    async fn take_dead(&self, limit: u32) -> Reply<Vec<DeadTask>> {
        let mut dead = Vec::new();
        for queue in self.known_queues().await? {
            let mut call = DEAD.call(&self.keys.root(&queue));
            call.arg(limit.clamp(1, MAX_BATCH));
            dead.extend(decode::dead(&queue, self.run(&DEAD, &queue, &call).await?)?);
        }
        dead.sort_by_key(|dead| (dead.buried_at, dead.burial.number));
        dead.truncate(limit as usize);
        Ok(dead)
    }

    async fn drop_dead(&self, burials: &[BurialId]) -> Reply<u32> {
        let mut dropped = 0;
        for queue in self.known_queues().await? {
            for some in burials.chunks(MAX_BATCH as usize) {
                let mut call = DROP_DEAD.call(&self.keys.root(&queue));
                for burial in some {
                    call.arg(burial.number).arg(burial.task.as_bytes());
                }
                dropped += decode::number::<u32>(self.run(&DROP_DEAD, &queue, &call).await?)?;
            }
        }
        Ok(dropped)
    }

    async fn revoke(
        &self,
        queue: &QueueName,
        revocations: &[Revocation],
        forget_at: Timestamp,
    ) -> Reply<u64> {
        self.register(queue).await?;
        let mut version = 0;
        let none = [revocations];
        let chunks: Vec<&[Revocation]> = revocations.chunks(MAX_BATCH as usize).collect();
        for some in if chunks.is_empty() {
            &none[..]
        } else {
            &chunks
        } {
            let mut call = REVOKE.call(&self.keys.root(queue));
            call.arg(forget_at.as_millis()).arg(MAX_REVOCATIONS);
            for revocation in *some {
                call.arg(revocation.key());
            }
            version = decode::number(self.run(&REVOKE, queue, &call).await?)?;
        }
        Ok(version)
    }

    async fn revocations(&self, queue: &QueueName) -> Reply<(u64, Vec<Revocation>)> {
        let call = REVOCATIONS.call(&self.keys.root(queue));
        let mut parts = Parts::of(self.run(&REVOCATIONS, queue, &call).await?)?;
        let version = parts.number()?;
        let keys: Vec<String> = parts
            .list()?
            .into_iter()
            .map(decode::text)
            .collect::<Reply<_>>()?;
        // What this version does not know is none of its own.
        let known = keys.iter().filter_map(|key| Revocation::from_key(key));
        Ok((version, known.collect()))
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Reply<()> {
        self.register(queue).await?;
        let mut call = PAUSE.call(&self.keys.root(queue));
        call.arg(u8::from(paused));
        self.run(&PAUSE, queue, &call).await.map(drop)
    }

    async fn purge(&self, queue: &QueueName, state: TaskState, limit: u32) -> Reply<u32> {
        check_purge(state).map_err(invalid)?;
        let mut call = PURGE.call(&self.keys.root(queue));
        call.arg(state.as_str())
            .arg(limit.min(MAX_BATCH))
            .arg(u8::from(self.elsewhere.is_some()))
            .arg(ms(WANTED_TTL));
        let ended = decode::number(self.run(&PURGE, queue, &call).await?)?;
        self.results_wait();
        Ok(ended)
    }

    async fn queues(&self) -> Reply<Vec<QueueStatus>> {
        let mut all = Vec::new();
        for queue in self.known_queues().await? {
            let call = STATUS.call(&self.keys.root(&queue));
            let reply = self.run(&STATUS, &queue, &call).await?;
            all.push(decode::status(queue, reply)?);
        }
        Ok(all)
    }

    async fn scan(&self, request: &ScanRequest) -> Reply<ScanPage> {
        scan::page(self, request).await
    }

    async fn beat(&self, record: &WorkerRecord) -> Reply<()> {
        // Costs nothing while no connection was made anew; whoever holds tasks learns of wiped data from his next call.
        let wiped = self.boot.generation.look(&self.links).await;
        if wiped.map_err(super::fault::Fault::into_broker_error)? {
            self.registered().clear();
        }
        let key = self.keys.workers();
        let text = serde_json::to_string(record).map_err(invalid)?;
        let mut call = BEAT.call(&key);
        call.arg(record.worker.as_str()).arg(text);
        let slot = super::slot(&key);
        self.links.run(slot, &BEAT, &call).await.map(drop)
    }

    async fn farewell(&self, worker: &WorkerId) -> Reply<()> {
        let key = self.keys.workers();
        let mut command = redis::cmd("HDEL");
        command.arg(&key).arg(worker.as_str());
        self.query(&key, &command).await.map(drop)
    }

    async fn workers(&self) -> Reply<Vec<WorkerRecord>> {
        self.read_workers().await
    }

    async fn result(&self, queue: &QueueName, task: TaskId) -> Reply<Option<FinalRecord>> {
        let found = self.results(queue, &[task]).await?;
        Ok(found.into_iter().next())
    }

    async fn wait_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        timeout: Duration,
    ) -> Reply<Vec<FinalRecord>> {
        // One look in any case: a server that is away, or only slow, is not one that has nothing.
        let found = self.results(queue, tasks).await?;
        if !found.is_empty() || timeout.is_zero() {
            return Ok(found);
        }
        let watch = self.watch_results(queue, tasks);
        let in_time = tokio::time::timeout(timeout, watch).await;
        in_time.unwrap_or_else(|_| Ok(Vec::new()))
    }

    async fn shared(&self, key: &str) -> Reply<Option<SharedValue>> {
        let key = self.keys.shared(key);
        let reply = self
            .links
            .run(super::slot(&key), &SHARED, &SHARED.call(&key))
            .await?;
        match reply {
            Value::Nil => Ok(None),
            reply => {
                let mut parts = Parts::of(reply)?;
                Ok(Some(SharedValue {
                    version: parts.number()?,
                    value: parts.bytes()?,
                }))
            }
        }
    }

    async fn share(
        &self,
        key: &str,
        expected: u64,
        value: &[u8],
        ttl: Duration,
    ) -> Reply<Option<u64>> {
        let key = self.keys.shared(key);
        let mut call = SHARE.call(&key);
        call.arg(expected)
            .arg(value)
            .arg(ms(ttl).max(1))
            .arg(ms(KEEP_VERSION));
        match self.links.run(super::slot(&key), &SHARE, &call).await? {
            Value::Nil => Ok(None),
            version => decode::number(version).map(Some),
        }
    }

    async fn housekeep(&self, limit: u32) -> Reply<u32> {
        let limit = limit.clamp(1, MAX_BATCH);
        let mut forgotten = 0;
        for queue in self.known_queues().await? {
            let mut call = FORGET.call(&self.keys.root(&queue));
            call.arg(limit);
            forgotten += decode::number::<u32>(self.run(&FORGET, &queue, &call).await?)?;
        }
        let key = self.keys.workers();
        let mut call = FORGET_WORKERS.call(&key);
        call.arg(ms(KEEP_WORKER)).arg(limit);
        let reply = self.links.run(super::slot(&key), &FORGET_WORKERS, &call);
        Ok(forgotten + decode::number::<u32>(reply.await?)?)
    }
}

impl RedisBroker {
    async fn known_queues(&self) -> Reply<Vec<QueueName>> {
        super::known_queues(&self.links, &self.keys).await
    }
}
