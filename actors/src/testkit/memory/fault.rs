//! Planned failures: what a test wants to go wrong at the broker, and when.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use crate::ports::BrokerError;

/// A method of the broker, as a place where a failure is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Method {
    Enqueue,
    Open,
    Exchange,
    Renew,
    MarkStarted,
    Take,
    Release,
    Close,
    Sweep,
    PromoteDue,
    Wait,
    Ring,
    TakeDead,
    DropDead,
    Revoke,
    Revocations,
    Pause,
    Purge,
    Queues,
    Scan,
    Beat,
    Farewell,
    Workers,
    Result,
    WaitResults,
    Shared,
    Share,
    Housekeep,
}

impl Method {
    /// Returns whether a read-only broker answers it.
    const fn only_reads(self) -> bool {
        matches!(
            self,
            Self::Wait
                | Self::Ring
                | Self::TakeDead
                | Self::Revocations
                | Self::Queues
                | Self::Scan
                | Self::Workers
                | Self::Result
                | Self::WaitResults
                | Self::Shared
        )
    }

    /// Returns whether a full broker refuses it. All others go on: fetching, settling, renewing, rescuing.
    const fn adds_data(self) -> bool {
        matches!(self, Self::Enqueue | Self::Revoke | Self::Share)
    }
}

/// A failure that a test plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next `times` calls of `method` answer [`BrokerError::Unavailable`] and have no effect.
    Unanswered {
        /// Which method.
        method: Method,
        /// How many calls.
        times: u32,
    },
    /// The next `times` calls of `method` take effect and answer [`BrokerError::Unavailable`].
    LostReply {
        /// Which method.
        method: Method,
        /// How many calls.
        times: u32,
    },
    /// The next `times` calls of `method` panic and have no effect: whoever calls is broken.
    Panic {
        /// Which method.
        method: Method,
        /// How many calls.
        times: u32,
    },
    /// The next call of `method` takes effect, and its reply is held until the plan is healed. Heeded by `exchange`, when
    /// it fetched something, and by `farewell`; of no other method can a reply be held.
    HeldReply {
        /// Which method.
        method: Method,
    },
    /// Every call answers [`BrokerError::Away`] and has no effect, until the plan is healed.
    Away,
    /// Enqueueing, revoking and sharing answer [`BrokerError::Refused`], until the plan is healed. All else goes on.
    Full,
    /// Every call that writes answers [`BrokerError::Refused`], until the plan is healed. Reading goes on.
    ReadOnly,
}

/// What goes wrong at one handle.
#[derive(Debug, Default)]
pub(super) struct Plan {
    unanswered: BTreeMap<Method, u32>,
    lost: BTreeMap<Method, u32>,
    panics: BTreeMap<Method, u32>,
    held: BTreeSet<Method>,
    /// Dropped when the plan is healed, which lets go of what is held.
    hold: watch::Sender<()>,
    away: bool,
    full: bool,
    read_only: bool,
}

/// What the plan does with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Answer,
    /// It does not happen.
    Fail(BrokerError),
    /// It happens, its reply is lost.
    Lose,
    /// It does not happen, and its caller panics.
    Panic,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::Unanswered { method, times } => {
                *self.unanswered.entry(method).or_default() += times;
            }
            Fault::LostReply { method, times } => {
                *self.lost.entry(method).or_default() += times;
            }
            Fault::Panic { method, times } => {
                *self.panics.entry(method).or_default() += times;
            }
            Fault::HeldReply { method } => {
                let can_be_held = matches!(method, Method::Exchange | Method::Farewell);
                assert!(can_be_held, "a reply of {method:?} cannot be held");
                self.held.insert(method);
            }
            Fault::Away => self.away = true,
            Fault::Full => self.full = true,
            Fault::ReadOnly => self.read_only = true,
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    /// Returns what a reply of `method` has to wait for, if it is to be held: the end of this plan.
    pub(super) fn hold(&mut self, method: Method) -> Option<watch::Receiver<()>> {
        self.held.remove(&method).then(|| self.hold.subscribe())
    }

    /// Uses up what is planned for one call of `method`.
    pub(super) fn fate(&mut self, method: Method) -> Fate {
        if use_up(&mut self.panics, method) {
            return Fate::Panic;
        }
        if self.away {
            return Fate::Fail(away());
        }
        if use_up(&mut self.unanswered, method) {
            return Fate::Fail(unavailable("unanswered"));
        }
        if self.full && method.adds_data() {
            return Fate::Fail(BrokerError::Refused("planned: full".into()));
        }
        if self.read_only && !method.only_reads() {
            return Fate::Fail(BrokerError::Refused("planned: read-only".into()));
        }
        if use_up(&mut self.lost, method) {
            return Fate::Lose;
        }
        Fate::Answer
    }
}

/// The error of a broker that cannot be reached, as planned.
pub(super) fn away() -> BrokerError {
    BrokerError::Away("planned: away".into())
}

/// The error of a call without an answer, as planned.
pub(super) fn unavailable(why: &str) -> BrokerError {
    BrokerError::Unavailable(format!("planned: {why}"))
}

fn use_up(plan: &mut BTreeMap<Method, u32>, method: Method) -> bool {
    match plan.get_mut(&method) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}
