//! The words of supervision: how a child is restarted, how it ended, and how a tree of them looks.
//!
//! Plain data and the pure rules over it. What makes a child (factory, placement, timeouts) is in [`spec`], what a
//! child is given at birth in [`birth`]. Everything that [`TreeNode`] holds can be serialized: it is what `Inspect`,
//! the command line and the dashboard show.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::panics::PanicReport;
use crate::time::Timestamp;

pub mod birth;
pub mod spec;

pub use birth::{Birth, Environment, ExitNote, StartError};
pub use spec::{ChildSpec, OnExhausted, Placement, Recipe, SupervisorSpec};

/// When a child that ended by itself is started again.
///
/// | | normal exit | error, panic, killed, unresponsive | outage |
/// |---|---|---|---|
/// | `Permanent` | restart | restart | restart, uncounted |
/// | `Transient` | ended | restart | restart, uncounted |
/// | `Temporary` | ended | ended | ended |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// After an abnormal exit only.
    Transient,
    /// Never, not even together with a sibling.
    Temporary,
}

impl Restart {
    /// Returns whether a child with this rule is started again after `reason`.
    #[must_use]
    pub fn applies_to(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => *reason != ExitReason::Normal,
            Self::Temporary => false,
        }
    }
}

/// Who is restarted together with a child that crashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nobody else.
    #[default]
    OneForOne,
    /// Every sibling.
    OneForAll,
    /// The siblings that were started after it.
    RestForOne,
}

/// Why an incarnation of a child ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum ExitReason {
    /// It stopped and noted no reason.
    Normal,
    /// It could not start, or noted an error and stopped.
    Error {
        /// What it said, bounded.
        message: String,
    },
    /// It panicked: in its factory, in a handler, or in a destructor.
    Panic {
        /// Message, place and backtrace.
        report: PanicReport,
    },
    /// It was ended from outside: it outlived its shutdown timeout, or its thread went away.
    Killed,
    /// It did not answer its ping within the deadline and was given up on.
    Unresponsive,
    /// Something it needs (the broker, the store) is away. Never counted as a crash.
    Outage {
        /// What is away, bounded.
        message: String,
    },
}

impl ExitReason {
    /// The longest message of an exit reason, in characters.
    pub const MAX_MESSAGE: usize = 1_000;

    /// Creates an error with what `cause` displays, bounded.
    pub fn error(cause: impl fmt::Display) -> Self {
        Self::Error {
            message: bounded(cause),
        }
    }

    /// Creates an outage with what `cause` displays, bounded.
    pub fn outage(cause: impl fmt::Display) -> Self {
        Self::Outage {
            message: bounded(cause),
        }
    }

    /// Returns whether this exit spends restart intensity when it leads to a restart.
    #[must_use]
    pub fn counts_as_crash(&self) -> bool {
        !matches!(self, Self::Outage { .. })
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Error { message } => write!(f, "error: {message}"),
            Self::Panic { report } => write!(f, "panic: {report}"),
            Self::Killed => f.write_str("killed"),
            Self::Unresponsive => f.write_str("unresponsive"),
            Self::Outage { message } => write!(f, "outage: {message}"),
        }
    }
}

fn bounded(text: impl fmt::Display) -> String {
    text.to_string()
        .chars()
        .take(ExitReason::MAX_MESSAGE)
        .collect()
}

/// How long a child may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// From being asked to stop until it is killed. Zero kills without asking.
    pub ask: Duration,
    /// From being killed until it is abandoned: a thread that is blocked cannot be ended, only left alone.
    pub kill: Duration,
}

impl Shutdown {
    /// Creates a shutdown that kills `ask` after the request, and waits 200 ms for that.
    #[must_use]
    pub const fn within(ask: Duration) -> Self {
        Self {
            ask,
            kill: Duration::from_millis(200),
        }
    }

    /// Returns the longest time until the child has ended or is abandoned.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.ask.saturating_add(self.kill)
    }
}

impl Default for Shutdown {
    /// Five seconds to stop.
    fn default() -> Self {
        Self::within(Duration::from_secs(5))
    }
}

/// How a child is found whose actor no longer answers, most often because its thread is blocked.
///
/// An actor inside of `ctx.wait` does not answer either: set the deadline longer than it may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pings {
    /// From an answer to the next ping.
    pub period: Duration,
    /// From a ping until the child counts as unresponsive.
    pub deadline: Duration,
    /// What happens then.
    pub on_unresponsive: OnUnresponsive,
}

