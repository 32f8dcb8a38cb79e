//! What a kind of task is allowed: attempts, backoff, limits, results.

mod rules;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::backoff::Backoff;
use crate::breaker::BreakerPolicy;
use crate::envelope::Overrides;
use crate::mode::Mode;
use crate::time::Timestamp;

pub use self::rules::{MAX_WAIT, RetryRule};

use self::rules::Rules;

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
    attempts_at_most: u16,
    hard_limit_at_most: Duration,
    result_ttl: Option<Duration>,
    breaker: Option<BreakerPolicy>,
    mode: Option<Mode>,
    retry_for: Option<Duration>,
    max_snoozes: u32,
    rules: Rules,
}

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
    /// with an output kept for an hour, a thousand snoozes.
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff: Backoff::new(Duration::from_secs(1), minutes(10)),
            soft_limit: minutes(25),
            hard_limit: minutes(30),
            attempts_at_most: u16::MAX,
            hard_limit_at_most: Duration::MAX,
            result_ttl: None,
            breaker: None,
            mode: None,
            retry_for: None,
            max_snoozes: Self::MAX_SNOOZES,
            rules: Rules::default(),
        }
    }
}

impl Policy {
    /// How long results are kept where nothing else is said.
    pub const RESULT_TTL: Duration = minutes(60);

    /// How often a task may be snoozed where nothing else is said.
    pub const MAX_SNOOZES: u32 = 1_000;

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

    /// Changes the waits between attempts, starting from the schedule that is set; a function set before is forgotten.
    #[must_use]
    pub fn with_backoff(mut self, change: impl FnOnce(Backoff) -> Backoff) -> Self {
        self.backoff = change(self.backoff);
        self.rules.waits(None);
        self
    }

    /// Has a task wait `step` after the first failed attempt, twice that after the second, and so on up to `ceiling`, each
    /// shortened by up to a quarter.
    #[must_use]
    pub fn linear_backoff(self, step: Duration, ceiling: Duration) -> Self {
        self.with_backoff(|_| Backoff::linear(step, ceiling))
    }

    /// Has a task wait equally long after each failed attempt, shortened by up to a quarter.
    #[must_use]
    pub fn fixed_backoff(self, delay: Duration) -> Self {
        self.with_backoff(|_| Backoff::fixed(delay))
    }

    /// Has a function say how long a task waits after each failed attempt (1 for the first), at most [`MAX_WAIT`]; shortened
    /// by the jitter. Where it panics, the schedule holds.
    #[must_use]
    pub fn backoff_by(mut self, waits: impl Fn(u16) -> Duration + Send + Sync + 'static) -> Self {
        self.rules.waits(Some(Arc::new(waits)));
        self
    }

