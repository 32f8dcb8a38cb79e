//! The data of the memory broker: plain collections, one lock around all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::fence::Held as HeldBack;
use crate::header::{Header, Priority};
use crate::ids::{BurialId, ChannelId, IncarnationId, QueueName, TaskId, WorkerId};
use crate::lease::{DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation};
use crate::ports::{BrokerError, Counters, EnqueueCall, WorkerRecord, id_of};
use crate::revocation::Revocation;
use crate::state::{DeadReason, TaskState};
use crate::time::Timestamp;

/// Both clocks, read once for a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For due times, expiries and whatever people see.
    pub(super) wall: Timestamp,
    /// For leases and gaps.
    pub(super) boot: Duration,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) graves: Graves,
    pub(super) workers: BTreeMap<WorkerId, WorkerRecord>,
    pub(super) proven_dead: BTreeSet<WorkerId>,
    pub(super) shared: BTreeMap<String, Share>,
    /// Who waits now, with the queues whose revocations changed since it began to.
    pub(super) waiters: BTreeMap<u64, Waiter>,
    pub(super) next_waiter: u64,
    /// Incarnations with an exchange under way.
    pub(super) exchanging: BTreeSet<IncarnationId>,
}

/// One queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By priority.
    pub(super) ready: [VecDeque<Vec<u8>>; 10],
    /// By due time, then by the order in which they came.
    pub(super) waiting: BTreeMap<(Timestamp, u64), Waiting>,
    pub(super) next_waiting: u64,
    pub(super) lives: BTreeMap<IncarnationId, Life>,
    /// Closed by a sweep, with tasks that no sweep has moved yet.
    pub(super) orphans: BTreeMap<IncarnationId, Life>,
    /// Closed identities, with the time of their closing.
    pub(super) closed: BTreeMap<IncarnationId, Timestamp>,
    pub(super) last_sweep: Option<Duration>,
    pub(super) paused: bool,
    pub(super) counters: Counters,
    pub(super) revoked: BTreeMap<Revocation, Timestamp>,
    pub(super) revocations: u64,
    pub(super) results: BTreeMap<TaskId, (FinalRecord, Timestamp)>,
    pub(super) bells: Bells,
}

/// The wake tokens of a queue: each is there or not, never twice.
#[derive(Debug, Default)]
pub(super) struct Bells {
    pub(super) ready: bool,
    pub(super) due: bool,
    pub(super) revoked: bool,
}

/// A task that waits for its time.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) frame: Vec<u8>,
    /// Scheduled or retrying.
    pub(super) state: TaskState,
}

/// An incarnation with a lease.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) incarnation: Incarnation,
    /// When its lease is over, on the boot-time clock.
    pub(super) deadline: Duration,
    pub(super) held_back: HeldBack,
    pub(super) last: Option<(Arc<ExchangeCall>, Exchanged)>,
    pub(super) held: BTreeMap<u64, Held>,
    /// Below this, every tag was used or given up.
    pub(super) next_tag: u64,
}

/// A task in flight.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Vec<u8>,
    pub(super) started: bool,
}

/// A producer's line of numbered calls.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) last: Arc<EnqueueCall>,
    pub(super) reply: Timestamp,
    pub(super) forget_at: Timestamp,
}

/// A shared value. Its version outlives it, so that nobody can take a later one for it.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) version: u64,
    pub(super) value: Option<Vec<u8>>,
    pub(super) ends_at: Timestamp,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) queues: BTreeSet<QueueName>,
    pub(super) revoked: BTreeSet<QueueName>,
}

/// The dead outbox of all queues.
#[derive(Debug, Default)]
pub(super) struct Graves {
    pub(super) dead: BTreeMap<u64, DeadTask>,
    pub(super) burials: u64,
    pub(super) bell: bool,
}

/// A task on its way to the dead outbox.
#[derive(Debug)]
pub(super) struct Burial {
    pub(super) queue: QueueName,
    pub(super) worker: WorkerId,
    pub(super) reason: DeadReason,
    pub(super) note: String,
    pub(super) frame: Vec<u8>,
}

impl Graves {
    pub(super) fn bury(&mut self, burial: Burial, now: Timestamp) {
        self.burials += 1;
        self.bell = true;
        let id = BurialId {
            task: id_of(&burial.frame).unwrap_or_else(TaskId::fresh),
            number: self.burials,
        };
        let dead = DeadTask {
            burial: id,
            queue: burial.queue,
            reason: burial.reason,
            note: burial.note,
            frame: burial.frame,
            buried_at: now,
            worker: burial.worker,
        };
        self.dead.insert(id.number, dead);
    }
}

impl State {
    /// Returns a queue, heard of from now on.
    pub(super) fn queue(&mut self, name: &QueueName) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    /// Returns the queue and the living incarnation in it.
    pub(super) fn life(
        &mut self,
        queue: &QueueName,
        incarnation: IncarnationId,
    ) -> Result<&mut Life, BrokerError> {
        self.queues
            .get_mut(queue)
            .and_then(|queue| queue.lives.get_mut(&incarnation))
            .ok_or(BrokerError::Gone)
    }
}

impl Life {
    /// Lets the lease start again.
    pub(super) fn renew(&mut self, now: Now) {
        self.deadline = now.boot.saturating_add(self.incarnation.lease);
    }
}

impl Queue {
    /// Makes a task ready behind the others of its priority.
    pub(super) fn push_back(&mut self, frame: Vec<u8>) {
        self.ready[level(&frame)].push_back(frame);
    }

    /// Makes a task ready before the others of its priority.
    pub(super) fn push_front(&mut self, frame: Vec<u8>) {
        self.ready[level(&frame)].push_front(frame);
    }

    /// Takes the task that is next: highest priority first, then oldest.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.ready.iter_mut().rev().find_map(VecDeque::pop_front)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.iter().any(|lane| !lane.is_empty())
    }

    /// Lets a task wait until `due`, and rings when nothing else is due as early.
    pub(super) fn push_waiting(&mut self, due: Timestamp, waiting: Waiting) {
        let earliest = self.waiting.keys().next().map(|(at, _)| *at);
        if earliest.is_none_or(|earliest| due < earliest) {
            self.bells.due = true;
        }
        self.waiting.insert((due, self.next_waiting), waiting);
        self.next_waiting += 1;
    }

    /// Puts the wake token in its place if there is something to fetch.
    pub(super) fn ring(&mut self) {
        if self.has_ready() && !self.paused {
            self.bells.ready = true;
        }
    }

    /// Keeps what is to be known of a task that ended.
    pub(super) fn keep(&mut self, record: &FinalRecord, now: Timestamp) {
        let until = now.plus(record.ttl);
        self.results.insert(record.id, (record.clone(), until));
    }
}

fn level(frame: &[u8]) -> usize {
    let priority = Header::read(frame).map_or(Priority::NORMAL, |header| header.priority);
    usize::from(priority.level())
}
