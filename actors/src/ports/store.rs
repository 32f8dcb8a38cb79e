//! The store's part for dead letters: kept for people, with everything that is known of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::clusters::{ClusterCursor, ClusterPage};
use crate::failure::Failure;
use crate::fingerprint::Fingerprint;
use crate::ids::{BurialId, QueueName, TaskId, TaskName};
use crate::state::DeadReason;
use crate::time::Timestamp;

/// Why a step at the store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached or is locked; whether the step happened is unknown. Every step may be repeated.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store refuses writes (full disk, read-only): nothing happened.
    #[error("the store refuses writes: {0}")]
    Refused(String),
    /// The store's schema is missing, older or newer than this version: migrate, or run the version that fits.
    #[error("the store's schema does not fit this version: {0}")]
    Schema(String),
    /// No dead letter has this id.
    #[error("there is no dead letter {0}")]
    Missing(BurialId),
    /// The dead letter is not in a state that allows the step.
    #[error("dead letter {id} is {status}")]
    Status {
        /// Which one.
        id: BurialId,
        /// What it is.
        status: DeadStatus,
    },
}

impl StoreError {
    /// Returns whether the state of the store is the reason: an outage, not a crash.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Refused(_))
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadStatus {
    /// Nobody has decided yet.
    New,
    /// Its revival is decided; whether the enqueue happened is unknown until it is `revived`.
    Reviving,
    /// It was enqueued again.
    Revived,
    /// Somebody decided that it stays dead.
    Discarded,
}

impl DeadStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::New, Self::Reviving, Self::Revived, Self::Discarded];

    /// Returns the status's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reviving => "reviving",
            Self::Revived => "revived",
            Self::Discarded => "discarded",
        }
    }
}

impl std::fmt::Display for DeadStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A dead letter: a task that died, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// This burial.
    pub id: BurialId,
    /// The queue it died in.
    pub queue: QueueName,
    /// Its kind, where it could be read.
    pub task: Option<TaskName>,
    /// Why it died.
    pub reason: DeadReason,
    /// One line for people: what could not be decoded, which limit.
    pub note: String,
    /// Its bytes as they were.
    #[serde(skip)]
    pub frame: Vec<u8>,
    /// Its arguments as JSON, where they decode.
    pub args: Option<String>,
    /// Its text headers.
    pub headers: BTreeMap<String, String>,
    /// Its failed attempts, oldest first.
    pub failures: Vec<Failure>,
    /// How many attempts counted.
    pub attempts: u16,
    /// How often it was rescued.
    pub deliveries: u8,
    /// When it was enqueued, by its producer's clock.
    pub enqueued_at: Option<Timestamp>,
    /// When it was buried, by the broker's clock.
    pub buried_at: Timestamp,
    /// The process that held it last.
    pub worker: String,
    /// What became of it.
    pub status: DeadStatus,
    /// How often this letter was revived.
    pub revivals: u32,
    /// The bytes that its revival sends instead of its own, where somebody edited its arguments.
    #[serde(skip)]
    pub edited: Option<Vec<u8>>,
}

impl DeadLetter {
    /// Returns the one line that says most: what was wrong with its bytes or limits, or what its last attempt said.
    #[must_use]
    pub fn message(&self) -> &str {
        message(&self.note, &self.failures)
    }
}

/// Returns the one line of a letter that says most: its note, or what its last attempt said.
#[must_use]
pub fn message<'a>(note: &'a str, failures: &'a [Failure]) -> &'a str {
    match failures.last() {
        Some(failure) if note.is_empty() => &failure.message,
        _ => note,
    }
}

/// Which dead letters are meant. Everything that is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this queue.
    pub queue: Option<QueueName>,
    /// Of this kind.
    pub task: Option<TaskName>,
    /// Of this task.
    pub id: Option<TaskId>,
    /// Buried for this reason.
    pub reason: Option<DeadReason>,
    /// In this status.
    pub status: Option<DeadStatus>,
    /// Died of this, as its stored fingerprint says.
    pub fingerprint: Option<Fingerprint>,
    /// Buried at this instant or later.
    pub since: Option<Timestamp>,
    /// Buried before this instant.
    pub until: Option<Timestamp>,
}

