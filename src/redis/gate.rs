//! The gate in front of a server that cannot be reached: attempts to connect are spread out, however many ask.
//!
//! Shared by every runtime of the process. Holds servers that fail only; who may not try now waits for its next turn
//! or for somebody else's success. No turn is ever held across a wait, so a blocked thread keeps nobody out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::fault::Fault;
use super::node::Node;

/// The pause after the first failure; doubled for each further one.
const FIRST: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// The servers that cannot be reached at the moment.
#[derive(Debug, Default)]
pub(super) struct Gates {
    failing: Mutex<HashMap<Node, Failing>>,
}

#[derive(Debug)]
struct Failing {
    failures: u32,
    /// From when on one more attempt is allowed.
    next: Instant,
    last: Fault,
    healed: Arc<Notify>,
}

/// What to do about a server that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfFailing {
    /// Wait for the next turn.
    Wait,
    /// Leave it alone.
    Skip,
}

impl Gates {
    /// Returns once an attempt is allowed, or the last failure when none is before `deadline`.
    pub(super) async fn admit(
        &self,
        node: &Node,
        deadline: Instant,
        if_failing: IfFailing,
    ) -> Result<(), Fault> {
        loop {
            let (next, healed) = {
                let mut failing = self.lock();
                let Some(known) = failing.get_mut(node) else {
                    return Ok(());
                };
                let now = Instant::now();
                if now >= deadline {
                    return Err(known.last.clone());
                }
                if now >= known.next {
                    known.next = now + pause(known.failures, rand::random());
                    return Ok(());
                }
                if if_failing == IfFailing::Skip || known.next >= deadline {
                    return Err(known.last.clone());
                }
                // Made while the lock is held: a success from here on is not missed.
                (known.next, Arc::clone(&known.healed).notified_owned())
            };
            drop(timeout_at(next, healed).await);
        }
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&self, node: &Node, fault: &Fault) {
        let mut failing = self.lock();
        let known = failing.entry(node.clone()).or_insert_with(|| Failing {
            failures: 0,
            next: Instant::now(),
            last: fault.clone(),
            healed: Arc::default(),
        });
        known.failures = known.failures.saturating_add(1);
        known.next = Instant::now() + pause(known.failures, rand::random());
        known.last = fault.clone();
    }

    /// Notes that an attempt succeeded: everybody may try.
    pub(super) fn healed(&self, node: &Node) {
        if let Some(known) = self.lock().remove(node) {
            known.healed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Node, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the pause after so many failures, of which chance, from 0 to 1, takes away up to half.
fn pause(failures: u32, chance: f32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    let full = doubled
        .map_or(LONGEST, |by| FIRST.saturating_mul(by))
        .min(LONGEST);
    full - full.mul_f32(chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_vary() {
        let pauses: Vec<u128> = [1, 2, 3, 6, 7, 40, u32::MAX]
            .map(|failures| pause(failures, 0.0).as_millis())
            .to_vec();
        assert_eq!(pauses, [20, 40, 80, 640, 1_000, 1_000, 1_000]);
        assert_eq!(pause(7, 1.0), LONGEST / 2);
    }

    /// Goal: a server that is away is not stormed, and its return is used at once.
    /// Method: after a failure, one of many is let through per pause; a success lets all others in.
    #[tokio::test(start_paused = true)]
    async fn one_attempt_per_pause_and_all_after_a_success() {
        let gates = Arc::new(Gates::default());
        let node = Node::tcp("h", 1);
        let far = Instant::now() + Duration::from_secs(60);
        assert!(gates.admit(&node, far, IfFailing::Wait).await.is_ok());
        let fault = Fault::not_sent(&node, "refused");
        for _ in 0..10 {
            gates.failed(&node, &fault);
        }
        let skipped = gates.admit(&node, far, IfFailing::Skip).await;
        assert_eq!(skipped, Err(fault.clone()));
        let soon = Instant::now() + Duration::from_millis(10);
        assert_eq!(gates.admit(&node, soon, IfFailing::Wait).await, Err(fault));

        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let (gates, node) = (Arc::clone(&gates), node.clone());
                tokio::spawn(async move { gates.admit(&node, far, IfFailing::Wait).await })
            })
            .collect();
        tokio::time::sleep(LONGEST).await;
        let through = waiting.iter().filter(|task| task.is_finished()).count();
        assert!((1..=2).contains(&through), "{through} were let through");
        gates.healed(&node);
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
    }
}
