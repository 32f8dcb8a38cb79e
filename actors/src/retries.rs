//! Whether a task has another attempt, and when: the decisions about retries and snoozes. Pure.

use rand::Rng;
use std::error::Error;
use std::time::Duration;

use crate::budget::SharedBudget;
use crate::context::Job;
use crate::execution::{Conclusion, Ended, Refused};
use crate::failure::{Failure, FailureKind};
use crate::frame::{FrameLimits, encode};
use crate::lease::Outcome;
use crate::policy::{MAX_WAIT, Policy};
use crate::state::DeadReason;
use crate::time::Timestamp;

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another one, after this long.
    Again(Duration),
    /// None: they are used up.
    Exhausted,
    /// None: the next would begin after the last moment for one.
    TooLate(Timestamp),
}

/// Decides what follows failed attempt `attempt`; `error` is what it returned, and `asked` the wait that it asked for
/// itself.
pub(crate) fn next(
    ended: &Ended<'_>,
    attempt: u16,
    (error, asked): (Option<&(dyn Error + 'static)>, Option<Duration>),
    rng: &mut impl Rng,
) -> Next {
    let policy = ended.policy;
    let of_error = error.and_then(|error| policy.attempts_for(error));
    if attempt
        >= of_error.map_or(ended.limits.max_attempts, |of_error| {
            of_error.min(ended.limits.max_attempts)
        })
    {
        return Next::Exhausted;
    }
    let delay = match (asked, error) {
        (Some(asked), _) => asked.min(MAX_WAIT),
        (None, Some(error)) => policy.delay_for(error, attempt, rng),
        (None, None) => policy.delay_after(attempt, rng),
    };
    match (until(ended.job, policy, ended.now), ended.broker_now) {
        (Some(until), Some(now)) if now.plus(delay) >= until => Next::TooLate(until),
        _ => Next::Again(delay),
    }
}

/// Returns from when on the task has no further attempt; `now` is when its first failure was, if it had none before.
fn until(job: &Job, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    let first = job.envelope.history.first().map_or(now, |first| first.at);
    policy.retry_until(&job.envelope.overrides, first)
}

/// Ends a task that was fetched for another attempt when it is too late for one, by the broker's clock. The first attempt is
/// made in any case: [`expires_at`](crate::header::Header::expires_at) is there for that one.
pub(crate) fn too_late(job: &Job, policy: &Policy, now: Timestamp) -> Option<Refused> {
    let until = until(job, policy, now)?;
    if job.header.attempts == 0 || now < until {
        return None;
    }
    let last = job.envelope.history.last();
    let said = last.map_or("it failed", |last| last.message.as_str());
    let note = too_late_note(said, until);
    Some(Refused::bury(job, DeadReason::Exhausted, note, last))
}

/// Says that there is no further attempt, behind what went wrong in the last one.
pub(crate) fn too_late_note(said: &str, until: Timestamp) -> String {
    format!("{said} (no further attempt begins after {until}: retry_until)")
}

/// Lets an attempt that ended earn for the retries of its queue, and a retry pay: one for which there is nothing left waits
/// longer, but not so long that it comes too late. `since_boot` is the boot-time clock.
pub(crate) fn charge(
    budget: &SharedBudget,
    ended: &Ended<'_>,
    outcome: &mut Outcome,
    since_boot: Duration,
) {
    let is_undone = matches!(outcome, Outcome::Release { .. });
    if ended.job.header.attempts == 0 && !is_undone {
        budget.earn();
    }
    let Outcome::Retry { delay, .. } = outcome else {
        return;
    };
    let more = budget.spend(since_boot);
    let latest = match (until(ended.job, ended.policy, ended.now), ended.broker_now) {
        (Some(until), Some(now)) => until.since(now.plus(Duration::from_millis(1))),
        _ => Duration::MAX,
    };
    *delay = delay.saturating_add(more).min(latest.max(*delay));
}

/// Decides what becomes of a task that asked to be run again later, uncounted.
pub(crate) fn snooze(ended: &Ended<'_>, delay: Duration) -> Conclusion {
    let (job, most) = (ended.job, ended.policy.snoozes());
    if job.envelope.snoozes >= most {
        let note = format!("snoozed {most} times, which is all that `max_snoozes` allows");
        let failure = ended.stamp(Failure::new(FailureKind::Error, note));
        return ended.bury(failure, DeadReason::Exhausted);
    }
    let mut envelope = job.envelope.clone();
    envelope.snoozes += 1;
    let limits = FrameLimits {
        max_frame: usize::MAX,
        max_body: usize::MAX,
        ..*ended.frame_limits
    };
    let frame = encode(job.header, &envelope, job.args(), &limits).ok();
    let delay = delay.min(MAX_WAIT);
    Outcome::Release { frame, delay }.into()
}
