//! The writing steps of the port, one file per concern. Each runs within a transaction that others share.

pub(super) mod dead;
pub(super) mod enqueue;
pub(super) mod exchange;
pub(super) mod housekeep;
pub(super) mod leases;
pub(super) mod purge;
pub(super) mod settle;
pub(super) mod shared;
pub(super) mod sweep;

use super::errors::StepError;
use super::tx::Tx;

/// One step of one caller.
///
/// It may be run again when the transaction was undone, so it keeps nothing of an earlier run. It decides against
/// itself ([`StepError::Decided`]) only before it writes anything.
pub(super) trait Step: std::fmt::Debug + Send + 'static {
    /// What the caller gets.
    type Reply: Send + 'static;

    /// Carries it out.
    fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Reply, StepError>;

    /// Returns roughly how many bytes it writes.
    fn weight(&self) -> usize {
        0
    }
}
