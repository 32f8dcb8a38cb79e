//! Why tasks were not enqueued, and what is certain of them.

use crate::frame::FrameError;
use crate::ids::NameError;

/// Why tasks were not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task's name or queue cannot be used. Nothing was added.
    #[error("the task cannot be enqueued")]
    Name(#[from] NameError),
    /// The task does not fit into a frame. Nothing was added.
    #[error("the task cannot be enqueued")]
    Frame(#[from] FrameError),
    /// The broker refuses new tasks now (full disk, memory limit). Of the tasks given, the first `accepted` were added.
    #[error("the broker refuses new tasks, {accepted} were accepted: {reason}")]
    Refused {
        /// How many tasks of the call were added.
        accepted: usize,
        /// What the broker said.
        reason: String,
    },
    /// The broker did not answer in time. The first `accepted` tasks were added; up to `unknown` more may have been.
    #[error(
        "the broker is unavailable, {accepted} tasks were accepted and {unknown} may have been: {reason}"
    )]
    Unavailable {
        /// How many tasks of the call were added for certain.
        accepted: usize,
        /// How many more may have been added.
        unknown: usize,
        /// What the last attempt said.
        reason: String,
    },
    /// The broker rejects the call as it is. The first `accepted` tasks were added.
    #[error("the broker rejects the call, {accepted} tasks were accepted: {reason}")]
    Rejected {
        /// How many tasks of the call were added.
        accepted: usize,
        /// What the broker said.
        reason: String,
    },
}

impl EnqueueError {
    /// Counts tasks that were accepted in earlier calls into the error.
    #[must_use]
    pub fn after(mut self, earlier: usize) -> Self {
        match &mut self {
            Self::Refused { accepted, .. }
            | Self::Unavailable { accepted, .. }
            | Self::Rejected { accepted, .. } => *accepted += earlier,
            Self::Name(_) | Self::Frame(_) => {}
        }
        self
    }
}
