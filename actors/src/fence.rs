//! The decisions behind the fences, the same on every broker: which numbered call is executed, whom a sweep closes, and
//! what becomes of a delivery that is taken back. Pure; the broker does the reading and writing.
//!
//! A broker that decides in another language (a script at the server) repeats these rules there; the conformance suite
//! proves that it does.

use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::frame::encode_value;
use crate::header::{DELIVERIES_OFFSET, Header, HeaderError, Priority, STRIKES_OFFSET};
use crate::lease::{ExchangeCall, FinalRecord, Incarnation, MAX_BATCH, Outcome};
use crate::ports::{EnqueueCall, MAX_DELIVERIES, MAX_STRIKES};
use crate::state::{DeadReason, TaskState};

/// The shortest lease an incarnation may ask for.
pub const MIN_LEASE: Duration = Duration::from_secs(1);

/// How long a closed identity is remembered, so that a late repeat of `open` cannot bring it back.
pub const KEEP_CLOSED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the record of a silent worker is kept after its last beat.
pub const KEEP_WORKER: Duration = Duration::from_secs(60 * 60);

/// For how many of its beats a worker that is silent still counts as alive.
pub const BEATS_ALIVE: u32 = 3;

/// What a number within a line of numbered calls asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// The next one: execute it and remember its reply.
    Fresh,
    /// The last one again, its reply was lost: change nothing, give the same reply.
    Repeat,
    /// Neither: the caller and the broker do not share one history. Nothing may happen.
    Astray,
}

/// Judges the number of an [`ExchangeCall`] by the last one the incarnation had executed, 0 after its opening.
///
/// [`Numbered::Astray`] is answered with `Gone`.
#[must_use]
pub const fn judge_exchange(last: u64, number: u64) -> Numbered {
    judge(last, number)
}

/// Judges the number of an [`EnqueueCall`] by the last one its channel had executed; `None` is a channel unknown to
/// the broker, which may start at any number.
///
/// [`Numbered::Astray`] is answered with `Invalid`.
#[must_use]
pub const fn judge_enqueue(last: Option<u64>, number: u64) -> Numbered {
    match last {
        None => Numbered::Fresh,
        Some(last) if number == last => Numbered::Repeat,
        Some(last) => judge(last, number),
    }
}

const fn judge(last: u64, number: u64) -> Numbered {
    if number == 0 {
        Numbered::Astray
    } else if number == last {
        Numbered::Repeat
    } else if number - 1 == last {
        Numbered::Fresh
    } else {
        Numbered::Astray
    }
}

/// How often in a row sweeps that hold back let the lease of one who does not renew start again.
///
/// Each time it gets its full length, in which whoever lives renews. More of them in a row mean that the survivors sweep
/// more seldom than this lease asks for: it may be that of a dead worker, and would be renewed for ever.
pub const MAX_HELD_BACK: u32 = 5;

/// Returns whether a sweep must close nobody for silence: it has no stamp of an earlier sweep, the stamp is older than
/// half the shortest lease, or it is ahead of the clock (outage, failover, suspension, a stepped clock, another boot).
///
/// All instants are of the clock on which the broker measures leases. Such a sweep gives leases their full length from
/// `now` ([`Held::back`]), stamps and returns; proven deaths count all the same. A queue without leases (`shortest` is
/// `None`) holds nothing back.
#[must_use]
pub fn holds_back(last_sweep: Option<Duration>, now: Duration, shortest: Option<Duration>) -> bool {
    let Some(shortest) = shortest else {
        return false;
    };
    match last_sweep.map(|stamp| now.checked_sub(stamp)) {
        Some(Some(gap)) => gap > shortest / 2,
        Some(None) | None => true,
    }
}

/// What sweeps that held back did to a lease since its owner was last heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The deadline that the last of them left on it: another one says that its owner has renewed since.
    pub until: Duration,
    /// How many there were.
    pub times: u32,
}

impl Held {
    /// Lets a lease with this deadline start again because a sweep holds back, and returns its new deadline; `None` when
    /// that was done [`MAX_HELD_BACK`] times and its owner was not heard: it ends as any other.
    #[must_use]
    pub fn back(&mut self, deadline: Duration, now: Duration, lease: Duration) -> Option<Duration> {
        let times = if self.until == deadline {
            self.times
        } else {
            0
        };
        if times >= MAX_HELD_BACK {
            return None;
        }
        self.times = times + 1;
        self.until = now.saturating_add(lease);
        Some(self.until)
    }
}

/// Returns the deadline that a sweep leaves on a lease that is not over: never further ahead than its length.
#[must_use]
pub fn cut_deadline(deadline: Duration, now: Duration, lease: Duration) -> Duration {
    deadline.min(now.saturating_add(lease))
}

/// What becomes of a delivery that is taken back from a dead consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// It is ready again, at the front of its priority.
    Requeue {
        /// Its priority.
        priority: Priority,
    },
    /// It is dead.
    Bury {
        /// Why.
        reason: DeadReason,
        /// One line for people.
        note: String,
        /// What is kept for whoever waits for its end.
        result: Option<FinalRecord>,
    },
}

