//! The decisions about one delivery: whether it may start, and what its end means. Pure: clock readings and randomness
//! are passed in, and what is returned is the settlement to make.
//!
//! `admit` before an attempt: readable? expired? revoked? known? `conclude` after it: done, again, later, never.

use std::time::Duration;

use rand::Rng;

use crate::breaker::park_of;
use crate::context::{Abort, Job};
use crate::envelope::Envelope;
use crate::failure::{Failure, FailureKind, remember};
use crate::frame::{FrameLimits, encode, encode_value};
use crate::header::Header;
use crate::ids::{TaskId, TaskName};
use crate::lease::{FinalRecord, Outcome};
use crate::panics::PanicReport;
use crate::policy::{Limits, Policy, ResultLimits};
use crate::retries;
use crate::revocation::Revocations;
use crate::runner::AttemptEnd;
use crate::state::{DeadReason, TaskState};
use crate::task::{TaskError, Verdict};
use crate::time::Timestamp;

mod death;

/// How long a task waits that no actor here could take, before it is fetched again.
const UNAVAILABLE_DELAY: Duration = Duration::from_secs(5);

/// How long a task of an unknown kind waits before a worker looks at it again.
const UNKNOWN_DELAY: Duration = Duration::from_secs(2);

/// What is known when a delivery arrives.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    /// The broker's clock.
    pub now: Timestamp,
    /// The tasks that are revoked.
    pub revoked: &'a Revocations,
    /// The bounds of frames.
    pub limits: &'a FrameLimits,
    /// How long a task of an unknown kind is given back before it is buried.
    pub unknown_grace: Duration,
}

/// Whether a delivery may start.
#[derive(Debug)]
pub(crate) enum Admitted<K> {
    /// It may, as what it was found to be.
    Job(Box<Job>, K),
    /// It ends here.
    Settle(Box<Refused>),
}

/// A delivery that ends before its start.
#[derive(Debug)]
pub(crate) struct Refused {
    /// How.
    pub outcome: Outcome,
    /// The task, where its header can be read.
    pub id: Option<TaskId>,
    /// Its kind, where its envelope can be read.
    pub task: Option<TaskName>,
    /// Which attempt it would have been.
    pub attempt: u16,
    /// Whether this is the first time that a worker did not know its kind.
    pub newly_unknown: bool,
}

impl Refused {
    fn settled<K>(header: Option<&Header>, outcome: Outcome) -> Admitted<K> {
        Admitted::Settle(Box::new(Self {
            outcome,
            id: header.map(|header| header.id),
            task: None,
            attempt: header.map_or(1, |header| header.attempts.saturating_add(1)),
            newly_unknown: false,
        }))
    }

    /// Buries a task that could be read but does not start; `last` is its last failure.
    pub(crate) fn bury(
        job: &Job,
        reason: DeadReason,
        note: String,
        last: Option<&Failure>,
    ) -> Self {
        Self {
            outcome: bury_with(&job.header, None, reason, note, last),
            id: Some(job.header.id),
            task: Some(job.envelope.task.clone()),
            attempt: job.header.attempts.saturating_add(1),
            newly_unknown: false,
        }
    }
}

/// Decides whether a delivery may start. `kind_of` finds what is registered here for it.
pub(crate) fn admit<K>(
    frame: Vec<u8>,
    admission: &Admission<'_>,
    kind_of: impl FnOnce(&Envelope) -> Option<K>,
) -> Admitted<K> {
    let header = match Header::read(&frame) {
        Ok(header) => header,
        Err(error) => {
            let (reason, note) = (DeadReason::Undecodable, error.to_string());
            let outcome = Outcome::Bury {
                frame: None,
                reason,
                note,
                result: None,
            };
            return Refused::settled(None, outcome);
        }
    };
    if admission.revoked.of_id(header.id).is_some() {
        return Refused::settled(Some(&header), cancelled(&header));
    }
    if header.expires_at.is_some_and(|at| at <= admission.now) {
        let result = FinalRecord::of(&header, TaskState::Expired, Vec::new(), None);
        return Refused::settled(Some(&header), Outcome::Expire { result });
    }
    let mut job = match Job::open(header, frame, admission.limits) {
        Ok(job) => job,
        Err((_, error)) => {
            let size = error.is_size();
            let reason = if size {
                DeadReason::Oversized
            } else {
                DeadReason::Undecodable
            };
            let outcome = bury_with(&header, None, reason, error.to_string(), None);
            return Refused::settled(Some(&header), outcome);
        }
    };
    if admission.revoked.of(&job.header, &job.envelope).is_some() {
        return Refused::settled(Some(&header), cancelled(&header));
    }
    job.delivered_at = admission.now;
    match kind_of(&job.envelope) {
        Some(kind) => Admitted::Job(Box::new(job), kind),
        None => Admitted::Settle(Box::new(Refused {
            id: Some(header.id),
            task: Some(job.envelope.task.clone()),
            attempt: header.attempts.saturating_add(1),
            newly_unknown: job.envelope.unknown_since.is_none(),
            outcome: unknown(job, admission),
        })),
    }
}

