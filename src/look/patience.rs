//! Asking again while a broker or store is away.

use std::future::Future;
use std::time::Duration;

use celeriac_actors::ports::{BrokerError, StoreError};

/// How long a single question waits for a broker or store that is away.
pub(crate) const ONE_SHOT: Duration = Duration::from_secs(10);

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

/// Takes a step again while the broker or store is away, for at most [`ONE_SHOT`].
pub(crate) async fn insist<T, E, R>(mut step: impl FnMut() -> R) -> Result<T, E>
where
    R: Future<Output = Result<T, E>>,
    E: Away,
{
    let deadline = tokio::time::Instant::now() + ONE_SHOT;
    loop {
        match step().await {
            Err(error) if error.is_away() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            outcome => return outcome,
        }
    }
}
