//! How long things take: a histogram with fixed bounds, written by one thread and read by any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets in microseconds, inclusive; a last bucket takes what is longer. From half a
/// millisecond to half an hour, the default hard limit, about two and a half times as long from each to the next.
pub const BOUNDS_US: [u64; 18] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
];

/// A count that one thread writes. A second writer loses counts, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, by: u64) {
        // No read-modify-write: it has one writer, and locking the line would cost more than all the rest.
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(by);
        self.0.store(sum, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram as it is written.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Count; BOUNDS_US.len() + 1],
    sum_us: Count,
}

impl Histogram {
    pub(super) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 8);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].add(1);
        self.sum_us.add(us);
    }

    pub(super) fn spread(&self) -> Spread {
        let mut buckets: Vec<u64> = self.buckets.iter().map(Count::get).collect();
        let used = buckets.iter().rposition(|count| *count > 0);
        buckets.truncate(used.map_or(0, |last| last + 1));
        Spread {
            buckets,
            sum_us: self.sum_us.get(),
        }
    }
}

/// How many things took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How many fell into each bucket of [`BOUNDS_US`]; empty buckets at the end are left out.
    pub buckets: Vec<u64>,
    /// How long all took together, in microseconds.
    pub sum_us: u64,
}

impl Spread {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        let len = self.buckets.len().max(other.buckets.len());
        self.buckets.resize(len.min(BOUNDS_US.len() + 1), 0);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// Returns what came since an earlier reading of the same; all of it where that one is no earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |at: usize| earlier.buckets.get(at).copied().unwrap_or(0);
        let mut pairs = self.buckets.iter().enumerate();
        if earlier.buckets.len() > self.buckets.len() || pairs.any(|(at, n)| *n < before(at)) {
            return self.clone();
        }
        let buckets = self.buckets.iter().enumerate();
        Self {
            buckets: buckets.map(|(at, n)| n - before(at)).collect(),
            sum_us: self.sum_us.wrapping_sub(earlier.sum_us),
        }
    }

    /// Returns how long a share of them took at most, from 0 to 1: the upper bound of the bucket in which it falls, half
    /// an hour for what is longer; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank that is off by one in 2^52 changes no bucket that matters"
        )]
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        let at = self.buckets.iter().position(|n| {
            below += n;
            below >= rank
        });
        let at = at.unwrap_or(BOUNDS_US.len()).min(BOUNDS_US.len() - 1);
        Some(Duration::from_micros(BOUNDS_US[at]))
    }

    /// Returns how long they took on average; `None` when there are none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        Some(Duration::from_micros(
            self.sum_us.checked_div(self.count())?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Spread {
        let histogram = Histogram::default();
        for ms in millis {
            histogram.observe(Duration::from_millis(*ms));
        }
        histogram.spread()
    }

    #[test]
    fn bounds_are_inclusive_and_nothing_falls_out() {
        let spread = of(&[0, 1, 2, 10_000_000]);
        assert_eq!(spread.count(), 4);
        assert_eq!(&spread.buckets[..3], [1, 1, 1]);
        assert_eq!(spread.buckets.len(), BOUNDS_US.len() + 1);
        let forever = Histogram::default();
        forever.observe(Duration::MAX);
        assert_eq!(forever.spread().count(), 1);
    }

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let mut all = vec![1; 98];
        all.extend([40, 3_000]);
        let spread = of(&all);
        assert_eq!(spread.quantile(0.5), Some(Duration::from_millis(1)));
        assert_eq!(spread.quantile(0.99), Some(Duration::from_millis(50)));
        assert_eq!(spread.quantile(1.0), Some(Duration::from_secs(5)));
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[]).mean(), None);
        assert_eq!(of(&[10, 20]).mean(), Some(Duration::from_millis(15)));
    }

    #[test]
    fn what_came_since_is_the_difference_unless_it_began_anew() {
        let (mut sum, more) = (of(&[1, 2]), of(&[2, 700]));
        let before = sum.clone();
        sum.add(&more);
        assert_eq!(sum.count(), 4);
        assert_eq!(sum.since(&before), more);
        // Another process, whose figures began at zero.
        assert_eq!(more.since(&of(&[1, 1, 1])), more);
    }
}
