//! What a configuration says about one breaker.

use std::time::Duration;

use super::BreakerPolicy;

/// Values that replace those of a breaker's policy. `None` leaves the policy's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BreakerOverride {
    /// Which share of failed calls opens it, 0 to 1.
    pub failure_rate: Option<f64>,
    /// How many calls the share must be of.
    pub min_calls: Option<u32>,
    /// Over which time calls are counted.
    pub window: Option<Duration>,
    /// How many failures in a row open it; 0 is never.
    pub consecutive: Option<u32>,
    /// How long it stays open at first.
    pub open_for: Option<Duration>,
    /// How long it stays open at most.
    pub open_ceiling: Option<Duration>,
    /// By which part that time is shortened at most.
    pub jitter: Option<f64>,
    /// How long a probe may take.
    pub probe_limit: Option<Duration>,
}

impl BreakerOverride {
    /// Returns the policy with what is said here in place of its own.
    #[must_use]
    pub fn apply(&self, policy: BreakerPolicy) -> BreakerPolicy {
        let base = self.open_for.unwrap_or(policy.open_base);
        let ceiling = self.open_ceiling.unwrap_or(policy.open.ceiling());
        let mut policy = policy
            .failure_rate(self.failure_rate.unwrap_or(policy.failure_rate))
            .min_calls(self.min_calls.unwrap_or(policy.min_calls))
            .window(self.window.unwrap_or(policy.window))
            .consecutive(self.consecutive.unwrap_or(policy.consecutive))
            .open_for(base, ceiling)
            .probe_limit(self.probe_limit.unwrap_or(policy.probe_limit));
        if let Some(jitter) = self.jitter {
            policy = policy.jitter(jitter);
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let policy = BreakerPolicy::default().consecutive(3).min_calls(7);
        let over = BreakerOverride {
            min_calls: Some(20),
            open_for: Some(Duration::from_millis(200)),
            ..BreakerOverride::default()
        };
        let policy = over.apply(policy);
        assert_eq!((policy.consecutive, policy.min_calls), (3, 20));
        assert_eq!(policy.open_base, Duration::from_millis(200));
        assert_eq!(policy.open.ceiling(), Duration::from_secs(30));
    }
}