impl Default for Pings {
    /// Every second, answered within five, reported when not.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
            on_unresponsive: OnUnresponsive::Report,
        }
    }
}

/// What happens to a child that missed its ping's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnresponsive {
    /// It is shown as unresponsive until it answers.
    Report,
    /// It is abandoned, neither joined nor awaited, and counts as ended: the restart rule makes a new one.
    ///
    /// Wants a placement that does not bring the next one onto the same thread.
    Replace {
        /// How many abandoned incarnations may occupy their threads at once. Beyond it the child is only reported,
        /// until one of them lets go.
        abandoned_at_most: u32,
    },
}

/// Whether the children of a supervisor that is told to stop will come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// A new incarnation follows: references wait for it.
    Restart,
    /// Nothing follows: references fail at once.
    ForGood,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Not started yet: it is not its turn.
    Waiting,
    /// Its factory or its `started` runs.
    Starting,
    /// It serves.
    Up,
    /// It has not answered its ping within the deadline.
    Unresponsive,
    /// It was asked to stop, or killed, and has not ended yet.
    Stopping,
    /// It ended and is started again after a backoff.
    Restarting,
    /// It crashed too often; it is tried again now and then and harms nobody meanwhile.
    Parked,
    /// It ended and is not started again.
    Ended,
}

/// The last exit of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Why.
    pub reason: ExitReason,
    /// When, by the wall clock.
    pub at: Timestamp,
}

/// One child as it looks now, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Unique among its siblings.
    pub name: String,
    /// The actor's type, without its path.
    pub kind: String,
    /// What it is doing.
    pub state: ChildState,
    /// How often it has been started, over restarts of its supervisor too.
    pub incarnation: u64,
    /// Crashes within the window of its restart intensity.
    pub restarts_in_window: usize,
    /// Exits that led to a restart, outages included, since its supervisor started.
    pub restarts_total: u64,
    /// How it ended last, if it did.
    pub last_exit: Option<LastExit>,
    /// Since when it serves, by the wall clock.
    pub up_since: Option<Timestamp>,
    /// Requests handed to it through stable references and not answered yet.
    pub backlog: usize,
    /// Abandoned incarnations of it that still occupy their threads.
    pub abandoned: u32,
    /// Whether this is only the last that was known: it, or a supervisor above it, does not answer.
    pub stale: bool,
    /// How it restarts its children; nothing for what is not a supervisor.
    pub strategy: Option<Strategy>,
    /// Its children, in the order of their start.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// Returns the node at `path` (names below this one, separated by `/`), if there is one.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |node, name| {
            node.children.iter().find(|child| child.name == name)
        })
    }

    /// Returns whether this node and all below it serve, or have ended for good.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, ChildState::Up | ChildState::Ended)
            && self.children.iter().all(Self::is_complete)
    }

    /// Returns whether the tree is at work: every supervisor serves. What is below them may be restarting or parked;
    /// that is what supervisors are for.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let supervises = self.strategy.is_some() || !self.children.is_empty();
        let serves = !supervises
            || matches!(
                self.state,
                ChildState::Up | ChildState::Restarting | ChildState::Starting
            );
        serves && self.children.iter().all(Self::is_alive)
    }

    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
        self.children.iter_mut().for_each(Self::mark_stale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_follows_its_table() {
        let panic = PanicReport {
            message: "m".into(),
            location: None,
            backtrace: None,
        };
        let abnormal = [
            ExitReason::error("e"),
            ExitReason::Panic { report: panic },
            ExitReason::Killed,
            ExitReason::Unresponsive,
            ExitReason::outage("o"),
        ];
        for (restart, after_normal, after_abnormal) in [
            (Restart::Permanent, true, true),
            (Restart::Transient, false, true),
            (Restart::Temporary, false, false),
        ] {
            assert_eq!(restart.applies_to(&ExitReason::Normal), after_normal);
            for reason in &abnormal {
                assert_eq!(
                    restart.applies_to(reason),
                    after_abnormal,
                    "{restart:?} {reason}"
                );
            }
        }
    }

    #[test]
    fn only_an_outage_is_free() {
        assert!(!ExitReason::outage("away").counts_as_crash());
        assert!(ExitReason::Normal.counts_as_crash());
        assert!(ExitReason::Killed.counts_as_crash());
    }

    #[test]
    fn messages_are_bounded() {
        let ExitReason::Error { message } = ExitReason::error("é".repeat(9_000)) else {
            panic!()
        };
        assert_eq!(message.chars().count(), ExitReason::MAX_MESSAGE);
    }
}
