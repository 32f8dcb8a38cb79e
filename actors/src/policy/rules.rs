//! What a policy says of single types of errors, and of waits that no schedule knows: the user's own functions.
//!
//! They are called by the runtime on threads of its own, so what they throw is caught: one that panics says nothing.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::panics::catch_call;

/// The longest wait that a function or an error may ask for: a year. Longer ones count as this.
pub const MAX_WAIT: Duration = Duration::from_secs(365 * 86_400);

/// What holds for attempts that failed with one type of error. Made empty; what it does not say is left to the policy.
///
/// ```
/// use celeriac_actors::policy::{Policy, RetryRule, seconds};
///
/// // A busy server is worth patience, a broken pipe one more try.
/// let policy = Policy::default().retry_on::<std::io::Error>(
///     RetryRule::default().max_attempts(2).delay(seconds(30)),
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryRule {
    max_attempts: Option<u16>,
    backoff: Option<Backoff>,
}

impl RetryRule {
    /// Ends the task when so many attempts were made in all and the last one failed this way. 0 counts as 1. Never more
    /// than the task has anyway.
    #[must_use]
    pub fn max_attempts(mut self, count: u16) -> Self {
        self.max_attempts = Some(count.max(1));
        self
    }

    /// Sets how long the task waits after such a failure.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Has the task wait so long after each such failure, not less and not more.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.backoff(Backoff::fixed(delay).with_jitter(0.0))
    }

    pub(crate) const fn attempts(&self) -> Option<u16> {
        self.max_attempts
    }

    pub(crate) const fn waits(&self) -> Option<&Backoff> {
        self.backoff.as_ref()
    }
}

type Seen<'a> = &'a (dyn Error + 'static);
type Test = fn(Seen<'_>) -> bool;
type Reader = Arc<dyn Fn(Seen<'_>) -> Option<Duration> + Send + Sync>;
type Waits = Arc<dyn Fn(u16) -> Duration + Send + Sync>;

/// Everything that a policy says of single types of errors.
#[derive(Clone, Default)]
pub(super) struct Rules {
    permanent: Vec<Test>,
    retry: Vec<(Test, RetryRule)>,
    after: Vec<Reader>,
    waits: Option<Waits>,
}

impl Rules {
    pub(super) fn permanent<E: Error + 'static>(&mut self) {
        self.permanent.push(|error| error.is::<E>());
    }

    pub(super) fn retry<E: Error + 'static>(&mut self, rule: RetryRule) {
        self.retry.push((|error| error.is::<E>(), rule));
    }

    pub(super) fn after<E: Error + 'static>(
        &mut self,
        read: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    ) {
        let read = move |error: Seen<'_>| error.downcast_ref::<E>().and_then(&read);
        self.after.push(Arc::new(read));
    }

    pub(super) fn waits(&mut self, waits: Option<Waits>) {
        self.waits = waits;
    }

    /// Returns whether an error, or one of its sources, is not worth another attempt.
    pub(super) fn is_permanent(&self, error: Seen<'_>) -> bool {
        chain(error).any(|cause| self.permanent.iter().any(|test| test(cause)))
    }

    /// Returns what holds for an error: the outermost one that something is said of decides.
    pub(super) fn rule_for(&self, error: Seen<'_>) -> Option<RetryRule> {
        let rule_of = |cause| self.retry.iter().find(|(test, _)| test(cause));
        chain(error).find_map(rule_of).map(|(_, rule)| *rule)
    }

    /// Returns what an error says itself of when to come back.
    pub(super) fn wait_asked_by(&self, error: Seen<'_>) -> Option<Duration> {
        let ask = |cause| {
            self.after
                .iter()
                .find_map(|read| guarded(|| read(cause)).flatten())
        };
        chain(error).find_map(ask).map(|wait| wait.min(MAX_WAIT))
    }

    /// Returns what the user's function says of the wait after failed attempt `attempt`.
    pub(super) fn wait_after(&self, attempt: u16) -> Option<Duration> {
        let waits = self.waits.as_ref()?;
        guarded(|| waits(attempt)).map(|wait| wait.min(MAX_WAIT))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("permanent", &self.permanent.len())
            .field("retry", &self.retry)
            .field("after", &self.after.len())
            .field("waits", &self.waits.is_some())
            .finish()
    }
}

/// Returns an error and its sources, outermost first.
fn chain(error: Seen<'_>) -> impl Iterator<Item = Seen<'_>> {
    // An error that is its own source would go on for ever.
    std::iter::successors(Some(error), |cause| (**cause).source()).take(64)
}

/// Calls a function of the user's; `None` when it panics.
fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_call(call).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("busy")]
    struct Busy(u64);

    #[derive(Debug, thiserror::Error)]
    #[error("call failed")]
    struct Call(#[source] Busy);

    #[test]
    fn the_outermost_error_that_is_known_decides() {
        let mut rules = Rules::default();
        rules.retry::<Busy>(RetryRule::default().max_attempts(9));
        assert_eq!(rules.rule_for(&Call(Busy(1))).unwrap().attempts(), Some(9));
        rules.retry::<Call>(RetryRule::default().max_attempts(0));
        assert_eq!(rules.rule_for(&Call(Busy(1))).unwrap().attempts(), Some(1));
        assert_eq!(rules.rule_for(&Busy(1)).unwrap().attempts(), Some(9));
        assert_eq!(rules.rule_for(&std::io::Error::other("x")), None);
    }

    #[test]
    fn an_error_says_when_to_come_back() {
        let mut rules = Rules::default();
        rules.after(|busy: &Busy| (busy.0 > 0).then(|| Duration::from_secs(busy.0)));
        let asked = |seconds| rules.wait_asked_by(&Call(Busy(seconds)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(0), None);
        assert_eq!(asked(u64::MAX), Some(MAX_WAIT));
    }

    #[test]
    fn a_function_that_panics_says_nothing() {
        let mut rules = Rules::default();
        rules.waits(Some(Arc::new(|attempt| {
            assert_ne!(attempt, 2, "no idea");
            Duration::from_secs(u64::from(attempt))
        })));
        assert_eq!(rules.wait_after(1), Some(Duration::from_secs(1)));
        assert_eq!(rules.wait_after(2), None);
        rules.after(|_: &Busy| panic!("no idea"));
        assert_eq!(rules.wait_asked_by(&Busy(1)), None);
    }
}