/// Gives a task of an unknown kind back, for workers that know it, until its grace is over.
fn unknown(mut job: Job, admission: &Admission<'_>) -> Outcome {
    let since = *job.envelope.unknown_since.get_or_insert(admission.now);
    if admission.now.since(since) >= admission.unknown_grace {
        let note = format!(
            "no worker knew `{}` for {:?}",
            job.envelope.task, admission.unknown_grace
        );
        let reason = DeadReason::UnknownTask;
        return bury_with(&job.header, None, reason, note, None);
    }
    let frame = encode(
        job.header,
        &job.envelope,
        job.args(),
        &unbounded(admission.limits),
    )
    .ok();
    Outcome::Release {
        frame,
        delay: UNKNOWN_DELAY,
    }
}

/// Returns the end of a task that was revoked before it started.
pub(crate) fn cancelled(header: &Header) -> Outcome {
    Outcome::Cancel {
        result: FinalRecord::of(header, TaskState::Cancelled, Vec::new(), None),
    }
}

/// What is known when an attempt has ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    /// The delivery.
    pub job: &'a Job,
    /// What holds for the task.
    pub limits: &'a Limits,
    /// The policy of its kind.
    pub policy: &'a Policy,
    /// Whether its kind returns something worth keeping.
    pub has_output: bool,
    /// Why the runtime aborted it, if it did.
    pub aborted: Option<Abort>,
    /// Whether its task was revoked while it ran.
    pub revoked: bool,
    /// The worker that ran it.
    pub worker: &'a str,
    /// The worker's clock.
    pub now: Timestamp,
    /// The broker's clock, as far as it is known.
    pub broker_now: Option<Timestamp>,
    /// How long it ran.
    pub elapsed: Duration,
    /// The bounds of frames.
    pub frame_limits: &'a FrameLimits,
    /// The bounds of results.
    pub results: &'a ResultLimits,
}

/// What the end of an attempt means.
#[derive(Debug)]
pub(crate) struct Conclusion {
    /// What becomes of the task.
    pub outcome: Outcome,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// Where, for a panic.
    pub place: Option<String>,
}

impl From<Outcome> for Conclusion {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            place: None,
        }
    }
}

/// Decides what the end of an attempt means for its task. `None` settles nothing: the delivery is not ours.
pub(crate) fn conclude(
    end: AttemptEnd,
    ended: &Ended<'_>,
    rng: &mut impl Rng,
) -> Option<Conclusion> {
    let outcome = match end {
        AttemptEnd::Returned(Ok(output)) => return Some(ended.succeeded(output)),
        AttemptEnd::Returned(Err(error)) => return Some(ended.failed(error, rng)),
        AttemptEnd::Panicked(report) => {
            let failure = panic_failure(report);
            return Some(ended.again(failure, (None, None), rng));
        }
        AttemptEnd::Undecodable(note) => {
            // Nothing was started, and the bytes are the evidence: they are kept as they are.
            let failure = ended.stamp(Failure::new(FailureKind::Decode, note.clone()));
            let (header, reason) = (&ended.job.header, DeadReason::Undecodable);
            let outcome = bury_with(header, None, reason, note.clone(), Some(&failure));
            return Some(Conclusion {
                outcome,
                error: Some(note),
                place: None,
            });
        }
        AttemptEnd::Died(death) => return Some(ended.died(&death, rng)),
        AttemptEnd::Unavailable => Outcome::Release {
            frame: None,
            delay: UNAVAILABLE_DELAY,
        },
        AttemptEnd::Parked(delay) => Outcome::Release { frame: None, delay },
        AttemptEnd::Aborted => match ended.aborted {
            Some(Abort::HardLimit) => {
                let note = format!("dropped at its hard limit of {:?}", ended.limits.hard);
                let failure = Failure::new(FailureKind::HardLimit, note);
                return Some(ended.again(failure, (None, None), rng));
            }
            Some(Abort::Revoked) => {
                let note = "ended by a revocation while it ran";
                return Some(ended.cancelled(Failure::new(FailureKind::Cancelled, note)));
            }
            Some(Abort::Released) | None => Outcome::release(),
        },
        AttemptEnd::Lost => return None,
    };
    Some(outcome.into())
}

