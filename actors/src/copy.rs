//! The copy of dead tasks from the broker's outbox to the store: one step, for whoever has both at hand.
//!
//! Invariant: a dead task is in the outbox, in the store, or in both, never in neither: the copy is committed before the
//! removal. The whole step may be repeated, and several processes may make it at once.

use crate::frame::FrameLimits;
use crate::ids::BurialId;
use crate::letters::letter_from;
use crate::ports::{Broker, BrokerError, DeadLetters, StoreError};

/// Why a step was not done: neither loses anything, and both steps may be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The broker did not hand out the dead, or did not let them go.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store did not take the letters.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies at most `limit` dead tasks, oldest burial first; returns how many it found.
///
/// Fewer than `limit` means that the outbox was empty behind them.
///
/// # Errors
/// [`CopyError`]: repeat.
pub async fn copy_dead(
    broker: &dyn Broker,
    store: &dyn DeadLetters,
    limits: &FrameLimits,
    limit: u32,
) -> Result<usize, CopyError> {
    let dead = broker.take_dead(limit).await?;
    if dead.is_empty() {
        return Ok(0);
    }
    let burials: Vec<BurialId> = dead.iter().map(|task| task.burial).collect();
    let letters = dead.iter().map(|task| letter_from(task, limits)).collect();
    store.insert(letters).await?;
    broker.drop_dead(&burials).await?;
    Ok(burials.len())
}
