//! Results that found no room at the server: counted, and warned of now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use slog::{Logger, warn};
use tokio::time::Instant;

/// From one warning to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// How many results were dropped, and who is told.
#[derive(Debug)]
pub(super) struct Dropped {
    total: AtomicU64,
    told: Mutex<Told>,
    log: Logger,
}

impl Dropped {
    pub(super) fn new(log: Logger) -> Self {
        Self {
            total: AtomicU64::new(0),
            told: Mutex::default(),
            log,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Notes that so many more were dropped; warns of the first ones at once, then once a minute of all since.
    pub(super) fn add(&self, results: u64) {
        if results == 0 {
            return;
        }
        let total = self.total.fetch_add(results, Ordering::Relaxed) + results;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = told.note(results, Instant::now()) {
            warn!(self.log, "results are dropped: the server's memory is at its limit; the tasks have ended all the same, \
                but whoever waits gets no value; raise maxmemory, or lower results.ttl or results.max_size";
                "results" => since, "in_all" => total);
        }
    }
}

/// What was said, and when.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Told {
    /// Adds to what is untold; returns all of it when it is time to tell.
    fn note(&mut self, results: u64, now: Instant) -> Option<u64> {
        self.untold += results;
        if self.last.is_some_and(|last| now < last + PAUSE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_at_once_and_the_others_once_a_minute() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut note = |results, seconds| told.note(results, start + Duration::from_secs(seconds));
        assert_eq!(note(3, 0), Some(3));
        assert_eq!(note(4, 1), None);
        assert_eq!(note(5, 59), None);
        assert_eq!(note(1, 60), Some(10));
        assert_eq!(note(1, 61), None);
    }
}
