//! What can be seen of a broker from outside: queues, stored tasks, workers. Plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{IncarnationId, QueueName, TaskId, WorkerId};
use crate::state::TaskState;
use crate::time::Timestamp;

/// What every atomic step has counted in one queue, since the broker's data exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// New tasks added.
    pub enqueued: u64,
    /// Tasks that ended well.
    pub succeeded: u64,
    /// Tasks buried.
    pub dead: u64,
    /// Tasks that ended by revocation.
    pub cancelled: u64,
    /// Tasks that ended by expiry.
    pub expired: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
    /// Deliveries undone.
    pub released: u64,
    /// Deliveries taken back from consumers that died.
    pub rescued: u64,
    /// Dead tasks brought back.
    pub revived: u64,
    /// Settlements that took no effect.
    pub stale: u64,
    /// Results whose bodies were not kept because the broker had no room for them.
    #[serde(default)]
    pub result_dropped: u64,
}

impl Counters {
    /// Returns how many tasks came in and did not end: enqueued + revived - succeeded - dead - cancelled - expired.
    ///
    /// Equals the tasks still held (scheduled, ready, active, retrying) unless tasks were lost or made up.
    #[must_use]
    pub fn outstanding(&self) -> i128 {
        let came = i128::from(self.enqueued) + i128::from(self.revived);
        let ended = [self.succeeded, self.dead, self.cancelled, self.expired];
        came - ended.into_iter().map(i128::from).sum::<i128>()
    }
}

/// One queue as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// The queue.
    pub queue: QueueName,
    /// Tasks that may be fetched.
    pub ready: u64,
    /// Tasks that wait for their ETA.
    pub scheduled: u64,
    /// Tasks that wait for their next attempt.
    pub retrying: u64,
    /// Tasks in flight, started or prefetched.
    pub active: u64,
    /// Dead tasks that the store does not have yet.
    pub dead_outbox: u64,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Consumer incarnations with a lease.
    pub consumers: u64,
    /// When the oldest ready task was enqueued (its producer's clock), where the broker can tell cheaply.
    pub oldest_ready: Option<Timestamp>,
    /// What was counted so far.
    pub counters: Counters,
}

impl QueueStatus {
    /// Returns how many tasks it holds that have not ended.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.ready + self.scheduled + self.retrying + self.active
    }
}

/// A place within a scan; opaque outside the broker that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// Asks for a page of stored tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// The queue.
    pub queue: QueueName,
    /// Scheduled, retrying, ready or active.
    pub state: TaskState,
    /// Behind which place to go on; `None` starts.
    pub after: Option<Cursor>,
    /// The most tasks of the page, 1 to [`MAX_BATCH`](crate::lease::MAX_BATCH).
    pub limit: u32,
}

/// A page of stored tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// The tasks, in the order in which they would be fetched or become due.
    pub tasks: Vec<StoredTask>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Cursor>,
}

/// A task as the broker stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTask {
    /// Its bytes. May be garbage.
    pub frame: Vec<u8>,
    /// Where it stands.
    pub state: TaskState,
    /// When it becomes ready, for one that waits.
    pub due: Option<Timestamp>,
    /// Who holds it, for one in flight.
    pub holder: Option<(WorkerId, IncarnationId)>,
}

/// Why a wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// The queue may have ready tasks.
    Ready(QueueName),
    /// The earliest due time of the queue may have come nearer.
    Due(QueueName),
    /// The queue's revocations changed.
    Revoked(QueueName),
    /// The dead outbox may have something.
    Dead,
}

/// A worker process as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The process.
    pub worker: WorkerId,
    /// Its host's name.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// The version of Celeriac it runs.
    pub version: String,
    /// The queues it drains.
    pub queues: Vec<QueueName>,
    /// How many attempts it runs at once.
    pub concurrency: u32,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// Whether it has stopped fetching.
    pub quiet: bool,
    /// The tree and what runs in it, as JSON for people and tools.
    pub detail: String,
    /// How often it beats.
    pub beat: Duration,
    /// When the broker last heard of it, by the broker's clock. Set by the broker.
    pub seen_at: Timestamp,
    /// Whether the broker takes it for alive. Set by the broker.
    pub alive: bool,
}

/// A value shared by all workers of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// Counts its writes, from 1.
    pub version: u64,
    /// The bytes.
    pub value: Vec<u8>,
}

/// Returns the id of a stored task, if its header can be read.
#[must_use]
pub fn id_of(frame: &[u8]) -> Option<TaskId> {
    crate::header::Header::read(frame)
        .ok()
        .map(|header| header.id)
}
