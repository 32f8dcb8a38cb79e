//! What can be seen from outside, and what is kept beside the tasks: workers, results, revocations, shared values.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Now, Queue, Share, State};
use crate::fence::{BEATS_ALIVE, KEEP_CLOSED, KEEP_WORKER};
use crate::ids::{BurialId, QueueName, TaskId};
use crate::lease::{DeadTask, FinalRecord};
use crate::ports::{BrokerError, MAX_REVOCATIONS, QueueStatus, SharedValue, WorkerRecord, id_of};
use crate::revocation::Revocation;
use crate::state::TaskState;
use crate::time::Timestamp;

impl State {
    pub(super) fn statuses(&self) -> Vec<QueueStatus> {
        self.queues
            .iter()
            .map(|(name, queue)| self.status(name, queue))
            .collect()
    }

    fn status(&self, name: &QueueName, queue: &Queue) -> QueueStatus {
        let waits = |state| {
            let tasks = queue.waiting.values();
            tasks.filter(|waiting| waiting.state == state).count() as u64
        };
        let held = queue.lives.values().chain(queue.orphans.values());
        let outbox = self.graves.dead.values();
        let oldest = |frame: &Vec<u8>| {
            let header = crate::header::Header::read(frame).ok()?;
            Some(header.enqueued_at)
        };
        QueueStatus {
            queue: name.clone(),
            ready: queue.ready.iter().map(|lane| lane.len() as u64).sum(),
            scheduled: waits(TaskState::Scheduled),
            retrying: waits(TaskState::Retrying),
            active: held.map(|life| life.held.len() as u64).sum(),
            dead_outbox: outbox.filter(|dead| dead.queue == *name).count() as u64,
            paused: queue.paused,
            consumers: queue.lives.len() as u64,
            oldest_ready: queue.ready.iter().flatten().filter_map(oldest).min(),
            counters: queue.counters,
        }
    }

    pub(super) fn take_dead(&self, limit: u32) -> Vec<DeadTask> {
        let dead = self.graves.dead.values();
        dead.take(limit as usize).cloned().collect()
    }

    pub(super) fn drop_dead(&mut self, burials: &[BurialId]) -> u32 {
        let mut dropped = 0;
        for burial in burials {
            let there = self.graves.dead.get(&burial.number);
            if there.is_some_and(|dead| dead.burial == *burial) {
                self.graves.dead.remove(&burial.number);
                dropped += 1;
            }
        }
        dropped
    }

    pub(super) fn revoke(
        &mut self,
        name: &QueueName,
        revocations: &[Revocation],
        (forget_at, now): (Timestamp, Now),
    ) -> Result<u64, BrokerError> {
        let queue = self.queue(name);
        queue.revoked.retain(|_, until| *until > now.wall);
        let mut revoked = queue.revoked.clone();
        for revocation in revocations {
            let until = revoked.entry(revocation.clone()).or_insert(forget_at);
            *until = forget_at.max(*until);
        }
        if revoked.len() > MAX_REVOCATIONS {
            let full = format!("more than {MAX_REVOCATIONS} revocations of one queue");
            return Err(BrokerError::Invalid(full));
        }
        queue.revoked = revoked;
        queue.revocations += 1;
        let version = queue.revocations;
        self.ring_revoked(name);
        Ok(version)
    }

    pub(super) fn revocations(&self, name: &QueueName, now: Now) -> (u64, Vec<Revocation>) {
        let Some(queue) = self.queues.get(name) else {
            return (0, Vec::new());
        };
        let remembered = queue.revoked.iter().filter(|(_, until)| **until > now.wall);
        (
            queue.revocations,
            remembered.map(|(of, _)| of.clone()).collect(),
        )
    }

    pub(super) fn pause(&mut self, name: &QueueName, paused: bool) {
        let queue = self.queue(name);
        queue.paused = paused;
        queue.bells.ready = false;
        queue.ring();
    }

    pub(super) fn beat(&mut self, record: &WorkerRecord, now: Now) {
        let mut record = record.clone();
        record.seen_at = now.wall;
        self.workers.insert(record.worker.clone(), record);
    }

    pub(super) fn workers(&self, now: Now) -> Vec<WorkerRecord> {
        let judged = |record: &WorkerRecord| WorkerRecord {
            alive: now.wall.since(record.seen_at) <= record.beat.saturating_mul(BEATS_ALIVE),
            ..record.clone()
        };
        self.workers.values().map(judged).collect()
    }

    pub(super) fn results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        now: Now,
    ) -> Vec<FinalRecord> {
        let Some(queue) = self.queues.get(queue) else {
            return Vec::new();
        };
        let kept = tasks.iter().filter_map(|task| queue.results.get(task));
        kept.filter(|(_, until)| *until > now.wall)
            .map(|(record, _)| record.clone())
            .collect()
    }

    pub(super) fn shared(&self, key: &str, now: Now) -> Option<SharedValue> {
        let share = self.shared.get(key)?;
        let value = share.value.as_ref().filter(|_| share.ends_at > now.wall)?;
        Some(SharedValue {
            version: share.version,
            value: value.clone(),
        })
    }

    pub(super) fn share(
        &mut self,
        (key, expected): (&str, u64),
        value: &[u8],
        ttl: Duration,
        now: Now,
    ) -> Option<u64> {
        let current = self.shared(key, now).map_or(0, |shared| shared.version);
        if current != expected {
            return None;
        }
        let version = self.shared.get(key).map_or(0, |share| share.version) + 1;
        let share = Share {
            version,
            value: Some(value.to_vec()),
            ends_at: now.wall.plus(ttl),
        };
        self.shared.insert(key.to_owned(), share);
        Some(version)
    }

    pub(super) fn housekeep(&mut self, limit: u32, now: Now) -> u32 {
        let wall = now.wall;
        let mut forgotten = forget(&mut self.channels, limit, |c| c.forget_at <= wall);
        forgotten += forget(&mut self.workers, limit, |w| {
            wall.since(w.seen_at) >= KEEP_WORKER
        });
        for share in self.shared.values_mut() {
            if share.ends_at <= wall && share.value.take().is_some() {
                forgotten += 1;
            }
        }
        for queue in self.queues.values_mut() {
            forgotten += forget(&mut queue.results, limit, |(_, until)| *until <= wall);
            forgotten += forget(&mut queue.revoked, limit, |until| *until <= wall);
            forgotten += forget(&mut queue.closed, limit, |at| {
                wall.since(*at) >= KEEP_CLOSED
            });
        }
        forgotten
    }

    /// Overwrites the bytes of a ready task or one in flight.
    pub(super) fn corrupt(&mut self, name: &QueueName, task: TaskId, bytes: &[u8]) -> bool {
        let Some(queue) = self.queues.get_mut(name) else {
            return false;
        };
        let held = queue
            .lives
            .values_mut()
            .flat_map(|life| life.held.values_mut());
        let frames = held.map(|held| &mut held.frame);
        let ready = queue.ready.iter_mut().flatten();
        let found = frames.chain(ready).find(|frame| id_of(frame) == Some(task));
        found.map(|frame| bytes.clone_into(frame)).is_some()
    }
}

fn forget<K: Clone + Ord, V>(
    map: &mut BTreeMap<K, V>,
    limit: u32,
    over: impl Fn(&V) -> bool,
) -> u32 {
    let ended = map.iter().filter(|(_, value)| over(value));
    let keys: Vec<K> = ended
        .take(limit as usize)
        .map(|(key, _)| key.clone())
        .collect();
    for key in &keys {
        map.remove(key);
    }
    u32::try_from(keys.len()).unwrap_or(limit)
}
