//! An outage as a state: the first failure is logged, then silence, then the recovery with how long it took.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use slog::{Logger, info, warn};
use tokio::time::Instant;

/// Whether something the process needs (the broker, the store) answers.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    log: Logger,
    away: AtomicBool,
    since: Mutex<Option<(Instant, String)>>,
}

impl Outage {
    /// Creates the state of something that answers. `what` is its name in the log.
    #[must_use]
    pub const fn new(what: &'static str, log: Logger) -> Self {
        Self {
            what,
            log,
            away: AtomicBool::new(false),
            since: Mutex::new(None),
        }
    }

    /// Notes that it does not answer, or refuses.
    pub fn failed(&self, error: &dyn fmt::Display) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            warn!(self.log, "is away; retrying until it is back"; "what" => self.what, "error" => %error);
            *since = Some((Instant::now(), error.to_string()));
            self.away.store(true, Ordering::Release);
        }
    }

    /// Notes that it answers.
    pub fn answered(&self) {
        if self.away.load(Ordering::Acquire) {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((start, _)) = since.take() {
                self.away.store(false, Ordering::Release);
                let ms = crate::time::millis(start.elapsed());
                info!(self.log, "is back"; "what" => self.what, "away_ms" => ms);
            }
        }
    }

    /// Returns how long it has been away and what it said first, if it is.
    #[must_use]
    pub fn state(&self) -> Option<(std::time::Duration, String)> {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since
            .as_ref()
            .map(|(start, error)| (start.elapsed(), error.clone()))
    }
}
