//! Isolation: running one attempt in a process of its own, so that what kills, leaks or hangs harms nothing else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::{TaskId, TaskName};
use crate::isolated::{IsolatedAttempt, Report};

/// The most lines of output that are kept of a process that died.
pub const LAST_LINES: usize = 5;

/// The right to have one attempt in a child.
pub type Place = OwnedSemaphorePermit;

/// Runs attempts in child processes.
#[async_trait]
pub trait Isolation: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the places for attempts, one for each child there may be. Attempts wait for one before they take up anything
    /// else, and bring it along; `None` lets them wait inside of [`run`](Self::run). Closed when no child is lent any more.
    fn places(&self) -> Option<Arc<Semaphore>> {
        None
    }

    /// Runs one attempt in a child, in the place that it brings or once one is free. Calls [`IsolatedAttempt::begin`] before the child has anything of
    /// it, and nothing of the attempt is left when this returns: its child has answered or is dead.
    ///
    /// When [`IsolatedAttempt::stopped`] completes, the child is ended: at a hard limit politely first.
    ///
    /// # Cancel safety
    /// Dropping the future kills the child.
    async fn run(&self, attempt: IsolatedAttempt) -> IsolatedEnd;

    /// Returns the children as they are now.
    fn children(&self) -> Vec<ChildStatus>;

    /// Ends all children, and starts none from here on. Returns when they are gone.
    async fn close(&self);
}

/// How an isolated attempt ended.
#[derive(Debug)]
pub enum IsolatedEnd {
    /// Its child has told.
    Reported(Report),
    /// Its child died.
    Died(Death),
    /// No child could be had, and why; nothing was started.
    Unavailable(String),
    /// It was stopped before a child had it.
    Withdrawn,
}

/// How a child died, as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Its exit status or signal, in words.
    pub status: String,
    /// The most memory it ever had, in bytes, where that is known.
    pub peak_memory: Option<u64>,
    /// The host it ran on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The last lines it wrote, oldest first; at most [`LAST_LINES`].
    pub last_lines: Vec<String>,
    /// Whether nothing else ever ran in it: then it died of this attempt, and of nothing that another one left behind.
    pub was_alone: bool,
}

impl Death {
    /// Returns the evidence as causes of a failure: memory, place, last lines.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let memory = self
            .peak_memory
            .map(|bytes| format!("peak memory {:.1} MiB", mebibytes(bytes)));
        let place = format!("process {} on host {}", self.pid, self.host);
        let lines = self.last_lines.iter().map(|line| format!("wrote: {line}"));
        memory.into_iter().chain([place]).chain(lines).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// One child, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStatus {
    /// Its process id.
    pub pid: u32,
    /// The task it runs, if it runs one.
    pub task: Option<TaskName>,
    /// That task's id.
    pub id: Option<TaskId>,
    /// How long that attempt has been running.
    pub running_ms: Option<u64>,
    /// How many attempts it has ended.
    pub attempts: u64,
    /// The memory it has now, in bytes, where that is known.
    pub memory: Option<u64>,
}

/// Why an isolated attempt is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its hard limit has passed: it may have a moment to end by itself.
    HardLimit,
    /// It is undone: at once.
    Released,
}

/// How long a child that was asked to end has until it is killed. Shorter than what the watchdog grants an attempt that
/// does not end.
pub const KILL_GRACE: Duration = Duration::from_secs(1);
