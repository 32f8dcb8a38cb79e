//! How many steps and looks are under way at once; further callers wait for room of their kind.
//!
//! Producers come in any number and wait for the log to be synced, so they have a room of their own: however many of them
//! a slow disk holds up, a lease is renewed, a delivery settled and a queue looked at.

use std::sync::Arc;

use celeriac_actors::ports::BrokerError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::closed;

/// How many of each kind are under way at most.
pub(super) const OF_EACH_KIND: usize = 1_024;
/// How many steps are with the writer or the syncer at most.
pub(super) const STEPS: usize = 2 * OF_EACH_KIND;

/// Room for one kind.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OF_EACH_KIND)))
    }
}

impl Room {
    /// Waits until there is room; it is taken up until the permit is dropped.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, BrokerError> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        permit.map_err(|_| closed())
    }
}

/// Room for every kind.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Steps of those who add or revoke tasks.
    pub(super) adding: Room,
    /// All other steps: what keeps the tasks that are here going.
    pub(super) keeping: Room,
    /// Looks.
    pub(super) looking: Room,
}
