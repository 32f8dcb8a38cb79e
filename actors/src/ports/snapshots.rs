//! The store's part for figures: what each queue and each kind of task did, minute by minute, hour by hour, day by day.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::inspect::Counters;
use super::store::StoreError;
use crate::ids::{QueueName, WorkerId};
use crate::measure::Sum;
use crate::time::Timestamp;

/// How long a snapshot reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

impl Span {
    /// Every span, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Returns its length.
    #[must_use]
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }

    /// Returns how long its snapshots are kept by default: two days of minutes, ninety days of hours, five years of days.
    #[must_use]
    pub const fn kept(self) -> Duration {
        Duration::from_secs(
            86_400
                * match self {
                    Self::Minute => 2,
                    Self::Hour => 90,
                    Self::Day => 5 * 365,
                },
        )
    }

    /// Returns the beginning of the span that an instant falls into.
    #[must_use]
    pub fn begin(self, at: Timestamp) -> Timestamp {
        let length = crate::time::millis(self.length());
        Timestamp::from_millis(at.as_millis() / length * length)
    }
}

/// One queue over a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSnapshot {
    /// When the span begins.
    pub at: Timestamp,
    /// The queue.
    pub queue: QueueName,
    /// Ready tasks at its end; of a longer span the most of any minute.
    pub ready: u64,
    /// Scheduled tasks, likewise.
    pub scheduled: u64,
    /// Tasks waiting for a retry, likewise.
    pub retrying: u64,
    /// Tasks in flight, likewise.
    pub active: u64,
    /// Dead tasks the store did not have, likewise.
    pub dead_outbox: u64,
    /// Consumers, likewise.
    pub consumers: u64,
    /// How long the oldest ready task had waited in milliseconds, likewise.
    pub oldest_ms: u64,
    /// Whether it handed out nothing at the end; of a longer span in any minute.
    pub paused: bool,
    /// What the broker had counted by its end since its data exists: differences of two snapshots are what happened between.
    pub counters: Counters,
}

/// One kind of task over a span, as one worker counted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// When the span begins.
    pub at: Timestamp,
    /// The queue.
    pub queue: QueueName,
    /// The kind, or [`OTHER`](crate::measure::OTHER).
    pub task: String,
    /// Who counted.
    pub worker: WorkerId,
    /// What happened within the span.
    pub sum: Sum,
}

/// What one process adds for one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// When the minute begins.
    pub at: Timestamp,
    /// The queues. Another process may have written the same: the first one stays.
    pub queues: Vec<QueueSnapshot>,
    /// The kinds of tasks, by this process alone.
    pub tasks: Vec<TaskSnapshot>,
}

/// Which snapshots are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRange {
    /// Of which length.
    pub span: Span,
    /// Those that begin at this instant or later.
    pub since: Timestamp,
    /// Those that begin before this instant.
    pub until: Timestamp,
    /// Of this queue alone.
    pub queue: Option<QueueName>,
    /// At most so many, the oldest first; clamped to 1..=10,000.
    pub limit: u32,
}

/// Where snapshots are kept.
#[async_trait]
pub trait Snapshots: std::fmt::Debug + Send + Sync + 'static {
    /// Finds out whether the store takes writes, and writes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: why not.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Adds a minute, and brings the hour and the day that it falls into up to date. Repeatable.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it happened or all; repeat.
    async fn write(&self, minute: &Minute) -> Result<(), StoreError>;

    /// Returns snapshots of queues, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn queue_snapshots(
        &self,
        range: &SnapshotRange,
    ) -> Result<Vec<QueueSnapshot>, StoreError>;

    /// Returns snapshots of kinds of tasks, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn task_snapshots(&self, range: &SnapshotRange) -> Result<Vec<TaskSnapshot>, StoreError>;

    /// Deletes snapshots of a length that begin before an instant, at most `limit` of each table; returns how many went.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn prune(&self, span: Span, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
