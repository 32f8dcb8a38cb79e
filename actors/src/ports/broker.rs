//! The broker: where tasks wait, and who may run them.
//!
//! Every method is one atomic step at the broker. The rules behind them are proven by
//! [`testkit::conformance`](crate::testkit), which every broker passes. Methods that name an incarnation are fenced: once it was
//! closed, they have no effect and say [`BrokerError::Gone`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::inspect::{QueueStatus, ScanPage, ScanRequest, SharedValue, Wake, WorkerRecord};
use crate::ids::{BurialId, ChannelId, IncarnationId, QueueName, TaskId, WorkerId};
use crate::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, Outcome, Place, Promoted, Swept,
};
use crate::revocation::Revocation;
use crate::state::TaskState;
use crate::time::Timestamp;

/// Why a step at the broker failed: what the caller can do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The incarnation was closed, or its call number does not follow: nothing happened. Drop what is unstarted, cancel
    /// what runs, open a new incarnation.
    #[error("the incarnation is gone")]
    Gone,
    /// The broker did not answer; whether the step happened is unknown. Repeat the same call.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The broker could not be asked: the step was never sent, or it was turned away before it began. It certainly did
    /// not happen. Repeat the same call, or take it elsewhere.
    #[error("the broker is unavailable: {0}")]
    Away(String),
    /// The broker refuses writes (full disk, read-only, memory limit): nothing happened. Try again later.
    #[error("the broker refuses writes: {0}")]
    Refused(String),
    /// The call cannot be carried out as it is: a bug of the caller or a limit exceeded. Repeating it is no use.
    #[error("the broker rejects the call: {0}")]
    Invalid(String),
    /// The broker's data was written by another version. Nothing happened; migrate, or run the version that fits.
    #[error("the broker's data does not fit this version: {0}")]
    Schema(String),
}

impl BrokerError {
    /// Returns whether the state of the broker, as opposed to the call, is the reason: an outage, not a crash.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Away(_) | Self::Refused(_)
        )
    }

    /// Returns whether the step may have happened although no answer says so.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// What an acknowledged task is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Lost with the process.
    Volatile,
    /// Survives the crash of every process; a crash of the machine or a failover may cost the last moments.
    CrashSafe,
    /// Survives a power cut.
    PowerSafe,
}

impl Durability {
    /// Returns the class as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::CrashSafe => "crash-safe",
            Self::PowerSafe => "power-safe",
        }
    }
}

/// What a broker can do beyond the tasks themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Revocations reach every consumer.
    pub signal: bool,
    /// Values shared by all workers (breaker states, leaders).
    pub shared: bool,
}

/// When a new task becomes ready, by the broker's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// After this long: the broker adds its own now.
    After(Duration),
    /// At this instant; at once when it is past.
    At(Timestamp),
}

/// One task to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// The stored bytes. The broker reads the header and refuses the call when there is none.
    pub frame: Vec<u8>,
    /// When it becomes ready.
    pub when: When,
}

/// As what added tasks are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueKind {
    /// New tasks.
    New,
    /// Dead tasks brought back.
    Revival,
}

/// A numbered call of a producer's channel: adds all its tasks or none.
///
/// The broker remembers the last number of each channel and its reply. The same number again adds nothing and gets the
/// same reply, so a call whose reply was lost is repeated to the letter. Numbers grow by one; a lower one is
/// [`BrokerError::Invalid`]. A channel unknown to the broker may start at any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnqueueCall {
    /// The queue of all tasks of the call.
    pub queue: QueueName,
    /// The channel.
    pub channel: ChannelId,
    /// The number of the call within the channel.
    pub number: u64,
    /// The tasks, in order. At most [`MAX_BATCH`](crate::lease::MAX_BATCH).
    pub tasks: Vec<NewTask>,
    /// As what they are counted.
    pub kind: EnqueueKind,
    /// How long the broker remembers the call after its last use. One hour is usual.
    pub remember: Duration,
}

