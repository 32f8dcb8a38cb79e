//! Where an attempt's code runs: on the lane's own thread, on a thread that may be blocked, or in a process of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an attempt's code runs. The names are stored and shown: they never change.
///
/// ```
/// use celeriac_actors::mode::Mode;
///
/// assert_eq!("isolated".parse(), Ok(Mode::Isolated));
/// assert_eq!(Mode::default(), Mode::Inline);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As a future on the lane's thread, beside many others: for code that awaits and never blocks. The default.
    #[default]
    Inline,
    /// On a thread of the bounded blocking pool: for code that blocks its thread. At its hard limit it is abandoned, not
    /// ended.
    Blocking,
    /// In a child process, one attempt at a time: for code that may crash, leak or never end. At its hard limit the
    /// process is killed.
    Isolated,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Inline, Self::Blocking, Self::Isolated];

    /// Returns the mode's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Blocking => "blocking",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mode is `inline`, `blocking` or `isolated`, not `{0}`")]
pub struct ModeError(pub String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(word: &str) -> Result<Self, ModeError> {
        let known = Self::ALL.into_iter().find(|mode| mode.as_str() == word);
        known.ok_or_else(|| ModeError(word.to_owned()))
    }
}
