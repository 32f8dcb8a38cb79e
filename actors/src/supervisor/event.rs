//! The facts that a supervisor reports.
//!
//! Facts for metrics and alerts; logs are written beside them. None is emitted per try of a child that stays parked or
//! of an outage that goes on: the first and the recovery are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::child::ExitReason;

/// One fact of supervision. `path` is the names from the root to the child, separated by `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisionEvent {
    /// An incarnation serves.
    ChildStarted {
        /// The child.
        path: Arc<str>,
        /// Which incarnation.
        incarnation: u64,
    },
    /// An incarnation has ended or was given up on.
    ChildExited {
        /// The child.
        path: Arc<str>,
        /// Which incarnation.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
        /// How long until the next is started; nothing when none is.
        restart_in: Option<Duration>,
    },
    /// A ping was not answered within its deadline.
    ChildUnresponsive {
        /// The child.
        path: Arc<str>,
        /// Which incarnation.
        incarnation: u64,
    },
    /// A child crashed more often than is accepted and is only tried now and then.
    ChildParked {
        /// The child.
        path: Arc<str>,
        /// Its last exit.
        reason: ExitReason,
    },
    /// A parked child has proved stable, an unresponsive one answers again, or an outage is over.
    ChildRecovered {
        /// The child.
        path: Arc<str>,
    },
    /// A supervisor gives up.
    Escalated {
        /// The supervisor.
        path: Arc<str>,
        /// Why.
        reason: ExitReason,
    },
}

/// Is told each fact, on the thread of the supervisor that reports it. Must be quick; its panic is caught and logged.
#[derive(Clone)]
pub struct Observer(Arc<Observe>);

type Observe = dyn Fn(&SupervisionEvent) + Send + Sync;

impl Observer {
    /// Creates an observer from a function.
    pub fn new(observe: impl Fn(&SupervisionEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    pub(super) fn observe(&self, event: &SupervisionEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(..)")
    }
}
