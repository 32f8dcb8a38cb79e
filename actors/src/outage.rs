//! An outage as a state: the first failure is logged, then silence, then the recovery with how long it took.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use slog::{Logger, info, warn};
use tokio::time::Instant;

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

#[derive(Debug)]
struct State {
    since: Option<(Instant, String)>,
    back_at: Option<Instant>,
}

impl Outage {
    /// Creates the state of something that answers. `what` is its name in the log.
    #[must_use]
    pub const fn new(what: &'static str, log: Logger) -> Self {
        let state = State {
            since: None,
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
    pub fn failed(&self, began: Instant, error: &dyn fmt::Display) {
        let mut state = self.lock();
        if state.since.is_none() && state.back_at.is_none_or(|back| began >= back) {
            warn!(self.log, "is away; retrying until it is back"; "what" => self.what, "error" => %error);
            state.since = Some((Instant::now(), error.to_string()));
            self.away.store(true, Ordering::Release);
        }
    }

    /// Notes that a call that `began` then was answered.
    pub fn answered(&self, began: Instant) {
        if !self.away.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        if let Some((start, _)) = state.since.take_if(|(start, _)| began >= *start) {
            state.back_at = Some(Instant::now());
            self.away.store(false, Ordering::Release);
            let ms = crate::time::millis(start.elapsed());
            info!(self.log, "is back"; "what" => self.what, "away_ms" => ms);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long it has been away and what it said first, if it is.
    #[must_use]
    pub fn state(&self) -> Option<(std::time::Duration, String)> {
        let state = self.lock();
        let since = state.since.as_ref();
        since.map(|(start, error)| (start.elapsed(), error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_before_change_nothing() {
        let outage = Outage::new("broker", Logger::root(slog::Discard, slog::o!()));
        let before = Instant::now();
        let at_first = Instant::now();
        outage.failed(at_first, &"gone");
        outage.answered(before);
        assert!(
            outage.state().is_some(),
            "that answer is older than the outage"
        );
        outage.answered(Instant::now());
        assert!(outage.state().is_none());
        outage.failed(before, &"gone");
        assert!(
            outage.state().is_none(),
            "that failure is older than the return"
        );
        outage.failed(Instant::now(), &"gone again");
        assert!(outage.state().is_some());
    }
}