/// A page of dead letters, newest burial first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Behind which the next page starts; `None` at the end.
    pub next: Option<DeadCursor>,
}

/// A place among the dead letters: keyset, no offset, so a page costs the same wherever it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadCursor {
    /// The burial time of the last letter seen.
    pub buried_at: Timestamp,
    /// The last letter seen.
    pub id: BurialId,
}

/// One line of the statistics of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsRow {
    /// What is counted: a queue, a task, a reason, a status, or a day (`2026-01-31`, UTC).
    pub key: String,
    /// How many dead letters.
    pub count: u64,
}

/// How many dead letters there are, by what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadStats {
    /// All of them.
    pub total: u64,
    /// By queue, most first.
    pub by_queue: Vec<StatsRow>,
    /// By kind of task, most first; `?` where it could not be read.
    pub by_task: Vec<StatsRow>,
    /// By reason, most first.
    pub by_reason: Vec<StatsRow>,
    /// By status, most first.
    pub by_status: Vec<StatsRow>,
    /// By day of burial in UTC, newest first.
    pub by_day: Vec<StatsRow>,
}

/// Where dead letters are kept.
#[async_trait]
pub trait DeadLetters: std::fmt::Debug + Send + Sync + 'static {
    /// Adds letters; one that is there already is left as it is. Returns how many were new.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it happened or all; repeat.
    async fn insert(&self, letters: Vec<DeadLetter>) -> Result<u64, StoreError>;

    /// Returns a page, newest burial first, behind `after`; `limit` is clamped to 1..=1000.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn list(
        &self,
        filter: &DeadFilter,
        after: Option<DeadCursor>,
        limit: u32,
    ) -> Result<DeadPage, StoreError>;

    /// Returns one letter.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    async fn show(&self, id: BurialId) -> Result<DeadLetter, StoreError>;

    /// Marks a letter as being revived, with `edited` bytes where somebody edited its arguments, and counts the revival;
    /// returns it as it is now. A letter that is `reviving` already is returned unchanged, so that whoever finds it can
    /// finish; its `edited` bytes may be others then.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Status`] when it was revived or discarded.
    async fn begin_revival(
        &self,
        id: BurialId,
        edited: Option<&[u8]>,
    ) -> Result<DeadLetter, StoreError>;

    /// Marks letters that are `reviving` as `revived`. Repeatable. Returns how many changed.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn finish_revival(&self, ids: &[BurialId]) -> Result<u64, StoreError>;

    /// Marks letters that are `new` as `discarded`. Repeatable. Returns how many changed.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn discard(&self, ids: &[BurialId]) -> Result<u64, StoreError>;

    /// Deletes the letters that match, at most `limit` a call; returns how many went. A letter that is `reviving` is
    /// never deleted.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn purge(&self, filter: &DeadFilter, limit: u32) -> Result<u64, StoreError>;

    /// Deletes the oldest letters beyond the newest `keep`, at most `limit` a call; returns how many went. A letter that is
    /// `reviving` counts and is never deleted. What is counted and what goes is one step: several that trim at once
    /// delete no more than one alone.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn trim(&self, keep: u64, limit: u32) -> Result<u64, StoreError>;

    /// Counts the letters that match, by queue, task, reason, status and day.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn stats(&self, filter: &DeadFilter) -> Result<DeadStats, StoreError>;

    /// Counts the letters that match by what they died of, behind `after`; `limit` is clamped to 1..=1000.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    async fn clusters(
        &self,
        filter: &DeadFilter,
        after: Option<ClusterCursor>,
        limit: u32,
    ) -> Result<ClusterPage, StoreError>;
}
