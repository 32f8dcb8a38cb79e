//! When an attempt's time began: at its start, or when a thread or a process of its own took it.
//!
//! An attempt that waits for a place to run in uses up none of its limits. It leaves that state once, either way: who
//! runs it claims it, or who no longer wants it withdraws it; a compare-and-set decides between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// It waits for a place.
const WAITING: u64 = u64::MAX;
/// It was withdrawn while it waited: it must not begin.
const WITHDRAWN: u64 = u64::MAX - 1;

/// The clock of one attempt.
#[derive(Debug)]
pub(super) struct AttemptClock {
    started: Instant,
    /// How long after `started` its time began, in nanoseconds; [`WAITING`] or [`WITHDRAWN`] when it has not.
    begun: AtomicU64,
}

impl AttemptClock {
    pub(super) const fn new(started: Instant) -> Self {
        let begun = AtomicU64::new(0);
        Self { started, begun }
    }

    /// Stops the clock until somebody claims the attempt.
    pub(super) fn hold(&self) {
        self.begun.store(WAITING, Ordering::Release);
    }

    /// Returns whether it is stopped until somebody claims the attempt.
    pub(super) fn is_held(&self) -> bool {
        self.begun.load(Ordering::Acquire) == WAITING
    }

    /// Returns how long ago the attempt was started, whether or not its time runs.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts a clock that was held; returns whether the attempt may begin.
    pub(super) fn claim(&self) -> bool {
        let waited = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(WITHDRAWN);
        self.leave(waited.min(WITHDRAWN - 1))
    }

    /// Takes an attempt back that has not begun; returns whether that was in time.
    pub(super) fn withdraw(&self) -> bool {
        self.leave(WITHDRAWN)
    }

    fn leave(&self, to: u64) -> bool {
        let left = self
            .begun
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire);
        left.is_ok()
    }

    /// Returns how long it has been running.
    pub(super) fn elapsed(&self) -> Duration {
        match self.begun.load(Ordering::Acquire) {
            WAITING | WITHDRAWN => Duration::ZERO,
            begun => self
                .started
                .elapsed()
                .saturating_sub(Duration::from_nanos(begun)),
        }
    }

    /// Returns the instant at which it will have run for `span`, as far as that is known.
    pub(super) fn after(&self, span: Duration) -> Instant {
        let begun = match self.begun.load(Ordering::Acquire) {
            WAITING | WITHDRAWN => Duration::ZERO,
            begun => Duration::from_nanos(begun),
        };
        // An unreachable limit is thirty years away.
        let far = Duration::from_secs(30 * 365 * 86_400);
        let at = begun
            .checked_add(span)
            .and_then(|span| self.started.checked_add(span));
        at.unwrap_or_else(|| self.started + far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_takes_no_time_and_ends_once() {
        let clock = AttemptClock::new(Instant::now() - Duration::from_secs(5));
        assert!(clock.elapsed() >= Duration::from_secs(5));
        clock.hold();
        assert_eq!(clock.elapsed(), Duration::ZERO);
        assert!(clock.claim() && !clock.withdraw());
        assert!(clock.elapsed() < Duration::from_secs(5));
        assert!(clock.after(Duration::from_secs(60)) > Instant::now());

        let clock = AttemptClock::new(Instant::now());
        clock.hold();
        assert!(clock.withdraw() && !clock.claim());
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }
}