/// Where tasks wait and who may run them.
#[async_trait]
pub trait Broker: std::fmt::Debug + Send + Sync + 'static {
    /// Returns what it can do beyond the tasks themselves.
    fn capabilities(&self) -> Capabilities;

    /// Returns what an acknowledged task is worth here.
    fn durability(&self) -> Durability;

    /// Returns whether it may throw tasks away when its memory is full.
    fn evicts(&self) -> bool {
        false
    }

    /// Adds tasks, all or none; returns the broker's clock at the step.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat the same call, it adds nothing twice. [`BrokerError::Away`],
    /// [`BrokerError::Refused`]: nothing was added. [`BrokerError::Invalid`]: a frame without a header, too many tasks, a number that does not follow.
    async fn enqueue(&self, call: Arc<EnqueueCall>) -> Result<Timestamp, BrokerError>;

    /// Opens an incarnation: its lease starts now, its next call is number 1. Repeating it changes nothing but the
    /// lease's start.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat. [`BrokerError::Gone`]: this identity was closed before; take another.
    async fn open(&self, incarnation: &Incarnation) -> Result<(), BrokerError>;

    /// Settles what finished and fetches what is next, in one step. Never waits for work.
    ///
    /// The number of the last call again: nothing is settled again, the stored reply is returned, and the deliveries of
    /// that call are read again from what is in flight (one taken meanwhile is missing). A call also renews the lease.
    /// A settlement takes effect only if its tag was held, otherwise it is in [`Exchanged::stale`] and nothing else.
    ///
    /// # Errors
    /// [`BrokerError::Gone`]: closed, never opened, or the number neither repeats nor follows; nothing happened.
    /// [`BrokerError::Unavailable`]: unknown; repeat the same call. [`BrokerError::Refused`]: nothing happened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown: repeat the same call.
    async fn exchange(&self, call: Arc<ExchangeCall>) -> Result<Exchanged, BrokerError>;

    /// Renews the leases of `incarnations`, all of `queue`; returns those that are gone.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat before the leases end.
    async fn renew(
        &self,
        queue: &QueueName,
        incarnations: &[IncarnationId],
    ) -> Result<Vec<IncarnationId>, BrokerError>;

    /// Writes the start mark of a suspect: only a rescue that finds it adds a strike. Repeatable. Returns whether the
    /// delivery was held; when not, it must not be started.
    ///
    /// # Errors
    /// [`BrokerError::Gone`], [`BrokerError::Unavailable`]: repeat.
    async fn mark_started(&self, place: &Place) -> Result<bool, BrokerError>;

    /// Ends one delivery of a living incarnation from outside (the watchdog). Un-numbered; effective only if it removes
    /// the tag, so repeatable. Returns whether it did.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat. An incarnation that is gone answers `Ok(false)`.
    async fn take(&self, place: &Place, outcome: Outcome) -> Result<bool, BrokerError>;

    /// Releases deliveries to the front of their priority, uncounted, keeping their order. Un-numbered and repeatable.
    /// Returns how many were held.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn release(
        &self,
        queue: &QueueName,
        incarnation: IncarnationId,
        tags: &[u64],
    ) -> Result<u32, BrokerError>;

    /// Closes an incarnation of one's own: releases all it still holds to the front, uncounted, and forgets its lease.
    /// Repeatable; the identity stays closed. Returns how many deliveries were released.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat, or leave it to rescue.
    async fn close(
        &self,
        queue: &QueueName,
        incarnation: IncarnationId,
    ) -> Result<u32, BrokerError>;

    /// Closes incarnations of `queue` whose lease is over or whose process is proven dead, and moves at most `limit` of
    /// their tasks to the front of their own priority, deliveries + 1.
    ///
    /// Closes first, then moves; a sweep that was interrupted is finished by the next. A delivery with a start mark gets
    /// a strike; two strikes bury it as poison; [`MAX_DELIVERIES`] redeliveries bury it as such; bytes without a header
    /// are buried raw. When the last sweep is further back than half the shortest lease, or ahead of now, only the
    /// proven dead are closed; the others get a full lease from now, and [`Swept::held_back`] says so.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat at the next interval.
    async fn sweep(&self, queue: &QueueName, limit: u32) -> Result<Swept, BrokerError>;

    /// Makes at most `limit` due tasks of `queue` ready, earliest first, and tells when the next is due.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn promote_due(&self, queue: &QueueName, limit: u32) -> Result<Promoted, BrokerError>;

    /// Waits until one of `queues` may have something new, for at most `timeout`; returns what woke it, empty at the
    /// timeout. A wake may be spurious, and may be lost with a dropped future: callers also look by themselves now and
    /// then. That it returned without an error does not prove that the broker answers.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: look again with backoff.
    async fn wait(&self, queues: &[QueueName], timeout: Duration)
    -> Result<Vec<Wake>, BrokerError>;

    /// Returns whether every part of the broker that failed to answer has answered since. A broker of several servers may
    /// answer for some queues while it is away for others: that is an outage until all of it is back. Costs nothing.
    fn is_whole(&self) -> bool {
        true
    }

    /// Wakes somebody else who waits for `queue`, if it has ready tasks: from one who was woken and has no room for them.
    /// A broker whose bells wake everybody has nothing to do.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: others look by themselves now and then.
    async fn ring(&self, _queue: &QueueName) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Reads at most `limit` dead tasks of all queues, oldest burial first. Removes nothing.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn take_dead(&self, limit: u32) -> Result<Vec<DeadTask>, BrokerError>;

    /// Removes dead tasks that are stored elsewhere now. Repeatable. Returns how many were still there.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn drop_dead(&self, burials: &[BurialId]) -> Result<u32, BrokerError>;

    /// Revokes tasks of `queue`: consumers cancel them before their start, and signal or end those that run. Remembered until
    /// `forget_at`; the same revocation again extends it. Returns the queue's new version. Touches no task.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] when more than [`MAX_REVOCATIONS`] would be remembered; [`BrokerError::Unavailable`].
    async fn revoke(
        &self,
        queue: &QueueName,
        revocations: &[Revocation],
        forget_at: Timestamp,
    ) -> Result<u64, BrokerError>;

    /// Returns the queue's revocations that are still remembered, with their version.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn revocations(&self, queue: &QueueName) -> Result<(u64, Vec<Revocation>), BrokerError>;

    /// Pauses or resumes a queue: a paused one hands out nothing and goes on settling, promoting and rescuing.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError>;

    /// Ends at most `limit` tasks of `queue` that are ready, scheduled or retrying, those first that would be fetched or
    /// become due first. Each counts as cancelled and is gone for good; what is kept for whoever waits for one is that it
    /// was cancelled. What is in flight stays. Returns how many were ended, which is 0 where there are none. A call ends at
    /// most [`MAX_BATCH`](crate::lease::MAX_BATCH), whatever `limit` says.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] for another state. [`BrokerError::Unavailable`]: unknown; a repeat ends further tasks.
    async fn purge(
        &self,
        queue: &QueueName,
        state: TaskState,
        limit: u32,
    ) -> Result<u32, BrokerError>;

    /// Returns every queue the broker has heard of, by name.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError>;

    /// Reads one page of the stored tasks of a queue in one state (scheduled, retrying, ready or active). A task that
    /// moves meanwhile may be missed or seen twice.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] for a final state or a cursor of another scan; [`BrokerError::Unavailable`].
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, BrokerError>;

    /// Writes the record of a worker; it counts as alive for three times its `beat`.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: the next beat repeats it.
    async fn beat(&self, record: &WorkerRecord) -> Result<(), BrokerError>;

    /// Removes the record of a worker that ends.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: the record ends by itself.
    async fn farewell(&self, worker: &WorkerId) -> Result<(), BrokerError>;

    /// Returns the records of all workers, silent ones included until they are forgotten.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, BrokerError>;

    /// Returns what is kept of a task that ended, if it ended and is not forgotten.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn result(
        &self,
        queue: &QueueName,
        task: TaskId,
    ) -> Result<Option<FinalRecord>, BrokerError>;

    /// Waits until something is kept of one of `tasks`, for at most `timeout`; returns what is kept of them, empty at
    /// the timeout.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    ///
    /// # Cancel safety
    /// Cancel-safe: reading removes nothing.
    async fn wait_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        timeout: Duration,
    ) -> Result<Vec<FinalRecord>, BrokerError>;

    /// Reads a shared value.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat.
    async fn shared(&self, key: &str) -> Result<Option<SharedValue>, BrokerError>;

    /// Writes a shared value if its version is still `expected` (0: if there is none); it ends after `ttl`. Returns the
    /// new version, or `None` when somebody else was faster.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: unknown; read it again.
    async fn share(
        &self,
        key: &str,
        expected: u64,
        value: &[u8],
        ttl: Duration,
    ) -> Result<Option<u64>, BrokerError>;

    /// Forgets at most `limit` things of each kind whose time is over: results, revocations, channels, closed
    /// identities, workers, shared values. Returns how many it forgot.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: repeat later.
    async fn housekeep(&self, limit: u32) -> Result<u32, BrokerError>;
}

/// How many redeliveries bury a task whatever else is known of it.
pub const MAX_DELIVERIES: u8 = 20;

/// How many strikes bury a task as poison.
pub const MAX_STRIKES: u8 = 2;

/// How many revocations a queue remembers.
pub const MAX_REVOCATIONS: usize = 100_000;
