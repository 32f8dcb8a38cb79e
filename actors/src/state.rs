//! The states of a task, and how a task can end.
//!
//! `Scheduled -> Ready -> Active -> Succeeded | Retrying (-> Ready) | Dead | Cancelled | Expired`

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waits for its ETA; never started.
    Scheduled,
    /// May be fetched by any consumer of its queue.
    Ready,
    /// In flight: held by one consumer incarnation, started or prefetched.
    Active,
    /// Failed and waits for its next attempt.
    Retrying,
    /// Ended well.
    Succeeded,
    /// Ended as a dead letter.
    Dead,
    /// Ended by a revocation.
    Cancelled,
    /// Ended because nobody started it before its expiry.
    Expired,
}

impl TaskState {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Ready,
        Self::Active,
        Self::Retrying,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Returns whether nothing more will happen to a task in this state unless somebody revives it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired
        )
    }

    /// Returns the state's name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text names no task state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no task state; the states are scheduled, ready, active, retrying, succeeded, dead, cancelled, expired"
)]
pub struct TaskStateError(pub String);

impl FromStr for TaskState {
    type Err = TaskStateError;

    fn from_str(text: &str) -> Result<Self, TaskStateError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| TaskStateError(text.to_owned()))
    }
}

/// Why a task was buried. Names are stored and shown: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// Its last allowed attempt failed.
    Exhausted,
    /// An attempt failed with an error that says that trying again is no use.
    Permanent,
    /// It was seen running at two crashes while it was the only suspect.
    Poison,
    /// It was handed out again after crashes more often than the hard cap allows.
    DeliveryLimit,
    /// Its bytes are no frame of ours, or its envelope or arguments do not decode.
    Undecodable,
    /// Its frame or its decompressed body is larger than allowed.
    Oversized,
    /// No worker that saw it knew its kind until the grace was over.
    UnknownTask,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Exhausted,
        Self::Permanent,
        Self::Poison,
        Self::DeliveryLimit,
        Self::Undecodable,
        Self::Oversized,
        Self::UnknownTask,
    ];

    /// Returns the reason's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Poison => "poison",
            Self::DeliveryLimit => "delivery_limit",
            Self::Undecodable => "undecodable",
            Self::Oversized => "oversized",
            Self::UnknownTask => "unknown_task",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text names no reason of burial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no reason; the reasons are exhausted, permanent, poison, delivery_limit, undecodable, oversized, unknown_task"
)]
pub struct DeadReasonError(pub String);

impl FromStr for DeadReason {
    type Err = DeadReasonError;

    fn from_str(text: &str) -> Result<Self, DeadReasonError> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| DeadReasonError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text_and_agree_with_serde() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{state}\"")
            );
        }
        for reason in DeadReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("\"{reason}\"")
            );
        }
        assert!("READY".parse::<TaskState>().is_err());
    }
}
