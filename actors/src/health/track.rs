//! Keeps findings from flapping, and tells when the verdict changes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::judge::{Finding, ReasonKind, Severity, judge};
use super::thresholds::Thresholds;
use crate::time::Timestamp;

/// How long a reason must be away until it goes.
pub const CLEAR_AFTER: Duration = Duration::from_secs(15);

/// How old the last facts may be; beyond it nothing is known.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// How many changes are remembered.
const HISTORY: usize = 256;

/// How many reasons are tracked: whoever can make names up cannot fill the memory.
const MAX_REASONS: usize = 1_000;

/// How the whole is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Healthy,
    /// Work goes on, but somebody should look.
    Degraded,
    /// Work stands still, or may be lost.
    Critical,
    /// Nobody has looked, or could, for a while.
    #[default]
    Unknown,
}

impl Verdict {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }

    /// Returns what `celeriac health` ends with: 0 healthy, 1 degraded, 2 critical, 3 unknown.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why the verdict is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What is wrong.
    pub kind: ReasonKind,
    /// With what; empty for the whole.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// One line for people.
    pub text: String,
    /// The figure, in `unit`; 1 for what is so or not.
    pub figure: f64,
    /// What it was held against.
    pub threshold: f64,
    /// The unit of both; empty for what is so or not.
    pub unit: String,
    /// Since when it is a reason, by the wall clock.
    pub since: Timestamp,
    /// What to look at or do first.
    pub advice: String,
}

/// The verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when it is this one, by the wall clock; `None` for one of a single look.
    pub since: Option<Timestamp>,
    /// When the facts were read, by the wall clock.
    pub at: Option<Timestamp>,
    /// The reasons, worst first.
    pub reasons: Vec<Reason>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// The verdict is another one.
    Verdict {
        /// When.
        at: Timestamp,
        /// What it was.
        from: Verdict,
        /// What it is.
        to: Verdict,
    },
    /// A reason came, or became worse or better.
    Raised {
        /// When.
        at: Timestamp,
        /// The reason.
        reason: Reason,
    },
    /// A reason went.
    Cleared {
        /// When.
        at: Timestamp,
        /// The reason, as it was last.
        reason: Reason,
    },
}

/// A reason that is tracked.
#[derive(Clone, Debug)]
struct Track {
    reason: Reason,
    /// When it was found last, by a clock that never goes back.
    seen: Duration,
}

/// Makes a verdict of one look after another.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    tracks: BTreeMap<(ReasonKind, String), Track>,
    verdict: Verdict,
    since: Option<Timestamp>,
    /// When facts were there last, by both clocks.
    looked: Option<(Duration, Timestamp)>,
    history: VecDeque<Change>,
}

impl Tracker {
    /// Takes facts in. `now` is a clock that never goes back, `wall` the wall clock. Returns what changed.
    pub fn look(
        &mut self,
        facts: &Facts,
        thresholds: &Thresholds,
        now: Duration,
        wall: Timestamp,
    ) -> Vec<Change> {
        let raised = |kind: ReasonKind, subject: &str| {
            let track = self.tracks.get(&(kind, subject.to_owned()));
            track.map(|track| track.reason.severity)
        };
        let findings = judge(facts, thresholds, &raised);
        let mut changes = Vec::new();
        for finding in findings {
            self.found(finding, (now, wall), &mut changes);
        }
        let is_over = |track: &Track| now.saturating_sub(track.seen) >= CLEAR_AFTER;
        self.tracks.retain(|_, track| {
            let over = is_over(track);
            if over {
                let reason = track.reason.clone();
                changes.push(Change::Cleared { at: wall, reason });
            }
            !over
        });
        self.looked = Some((now, wall));
        self.settle(wall, &mut changes);
        changes
    }

    /// Notes that time goes by without facts; returns what changed.
    pub fn idle(&mut self, now: Duration, wall: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.is_stale(now) {
            self.turn(Verdict::Unknown, wall, &mut changes);
        }
        changes
    }

    fn is_stale(&self, now: Duration) -> bool {
        let age = |(at, _)| now.saturating_sub(at);
        self.looked.is_none_or(|looked| age(looked) > STALE_AFTER)
    }

    fn found(
        &mut self,
        finding: Finding,
        (now, wall): (Duration, Timestamp),
        changes: &mut Vec<Change>,
    ) {
        let key = (finding.kind, finding.subject.clone());
        let full = self.tracks.len() >= MAX_REASONS;
        let known = self.tracks.get(&key);
        let since = known.map_or(wall, |track| track.reason.since);
        let is_news = known.is_none_or(|track| track.reason.severity != finding.severity);
        if known.is_none() && full {
            return;
        }
        let reason = reason_of(finding, since);
        if is_news {
            let reason = reason.clone();
            changes.push(Change::Raised { at: wall, reason });
        }
        self.tracks.insert(key, Track { reason, seen: now });
    }

    /// Makes the verdict of the reasons there are.
    fn settle(&mut self, wall: Timestamp, changes: &mut Vec<Change>) {
        let worst = self
            .tracks
            .values()
            .map(|track| track.reason.severity)
            .max();
        self.turn(verdict_of(worst), wall, changes);
        for change in changes.iter() {
            if self.history.len() >= HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(change.clone());
        }
    }

    fn turn(&mut self, to: Verdict, at: Timestamp, changes: &mut Vec<Change>) {
        if to != self.verdict || self.since.is_none() {
            let from = std::mem::replace(&mut self.verdict, to);
            self.since = Some(at);
            changes.push(Change::Verdict { at, from, to });
        }
    }

    /// Returns the verdict as it stands, with its reasons.
    #[must_use]
    pub fn health(&self, now: Duration) -> Health {
        let stale = self.is_stale(now);
        let mut reasons: Vec<Reason> = self.tracks.values().map(|t| t.reason.clone()).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        Health {
            verdict: if stale {
                Verdict::Unknown
            } else {
                self.verdict
            },
            since: self.since,
            at: self.looked.map(|(_, wall)| wall),
            reasons,
        }
    }

    /// Returns what changed so far, oldest first; at most 256 changes.
    pub fn history(&self) -> impl Iterator<Item = &Change> {
        self.history.iter()
    }
}

impl Health {
    /// Makes a verdict of a single look, without a memory: what is wrong now counts.
    #[must_use]
    pub fn at_once(facts: &Facts, thresholds: &Thresholds, wall: Timestamp) -> Self {
        let findings = judge(facts, thresholds, &|_, _| None);
        let mut reasons: Vec<Reason> = findings
            .into_iter()
            .map(|finding| reason_of(finding, wall))
            .collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        Self {
            verdict: verdict_of(reasons.first().map(|reason| reason.severity)),
            since: None,
            at: Some(wall),
            reasons,
        }
    }
}

fn verdict_of(worst: Option<Severity>) -> Verdict {
    match worst {
        None => Verdict::Healthy,
        Some(Severity::Degraded) => Verdict::Degraded,
        Some(Severity::Critical) => Verdict::Critical,
    }
}

fn reason_of(finding: Finding, since: Timestamp) -> Reason {
    Reason {
        kind: finding.kind,
        subject: finding.subject,
        severity: finding.severity,
        text: finding.text,
        figure: finding.figure,
        threshold: finding.threshold,
        unit: finding.unit.to_owned(),
        since,
        advice: finding.kind.advice().to_owned(),
    }
}