impl Ended<'_> {
    /// Keeps the output, if it is to be kept and may be: one that is too large would be too large again.
    fn succeeded(&self, output: Vec<u8>) -> Conclusion {
        let default = if self.has_output {
            self.results.ttl
        } else {
            Duration::ZERO
        };
        let ttl = self.limits.result_ttl.unwrap_or(default);
        let mut header = self.job.header;
        header.attempts = header.attempts.saturating_add(1);
        let (len, max) = (output.len(), self.results.max_size);
        let kept = FinalRecord::of(&header, TaskState::Succeeded, output, Some(ttl));
        if kept.is_none() || len <= max {
            return Outcome::Succeed { result: kept }.into();
        }
        if max == 0 {
            let result = FinalRecord::of(&header, TaskState::Succeeded, Vec::new(), None);
            return Outcome::Succeed { result }.into();
        }
        let note = format!(
            "its result has {len} bytes, allowed are {max} (`results.max_size`); return less, or keep none"
        );
        self.bury(
            self.stamp(Failure::new(FailureKind::Permanent, note)),
            DeadReason::Permanent,
        )
    }

    fn failed(&self, error: TaskError, rng: &mut impl Rng) -> Conclusion {
        let verdict = match error.verdict {
            // It was asked to stop, and did not finish: whatever it says, it is not wanted again.
            Verdict::Snooze(_) if self.revoked => Verdict::Cancel,
            Verdict::Retry => match park_of(error.error()) {
                Some(_) if self.revoked => Verdict::Cancel,
                Some(delay) => Verdict::Parked(delay),
                None if self.policy.is_permanent(error.error()) => Verdict::Permanent,
                None => Verdict::Retry,
            },
            verdict => verdict,
        };
        let failure =
            |kind| Failure::new(kind, error.error().to_string()).with_causes(causes(error.error()));
        let source = Some(error.error());
        match verdict {
            Verdict::Snooze(delay) => retries::snooze(self, delay),
            Verdict::Parked(delay) => Outcome::Release { frame: None, delay }.into(),
            Verdict::Cancel => self.cancelled(failure(FailureKind::Cancelled)),
            Verdict::Permanent if self.revoked => self.cancelled(failure(FailureKind::Permanent)),
            Verdict::Permanent => {
                let failure = self.stamp(failure(FailureKind::Permanent));
                self.bury(failure, DeadReason::Permanent)
            }
            Verdict::Retry => self.again(failure(FailureKind::Error), (source, None), rng),
            Verdict::RetryAfter(delay) => {
                self.again(failure(FailureKind::Error), (source, Some(delay)), rng)
            }
            Verdict::SoftLimit => self.again(failure(FailureKind::SoftLimit), (None, None), rng),
        }
    }

    /// Counts the failed attempt: another one if there is one left, else the grave. `cause` is what it returned, and the
    /// wait that it asked for.
    fn again(
        &self,
        failure: Failure,
        cause: (Option<&(dyn std::error::Error + 'static)>, Option<Duration>),
        rng: &mut impl Rng,
    ) -> Conclusion {
        if self.revoked {
            return self.cancelled(failure);
        }
        let failure = self.stamp(failure);
        let delay = match retries::next(self, failure.attempt, cause, rng) {
            retries::Next::Again(delay) => delay,
            retries::Next::Exhausted => return self.bury(failure, DeadReason::Exhausted),
            retries::Next::TooLate(until) => {
                let note = retries::too_late_note(&failure.message, until);
                return self.bury_noted(failure, DeadReason::Exhausted, note);
            }
        };
        let (error, place) = (Some(failure.message.clone()), failure.location.clone());
        let outcome = Outcome::Retry {
            frame: counted(self.job, failure, self.frame_limits),
            delay,
        };
        Conclusion {
            outcome,
            error,
            place,
        }
    }

    /// Ends the task without a dead letter; what happened is kept for those who wait.
    pub(crate) fn cancelled(&self, failure: Failure) -> Conclusion {
        let failure = self.stamp(failure);
        let mut header = self.job.header;
        header.attempts = failure.attempt;
        let body = encode_value(&failure).unwrap_or_default();
        let result = FinalRecord::of(&header, TaskState::Cancelled, body, None);
        Conclusion {
            outcome: Outcome::Cancel { result },
            error: Some(failure.message),
            place: failure.location,
        }
    }

    pub(crate) fn bury(&self, failure: Failure, reason: DeadReason) -> Conclusion {
        let note = failure.message.clone();
        self.bury_noted(failure, reason, note)
    }

    fn bury_noted(&self, failure: Failure, reason: DeadReason, note: String) -> Conclusion {
        let frame = counted(self.job, failure.clone(), self.frame_limits);
        let header = &self.job.header;
        let outcome = bury_with(header, Some(frame), reason, note.clone(), Some(&failure));
        Conclusion {
            outcome,
            error: Some(note),
            place: failure.location,
        }
    }

    pub(crate) fn stamp(&self, failure: Failure) -> Failure {
        let attempt = self.job.header.attempts.saturating_add(1);
        failure.of(attempt, self.worker, self.now, self.elapsed)
    }
}

/// Decides what becomes of an attempt that blocks its thread beyond its hard limit: the watchdog settles it.
pub(crate) fn conclude_blocked(ended: &Ended<'_>, rng: &mut impl Rng) -> Conclusion {
    let note = format!(
        "blocked its thread for {:?}; its hard limit is {:?}",
        ended.elapsed, ended.limits.hard
    );
    ended.again(Failure::new(FailureKind::Blocked, note), (None, None), rng)
}

fn panic_failure(report: PanicReport) -> Failure {
    Failure::new(FailureKind::Panic, report.message).with_place(report.location, report.backtrace)
}

pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source())
        .map(ToString::to_string)
        .collect()
}

