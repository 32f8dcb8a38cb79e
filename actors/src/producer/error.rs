//! Why tasks were not enqueued, and what is certain of them.

use std::sync::Arc;

use crate::asked::AskError;
use crate::frame::FrameError;
use crate::ids::{NameError, TaskName};
use crate::misfit::Misfit;
use crate::ports::EnqueueCall;

/// Why tasks were not enqueued.
///
/// [`accepted`](Self::accepted) tasks of the call were added all the same, in the order queue by queue; of those behind
/// them, [`may_have_been_accepted`](Self::may_have_been_accepted) says whether anything is open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task's name or queue cannot be used. Nothing was added.
    #[error("the task cannot be enqueued")]
    Name(#[from] NameError),
    /// What is asked for the task cannot be, or is more than its kind allows. Nothing was added.
    #[error("the task cannot be enqueued")]
    Asked(#[from] AskError),
    /// The program does not know the task. Nothing was added.
    #[error("`{task}` is not a task of this program{}", .nearest.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
    Unknown {
        /// Its name.
        task: TaskName,
        /// The name that is most like it.
        nearest: Option<TaskName>,
    },
    /// The task does not take these arguments. Nothing was added.
    #[error("the arguments are not what `{task}` takes{misfit}")]
    Misfit {
        /// Its name.
        task: TaskName,
        /// Which argument, and why.
        misfit: Misfit,
    },
    /// A hook refuses the task. Nothing was added, not of the other tasks given either.
    #[error("a hook refuses `{task}`: {reason}")]
    Vetoed {
        /// Its name.
        task: TaskName,
        /// What the hook said.
        reason: String,
    },
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
        "the broker is unavailable, {accepted} tasks were accepted and {}: {reason}",
        rest(*unknown)
    )]
    Unavailable {
        /// How many tasks of the call were added for certain.
        accepted: usize,
        /// How many more may have been added; 0 when nothing else was sent.
        unknown: usize,
        /// What the last attempt said.
        reason: String,
        /// The call whose outcome is open, of `unknown` tasks: [`Producer::repeat`](super::Producer::repeat) makes it
        /// again, which adds nothing twice.
        call: Option<Arc<EnqueueCall>>,
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

/// Says what is certain of the tasks behind those that were accepted, and what to do with them.
fn rest(unknown: usize) -> String {
    match unknown {
        0 => "nothing else was (enqueue the rest again)".to_owned(),
        _ => format!(
            "{unknown} more may have been (enqueueing them again may add them twice, with the same ids too; repeating \
             the same call does not)"
        ),
    }
}

impl EnqueueError {
    /// Returns whether tasks may have been added although the broker did not say so.
    ///
    /// `false`: nothing behind the first [`accepted`](Self::accepted) was added; enqueue the rest again. `true`: to
    /// enqueue the tasks again, under the same ids too, may add them twice; to repeat the same [`call`](Self::call) does
    /// not, for as long as the broker remembers it (an hour by default).
    #[must_use]
    pub const fn may_have_been_accepted(&self) -> bool {
        matches!(self, Self::Unavailable { unknown, .. } if *unknown > 0)
    }

    /// Returns how many tasks were added for certain.
    #[must_use]
    pub const fn accepted(&self) -> usize {
        match self {
            Self::Refused { accepted, .. }
            | Self::Unavailable { accepted, .. }
            | Self::Rejected { accepted, .. } => *accepted,
            _ => 0,
        }
    }

    /// Returns how many tasks behind them may have been added.
    #[must_use]
    pub const fn unknown(&self) -> usize {
        match self {
            Self::Unavailable { unknown, .. } => *unknown,
            _ => 0,
        }
    }

    /// Returns the call whose outcome is open, for [`Producer::repeat`](super::Producer::repeat).
    #[must_use]
    pub const fn call(&self) -> Option<&Arc<EnqueueCall>> {
        match self {
            Self::Unavailable { call, .. } => call.as_ref(),
            _ => None,
        }
    }

    /// Counts tasks that were accepted in earlier calls into the error.
    #[must_use]
    pub fn after(mut self, earlier: usize) -> Self {
        match &mut self {
            Self::Refused { accepted, .. }
            | Self::Unavailable { accepted, .. }
            | Self::Rejected { accepted, .. } => *accepted += earlier,
            _ => {}
        }
        self
    }
}
