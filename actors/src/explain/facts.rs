//! What was read from outside. Plain data; whoever gathers it fills in what it could read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::activity::{LaneActivity, Running};
use crate::breaker::BreakerRecord;
use crate::budget::BudgetStatus;
use crate::ids::{BurialId, QueueName, TaskId, TaskName, WorkerId};
use crate::ports::{ChildStatus, DeadStatus, QueueStatus};
use crate::state::{DeadReason, TaskState};
use crate::time::Timestamp;

/// Everything that an explanation rests on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Now, by the clock of whoever asks.
    pub now: Timestamp,
    /// The task that is asked for; `None` asks for the queue.
    pub task: Option<TaskFacts>,
    /// The queue as it stands; `None` where it is not known which one.
    pub queue: Option<QueueStatus>,
    /// When the first task of the queue that waits is due.
    pub next_due: Option<Timestamp>,
    /// All workers, silent ones included.
    pub workers: Vec<WorkerFacts>,
    /// The breakers that are not closed, each with the kinds of tasks that workers saw depend on it.
    pub breakers: Vec<(BreakerRecord, Vec<TaskName>)>,
    /// How long a consumer may stay silent, as far as whoever asks knows.
    pub lease: Duration,
    /// How many stored tasks were looked at, and how many there were.
    pub looked: (u64, u64),
    /// What could not be read.
    pub unread: Vec<String>,
}

/// What is known of one task.
#[derive(Clone, Debug)]
pub struct TaskFacts {
    /// The task.
    pub id: TaskId,
    /// Where the broker holds it.
    pub stored: Option<StoredFacts>,
    /// What is kept of its end.
    pub end: Option<EndFacts>,
    /// Its last dead letter.
    pub letter: Option<LetterFacts>,
}

/// A task that the broker holds.
#[derive(Clone, Debug)]
pub struct StoredFacts {
    /// Scheduled, ready, active or retrying.
    pub state: TaskState,
    /// When it becomes ready, for one that waits.
    pub due: Option<Timestamp>,
    /// Who holds it, for one in flight.
    pub holder: Option<WorkerId>,
    /// Its kind; `None` where its bytes cannot be read.
    pub kind: Option<TaskName>,
    /// How many of its attempts counted.
    pub attempts: u16,
    /// How many it may have, where that is known.
    pub max_attempts: Option<u16>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Whether a revocation means it.
    pub revoked: bool,
    /// How many tasks of its queue would be fetched before it, for one that is ready.
    pub before: u64,
}

/// What is kept of a task that ended.
#[derive(Clone, Debug)]
pub struct EndFacts {
    /// How it ended.
    pub state: TaskState,
    /// How many attempts counted.
    pub attempts: u16,
    /// Its last failure.
    pub error: Option<String>,
    /// When that was.
    pub at: Option<Timestamp>,
}

/// A dead letter of a task.
#[derive(Clone, Debug)]
pub struct LetterFacts {
    /// The burial.
    pub id: BurialId,
    /// Why it died.
    pub reason: DeadReason,
    /// One line more.
    pub note: String,
    /// When it was buried.
    pub at: Timestamp,
    /// What became of it.
    pub status: DeadStatus,
}

/// The kinds of tasks that a worker knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTasks {
    /// Their names, in order; at most [`KnownTasks::MAX`].
    pub names: Vec<TaskName>,
    /// How many there are.
    pub total: usize,
}

impl KnownTasks {
    /// The most names that a worker tells.
    pub const MAX: usize = 500;

    /// Lists names, cut after [`KnownTasks::MAX`] of them.
    #[must_use]
    pub fn of(names: impl Iterator<Item = TaskName>) -> Self {
        let mut names: Vec<TaskName> = names.collect();
        names.sort();
        let total = names.len();
        names.truncate(Self::MAX);
        Self { names, total }
    }

    /// Returns whether a kind is among them; `None` where it may be among those that were cut.
    #[must_use]
    pub fn knows(&self, kind: &TaskName) -> Option<bool> {
        if self.names.contains(kind) {
            return Some(true);
        }
        (self.names.len() >= self.total).then_some(false)
    }
}

/// What a worker tells of itself.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    /// The worker.
    pub worker: WorkerId,
    /// Whether the broker takes it for alive.
    pub alive: bool,
    /// When it was heard last.
    pub seen_at: Timestamp,
    /// Whether it has stopped fetching.
    pub quiet: bool,
    /// The queues it drains.
    pub queues: Vec<QueueName>,
    /// How many attempts it runs at once.
    pub concurrency: usize,
    /// How many of a queue it runs at once, where that is bounded.
    pub caps: Vec<(QueueName, usize)>,
    /// What runs on its threads.
    pub lanes: Vec<LaneActivity>,
    /// Its child processes.
    pub children: Vec<ChildStatus>,
    /// How its retry budgets stand.
    pub budgets: Vec<BudgetStatus>,
    /// The kinds of tasks it knows, where it tells.
    pub knows: Option<KnownTasks>,
    /// What the broker said, where it cannot reach it.
    pub broker_away: Option<String>,
}

impl WorkerFacts {
    /// Returns the attempts that wait for a child process, as far as they are listed.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Running> {
        self.lanes.iter().flat_map(|lane| &lane.waiting)
    }

    /// Returns how many attempts run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lanes.iter().map(|lane| lane.running_total).sum()
    }

    /// Returns those that run, as far as it lists them.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Running> {
        self.lanes.iter().flat_map(|lane| &lane.running)
    }

    /// Returns whether it lists all that run.
    pub(super) fn lists_all(&self) -> bool {
        self.listed().count() == self.running()
    }

    /// Returns whether it fetches from a queue.
    pub(super) fn consumes(&self, queue: &QueueName) -> bool {
        self.alive && !self.quiet && self.queues.contains(queue)
    }
}
