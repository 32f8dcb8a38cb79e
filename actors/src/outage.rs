//! An outage as a state: the first failure is logged, then silence, then the recovery with how long it took.
//!
//! What refuses writes often goes on answering reads (a full or locked disk, a memory limit, a replica), so a call says
//! whether it writes: once a write has failed, only one that succeeds ends the outage.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slog::{Logger, info, warn};
use tokio::time::Instant;

use crate::ports::{BrokerError, StoreError};

/// Whether something the process needs (the broker, the store) answers.
///
/// Many calls are on their way when it leaves and when it returns. Each says when it began, so that an answer from before
/// it left does not bring it back, and a failure from before it was back does not send it away again.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    log: Logger,
    away: AtomicBool,
    state: Mutex<State>,
}

/// What a call does, or, once it is answered, what it has proved to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads, or wrote nothing.
    Read,
    /// It writes.
    Write,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Complaint {
    refuses: bool,
    error: String,
}

impl From<&BrokerError> for Complaint {
    fn from(error: &BrokerError) -> Self {
        Self {
            refuses: matches!(error, BrokerError::Refused(_)),
            error: error.to_string(),
        }
    }
}

impl From<&StoreError> for Complaint {
    fn from(error: &StoreError) -> Self {
        Self {
            refuses: matches!(error, StoreError::Refused(_)),
            error: error.to_string(),
        }
    }
}

impl From<&'static str> for Complaint {
    fn from(error: &'static str) -> Self {
        Self {
            refuses: false,
            error: error.to_owned(),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl Outage {
    /// Creates the state of something that answers. `what` is its name in the log.
    #[must_use]
    pub const fn new(what: &'static str, log: Logger) -> Self {
        let state = State {
            away: None,
            back_at: None,
        };
        Self {
            what,
            log,
            away: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Notes that a call that `began` then was not answered, or refused.
    pub fn failed(&self, began: Instant, access: Access, why: impl Into<Complaint>) {
        let mut state = self.lock();
        let Some(why) = state.fail(Instant::now(), began, access, why.into()) else {
            return;
        };
        self.away.store(true, Ordering::Release);
        if why.refuses {
            warn!(self.log, "refuses writes: make room on its disk or below its memory limit, make it writable, or bring back \
                the replicas it asks for, as its error says; nothing is lost, retrying until it takes them"; "what" => self.what, "error" => %why);
        } else {
            warn!(self.log, "is away; retrying until it is back"; "what" => self.what, "error" => %why);
        }
    }

    /// Notes that a call that `began` then was answered, and what that proves.
    pub fn answered(&self, began: Instant, proved: Access) {
        if !self.away.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        if let Some(lasted) = state.answer(Instant::now(), began, proved) {
            self.away.store(false, Ordering::Release);
            let ms = crate::time::millis(lasted);
            info!(self.log, "is back"; "what" => self.what, "away_ms" => ms);
        }
    }

    /// Returns whether it is away until something was written.
    #[must_use]
    pub fn needs_a_write(&self) -> bool {
        let state = self.lock();
        let away = state.away.as_ref();
        away.is_some_and(|away| away.needs == Access::Write)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long it has been away and what it said first, if it is.
    #[must_use]
    pub fn state(&self) -> Option<(Duration, String)> {
        let state = self.lock();
        let away = state.away.as_ref();
        away.map(|away| (away.since.elapsed(), away.why.error.clone()))
    }
}

/// What is known, and the rules over it.
#[derive(Debug)]
struct State {
    away: Option<Away>,
    back_at: Option<Instant>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    why: Complaint,
    /// What must succeed for it to be back.
    needs: Access,
}

impl State {
    /// Takes note of a failure; returns why if an outage begins with it.
    fn fail(
        &mut self,
        now: Instant,
        began: Instant,
        access: Access,
        why: Complaint,
    ) -> Option<Complaint> {
        if let Some(away) = &mut self.away {
            if access == Access::Write {
                away.needs = Access::Write;
            }
            return None;
        }
        if self.back_at.is_some_and(|back| began < back) {
            return None;
        }
        self.away = Some(Away {
            since: now,
            why: why.clone(),
            needs: access,
        });
        Some(why)
    }

    /// Takes note of an answer; returns how long the outage took if that ends it.
    fn answer(&mut self, now: Instant, began: Instant, proved: Access) -> Option<Duration> {
        let suffices = |away: &Away| proved == Access::Write || away.needs == Access::Read;
        let ended = self
            .away
            .take_if(|away| began >= away.since && suffices(away))?;
        self.back_at = Some(now);
        Some(now - ended.since)
    }
}

#[cfg(test)]
mod tests {
    use super::Access::{Read, Write};
    use super::*;

    fn state() -> State {
        State {
            away: None,
            back_at: None,
        }
    }

    fn gone() -> Complaint {
        Complaint::from("gone")
    }

    /// Instants a second apart.
    fn at(seconds: u64) -> Instant {
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ORIGIN.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    #[test]
    fn calls_of_before_change_nothing() {
        let mut state = state();
        assert!(state.fail(at(2), at(1), Read, gone()).is_some());
        let older = state.answer(at(3), at(1), Write);
        assert_eq!(older, None, "that answer is older than the outage");
        assert_eq!(state.answer(at(4), at(3), Read), Some(at(4) - at(2)));
        let late = state.fail(at(5), at(3), Write, gone());
        assert!(late.is_none(), "that failure is older than the return");
        assert!(state.fail(at(6), at(5), Read, gone()).is_some());
    }

    #[test]
    fn reads_do_not_end_an_outage_of_writes() {
        let mut state = state();
        assert!(state.fail(at(1), at(0), Write, gone()).is_some());
        for second in 2..10 {
            assert_eq!(state.answer(at(second), at(second), Read), None);
            let again = state.fail(at(second), at(second), Write, gone());
            assert!(again.is_none(), "it is one outage");
        }
        assert!(state.answer(at(11), at(10), Write).is_some());
    }

    #[test]
    fn a_write_that_fails_meanwhile_has_to_succeed_too() {
        let mut state = state();
        assert!(state.fail(at(1), at(0), Read, gone()).is_some());
        assert!(state.fail(at(2), at(0), Write, gone()).is_none());
        assert_eq!(state.answer(at(3), at(3), Read), None);
        assert_eq!(state.answer(at(4), at(3), Write), Some(at(4) - at(1)));
    }

    #[test]
    fn a_write_ends_an_outage_of_reads() {
        let mut state = state();
        assert!(state.fail(at(1), at(0), Read, gone()).is_some());
        assert!(state.answer(at(2), at(2), Write).is_some());
        assert_eq!(
            state.answer(at(3), at(3), Write),
            None,
            "it is back already"
        );
    }
}
