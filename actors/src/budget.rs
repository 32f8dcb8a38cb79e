//! Retry budgets: when everything of a queue fails, retries are no more than a share of the work.
//!
//! Each first attempt of a queue earns a share of a token, each retry spends one, and a floor of tokens comes in each second, so
//! that a quiet queue can retry, too. A retry for which there is none waits longer: until the floor alone would have paid
//! for all that were promised before it. No retry is dropped, and no attempt is used up. One budget serves all consumers of
//! a queue in a process; the clock is passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::QueueName;

/// The longest that a budget delays a retry.
const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// What a queue's retries may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// How many retries each first attempt pays for: 0.2 is one in five. 0 leaves the floor alone; what is below or no number
    /// counts as 0.
    pub share: f64,
    /// How many retries each second pays for in any case. Default 10; at least 1.
    pub floor: u32,
}

impl RetryBudget {
    /// Creates a budget of a share, with a floor of ten retries a second.
    #[must_use]
    pub const fn new(share: f64) -> Self {
        Self { share, floor: 10 }
    }

    fn floor(&self) -> f64 {
        f64::from(self.floor.max(1))
    }

    fn share(&self) -> f64 {
        if self.share > 0.0 { self.share } else { 0.0 }
    }

    /// The most that is saved up: ten seconds of the floor, and what a thousand first attempts earn.
    fn most(&self) -> f64 {
        10.0 * self.floor() + 1_000.0 * self.share().min(1_000.0)
    }
}

/// How a queue's budget stands, as its worker tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// The queue.
    pub queue: QueueName,
    /// The share of first attempts.
    pub share: f64,
    /// The retries of each second.
    pub floor: u32,
    /// How many retries are paid for; below zero, how many were promised for later.
    pub left: i64,
    /// How many retries were delayed since the worker started.
    pub delayed: u64,
}

/// What one queue has of its budget.
#[derive(Clone, Debug)]
struct Purse {
    budget: RetryBudget,
    tokens: f64,
    /// Up to when the floor was paid, on the boot-time clock.
    paid: Duration,
    delayed: u64,
}

impl Purse {
    fn new(budget: RetryBudget, now: Duration) -> Self {
        Self {
            budget,
            tokens: 10.0 * budget.floor(),
            paid: now,
            delayed: 0,
        }
    }

    fn pay_floor(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.paid);
        self.paid = self.paid.max(now);
        self.add(passed.as_secs_f64() * self.budget.floor());
    }

    fn add(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.budget.most());
    }

    fn spend(&mut self, now: Duration) -> Duration {
        self.pay_floor(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        self.delayed += 1;
        let most = MAX_DELAY.as_secs_f64();
        // A debt beyond the longest delay would be one that nobody waits for.
        self.tokens = self.tokens.max(-most * self.budget.floor());
        Duration::from_secs_f64((-self.tokens / self.budget.floor()).min(most))
    }
}

/// The budget of one queue, shared by its consumers. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct SharedBudget(Arc<Mutex<Purse>>);

impl SharedBudget {
    fn lock(&self) -> MutexGuard<'_, Purse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that a first attempt was made.
    pub(crate) fn earn(&self) {
        let mut purse = self.lock();
        let share = purse.budget.share();
        purse.add(share);
    }

    /// Pays for a retry; returns how much longer it must wait. `now` is the boot-time clock.
    pub(crate) fn spend(&self, now: Duration) -> Duration {
        self.lock().spend(now)
    }
}

/// The budgets of a process, by queue; most queues have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets(HashMap<QueueName, SharedBudget>);

impl Budgets {
    pub(crate) fn new(budgets: &[(QueueName, RetryBudget)], now: Duration) -> Self {
        let shared = |budget| SharedBudget(Arc::new(Mutex::new(Purse::new(budget, now))));
        let of = |(queue, budget): &(QueueName, RetryBudget)| (queue.clone(), shared(*budget));
        Self(budgets.iter().map(of).collect())
    }

    pub(crate) fn of(&self, queue: &QueueName) -> Option<SharedBudget> {
        self.0.get(queue).cloned()
    }

    /// Returns how they stand, by name of the queue.
    pub(crate) fn status(&self, now: Duration) -> Vec<BudgetStatus> {
        let status = |(queue, budget): (&QueueName, &SharedBudget)| {
            let mut purse = budget.lock();
            purse.pay_floor(now);
            BudgetStatus {
                queue: queue.clone(),
                share: purse.budget.share(),
                floor: purse.budget.floor.max(1),
                #[expect(clippy::cast_possible_truncation, reason = "bounded on both sides")]
                left: purse.tokens.floor() as i64,
                delayed: purse.delayed,
            }
        };
        let mut all: Vec<BudgetStatus> = self.0.iter().map(status).collect();
        all.sort_by(|a, b| a.queue.cmp(&b.queue));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn purse(share: f64, floor: u32) -> Purse {
        let mut purse = Purse::new(RetryBudget { share, floor }, Duration::ZERO);
        purse.tokens = 0.0;
        purse
    }

    fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn first_attempts_pay_for_a_share_of_retries() {
        let mut purse = purse(0.5, 1);
        (0..4).for_each(|_| purse.add(purse.budget.share()));
        let waits: Vec<Duration> = (0..4).map(|_| purse.spend(Duration::ZERO)).collect();
        assert_eq!(waits, [secs(0), secs(0), secs(1), secs(2)]);
        assert_eq!(purse.delayed, 2);
    }

    #[test]
    fn the_floor_pays_each_second() {
        let mut purse = purse(0.0, 2);
        assert_eq!(purse.spend(secs(1)), Duration::ZERO);
        assert_eq!(purse.spend(secs(1)), Duration::ZERO);
        assert_eq!(purse.spend(secs(1)), Duration::from_millis(500));
        // What was promised is paid before anything new, also by a clock that is behind.
        assert_eq!(purse.spend(Duration::ZERO), secs(1));
        assert_eq!(purse.spend(secs(60)), Duration::ZERO);
    }

    #[test]
    fn degenerate_budgets_do_no_harm() {
        for share in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let mut purse = purse(share, 0);
            purse.add(purse.budget.share());
            purse.tokens = 0.0;
            for _ in 0..10_000 {
                assert!(purse.spend(Duration::ZERO) <= MAX_DELAY);
            }
            assert!(purse.spend(Duration::MAX) <= MAX_DELAY);
        }
    }

    proptest! {
        /// When all fails at once, no window of time holds more retries than share and floor pay for.
        #[test]
        fn retries_are_a_share_of_the_work(share in 0.0_f64..1.0, floor in 1_u32..50, firsts in 1_u32..2_000) {
            let mut purse = purse(share, floor);
            let mut at_once = 0_u32;
            for _ in 0..firsts {
                purse.add(purse.budget.share());
                at_once += u32::from(purse.spend(Duration::ZERO).is_zero());
            }
            prop_assert!(f64::from(at_once) <= f64::from(firsts) * share + 1.0);
            prop_assert_eq!(u64::from(firsts - at_once), purse.delayed);
        }
    }
}
