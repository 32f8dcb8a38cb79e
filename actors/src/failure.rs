//! What went wrong in an attempt, as evidence that outlives the worker: bounded in every direction.
//!
//! A [`Failure`] travels inside the task's frame from attempt to attempt and ends in the dead letter, so nothing in it
//! may grow without limit: text is cut at a character boundary, a chain at eight causes, a history at
//! [`MAX_HISTORY`] attempts of which the first is always kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The longest message kept, in bytes.
pub const MAX_MESSAGE: usize = 1_000;
/// The longest backtrace kept, in bytes. Only the newest failure of a history keeps its backtrace.
pub const MAX_BACKTRACE: usize = 6_000;
/// The most causes kept of an error's chain.
pub const MAX_CAUSES: usize = 8;
/// The most failed attempts remembered: the first one and the newest ones.
pub const MAX_HISTORY: usize = 16;

/// In which way an attempt failed. Names are stored and shown: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The task returned an error that may go away.
    Error,
    /// The task returned an error that says that trying again is no use.
    Permanent,
    /// The task panicked, in its future or in the handler of its actor.
    Panic,
    /// The attempt was dropped at its hard limit.
    HardLimit,
    /// The attempt blocked its thread beyond its hard limit.
    Blocked,
    /// The task gave up because its soft limit had passed.
    SoftLimit,
    /// The bytes or the arguments could not be decoded.
    Decode,
    /// The worker went away while it ran the task.
    Crash,
    /// Nobody needs the task any more: its own code said so, or a revocation ended it.
    Cancelled,
}

impl FailureKind {
    /// Returns the kind's stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Permanent => "permanent",
            Self::Panic => "panic",
            Self::HardLimit => "hard_limit",
            Self::Blocked => "blocked",
            Self::SoftLimit => "soft_limit",
            Self::Decode => "decode",
            Self::Crash => "crash",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which attempt it was, 1-based.
    #[serde(rename = "n")]
    pub attempt: u16,
    /// When it ended, by the worker's clock.
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// The worker that ran it, or a word for who noticed.
    #[serde(rename = "w")]
    pub worker: String,
    /// How long it ran.
    #[serde(rename = "d", with = "as_millis")]
    pub elapsed: Duration,
    /// In which way it failed.
    #[serde(rename = "k")]
    pub kind: FailureKind,
    /// What it said.
    #[serde(rename = "m")]
    pub message: String,
    /// What caused it, outermost first.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Where a panic happened, as `file:line:column`.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The stack of a panic.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

impl Failure {
    /// Creates a failure with a message, cut to [`MAX_MESSAGE`].
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            attempt: 0,
            at: Timestamp::EPOCH,
            worker: String::new(),
            elapsed: Duration::ZERO,
            kind,
            message: cut(message.into(), MAX_MESSAGE),
            causes: Vec::new(),
            location: None,
            backtrace: None,
        }
    }

    /// Adds the chain of causes, outermost first, cut to [`MAX_CAUSES`] of [`MAX_MESSAGE`] bytes.
    #[must_use]
    pub fn with_causes(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        self.causes = causes
            .into_iter()
            .take(MAX_CAUSES)
            .map(|c| cut(c, MAX_MESSAGE))
            .collect();
        self
    }

    /// Adds where a panic happened and its stack, cut to [`MAX_BACKTRACE`].
    #[must_use]
    pub fn with_place(mut self, location: Option<String>, backtrace: Option<String>) -> Self {
        self.location = location.map(|l| cut(l, MAX_MESSAGE));
        self.backtrace = backtrace.map(|b| cut(b, MAX_BACKTRACE));
        self
    }

    /// Says which attempt it was, who ran it, until when and for how long.
    #[must_use]
    pub fn of(mut self, attempt: u16, worker: &str, at: Timestamp, elapsed: Duration) -> Self {
        self.attempt = attempt;
        worker.clone_into(&mut self.worker);
        self.at = at;
        self.elapsed = elapsed;
        self
    }
}

/// Adds `failure` to a task's history, within [`MAX_HISTORY`]; only the newest keeps its backtrace.
pub fn remember(history: &mut Vec<Failure>, failure: Failure) {
    for earlier in history.iter_mut() {
        earlier.backtrace = None;
    }
    if history.len() >= MAX_HISTORY {
        // The first failure often tells more than the fifteenth: it stays.
        history.drain(1..=history.len() - MAX_HISTORY + 1);
    }
    history.push(failure);
}

/// Returns `text` cut to at most `max` bytes at a character boundary, with `…` where something is missing.
#[must_use]
pub fn cut(mut text: String, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() > max {
        let mut end = max.saturating_sub(MARK.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

mod as_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(crate::time::millis(*d))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        let text = cut("ä".repeat(600), 1_000);
        assert!(text.len() <= 1_000);
        assert!(text.ends_with('…'));
        assert_eq!(cut("short".into(), 1_000), "short");
    }

    #[test]
    fn a_history_keeps_the_first_and_the_newest_and_one_backtrace() {
        let mut history = Vec::new();
        for attempt in 1..=40_u16 {
            let failure = Failure::new(FailureKind::Panic, "boom")
                .with_place(Some("a.rs:1:1".into()), Some("stack".into()))
                .of(attempt, "w", Timestamp::EPOCH, Duration::ZERO);
            remember(&mut history, failure);
        }
        assert_eq!(history.len(), MAX_HISTORY);
        assert_eq!(history[0].attempt, 1);
        assert_eq!(history[1].attempt, 26);
        assert_eq!(history.last().unwrap().attempt, 40);
        assert_eq!(history.iter().filter(|f| f.backtrace.is_some()).count(), 1);
    }
}
