//! Health: one verdict about the whole, with every reason for it. Pure: facts and times come in, a verdict goes out.
//!
//! ```text
//! Facts --judge--> Findings --Tracker--> Verdict with Reasons, and Changes
//! ```
//!
//! [`judge`] holds facts against [`Thresholds`]. [`Tracker`] keeps what it finds from flapping: a reason that was there goes
//! only when it has been away for a while, and a figure that was too high must fall clearly below its threshold.

mod facts;
mod judge;
mod thresholds;
mod track;

pub use facts::{BlockedLane, Disk, Facts, OpenBreaker, Overdue, QueueFacts, Reach, WorkerFacts};
pub use judge::{Finding, ReasonKind, Severity, judge};
pub use thresholds::{QueueThresholds, Thresholds, Two};
pub use track::{CLEAR_AFTER, Change, Health, Reason, STALE_AFTER, Tracker, Verdict};

#[cfg(test)]
mod tests;
