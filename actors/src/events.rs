//! What happens to attempts, told to whoever wants to know: a test's probe, later the monitor.

use std::time::Duration;

use crate::context::AttemptContext;
use crate::hooks::About;
use crate::lease::Outcome;

/// Something that happened to a task in this process.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskEvent<'a> {
    /// A task was fetched, and may start.
    Received {
        /// The task.
        about: &'a About,
    },
    /// A task ended before its start: revoked, expired, unreadable, unknown.
    Refused {
        /// The task.
        about: &'a About,
        /// What becomes of it.
        outcome: &'a Outcome,
    },
    /// An attempt starts.
    Started {
        /// The attempt.
        context: &'a AttemptContext,
    },
    /// An attempt ended, and this is what it means for the task. The settlement is still on its way to the broker.
    Ended {
        /// The attempt.
        context: &'a AttemptContext,
        /// What becomes of the task.
        outcome: &'a Outcome,
        /// What went wrong, if something did.
        error: Option<&'a str>,
        /// How long it ran.
        elapsed: Duration,
    },
}

/// Is told what happens to tasks, on the lane's thread: it must be quick and must not panic.
pub trait Observer: Send + Sync + 'static {
    /// Is called for each event, in the order in which they happen on a lane.
    fn task(&self, event: &TaskEvent<'_>);

    /// Returns whether it wants to hear anything now: while it does not, events that cost something to make are left
    /// out. It is asked for each task.
    fn is_listening(&self) -> bool {
        true
    }
}
