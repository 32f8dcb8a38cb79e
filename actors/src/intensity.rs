//! Restart intensity: how many restarts within a sliding window are too many.
//!
//! Owns the counting only. It reads no clock (instants are durations since an origin of the caller's choice) and
//! decides nothing but "exceeded or not". Invariant: a [`Window`] never holds more than `max + 1` instants, so a
//! crash loop costs constant memory.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many restarts within which period are still accepted.
///
/// `max` restarts within `within` pass, the next one is too many. With `max` 0 the first restart is too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The number of restarts that are still accepted. At most [`Limit::MAX`]; a larger one counts as that.
    pub max: u32,
    /// The length of the sliding window. A restart exactly this old no longer counts.
    pub within: Duration,
}

impl Limit {
    /// The largest `max` that is honoured: a window remembers each restart.
    pub const MAX: u32 = 10_000;

    /// Creates a limit of `max` restarts in any period of length `within`.
    #[must_use]
    pub const fn new(max: u32, within: Duration) -> Self {
        let max = if max > Self::MAX { Self::MAX } else { max };
        Self { max, within }
    }

    /// Returns whether `count` restarts within the window are too many.
    #[must_use]
    pub fn is_exceeded_by(&self, count: usize) -> bool {
        count > self.max() as usize
    }

    fn max(&self) -> u32 {
        self.max.min(Self::MAX)
    }
}

impl Default for Limit {
    /// Five restarts in any 30 seconds.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(30))
    }
}

/// The recent restarts of one child.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Instants of restarts, oldest first; at most `max + 1` of the limit they were recorded under.
    restarts: VecDeque<Duration>,
}

impl Window {
    /// Records a restart at `now` and forgets those that `limit` no longer needs.
    ///
    /// Instants are expected not to go back; one that does counts as recorded, and leaves when its turn comes.
    pub fn record(&mut self, now: Duration, limit: Limit) {
        self.restarts.push_back(now);
        let keep = limit.max() as usize + 1;
        while self.restarts.len() > keep {
            self.restarts.pop_front();
        }
        while self
            .restarts
            .front()
            .is_some_and(|&at| !counts(at, now, limit.within))
        {
            self.restarts.pop_front();
        }
    }

    /// Returns how many recorded restarts are younger than `within` at `now`.
    #[must_use]
    pub fn count(&self, now: Duration, within: Duration) -> usize {
        self.restarts
            .iter()
            .filter(|&&at| counts(at, now, within))
            .count()
    }

    /// Forgets every restart. For a child that has proved to be stable.
    pub fn reset(&mut self) {
        self.restarts.clear();
    }
}

fn counts(at: Duration, now: Duration, within: Duration) -> bool {
    now.saturating_sub(at) < within
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_restart_after_max_is_too_many() {
        let limit = Limit::new(2, secs(10));
        let mut window = Window::default();
        for (at, exceeded) in [(0, false), (1, false), (2, true), (3, true)] {
            window.record(secs(at), limit);
            assert_eq!(
                limit.is_exceeded_by(window.count(secs(at), limit.within)),
                exceeded,
                "{at}"
            );
        }
    }

    #[test]
    fn a_restart_leaves_the_window_when_it_is_as_old_as_the_window() {
        let limit = Limit::new(1, secs(10));
        let mut window = Window::default();
        window.record(secs(0), limit);
        assert_eq!(window.count(Duration::from_millis(9_999), limit.within), 1);
        assert_eq!(window.count(secs(10), limit.within), 0);
        window.record(secs(10), limit);
        assert!(!limit.is_exceeded_by(window.count(secs(10), limit.within)));
    }

    #[test]
    fn zero_accepts_no_restart_and_an_empty_window_accepts_every_one() {
        let none = Limit::new(0, secs(10));
        let mut window = Window::default();
        window.record(secs(5), none);
        assert!(none.is_exceeded_by(window.count(secs(5), none.within)));

        let endless = Limit::new(0, Duration::ZERO);
        window.record(secs(6), endless);
        assert!(!endless.is_exceeded_by(window.count(secs(6), endless.within)));
    }

    #[test]
    fn reset_forgets() {
        let limit = Limit::default();
        let mut window = Window::default();
        window.record(secs(1), limit);
        window.reset();
        assert_eq!(window.count(secs(1), limit.within), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_counting_all_of_history(
            gaps in prop::collection::vec(0_u64..5_000, 1..60),
            max in 0_u32..8,
            within_ms in 0_u64..20_000,
        ) {
            let limit = Limit::new(max, Duration::from_millis(within_ms));
            let (mut window, mut history, mut now) = (Window::default(), Vec::new(), 0_u64);
            for gap in gaps {
                now += gap;
                history.push(now);
                window.record(Duration::from_millis(now), limit);
                let all = history.iter().filter(|&&at| now - at < within_ms).count();
                let counted = window.count(Duration::from_millis(now), limit.within);
                prop_assert_eq!(counted, all.min(max as usize + 1));
                prop_assert_eq!(limit.is_exceeded_by(counted), all > max as usize);
                prop_assert!(window.restarts.len() <= max as usize + 1);
            }
        }
    }
}
