//! Why a message got no answer, or was not accepted: each variant says whether anybody has got it.

use std::fmt;
use std::sync::Arc;

/// Why a request through a [`Ref`](super::Ref) has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The child was not there for as long as the reference waits. The message was handed to nobody.
    #[error("child {name} is not available")]
    Unavailable {
        /// The child.
        name: Arc<str>,
    },
    /// The child crashed too often and is parked. The message was handed to nobody; try again much later.
    #[error("child {name} is parked")]
    Parked {
        /// The child.
        name: Arc<str>,
    },
    /// The child has ended and will not come back. The message was handed to nobody.
    #[error("child {name} has ended")]
    Ended {
        /// The child.
        name: Arc<str>,
    },
    /// The message was handed over and no answer will come: the child, or the call alone, died or was given up on.
    /// Whether it was started is unknown.
    #[error("child {name} died before it answered")]
    Interrupted {
        /// The child.
        name: Arc<str>,
    },
}

/// Why a message was not accepted by [`Ref::try_send`](super::Ref::try_send); gives it back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<M> {
    /// The mailbox holds as much as it may: shed the message or slow down.
    #[error("mailbox is full")]
    Full(M),
    /// The child is being restarted, or parked.
    #[error("child is not available")]
    Unavailable(M),
    /// The child has ended and will not come back.
    #[error("child has ended")]
    Ended(M),
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Unavailable(_) => "Unavailable(..)",
            Self::Ended(_) => "Ended(..)",
        })
    }
}
