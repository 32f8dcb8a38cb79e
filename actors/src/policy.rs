//! What a kind of task is allowed: attempts, backoff, limits, results.

use std::error::Error;
use std::time::Duration;

use rand::Rng;

use crate::backoff::Backoff;
use crate::envelope::Overrides;
use crate::mode::Mode;

/// How a kind of task is run. Every value can be overridden per task at its enqueueing, and per kind by configuration.
///
/// ```
/// use celeriac_actors::policy::{Policy, minutes};
///
/// let policy = Policy::default().max_attempts(5).soft_limit(minutes(25)).hard_limit(minutes(30));
/// assert_eq!(policy.attempts(), 5);
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    max_attempts: u16,
    backoff: Backoff,
    soft_limit: Duration,
    hard_limit: Duration,
    result_ttl: Option<Duration>,
    mode: Option<Mode>,
    permanent: Vec<ErrorTest>,
}

type ErrorTest = fn(&(dyn Error + 'static)) -> bool;

/// Returns a duration of so many minutes.
#[must_use]
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Returns a duration of so many seconds.
#[must_use]
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Default for Policy {
    /// Five attempts, 1 s doubling to 10 min less up to a quarter, 25 min soft and 30 min hard limit, results of tasks
    /// with an output kept for an hour.
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff: Backoff::new(Duration::from_secs(1), minutes(10)),
            soft_limit: minutes(25),
            hard_limit: minutes(30),
            result_ttl: None,
            mode: None,
            permanent: Vec::new(),
        }
    }
}

impl Policy {
    /// How long results are kept where nothing else is said.
    pub const RESULT_TTL: Duration = minutes(60);

    /// Sets how many attempts a task has, the first one included. 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, count: u16) -> Self {
        self.max_attempts = count.max(1);
        self
    }

    /// Sets how long a task waits after a failed attempt: `base` after the first, doubled after each, at most `ceiling`,
    /// shortened by up to a quarter so that tasks that failed together do not come back together.
    #[must_use]
    pub fn backoff(mut self, base: Duration, ceiling: Duration) -> Self {
        self.backoff = Backoff::new(base, ceiling);
        self
    }

    /// Sets by which part a wait is shortened at most: 0 not at all, 1 down to nothing.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.backoff = self.backoff.with_jitter(fraction);
        self
    }

    /// Changes the waits between attempts, starting from what they are.
    #[must_use]
    pub fn with_backoff(mut self, change: impl FnOnce(Backoff) -> Backoff) -> Self {
        self.backoff = change(self.backoff);
        self
    }

    /// Sets after which time an attempt is asked to stop. Not after the hard limit, which caps it.
    #[must_use]
    pub fn soft_limit(mut self, limit: Duration) -> Self {
        self.soft_limit = limit;
        self
    }

    /// Sets after which time an attempt is ended.
    #[must_use]
    pub fn hard_limit(mut self, limit: Duration) -> Self {
        self.hard_limit = limit;
        self
    }

    /// Sets how long a result is kept; zero keeps none. Unset, an hour for tasks with an output, none for others.
    #[must_use]
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.result_ttl = Some(ttl);
        self
    }

    /// Sets where attempts run. Unset, a synchronous function runs [`Mode::Blocking`] and everything else
    /// [`Mode::Inline`]. What a kind of task cannot do is refused when the program starts.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Returns where attempts run, if it was said.
    #[must_use]
    pub const fn asked_mode(&self) -> Option<Mode> {
        self.mode
    }

    /// Says that an attempt that failed with (or because of) an `E` is not worth repeating.
    ///
    /// The error and its chain of sources are looked at. An error that went through `anyhow` is found by its sources only.
    #[must_use]
    pub fn permanent_on<E: Error + 'static>(mut self) -> Self {
        self.permanent.push(|error| error.is::<E>());
        self
    }

    /// Returns how many attempts a task has.
    #[must_use]
    pub const fn attempts(&self) -> u16 {
        self.max_attempts
    }

    /// Returns what holds for one task: its overrides where it has some, this policy for the rest.
    #[must_use]
    pub fn limits_for(&self, overrides: &Overrides) -> Limits {
        let hard = overrides.hard_limit().unwrap_or(self.hard_limit);
        Limits {
            max_attempts: overrides.max_attempts.unwrap_or(self.max_attempts).max(1),
            soft: overrides.soft_limit().unwrap_or(self.soft_limit).min(hard),
            hard,
            result_ttl: overrides
                .result_ttl_ms
                .map(Duration::from_millis)
                .or(self.result_ttl),
            mode: overrides.mode.or(self.mode),
        }
    }

    /// Returns how long to wait after failed attempt `attempt` (1-based) before the next one.
    #[must_use]
    pub fn delay_after(&self, attempt: u16, rng: &mut impl Rng) -> Duration {
        self.backoff.delay(u32::from(attempt), rng)
    }

    /// Returns whether `error` or one of its sources is of a kind that is not worth repeating.
    #[must_use]
    pub fn is_permanent(&self, error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(current) = next {
            if self.permanent.iter().any(|test| test(current)) {
                return true;
            }
            next = current.source();
        }
        false
    }
}

/// What holds for the results of a whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultLimits {
    /// How long a result is kept where neither the task nor its kind says otherwise. Default an hour.
    pub ttl: Duration,
    /// The largest result that is kept, in bytes of MessagePack; the attempt of a larger one fails for good. 0 keeps
    /// none. Default 1 MiB.
    pub max_size: usize,
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self {
            ttl: Policy::RESULT_TTL,
            max_size: 1 << 20,
        }
    }
}

/// What holds for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many attempts it has.
    pub max_attempts: u16,
    /// When an attempt is asked to stop, after its start; never after `hard`.
    pub soft: Duration,
    /// When an attempt is ended, after its start.
    pub hard: Duration,
    /// How long its result is kept, if it says so.
    pub result_ttl: Option<Duration>,
    /// Where its code runs, if it or its policy says so.
    pub mode: Option<Mode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("declined")]
    struct Declined;

    #[derive(Debug, thiserror::Error)]
    #[error("charge failed")]
    struct Charge(#[source] Declined);

    #[test]
    fn overrides_win_and_the_soft_limit_never_exceeds_the_hard_one() {
        let policy = Policy::default();
        let overrides = Overrides {
            hard_limit_ms: Some(1_000),
            ..Overrides::default()
        };
        let limits = policy.limits_for(&overrides);
        assert_eq!((limits.soft, limits.hard), (seconds(1), seconds(1)));
        let none = Overrides {
            max_attempts: Some(0),
            ..Overrides::default()
        };
        assert_eq!(policy.limits_for(&none).max_attempts, 1);
    }

    #[test]
    fn a_permanent_error_is_found_among_the_sources() {
        let policy = Policy::default().permanent_on::<Declined>();
        assert!(policy.is_permanent(&Charge(Declined)));
        assert!(!Policy::default().is_permanent(&Declined));
        assert!(!policy.is_permanent(&std::io::Error::other("reset")));
    }
}
