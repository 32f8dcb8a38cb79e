//! Why a task does not run, and why a queue stands still: a pure decision over what was read from outside.
//!
//! Whoever asks gathers [`Facts`]; [`explain`] says what they mean, the most decisive reason first, each with the command
//! that changes it where there is one. Facts of several moments may contradict each other: what is said is as old as they are.

mod facts;
mod obstacles;
mod standing;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::facts::{
    EndFacts, Facts, KnownTasks, LetterFacts, StoredFacts, TaskFacts, WorkerFacts,
};

use crate::ids::{QueueName, TaskId};
use crate::state::TaskState;

/// What is the matter, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// Nothing hinders it: it is fetched next, or everything is.
    Next,
    /// The queue holds nothing that could run.
    Empty,
    /// It runs.
    Running,
    /// A thread has not been given back by the code that runs on it.
    BlockedThread,
    /// A worker has fetched it and not started it.
    Prefetched,
    /// It is isolated, and waits on its worker for a child process.
    ChildWait,
    /// Its holder is silent: it is taken back when the lease is over.
    Rescue,
    /// The queue is paused.
    Paused,
    /// It waits for its time.
    DueLater,
    /// It waits for its next attempt.
    Retry,
    /// Retries of its queue cost more than is paid for, and wait longer.
    RetryBudget,
    /// No living worker consumes the queue.
    NoConsumer,
    /// No worker that consumes the queue knows the kind of task.
    UnknownKind,
    /// Others are fetched first.
    Behind,
    /// Every place of a worker, or of the queue on it, is taken.
    ConcurrencyFull,
    /// A circuit breaker lets none of its kind pass.
    BreakerOpen,
    /// A worker cannot reach the broker.
    BrokerAway,
    /// It was revoked, and is dropped instead of started.
    Revoked,
    /// It has expired, and is dropped instead of started.
    Expired,
    /// Its bytes are no task: whoever fetches it buries it.
    Garbage,
    /// It is dead.
    Dead,
    /// It has ended.
    Ended,
    /// Nothing is known of it.
    Unknown,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is the matter.
    pub kind: ReasonKind,
    /// The same for people, one line. May contain text of others.
    pub text: String,
    /// The command that changes it; `None` where waiting or another task does.
    pub command: Option<String>,
}

impl Reason {
    fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            command: None,
        }
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The task that was asked for; `None` for a queue.
    pub task: Option<TaskId>,
    /// The queue, where it is known.
    pub queue: Option<QueueName>,
    /// Where the task stands; `None` where nothing is known of it, and for a queue.
    pub state: Option<TaskState>,
    /// Why it does not run, the most decisive first. Never empty.
    pub reasons: Vec<Reason>,
    /// What could not be read, and may change the answer.
    pub unread: Vec<String>,
}

/// Says what the facts mean.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let (state, reasons) = match &facts.task {
        Some(task) => standing::of_task(facts, task),
        None => (None, obstacles::of_queue(facts)),
    };
    Explanation {
        task: facts.task.as_ref().map(|task| task.id),
        queue: facts.queue.as_ref().map(|queue| queue.queue.clone()),
        state,
        reasons,
        unread: facts.unread.clone(),
    }
}
