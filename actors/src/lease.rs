//! Leases and their ends: who holds a task, and the words with which a holder settles it.
//!
//! A consumer lives as one *incarnation*: a random identity with a lease of its own. Tasks in flight belong to it under
//! *tags* that it counts itself and never uses twice. Everything a consumer asks of the broker is a *numbered call* of
//! its incarnation, one outstanding at a time, so that a call whose reply was lost can be repeated to the letter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::header::Header;
use crate::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use crate::progress::Progress;
use crate::state::{DeadReason, TaskState};
use crate::time::Timestamp;

/// One life of one queue consumer, as the broker is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The identity, never used twice.
    pub id: IncarnationId,
    /// The queue it drains.
    pub queue: QueueName,
    /// The process it lives in.
    pub worker: WorkerId,
    /// The lane (arbiter) it lives on, counted from 0.
    pub lane: u16,
    /// How long it may stay silent. At least one second.
    pub lease: Duration,
}

/// Where one delivery is held: the fence of every settlement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The queue.
    pub queue: QueueName,
    /// The incarnation that holds it.
    pub incarnation: IncarnationId,
    /// The delivery tag within the incarnation.
    pub tag: u64,
}

/// A task handed to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The tag under which it is held, unique within the incarnation.
    pub tag: u64,
    /// The stored bytes, with the broker's counts patched into the header. May be garbage.
    pub frame: Vec<u8>,
}

/// How one delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The task is done.
    Succeed {
        /// What to keep of it.
        result: Option<FinalRecord>,
    },
    /// The attempt failed and counts; the task runs again.
    Retry {
        /// The frame with the attempt counted and the failure remembered.
        frame: Vec<u8>,
        /// How long it waits, on the broker's clock. Zero makes it ready at the back of its priority.
        delay: Duration,
    },
    /// The delivery is undone and not counted.
    ///
    /// Without a delay the task is ready again at the *front* of its priority; with one it is scheduled.
    Release {
        /// A changed frame; `None` keeps the one in flight.
        frame: Option<Vec<u8>>,
        /// How long it waits, on the broker's clock.
        delay: Duration,
    },
    /// The task is dead: it moves to the dead outbox in the same step.
    Bury {
        /// The frame with its last failure remembered; `None` keeps the one in flight, raw.
        frame: Option<Vec<u8>>,
        /// Why.
        reason: DeadReason,
        /// One line for people: what could not be decoded, which limit.
        note: String,
        /// What to keep for those who wait.
        result: Option<FinalRecord>,
    },
    /// The task was revoked.
    Cancel {
        /// What to keep for those who wait.
        result: Option<FinalRecord>,
    },
    /// The task's expiry passed before it was started.
    Expire {
        /// What to keep for those who wait.
        result: Option<FinalRecord>,
    },
}

impl Outcome {
    /// Undoes the delivery: front of its priority, at once, uncounted.
    #[must_use]
    pub const fn release() -> Self {
        Self::Release {
            frame: None,
            delay: Duration::ZERO,
        }
    }

    /// Keeps an attempt's last word about its progress with what is kept of the task.
    #[must_use]
    pub(crate) fn with_progress(mut self, progress: Option<Progress>) -> Self {
        if let Self::Succeed { result } | Self::Bury { result, .. } = &mut self
            && let Some(record) = result
        {
            record.progress = progress;
        }
        self
    }

    /// Returns the final record that the broker stores in the same step, if any.
    #[must_use]
    pub const fn record(&self) -> Option<&FinalRecord> {
        match self {
            Self::Succeed { result }
            | Self::Bury { result, .. }
            | Self::Cancel { result }
            | Self::Expire { result } => result.as_ref(),
            Self::Retry { .. } | Self::Release { .. } => None,
        }
    }
}

/// One settlement of a numbered call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery.
    pub tag: u64,
    /// How it ends.
    pub outcome: Outcome,
}

