//! How fast things happen: differences of the queues' counters over the last minutes. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Counters, QueueStatus};

/// Over how long deaths are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Over how long attempts are counted.
const WINDOW: Duration = Duration::from_secs(300);

/// How far apart two readings are that are kept.
const STEP: Duration = Duration::from_secs(5);

/// How many queues are watched.
const MAX_QUEUES: usize = 1_000;

/// How fast things happen in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// How many tasks died within the last minute; `None` before there are two readings.
    pub dead_per_minute: Option<f64>,
    /// How many attempts ended within the last five minutes.
    pub attempts: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// The counters of the last minutes, by queue.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    queues: BTreeMap<QueueName, Readings>,
    /// When the last reading was taken.
    taken: Option<Duration>,
}

/// Readings of one queue, oldest first, the newest one aside.
#[derive(Clone, Debug, Default)]
struct Readings {
    kept: VecDeque<(Duration, Counters)>,
    last: Option<(Duration, Counters)>,
}

impl Rates {
    /// Takes a reading; `now` is a clock that never goes back.
    pub fn take(&mut self, now: Duration, queues: &[QueueStatus]) {
        // One that is not there for a moment is not a new one when it is back.
        self.queues.retain(|_, readings| {
            let last = readings.last.map_or(now, |(at, _)| at);
            now.saturating_sub(last) < WINDOW
        });
        for status in queues {
            if self.queues.len() >= MAX_QUEUES && !self.queues.contains_key(&status.queue) {
                continue;
            }
            let readings = self.queues.entry(status.queue.clone()).or_default();
            if let (None, Some(before)) = (readings.last, self.taken) {
                // It is used for the first time: all it has counted happened since the last reading.
                readings.take(before, Counters::default());
            }
            readings.take(now, status.counters);
        }
        self.taken = Some(now);
    }

    /// Returns how fast things happen in a queue.
    #[must_use]
    pub fn of(&self, queue: &QueueName) -> Rate {
        self.queues
            .get(queue)
            .map_or_else(Rate::default, Readings::rate)
    }
}

impl Readings {
    fn take(&mut self, now: Duration, counters: Counters) {
        // Data that was wiped begins at zero: what was before says nothing any more.
        if self.last.is_some_and(|(_, last)| {
            attempts(&counters) < attempts(&last) || counters.dead < last.dead
        }) {
            self.kept.clear();
        }
        let is_due = |kept: &VecDeque<(Duration, Counters)>| {
            kept.back()
                .is_none_or(|(at, _)| now.saturating_sub(*at) >= STEP)
        };
        if is_due(&self.kept) {
            self.kept.push_back((now, counters));
        }
        // One that is older than the window stays: what came since is what came within.
        while self
            .kept
            .get(1)
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.kept.pop_front();
        }
        self.last = Some((now, counters));
    }

    fn rate(&self) -> Rate {
        let Some((now, last)) = self.last else {
            return Rate::default();
        };
        // The newest one that is as old as the span, else the oldest there is.
        let base = |span: Duration| {
            let old = self
                .kept
                .iter()
                .rev()
                .find(|(at, _)| now.saturating_sub(*at) >= span);
            old.or(self.kept.front()).filter(|(at, _)| *at < now)
        };
        let dead_per_minute = base(MINUTE).map(|(at, then)| {
            let span = now.saturating_sub(*at).max(MINUTE);
            float(last.dead.saturating_sub(then.dead)) * 60.0 / span.as_secs_f64()
        });
        let (of, bad) = base(WINDOW).map_or((0, 0), |(_, then)| {
            let of = attempts(&last).saturating_sub(attempts(then));
            (of, failed(&last).saturating_sub(failed(then)))
        });
        Rate {
            dead_per_minute,
            attempts: of,
            failed: bad,
        }
    }
}

/// Attempts that ended: each succeeded, failed, or died.
fn attempts(counters: &Counters) -> u64 {
    counters
        .succeeded
        .wrapping_add(counters.retried)
        .wrapping_add(counters.dead)
}

fn failed(counters: &Counters) -> u64 {
    counters.retried.wrapping_add(counters.dead)
}

#[expect(clippy::cast_precision_loss, reason = "deaths of a minute are few")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(succeeded: u64, dead: u64) -> QueueStatus {
        QueueStatus {
            queue: QueueName::new("billing").unwrap(),
            ready: 0,
            scheduled: 0,
            retrying: 0,
            active: 0,
            dead_outbox: 0,
            paused: false,
            consumers: 0,
            oldest_ready: None,
            counters: Counters {
                succeeded,
                dead,
                ..Counters::default()
            },
        }
    }

    fn rate(readings: impl IntoIterator<Item = (u64, u64, u64)>) -> Rate {
        let mut rates = Rates::default();
        for (second, succeeded, dead) in readings {
            rates.take(Duration::from_secs(second), &[status(succeeded, dead)]);
        }
        rates.of(&QueueName::new("billing").unwrap())
    }

    #[test]
    fn a_first_reading_tells_nothing_and_a_second_one_is_not_blown_up() {
        assert_eq!(rate([(0, 100, 100)]), Rate::default());
        let young = rate([(0, 0, 100), (2, 10, 130)]);
        assert_eq!(young.dead_per_minute, Some(30.0));
        assert_eq!((young.attempts, young.failed), (40, 30));
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        // A hundred deaths in the first ten seconds, none after.
        let later = rate((0..600).map(|s| (s, s, (10 * s).min(100))));
        assert_eq!(later.dead_per_minute, Some(0.0));
        assert_eq!(later.failed, 0);
        assert!((300..=305).contains(&later.attempts), "{later:?}");
        let steady = rate((0..600).map(|s| (s, 0, s)));
        let rate = steady.dead_per_minute.unwrap();
        assert!((59.0..=61.0).contains(&rate), "{rate}");
    }

    #[test]
    fn data_that_was_wiped_counts_from_zero() {
        let wiped = rate([(0, 500, 50), (10, 600, 60), (20, 1, 0), (30, 5, 2)]);
        assert_eq!((wiped.attempts, wiped.failed), (6, 2));
    }

    #[test]
    fn the_memory_has_bounds() {
        let mut rates = Rates::default();
        for second in 0..10_000 {
            rates.take(Duration::from_secs(second), &[status(second, 0)]);
        }
        let readings = rates.queues.values().next().unwrap();
        assert!(readings.kept.len() <= 62, "{}", readings.kept.len());
        rates.take(Duration::from_secs(10_001), &[]);
        assert_eq!(rates.queues.len(), 1, "it may be back");
        rates.take(Duration::from_secs(10_400), &[]);
        assert!(rates.queues.is_empty());
    }

    #[test]
    fn what_a_new_queue_counted_happened_since_the_last_look() {
        let mut rates = Rates::default();
        rates.take(Duration::from_secs(1), &[]);
        rates.take(Duration::from_secs(2), &[status(10, 40)]);
        let rate = rates.of(&QueueName::new("billing").unwrap());
        assert_eq!(rate.dead_per_minute, Some(40.0));
        assert_eq!((rate.attempts, rate.failed), (50, 40));
    }
}
