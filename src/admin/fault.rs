//! Why something that an operator asked for was not done.

use celeriac_actors::breaker::BoardError;
use celeriac_actors::ports::{BrokerError, StoreError};
use celeriac_actors::revival::ReviveError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// What was meant is not there.
    #[error("{0}")]
    Missing(String),
    /// What was meant is in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// What is needed cannot be reached.
    #[error("{0}")]
    Away(String),
    /// The broker did not do it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is done, but there is no record of it.
    #[error("it is done, but not recorded in the audit: {0}")]
    Unrecorded(StoreError),
}

impl From<BoardError> for Fault {
    fn from(error: BoardError) -> Self {
        match error {
            BoardError::Broker(error) => Self::Broker(error),
            error => Self::Away(error.to_string()),
        }
    }
}

impl From<ReviveError> for Fault {
    fn from(error: ReviveError) -> Self {
        match error {
            ReviveError::Store(error) => Self::Store(error),
            ReviveError::Broker(error) => Self::Broker(error),
            error => Self::Conflict(error.to_string()),
        }
    }
}