fn bury_with(
    header: &Header,
    frame: Option<Vec<u8>>,
    reason: DeadReason,
    note: String,
    failure: Option<&Failure>,
) -> Outcome {
    let body = failure
        .and_then(|failure| encode_value(failure).ok())
        .unwrap_or_default();
    let mut counted = *header;
    counted.attempts = failure.map_or(header.attempts, |failure| failure.attempt);
    let result = FinalRecord::of(&counted, TaskState::Dead, body, None);
    Outcome::Bury {
        frame,
        reason,
        note: crate::failure::cut(note, crate::failure::MAX_MESSAGE),
        result,
    }
}

/// Returns the frame with one more attempt counted and its failure remembered, as much of it as fits.
fn counted(job: &Job, failure: Failure, limits: &FrameLimits) -> Vec<u8> {
    let mut header = job.header;
    header.attempts = failure.attempt;
    rewritten(job, header, failure, limits)
}

/// Returns the frame with another header and the failure remembered, as much of it as fits.
fn rewritten(job: &Job, mut header: Header, failure: Failure, limits: &FrameLimits) -> Vec<u8> {
    let mut envelope = job.envelope.clone();
    remember(&mut envelope.history, failure);
    for _ in 0..3 {
        if let Ok(frame) = encode(header, &envelope, job.args(), limits) {
            return frame;
        }
        // Evidence gives way to the task: first the stack, then the causes, then all but the newest failure.
        shrink(&mut envelope);
    }
    let mut frame = job.frame.clone();
    let mut patched = Vec::with_capacity(crate::header::HEADER_LEN);
    header.compressed = job.header.compressed;
    header.write(&mut patched);
    frame[..patched.len()].copy_from_slice(&patched);
    frame
}

fn shrink(envelope: &mut Envelope) {
    let newest = envelope.history.len().saturating_sub(1);
    if let Some(failure) = envelope.history.get_mut(newest)
        && failure.backtrace.take().is_some()
    {
        return;
    }
    envelope.history.drain(..newest);
    for failure in &mut envelope.history {
        failure.causes.clear();
        failure.message = crate::failure::cut(std::mem::take(&mut failure.message), 200);
    }
}

/// The limits for a frame that was accepted once and grows by a few bytes of ours.
fn unbounded(limits: &FrameLimits) -> FrameLimits {
    FrameLimits {
        max_frame: usize::MAX,
        max_body: usize::MAX,
        max_depth: limits.max_depth,
    }
}