/// What is kept of a task that ended, until its time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalRecord {
    /// The task.
    pub id: TaskId,
    /// How it ended; always a final state.
    pub state: TaskState,
    /// The output of a task that succeeded, or the last [`Failure`](crate::failure::Failure) of one that died, as
    /// MessagePack; empty when there is none.
    pub body: Vec<u8>,
    /// How many attempts counted.
    pub attempts: u16,
    /// How long to keep it.
    pub ttl: Duration,
    /// What the last attempt said of its progress, if it said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How long the final state of a task that somebody waits for is kept where results are off.
pub const WANTED_TTL: Duration = Duration::from_secs(600);

impl FinalRecord {
    /// Returns what is kept of a task that ended: nothing, unless it has a result to keep for `ttl` or somebody waits
    /// for its end.
    #[must_use]
    pub fn of(
        header: &Header,
        state: TaskState,
        body: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Option<Self> {
        let ttl = ttl.unwrap_or_default();
        let ttl = if header.want_outcome {
            ttl.max(WANTED_TTL)
        } else {
            ttl
        };
        (!ttl.is_zero()).then_some(Self {
            id: header.id,
            state,
            body,
            attempts: header.attempts,
            ttl,
            progress: None,
        })
    }
}

/// Returns what is kept of a task that is purged before it started: nothing, unless somebody waits for its end.
#[must_use]
pub fn purged(frame: &[u8]) -> Option<FinalRecord> {
    let header = Header::read(frame).ok()?;
    FinalRecord::of(&header, TaskState::Cancelled, Vec::new(), None)
}

/// A numbered call of an incarnation: settles what finished and fetches what is next, in one step.
///
/// A repeat after a lost reply is the same value again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeCall {
    /// The queue.
    pub queue: QueueName,
    /// Who calls.
    pub incarnation: IncarnationId,
    /// 1 for the first call, then one more each.
    pub number: u64,
    /// What finished.
    pub settlements: Vec<Settlement>,
    /// The most new deliveries wanted; 0 only settles. At most [`MAX_BATCH`].
    pub want: u32,
    /// The tag of the first new delivery; the next ones follow.
    pub first_tag: u64,
}

/// The most tasks one call of the broker moves.
pub const MAX_BATCH: u32 = 500;

/// The reply to an [`ExchangeCall`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// The tags of settlements that took no effect, because the delivery was no longer held.
    pub stale: Vec<u64>,
    /// The new deliveries, tags ascending from the call's first tag.
    pub deliveries: Vec<Delivery>,
    /// Whether ready tasks were left behind.
    pub more: bool,
    /// The broker's wall clock at the step.
    pub now: Timestamp,
    /// The version of the queue's revocations; when it moved, [`Broker::revocations`](crate::ports::Broker::revocations) tells them.
    pub revocations: u64,
}

/// What one sweep of a queue did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The incarnations it closed.
    pub closed: Vec<ClosedIncarnation>,
    /// Tasks made ready again.
    pub rescued: u32,
    /// Tasks buried instead: poison, delivery limit, or no frame at all.
    pub buried: u32,
    /// Whether there is more to move than the call's limit allowed.
    pub more: bool,
    /// Whether the guard against mass rescue held it back: the last sweep was too long ago or ahead of the clock.
    pub held_back: bool,
}

/// An incarnation that a sweep closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedIncarnation {
    /// Which one.
    pub id: IncarnationId,
    /// The process it lived in.
    pub worker: WorkerId,
    /// Whether its process was proven dead, as opposed to silent beyond its lease.
    pub proven_dead: bool,
}

/// What one promotion of a queue's due tasks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Tasks made ready.
    pub moved: u32,
    /// The broker's clock at the step.
    pub now: Timestamp,
    /// When the next one is due, if any waits. Not after `now` when the call's limit stopped it.
    pub next_due: Option<Timestamp>,
}

/// A task in the dead outbox of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadTask {
    /// This burial.
    pub burial: BurialId,
    /// The queue it died in.
    pub queue: QueueName,
    /// Why.
    pub reason: DeadReason,
    /// One line for people.
    pub note: String,
    /// Its bytes as they were, readable or not.
    pub frame: Vec<u8>,
    /// When it was buried, by the broker's clock.
    pub buried_at: Timestamp,
    /// The process that held it last.
    pub worker: WorkerId,
}
