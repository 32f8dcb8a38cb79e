//! The sliding window: how many calls ended well and badly of late, in ten buckets of time. Pure.

use std::time::Duration;

use super::BreakerPolicy;

/// How many buckets a window has.
const BUCKETS: usize = 10;

/// How many calls ended in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failures: u32,
}

/// The calls of the last while. Time is told by the caller, and never goes back: an earlier time counts as the latest
/// one seen.
#[derive(Clone, Debug)]
pub(super) struct Window {
    buckets: [Counts; BUCKETS],
    /// The number of the newest bucket since time began.
    newest: u128,
    in_a_row: u32,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [Counts {
                calls: 0,
                failures: 0,
            }; BUCKETS],
            newest: 0,
            in_a_row: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    fn turn(&mut self, now: Duration, policy: &BreakerPolicy) -> &mut Counts {
        let width = (policy.window.as_nanos() / BUCKETS as u128).max(1);
        let number = now.as_nanos() / width;
        if number > self.newest {
            let gone = (number - self.newest).min(BUCKETS as u128);
            for step in 1..=gone {
                self.buckets[place(self.newest + step)] = Counts::default();
            }
            if gone == BUCKETS as u128 {
                self.buckets = [Counts::default(); BUCKETS];
            }
            self.newest = number;
        }
        &mut self.buckets[place(self.newest)]
    }

    /// Notes a call that ended well.
    pub(super) fn success(&mut self, now: Duration, policy: &BreakerPolicy) {
        let bucket = self.turn(now, policy);
        bucket.calls = bucket.calls.saturating_add(1);
        self.in_a_row = 0;
    }

    /// Notes a call that failed; returns why the breaker should open now, if it should.
    pub(super) fn failure(&mut self, now: Duration, policy: &BreakerPolicy) -> Option<String> {
        let bucket = self.turn(now, policy);
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if policy.consecutive > 0 && self.in_a_row >= policy.consecutive {
            return Some(format!("{} failures in a row", self.in_a_row));
        }
        let all = self.counts();
        let share = f64::from(all.failures) / f64::from(all.calls.max(1));
        if all.calls >= policy.min_calls && share >= policy.failure_rate {
            let Counts { calls, failures } = all;
            let window = policy.window;
            return Some(format!(
                "{failures} of {calls} calls failed within {window:?}"
            ));
        }
        None
    }

    /// Returns the counts as of `now`.
    pub(super) fn counts_at(&mut self, now: Duration, policy: &BreakerPolicy) -> Counts {
        self.turn(now, policy);
        self.counts()
    }

    fn counts(&self) -> Counts {
        let add = |all: Counts, one: &Counts| Counts {
            calls: all.calls.saturating_add(one.calls),
            failures: all.failures.saturating_add(one.failures),
        };
        self.buckets.iter().fold(Counts::default(), add)
    }
}

fn place(number: u128) -> usize {
    usize::try_from(number % BUCKETS as u128).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn by_share() -> BreakerPolicy {
        BreakerPolicy::default()
            .consecutive(0)
            .min_calls(4)
            .failure_rate(0.5)
            .window(ms(1_000))
    }

    #[test]
    fn a_share_says_nothing_of_too_few_calls() {
        let (mut window, policy) = (Window::new(), by_share());
        for at in 0..3 {
            assert_eq!(window.failure(ms(at), &policy), None);
        }
        let cause = window.failure(ms(3), &policy);
        assert_eq!(cause.as_deref(), Some("4 of 4 calls failed within 1s"));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (mut window, policy) = (Window::new(), by_share());
        for at in 0..3 {
            window.failure(ms(at), &policy);
        }
        assert_eq!(window.failure(ms(1_500), &policy), None);
        let left = Counts {
            calls: 1,
            failures: 1,
        };
        assert_eq!(window.counts_at(ms(1_500), &policy), left);
        assert_eq!(window.counts_at(ms(900_000), &policy), Counts::default());
    }

    #[test]
    fn failures_in_a_row_open_it_without_a_share() {
        let policy = BreakerPolicy::default().consecutive(3).failure_rate(2.0);
        let mut window = Window::new();
        window.failure(ms(0), &policy);
        window.failure(ms(1), &policy);
        window.success(ms(2), &policy);
        window.failure(ms(3), &policy);
        assert_eq!(window.failure(ms(4), &policy), None);
        assert_eq!(
            window.failure(ms(5), &policy).as_deref(),
            Some("3 failures in a row")
        );
    }

    proptest! {
        /// The window agrees with a list of everything that happened, to within one bucket at its old end.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..200)) {
            let policy = by_share().failure_rate(2.0);
            let (mut window, mut list, mut at) = (Window::new(), Vec::new(), 0);
            for (by, failed) in steps {
                at += by;
                if failed {
                    prop_assert_eq!(window.failure(ms(at), &policy), None);
                } else {
                    window.success(ms(at), &policy);
                }
                list.push((at, failed));
                let counts = window.counts_at(ms(at), &policy);
                let within = |span: u64| {
                    let recent = list.iter().filter(|(then, _)| then + span > at);
                    u32::try_from(recent.count()).unwrap()
                };
                prop_assert!(within(900) <= counts.calls && counts.calls <= within(1_000));
                prop_assert!(counts.failures <= counts.calls);
            }
        }
    }
}
