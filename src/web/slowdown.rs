//! Wrong tokens are answered late, and later each time, so that guessing takes for ever. A right one never waits, unless
//! its own address has as many wrong ones under way as are borne.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(4);
/// How many wrong ones of an address may wait at once; beyond it nothing of it is compared.
const AT_ONCE: u32 = 4;
/// How many addresses are remembered.
const ADDRESSES: usize = 1_024;
/// How long an address is remembered.
const REMEMBER: Duration = Duration::from_secs(600);

/// The failures of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    in_a_row: u32,
    waiting: u32,
    last: Duration,
}

/// Who failed, and how often.
#[derive(Debug, Default)]
pub(super) struct Slowdown(Mutex<HashMap<IpAddr, Failures>>);

/// A wrong token that waits for its answer.
#[derive(Debug)]
pub(super) struct Waits {
    slowdown: Arc<Slowdown>,
    address: IpAddr,
    /// How long.
    pub(super) wait: Duration,
}

impl Slowdown {
    /// Returns whether an address has too many wrong tokens under way to have another one compared.
    pub(super) fn is_full(&self, address: IpAddr) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = known.get(&whole(address));
        failures.is_some_and(|failures| failures.waiting >= AT_ONCE)
    }

    /// Notes a wrong token, at `now` since boot; returns how long its answer waits.
    pub(super) fn failed(self: &Arc<Self>, address: IpAddr, now: Duration) -> Waits {
        let address = whole(address);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, it| it.waiting > 0 || now.saturating_sub(it.last) < REMEMBER);
            let oldest = known.iter().min_by_key(|(_, it)| it.last);
            if let Some(oldest) = oldest
                .map(|(address, _)| *address)
                .filter(|_| known.len() >= ADDRESSES)
            {
                known.remove(&oldest);
            }
        }
        let failures = known.entry(address).or_default();
        if now.saturating_sub(failures.last) > REMEMBER {
            failures.in_a_row = 0;
        }
        let wait = FIRST
            .saturating_mul(1 << failures.in_a_row.min(8))
            .min(LONGEST);
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.waiting += 1;
        failures.last = now;
        Waits {
            slowdown: Arc::clone(self),
            address,
            wait,
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut known = self
            .slowdown
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = known.get_mut(&self.address) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

/// Returns what stands for an address: of IPv6 its first 64 bits, for whoever has one of them has all.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let mut parts = six.segments();
            parts[4..].fill(0);
            IpAddr::V6(parts.into())
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_later_each_time_and_few_wait_at_once() {
        let slowdown = Arc::new(Slowdown::default());
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let mate: IpAddr = "2001:db8::2".parse().unwrap();
        let now = Duration::from_secs(1_000);
        let waits: Vec<Waits> = (0..4).map(|_| slowdown.failed(one, now)).collect();
        let millis: Vec<u128> = waits.iter().map(|waits| waits.wait.as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800]);
        assert!(slowdown.is_full(mate), "it has the same 64 bits");
        assert!(!slowdown.is_full("127.0.0.1".parse().unwrap()));
        drop(waits);
        assert!(!slowdown.is_full(one));
        for _ in 0..20 {
            drop(slowdown.failed(one, now));
        }
        assert_eq!(slowdown.failed(one, now).wait, LONGEST);
        let later = now + REMEMBER + Duration::from_secs(1);
        assert_eq!(slowdown.failed(one, later).wait, FIRST);
    }

    #[test]
    fn addresses_without_number_are_not_all_remembered() {
        let slowdown = Arc::new(Slowdown::default());
        for number in 0..5_000_u32 {
            let address = IpAddr::V4(number.into());
            drop(slowdown.failed(address, Duration::from_millis(number.into())));
        }
        assert!(slowdown.0.lock().unwrap().len() <= ADDRESSES);
    }
}
