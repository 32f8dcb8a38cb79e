//! When a breaker opens, and for how long.

use std::error::Error;
use std::time::Duration;

use crate::backoff::Backoff;

/// Tells which errors speak against what is behind the breaker.
pub(super) type FailureTest = fn(&(dyn Error + 'static)) -> bool;

/// When a breaker opens and how long it stays so.
///
/// ```
/// use celeriac_actors::breaker::BreakerPolicy;
/// use std::time::Duration;
///
/// let policy = BreakerPolicy::default()
///     .failure_rate(0.3)
///     .min_calls(20)
///     .open_for(Duration::from_secs(2), Duration::from_secs(60));
/// # drop(policy);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BreakerPolicy {
    pub(super) failure_rate: f64,
    pub(super) min_calls: u32,
    pub(super) window: Duration,
    pub(super) consecutive: u32,
    pub(super) open: Backoff,
    pub(super) open_base: Duration,
    pub(super) probe_limit: Duration,
    pub(super) failure: Option<FailureTest>,
}

impl Default for BreakerPolicy {
    /// Opens when at least half of ten calls or more within 10 s failed, or five in a row; for 1 s, doubled up to 30 s
    /// each time a probe fails; a probe has 60 s. Every error counts.
    fn default() -> Self {
        let base = Duration::from_secs(1);
        Self {
            failure_rate: 0.5,
            min_calls: 10,
            window: Duration::from_secs(10),
            consecutive: 5,
            open: Backoff::new(base, Duration::from_secs(30)),
            open_base: base,
            probe_limit: Duration::from_secs(60),
            failure: None,
        }
    }
}

impl BreakerPolicy {
    /// The shortest time a breaker stays open, whatever was asked for.
    pub const MIN_OPEN: Duration = Duration::from_millis(10);

    /// Sets which share of the calls within the window must fail to open it, 0 to 1; above 1 the share opens nothing.
    #[must_use]
    pub fn failure_rate(mut self, share: f64) -> Self {
        self.failure_rate = if share.is_nan() { 2.0 } else { share.max(0.0) };
        self
    }

    /// Sets how many calls the window must have seen before their share says anything. 0 counts as 1.
    #[must_use]
    pub fn min_calls(mut self, count: u32) -> Self {
        self.min_calls = count.max(1);
        self
    }

    /// Sets over which time calls are counted; at least 10 ms. It moves in tenths.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window.max(Duration::from_millis(10));
        self
    }

    /// Sets how many failures in a row open it, whatever their share; 0 is never.
    #[must_use]
    pub fn consecutive(mut self, count: u32) -> Self {
        self.consecutive = count;
        self
    }

    /// Sets how long it stays open: `base` at first, doubled each time a probe fails, at most `ceiling`. Never less than
    /// [`MIN_OPEN`](Self::MIN_OPEN).
    #[must_use]
    pub fn open_for(mut self, base: Duration, ceiling: Duration) -> Self {
        self.open_base = base;
        self.open = self.open.with_base(base).with_ceiling(ceiling.max(base));
        self
    }

    /// Sets by which part the time it stays open is shortened at most: 0 not at all. Default a quarter.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.open = self.open.with_jitter(fraction);
        self
    }

    /// Sets how long a probe may take before another one is let through: for probes whose worker died. At least 100 ms.
    #[must_use]
    pub fn probe_limit(mut self, limit: Duration) -> Self {
        self.probe_limit = limit.max(Duration::from_millis(100));
        self
    }

    /// Says which errors count as failures, for the breaker of a kind of task; others count as answers.
    #[must_use]
    pub fn failure_if(mut self, test: fn(&(dyn Error + 'static)) -> bool) -> Self {
        self.failure = Some(test);
        self
    }

    /// Returns whether an error speaks against what is behind the breaker.
    #[must_use]
    pub fn is_failure(&self, error: &(dyn Error + 'static)) -> bool {
        self.failure.is_none_or(|test| test(error))
    }
}