    /// Sets what holds for attempts that failed with (or because of) an `E`; the outermost error that a rule knows decides.
    ///
    /// Errors are found as by [`permanent_on`](Self::permanent_on), which goes before it.
    #[must_use]
    pub fn retry_on<E: Error + 'static>(mut self, rule: RetryRule) -> Self {
        self.rules.retry::<E>(rule);
        self
    }

    /// Has errors of type `E` say themselves when to come back, as a server does with `Retry-After`: `None` leaves it to the
    /// schedule, more than [`MAX_WAIT`] counts as that. The wait is not shortened. Where the function panics, the schedule
    /// holds.
    #[must_use]
    pub fn retry_after_of<E: Error + 'static>(
        mut self,
        read: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.rules.after::<E>(read);
        self
    }

    /// Begins no further attempt later than this after the first one failed. The task becomes a dead letter when the next
    /// attempt would begin later. By default its attempts alone are counted.
    #[must_use]
    pub fn retry_for(mut self, span: Duration) -> Self {
        self.retry_for = Some(span);
        self
    }

    /// Sets how often a task may be snoozed before it becomes a dead letter: default 1,000, 0 forbids it.
    #[must_use]
    pub fn max_snoozes(mut self, count: u32) -> Self {
        self.max_snoozes = count;
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

    /// Sets the most attempts that an enqueuer may ask for. By default any number; what the kind itself says always is.
    #[must_use]
    pub fn at_most_attempts(mut self, count: u16) -> Self {
        self.attempts_at_most = count;
        self
    }

    /// Sets the longest hard limit that an enqueuer may ask for. By default any; what the kind itself says always is.
    #[must_use]
    pub fn at_most_hard_limit(mut self, limit: Duration) -> Self {
        self.hard_limit_at_most = limit;
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
        self.rules.permanent::<E>();
        self
    }

    /// Gives the kind a circuit breaker of its own, named as the kind is: when its attempts fail too often, its tasks are
    /// parked, without using up attempts, until a single one has shown that they succeed again. Default none.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerPolicy) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Returns the breaker of the kind, if it has one.
    #[must_use]
    pub const fn own_breaker(&self) -> Option<&BreakerPolicy> {
        self.breaker.as_ref()
    }

    /// Returns how many attempts a task has.
    #[must_use]
    pub const fn attempts(&self) -> u16 {
        self.max_attempts
    }

    /// Returns the hard limit of a task that asks for none.
    #[must_use]
    pub const fn hard(&self) -> Duration {
        self.hard_limit
    }

    /// Returns the most attempts that an enqueuer may ask for.
    #[must_use]
    pub fn attempts_at_most(&self) -> u16 {
        self.attempts_at_most.max(self.max_attempts)
    }

    /// Returns the longest hard limit that an enqueuer may ask for.
    #[must_use]
    pub fn hard_limit_at_most(&self) -> Duration {
        self.hard_limit_at_most.max(self.hard_limit)
    }

    /// Returns what holds for one task: its overrides where it has some, as far as they are allowed, this policy for the
    /// rest.
    #[must_use]
    pub fn limits_for(&self, overrides: &Overrides) -> Limits {
        let hard = overrides.hard_limit().unwrap_or(self.hard_limit);
        let hard = hard.min(self.hard_limit_at_most());
        let attempts = overrides.max_attempts.unwrap_or(self.max_attempts);
        Limits {
            max_attempts: attempts.clamp(1, self.attempts_at_most().max(1)),
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
        match self.rules.wait_after(attempt) {
            Some(full) => self.backoff.shorten(full, rng),
            None => self.backoff.delay(u32::from(attempt), rng),
        }
    }

    /// Returns how long to wait after attempt `attempt` failed with `error`: what the error says itself, else what is said
    /// of its type, else [`delay_after`](Self::delay_after).
    #[must_use]
    pub fn delay_for(
        &self,
        error: &(dyn Error + 'static),
        attempt: u16,
        rng: &mut impl Rng,
    ) -> Duration {
        let typed = self.typed_delay(error, attempt, rng);
        typed.unwrap_or_else(|| self.delay_after(attempt, rng))
    }

    /// Returns the wait that an error asks for itself, or that is said of its type.
    pub(crate) fn typed_delay(
        &self,
        error: &(dyn Error + 'static),
        attempt: u16,
        rng: &mut impl Rng,
    ) -> Option<Duration> {
        let asked = self.rules.wait_asked_by(error);
        asked.or_else(|| {
            let rule = self.rules.rule_for(error)?;
            rule.waits()
                .map(|backoff| backoff.delay(u32::from(attempt), rng))
        })
    }

    /// Returns how many attempts there are in all when one failed with `error`, if something is said of its type.
    #[must_use]
    pub fn attempts_for(&self, error: &(dyn Error + 'static)) -> Option<u16> {
        self.rules.rule_for(error).and_then(|rule| rule.attempts())
    }

    /// Returns whether `error` or one of its sources is of a kind that is not worth repeating.
    #[must_use]
    pub fn is_permanent(&self, error: &(dyn Error + 'static)) -> bool {
        self.rules.is_permanent(error)
    }

    /// Returns from when on no further attempt begins: the instant asked for the task, or the span of its kind after its
    /// first failure, whichever is earlier.
    #[must_use]
    pub fn retry_until(&self, overrides: &Overrides, first_failed: Timestamp) -> Option<Timestamp> {
        let of_kind = self.retry_for.map(|span| first_failed.plus(span));
        match (overrides.retry_until, of_kind) {
            (Some(asked), Some(of_kind)) => Some(asked.min(of_kind)),
            (asked, of_kind) => asked.or(of_kind),
        }
    }

    /// Returns how often a task may be snoozed.
    #[must_use]
    pub const fn snoozes(&self) -> u32 {
        self.max_snoozes
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
        let bounded = policy.at_most_attempts(2).at_most_hard_limit(seconds(9));
        let much = Overrides {
            max_attempts: Some(99),
            hard_limit_ms: Some(u64::MAX),
            ..Overrides::default()
        };
        let limits = bounded.limits_for(&much);
        // What the kind says of itself is allowed in any case.
        assert_eq!((limits.max_attempts, limits.hard), (5, minutes(30)));
    }

    #[test]
    fn a_permanent_error_is_found_among_the_sources() {
        let policy = Policy::default().permanent_on::<Declined>();
        assert!(policy.is_permanent(&Charge(Declined)));
        assert!(!Policy::default().is_permanent(&Declined));
        assert!(!policy.is_permanent(&std::io::Error::other("reset")));
    }
}
