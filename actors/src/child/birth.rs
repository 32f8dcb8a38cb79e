//! What a child is given when it is made, and how it says why it stops.
//!
//! Owns the hand-over from supervisor to factory. Nothing here lives longer than one incarnation, so nothing of a
//! dead one can speak for its successor.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use slog::Logger;

use super::ExitReason;
use crate::supervisor::{Lineage, Observer};
use crate::time::Clock;

/// What every child of a tree shares: where it logs, what time it is, and the seed of its randomness.
#[derive(Clone)]
pub struct Environment {
    /// The logger that the children's loggers descend from.
    pub log: Logger,
    /// The clock that `up_since` and exits are shown in. Timeouts and backoff run on tokio's timer.
    pub clock: Arc<dyn Clock>,
    /// The seed of every supervisor's jitter.
    pub seed: u64,
    /// Is told each fact of supervision, on the supervisor's thread. Must be quick.
    pub observer: Option<Observer>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("clock", &self.clock)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// What the factory of a child gets for one incarnation.
#[derive(Clone, Debug)]
pub struct Birth {
    /// The child's name, unique among its siblings.
    pub name: Arc<str>,
    /// The names from the root down to the child, separated by `/`.
    pub path: Arc<str>,
    /// How often the child has been started, this time included. Never repeats within the life of its slot.
    pub incarnation: u64,
    /// Where the child says why it stops.
    pub exit: ExitNote,
    /// The child's own logger: has `child` and `incarnation` as keys.
    pub log: Logger,
    /// What the whole tree shares.
    pub environment: Environment,
    /// How the child hangs in the tree; used by supervisors.
    pub(crate) lineage: Lineage,
}

/// Where an actor notes why it is going to stop. Without a note, a stop is normal.
///
/// The first note stands. It is read when the actor has ended; a panic or a kill outranks it.
#[derive(Clone, Debug, Default)]
pub struct ExitNote {
    reason: Arc<Mutex<Option<ExitReason>>>,
}

impl ExitNote {
    /// Notes that the actor cannot go on because of `cause`. Call `ctx.stop()` next.
    pub fn error(&self, cause: impl fmt::Display) {
        self.note(ExitReason::error(cause));
    }

    /// Notes that something the actor needs is away. Call `ctx.stop()` next; no restart intensity is spent.
    pub fn outage(&self, cause: impl fmt::Display) {
        self.note(ExitReason::outage(cause));
    }

    fn note(&self, reason: ExitReason) {
        let mut noted = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get_or_insert(reason);
    }

    /// Returns the noted reason, or [`ExitReason::Normal`] when there is none.
    pub(crate) fn take(&self) -> ExitReason {
        let mut noted = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        noted.take().unwrap_or(ExitReason::Normal)
    }
}

/// Why a factory could not make its actor.
///
/// Not itself an [`std::error::Error`], so that `?` turns every error into [`StartError::Failed`].
#[derive(Debug)]
pub enum StartError {
    /// It failed; counts as a crash.
    Failed(String),
    /// Something it needs is away; never counts as a crash.
    Outage(String),
}

impl StartError {
    /// Creates an outage with what `cause` displays.
    pub fn outage(cause: impl fmt::Display) -> Self {
        Self::Outage(cause.to_string())
    }
}

impl<E: std::error::Error> From<E> for StartError {
    /// Keeps what the error and its sources display.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            if text.len() > ExitReason::MAX_MESSAGE {
                break;
            }
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Failed(text)
    }
}

impl From<StartError> for ExitReason {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Failed(message) => Self::error(message),
            StartError::Outage(message) => Self::outage(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_note_stands_and_none_is_normal() {
        let note = ExitNote::default();
        assert_eq!(note.take(), ExitReason::Normal);
        note.outage("redis is away");
        note.error("could not save");
        assert_eq!(note.take(), ExitReason::outage("redis is away"));
    }

    #[test]
    fn a_factory_error_keeps_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the store")]
        struct Open(#[source] std::io::Error);
        let error = StartError::from(Open(std::io::Error::other("disk full")));
        assert_eq!(
            ExitReason::from(error),
            ExitReason::error("cannot open the store: disk full")
        );
    }
}
