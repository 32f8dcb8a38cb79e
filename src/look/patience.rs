//! Patience with a broker or store that is away: a step is tried again for a while.

use std::future::Future;
use std::time::Duration;

use celeriac_actors::ports::{BrokerError, StoreError};

/// How long a step is tried again while broker or store are away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    /// That of a one-shot command: ten seconds.
    pub(crate) const ONE_SHOT: Self = Self(Duration::from_secs(10));

    /// None: whoever asks is told at once, and may ask again.
    pub(crate) const NONE: Self = Self(Duration::ZERO);

    pub(crate) const fn span(self) -> Duration {
        self.0
    }

    /// Runs a step, again while the broker or store is away, until it has had its time.
    pub(crate) async fn insist<T, E, R>(self, mut step: impl FnMut() -> R) -> Result<T, E>
    where
        R: Future<Output = Result<T, E>>,
        E: Away,
    {
        let deadline = tokio::time::Instant::now() + self.0;
        loop {
            match step().await {
                Err(error) if error.is_away() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// An error that may go away by itself.
pub(crate) trait Away {
    fn is_away(&self) -> bool;
}

impl Away for BrokerError {
    fn is_away(&self) -> bool {
        self.is_outage()
    }
}

impl Away for StoreError {
    fn is_away(&self) -> bool {
        self.is_outage()
    }
}
