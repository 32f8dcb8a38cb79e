//! A clock that runs, and can be turned ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::time::{Clock, Timestamp, millis};

/// A [`Clock`] that runs with real time from 2026-01-01T00:00:00Z, an hour after boot, and can be turned ahead.
///
/// Turning it ahead lets leases, due times and expiries pass; timers of the runtime know nothing of it.
#[derive(Debug)]
pub struct RunningClock {
    start: Instant,
    ahead_ms: AtomicU64,
}

impl RunningClock {
    /// Creates a clock that starts to run now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            ahead_ms: AtomicU64::new(0),
        }
    }

    /// Turns both clocks ahead.
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(millis(by), Ordering::AcqRel);
    }

    fn passed(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.ahead_ms.load(Ordering::Acquire))
    }
}

impl Default for RunningClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RunningClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000).plus(self.passed())
    }

    fn since_boot(&self) -> Duration {
        Duration::from_secs(3_600) + self.passed()
    }
}
