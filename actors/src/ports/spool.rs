//! The spool: where tasks wait on this machine while the broker cannot take them.
//!
//! What is in it is relayed to the broker later, by whoever owns it: in order within a queue, and each call once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::broker::EnqueueCall;
use crate::ids::QueueName;

/// Whether the broker may have carried out a call that goes to the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It certainly has not: only the tasks matter, the call's channel and number stay the producer's own.
    Never,
    /// It may have: the call is relayed to the letter, under its own channel and number, which nobody else uses again.
    Perhaps,
}

/// Why something was not spooled: what is certain of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// It has reached its bound. Nothing was spooled.
    #[error("the spool is full: {0}")]
    Full(String),
    /// It cannot be read or written. Nothing was spooled.
    #[error("the spool cannot be used: {0}")]
    Failed(String),
    /// It did not answer. Whether anything was spooled is unknown.
    #[error("the spool did not answer: {0}")]
    Unknown(String),
}

/// Takes tasks in place of a broker that is away, and has them relayed when it is back.
#[async_trait]
pub trait Spool: std::fmt::Debug + Send + Sync + 'static {
    /// Returns whether tasks of `queue` wait in it: newer ones have to queue behind them. A quick look.
    ///
    /// # Errors
    /// [`SpoolError::Failed`].
    fn holds(&self, queue: &QueueName) -> Result<bool, SpoolError>;

    /// Takes the tasks of a call, all or none, behind everything that is there; returns when they survive a power cut.
    ///
    /// # Errors
    /// [`SpoolError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    async fn put(&self, call: Arc<EnqueueCall>, sent: Sent) -> Result<(), SpoolError>;

    /// Waits until everything was relayed, an attempt to relay failed, or `patience` is over; returns how many tasks are
    /// left.
    ///
    /// # Errors
    /// [`SpoolError::Failed`].
    ///
    /// # Cancel safety
    /// Cancel-safe: relaying goes on.
    async fn drain(&self, patience: Duration) -> Result<u64, SpoolError>;
}