/// Decides what becomes of a delivery that is taken back, and counts the redelivery (and the strike, when it carries a
/// start mark) in its header. Bytes without a header stay as they are.
///
/// A step that moves only some of an incarnation's deliveries takes those with the *highest* tags and puts them to the
/// front in descending order: so the next step's come before them, and the order of the tags survives.
#[must_use]
pub fn rescue(frame: &mut [u8], started: bool) -> Rescue {
    let header = match Header::read(frame) {
        Ok(header) => header,
        Err(error) => return undecodable(error),
    };
    let deliveries = header.deliveries.saturating_add(1);
    let strikes = header.strikes.saturating_add(u8::from(started));
    frame[DELIVERIES_OFFSET] = deliveries;
    frame[STRIKES_OFFSET] = strikes;
    let header = Header {
        deliveries,
        strikes,
        ..header
    };
    if strikes >= MAX_STRIKES {
        let note = format!("seen running at {strikes} crashes");
        crashed(&header, DeadReason::Poison, note)
    } else if deliveries >= MAX_DELIVERIES {
        let note = format!("taken back from {deliveries} consumers that died");
        crashed(&header, DeadReason::DeliveryLimit, note)
    } else {
        Rescue::Requeue {
            priority: header.priority,
        }
    }
}

fn crashed(header: &Header, reason: DeadReason, note: String) -> Rescue {
    let failure = Failure::new(FailureKind::Crash, note.as_str());
    let body = encode_value(&failure).unwrap_or_default();
    Rescue::Bury {
        reason,
        note,
        result: FinalRecord::of(header, TaskState::Dead, body, None),
    }
}

fn undecodable(error: HeaderError) -> Rescue {
    Rescue::Bury {
        reason: DeadReason::Undecodable,
        note: error.to_string(),
        result: None,
    }
}

/// Why a call cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It moves more than one call may.
    #[error("{found} {what} in one call, at most {MAX_BATCH} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// A frame that is to wait or to be ready has no header.
    #[error("frame {index} of the call: {error}")]
    Frame {
        /// The position of its task or settlement in the call.
        index: usize,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// The lease is too short to be renewed in time.
    #[error("a lease has at least {MIN_LEASE:?}, found {0:?}")]
    Lease(Duration),
    /// Tasks in this state cannot be purged.
    #[error(
        "tasks that are {0} cannot be purged: only those that are ready, scheduled or retrying"
    )]
    Purge(TaskState),
}

/// Checks a new incarnation.
///
/// # Errors
/// [`CallError::Lease`].
pub fn check_open(incarnation: &Incarnation) -> Result<(), CallError> {
    if incarnation.lease < MIN_LEASE {
        return Err(CallError::Lease(incarnation.lease));
    }
    Ok(())
}

/// Checks which tasks are to be purged.
///
/// # Errors
/// [`CallError::Purge`].
pub const fn check_purge(state: TaskState) -> Result<(), CallError> {
    match state {
        TaskState::Ready | TaskState::Scheduled | TaskState::Retrying => Ok(()),
        state => Err(CallError::Purge(state)),
    }
}

/// Checks a call that adds tasks; returns the header of each. One bad frame refuses the whole call.
///
/// # Errors
/// [`CallError::TooMany`], [`CallError::Frame`].
pub fn check_enqueue(call: &EnqueueCall) -> Result<Vec<Header>, CallError> {
    bound("tasks", call.tasks.len())?;
    let read = |(index, frame): (usize, &Vec<u8>)| {
        Header::read(frame).map_err(|error| CallError::Frame { index, error })
    };
    let frames = call.tasks.iter().map(|task| &task.frame);
    frames.enumerate().map(read).collect()
}

/// Checks a numbered call that is to be executed: its size, and that what it hands back to the queue has a header.
///
/// # Errors
/// [`CallError::TooMany`], [`CallError::Frame`].
pub fn check_exchange(call: &ExchangeCall) -> Result<(), CallError> {
    bound("settlements", call.settlements.len())?;
    bound(
        "wanted deliveries",
        usize::try_from(call.want).unwrap_or(usize::MAX),
    )?;
    for (index, settlement) in call.settlements.iter().enumerate() {
        check_outcome(&settlement.outcome).map_err(|error| CallError::Frame { index, error })?;
    }
    Ok(())
}

/// Checks that a frame which an outcome hands back to the queue has a header. A buried frame needs none.
///
/// # Errors
/// [`HeaderError`].
pub fn check_outcome(outcome: &Outcome) -> Result<(), HeaderError> {
    match outcome {
        Outcome::Retry { frame, .. }
        | Outcome::Release {
            frame: Some(frame), ..
        } => Header::read(frame).map(|_| ()),
        _ => Ok(()),
    }
}

