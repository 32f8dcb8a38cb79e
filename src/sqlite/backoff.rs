//! Waiting for a lock that another process holds: short pauses of random length, up to a bound.

use std::time::Duration;

/// Pauses between attempts to get a lock. SQLite's own `busy_timeout` sleeps ever longer and starves.
#[derive(Debug)]
pub(super) struct Backoff {
    left: Duration,
}

impl Backoff {
    /// Pauses for at most `bound` in all.
    pub(super) const fn new(bound: Duration) -> Self {
        Self { left: bound }
    }

    /// Pauses 0.2 to 2 ms; returns whether there was time left.
    pub(super) fn pause(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let pause = Duration::from_micros(rand::random_range(200..2_000));
        self.left = self.left.saturating_sub(pause);
        rest(pause);
        true
    }
}

/// Blocks this thread, which is one of ours and serves nobody meanwhile.
#[expect(
    clippy::disallowed_methods,
    reason = "the threads of the broker are no arbiters; they have nothing else to do"
)]
pub(super) fn rest(pause: Duration) {
    std::thread::sleep(pause);
}
