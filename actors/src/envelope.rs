//! The envelope: what a stored task says about itself beyond its header.
//!
//! Keys are short because every stored task pays for them; they are part of the stored format and never change. What a
//! task does not say is left to the policy of the worker that runs it, so that a new policy reaches tasks that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::ids::TaskName;
use crate::mode::Mode;
use crate::time::Timestamp;

/// The stored record of a task, without its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which kind of task it is.
    #[serde(rename = "n")]
    pub task: TaskName,
    /// What the enqueuer asked for instead of the task's policy.
    #[serde(rename = "o", default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Text the enqueuer attached: trace ids, tenant, origin.
    #[serde(rename = "h", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The attempts that failed so far, oldest first.
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Failure>,
    /// How often it was brought back from the dead letters.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    pub revival: u32,
    /// How often it was snoozed in this life.
    #[serde(rename = "z", default, skip_serializing_if = "is_zero")]
    pub snoozes: u32,
    /// When a worker first saw it and did not know its kind.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<Timestamp>,
    /// Which of its arguments are not to be shown, as [`Task::SENSITIVE`](crate::task::Task::SENSITIVE) names them.
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
}

impl Envelope {
    /// Creates the envelope of a task that asks for nothing special.
    #[must_use]
    pub fn new(task: TaskName) -> Self {
        Self {
            task,
            overrides: Overrides::default(),
            headers: BTreeMap::new(),
            history: Vec::new(),
            revival: 0,
            snoozes: 0,
            unknown_since: None,
            sensitive: Vec::new(),
        }
    }
}

/// What an enqueuer may ask for instead of the task's policy. `None` leaves it to the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// When the attempt is asked to stop, in milliseconds after its start.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub soft_limit_ms: Option<u64>,
    /// When the attempt is ended, in milliseconds after its start.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub hard_limit_ms: Option<u64>,
    /// How many attempts it has.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u16>,
    /// How long its result is kept, in milliseconds; 0 keeps none.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub result_ttl_ms: Option<u64>,
    /// From when on no further attempt begins; the first one does.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<Timestamp>,
    /// Where its code runs.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

impl Overrides {
    /// Returns whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the soft limit asked for.
    #[must_use]
    pub fn soft_limit(&self) -> Option<Duration> {
        self.soft_limit_ms.map(Duration::from_millis)
    }

    /// Returns the hard limit asked for.
    #[must_use]
    pub fn hard_limit(&self) -> Option<Duration> {
        self.hard_limit_ms.map(Duration::from_millis)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's `skip_serializing_if` passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