fn bound(what: &'static str, found: usize) -> Result<(), CallError> {
    if u32::try_from(found).is_ok_and(|found| found <= MAX_BATCH) {
        Ok(())
    } else {
        Err(CallError::TooMany { what, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn frame(deliveries: u8, strikes: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::HIGHEST,
            deliveries,
            strikes,
            attempts: 3,
            id: TaskId::from_bytes([1; 16]),
            enqueued_at: Timestamp::from_millis(1),
            expires_at: None,
        }
        .write(&mut bytes);
        bytes.extend_from_slice(b"body");
        bytes
    }

    fn reason(rescue: &Rescue) -> Option<DeadReason> {
        match rescue {
            Rescue::Requeue { .. } => None,
            Rescue::Bury { reason, .. } => Some(*reason),
        }
    }

    #[test]
    fn only_the_last_number_and_the_next_one_are_heard() {
        assert_eq!(judge_exchange(0, 0), Numbered::Astray);
        assert_eq!(judge_exchange(0, 1), Numbered::Fresh);
        assert_eq!(judge_exchange(4, 4), Numbered::Repeat);
        assert_eq!(judge_exchange(4, 3), Numbered::Astray);
        assert_eq!(judge_exchange(4, 6), Numbered::Astray);
        assert_eq!(judge_exchange(u64::MAX, 0), Numbered::Astray);
        assert_eq!(judge_enqueue(None, 77), Numbered::Fresh);
        assert_eq!(judge_enqueue(None, 0), Numbered::Fresh);
        assert_eq!(judge_enqueue(Some(0), 0), Numbered::Repeat);
        assert_eq!(judge_enqueue(Some(77), 79), Numbered::Astray);
    }

    #[test]
    fn a_sweep_after_a_gap_or_a_step_back_closes_nobody() {
        let s = Duration::from_secs;
        let lease = Some(s(12));
        assert!(holds_back(None, s(100), lease));
        assert!(!holds_back(Some(s(94)), s(100), lease));
        assert!(holds_back(Some(s(93)), s(100), lease));
        assert!(holds_back(Some(s(101)), s(100), lease));
        assert!(!holds_back(None, s(100), None));
    }

    #[test]
    fn a_lease_whose_owner_is_silent_is_not_held_for_ever() {
        let s = Duration::from_secs;
        let (mut held, mut deadline) = (Held::default(), s(1));
        for turn in 1..=u64::from(MAX_HELD_BACK) {
            let next = held.back(deadline, s(10 * turn), s(1));
            assert_eq!(next, Some(s(10 * turn + 1)));
            deadline = s(10 * turn + 1);
        }
        assert_eq!(held.back(deadline, s(90), s(1)), None);
        assert_eq!(held.back(deadline, s(99), s(1)), None);
        // It was renewed: it may be held again.
        assert_eq!(held.back(s(100), s(110), s(1)), Some(s(111)));
        assert_eq!(held.times, 1);
    }

    #[test]
    fn two_strikes_are_poison_and_the_cap_ends_the_rest() {
        assert_eq!(reason(&rescue(&mut frame(2, 0), true)), None);
        assert_eq!(
            reason(&rescue(&mut frame(2, 1), true)),
            Some(DeadReason::Poison)
        );
        assert_eq!(reason(&rescue(&mut frame(18, 1), false)), None);
        assert_eq!(
            reason(&rescue(&mut frame(19, 0), false)),
            Some(DeadReason::DeliveryLimit)
        );
    }

    proptest! {
        #[test]
        fn one_number_at_most_is_fresh_and_one_a_repeat(last in 1..u64::MAX, number: u64) {
            let verdict = judge_exchange(last, number);
            prop_assert_eq!(verdict == Numbered::Repeat, number == last);
            prop_assert_eq!(verdict == Numbered::Fresh, number == last + 1);
            prop_assert_eq!(judge_enqueue(Some(last), number), verdict);
        }

        #[test]
        fn a_deadline_is_never_further_ahead_than_the_lease(d: u32, now: u32, lease: u32) {
            let ms = |n| Duration::from_millis(u64::from(n));
            let cut = cut_deadline(ms(d), ms(now), ms(lease));
            prop_assert!(cut <= ms(now) + ms(lease) && cut <= ms(d));
        }

        #[test]
        fn a_rescue_touches_nothing_but_its_counts(deliveries: u8, strikes: u8, started: bool) {
            let mut after = frame(deliveries, strikes);
            let verdict = rescue(&mut after, started);
            prop_assert_eq!(after[DELIVERIES_OFFSET], deliveries.saturating_add(1));
            prop_assert_eq!(after[STRIKES_OFFSET], strikes.saturating_add(u8::from(started)));
            let buried = after[STRIKES_OFFSET] >= 2 || after[DELIVERIES_OFFSET] >= 20;
            prop_assert_eq!(reason(&verdict).is_some(), buried);
            after[DELIVERIES_OFFSET] = deliveries;
            after[STRIKES_OFFSET] = strikes;
            prop_assert_eq!(after, frame(deliveries, strikes));
        }

        #[test]
        fn garbage_is_buried_as_it_is(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            bytes.insert(0, b'{');
            let before = bytes.clone();
            prop_assert_eq!(reason(&rescue(&mut bytes, true)), Some(DeadReason::Undecodable));
            prop_assert_eq!(bytes, before);
        }
    }
}
