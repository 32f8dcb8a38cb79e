//! What is known of a running Celeriac at one moment. Plain data; whoever reads it from broker, store and machine fills it in.

use std::time::Duration;

use crate::ids::{BreakerName, QueueName, TaskId, TaskName, WorkerId};
use crate::ports::Durability;
use crate::time::Timestamp;

/// Whether something answers whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It was not asked, or there is none.
    #[default]
    Unasked,
    /// It does.
    Here,
    /// It does not.
    Away {
        /// For how long.
        since: Duration,
        /// What it, or the way to it, said.
        error: String,
    },
}

/// Everything a verdict is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Whether the broker answers.
    pub broker: Reach,
    /// Whether the store answers.
    pub store: Reach,
    /// What an acknowledged task is worth, where that is known.
    pub durability: Option<Durability>,
    /// Whether the broker throws tasks away when its memory is full.
    pub evicts: bool,
    /// The queues. Without a broker there are none to see.
    pub queues: Vec<QueueFacts>,
    /// The workers, those that fell silent included.
    pub workers: Vec<WorkerFacts>,
    /// The circuit breakers that let nothing through.
    pub breakers: Vec<OpenBreaker>,
    /// The file systems that data lies on.
    pub disks: Vec<Disk>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueFacts {
    /// The queue.
    pub queue: QueueName,
    /// Tasks that may be fetched.
    pub ready: u64,
    /// Tasks in flight.
    pub active: u64,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Dead tasks that the store does not have yet.
    pub dead_outbox: u64,
    /// How long the oldest ready task has been waiting, where the broker can tell.
    pub oldest_ready: Option<Duration>,
    /// How many tasks died a minute of late; `None` when it was not watched for long enough.
    pub dead_per_minute: Option<f64>,
    /// How many attempts ended of late, and how many of them failed.
    pub attempts: u64,
    /// How many attempts of those failed.
    pub failed: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerFacts {
    /// The worker.
    pub worker: WorkerId,
    /// Whether it beats.
    pub alive: bool,
    /// Whether it has stopped fetching.
    pub quiet: bool,
    /// The queues it drains.
    pub queues: Vec<QueueName>,
    /// How long the broker has been away from it, and what it said.
    pub broker_away: Option<(Duration, String)>,
    /// How long the store has been away from it, and what it said.
    pub store_away: Option<(Duration, String)>,
    /// Its threads that do not answer.
    pub blocked: Vec<BlockedLane>,
    /// How many threads it has for tasks, blocked ones included.
    pub lanes: usize,
    /// Threads that hang in blocking work beyond its hard limit.
    pub stuck_threads: usize,
    /// Attempts beyond their hard limit.
    pub overdue: Vec<Overdue>,
    /// Its children that crashed too often and are tried again now and then: path and last word.
    pub parked: Vec<(String, String)>,
    /// Its children that crash again and again: path and crashes within the window.
    pub looping: Vec<(String, usize)>,
    /// How far its wall clock is from the broker's.
    pub skew: Option<Duration>,
}

impl WorkerFacts {
    /// Creates the facts of a worker that beats, drains `queues`, and has nothing to complain of.
    #[must_use]
    pub fn well(worker: WorkerId, queues: Vec<QueueName>) -> Self {
        Self {
            worker,
            alive: true,
            quiet: false,
            queues,
            broker_away: None,
            store_away: None,
            blocked: Vec::new(),
            lanes: 1,
            stuck_threads: 0,
            overdue: Vec::new(),
            parked: Vec::new(),
            looping: Vec::new(),
            skew: None,
        }
    }

    /// Returns whether it takes tasks of a queue.
    #[must_use]
    pub fn serves(&self, queue: &QueueName) -> bool {
        self.alive && !self.quiet && self.queues.contains(queue)
    }
}

/// A thread that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedLane {
    /// The lane.
    pub lane: u16,
    /// The kind of task that has it, where that is known.
    pub task: Option<TaskName>,
    /// That task.
    pub id: Option<TaskId>,
}

/// An attempt that outlives its hard limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its kind.
    pub task: TaskName,
    /// The task.
    pub id: TaskId,
    /// How long it has been running.
    pub ran: Duration,
    /// How long it may.
    pub limit: Duration,
}

/// A circuit breaker that lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBreaker {
    /// The breaker.
    pub name: BreakerName,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: String,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A directory of ours on it.
    pub path: String,
    /// How many bytes are free for us.
    pub free: u64,
    /// How many bytes it has.
    pub total: u64,
}
