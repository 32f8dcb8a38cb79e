//! Backoff with jitter, for restarts, reconnects and retries: doubled, stepwise longer, or always the same.
//!
//! Owns the schedule only: the caller counts the failures, brings the randomness and does the waiting. Invariant: no
//! delay exceeds the ceiling, whatever the number of failures; arithmetic saturates.

use std::time::Duration;

use rand::{Rng, RngExt};

/// How long to wait after the n-th failure in a row.
///
/// `base * 2^(n - 1)` (or what its [`Growth`] says), at most `ceiling`, then shortened by a random part of up to `jitter` of
/// itself.
///
/// ```
/// use celeriac_actors::backoff::Backoff;
/// use std::time::Duration;
///
/// let mut rng = rand::rng();
/// let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(5)).with_jitter(0.0);
/// assert_eq!(backoff.delay(0, &mut rng), Duration::ZERO);
/// assert_eq!(backoff.delay(1, &mut rng), Duration::from_millis(10));
/// assert_eq!(backoff.delay(3, &mut rng), Duration::from_millis(40));
/// assert_eq!(backoff.delay(u32::MAX, &mut rng), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
    jitter: f64,
    growth: Growth,
}

/// How delays grow from failure to failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// Each is twice the one before.
    #[default]
    Doubling,
    /// Each is longer than the one before by the first.
    Linear,
    /// All are as long as the first.
    Fixed,
}

impl Backoff {
    /// Creates a schedule that starts at `base`, doubles up to `ceiling`, and shortens each delay by up to a quarter.
    ///
    /// A `base` above `ceiling` counts as `ceiling`; a `base` of zero means no delay at all.
    #[must_use]
    pub const fn new(base: Duration, ceiling: Duration) -> Self {
        Self {
            base,
            ceiling,
            jitter: 0.25,
            growth: Growth::Doubling,
        }
    }

    /// Creates a schedule of `step`, twice `step`, three times, and so on up to `ceiling`, each shortened by up to a quarter.
    #[must_use]
    pub const fn linear(step: Duration, ceiling: Duration) -> Self {
        Self {
            growth: Growth::Linear,
            ..Self::new(step, ceiling)
        }
    }

    /// Creates a schedule of equal delays, each shortened by up to a quarter.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            growth: Growth::Fixed,
            ..Self::new(delay, delay)
        }
    }

    /// Sets how delays grow.
    #[must_use]
    pub const fn with_growth(mut self, growth: Growth) -> Self {
        self.growth = growth;
        self
    }

    /// Sets the largest part by which a delay is shortened: 0 is none, 1 is anything down to no delay.
    ///
    /// Values outside of 0 to 1 count as the nearer end; what is not a number counts as 0.
    #[must_use]
    pub fn with_jitter(mut self, fraction: f64) -> Self {
        self.jitter = if fraction.is_nan() {
            0.0
        } else {
            fraction.clamp(0.0, 1.0)
        };
        self
    }

    /// Sets the delay after the first failure.
    #[must_use]
    pub const fn with_base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets the longest possible delay.
    #[must_use]
    pub const fn with_ceiling(mut self, ceiling: Duration) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Returns the longest possible delay.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        self.ceiling
    }

    /// Returns how long to wait after `failures` failures in a row; nothing after none.
    #[must_use]
    pub fn delay(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        let Some(before) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = match self.growth {
            Growth::Doubling => 1_u32.checked_shl(before).unwrap_or(u32::MAX),
            Growth::Linear => failures,
            Growth::Fixed => 1,
        };
        let full = self.base.saturating_mul(factor).min(self.ceiling);
        self.shorten(full, rng)
    }

    /// Returns `full` shortened by a random part, as this schedule does with its own delays.
    #[must_use]
    pub fn shorten(&self, full: Duration, rng: &mut impl Rng) -> Duration {
        let share = self.jitter * rng.random::<f64>();
        // Too long for a float to hold exactly: shorten by everything rather than by too little.
        let cut = Duration::try_from_secs_f64(full.as_secs_f64() * share).unwrap_or(full);
        full.saturating_sub(cut)
    }
}

impl Default for Backoff {
    /// 10 ms, doubling to 5 s, each shortened by up to a quarter: what restarts of our own actors use.
    fn default() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn doubles_up_to_the_ceiling() {
        let backoff =
            Backoff::new(Duration::from_secs(1), Duration::from_secs(10)).with_jitter(0.0);
        let mut rng = StdRng::seed_from_u64(1);
        let delays: Vec<u64> = (0..8)
            .map(|n| backoff.delay(n, &mut rng).as_secs())
            .collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn grows_as_it_is_told() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut seconds = |backoff: Backoff| -> Vec<u64> {
            let exact = backoff.with_jitter(0.0);
            [0, 1, 2, 3, 4, u32::MAX]
                .map(|n| exact.delay(n, &mut rng).as_secs())
                .into()
        };
        let (three, ten) = (Duration::from_secs(3), Duration::from_secs(10));
        assert_eq!(seconds(Backoff::linear(three, ten)), [0, 3, 6, 9, 10, 10]);
        assert_eq!(seconds(Backoff::fixed(three)), [0, 3, 3, 3, 3, 3]);
        let doubled = Backoff::fixed(three)
            .with_growth(Growth::Doubling)
            .with_ceiling(ten);
        assert_eq!(seconds(doubled), [0, 3, 6, 10, 10, 10]);
    }

    #[test]
    fn degenerate_settings_do_no_harm() {
        let mut rng = StdRng::seed_from_u64(1);
        let endless = Backoff::new(Duration::MAX, Duration::MAX).with_jitter(f64::NAN);
        assert_eq!(endless.delay(u32::MAX, &mut rng), Duration::MAX);
        assert!(endless.with_jitter(7.0).delay(5, &mut rng) <= Duration::MAX);
        let none = Backoff::new(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(none.delay(40, &mut rng), Duration::ZERO);
        let upside_down = Backoff::new(Duration::from_secs(9), Duration::from_secs(1));
        assert!(upside_down.delay(1, &mut rng) <= Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn stays_between_the_shortened_and_the_full_delay(
            base_ms in 0_u64..100_000,
            ceiling_ms in 0_u64..1_000_000,
            failures in 0_u32..200,
            jitter in 0.0_f64..=1.0,
            seed: u64,
        ) {
            let backoff = Backoff::new(Duration::from_millis(base_ms), Duration::from_millis(ceiling_ms));
            let mut rng = StdRng::seed_from_u64(seed);
            let full = backoff.with_jitter(0.0).delay(failures, &mut rng);
            let delay = backoff.with_jitter(jitter).delay(failures, &mut rng);
            prop_assert!(delay <= full && full <= backoff.ceiling());
            // A nanosecond of slack for the rounding of floats.
            prop_assert!(delay + Duration::from_micros(1) >= full.mul_f64(1.0 - jitter));
        }

        #[test]
        fn never_shrinks_with_more_failures(base_ms in 0_u64..10_000, failures in 0_u32..100) {
            let backoff = Backoff::new(Duration::from_millis(base_ms), Duration::from_secs(60)).with_jitter(0.0);
            let mut rng = StdRng::seed_from_u64(0);
            prop_assert!(backoff.delay(failures, &mut rng) <= backoff.delay(failures + 1, &mut rng));
        }
    }
}
