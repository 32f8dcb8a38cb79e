//! Attempts that fail: again, later, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::{ms, quick, run, status};
use crate::attempt::Attempt;
use crate::failure::FailureKind;
use crate::state::{DeadReason, TaskState};
use crate::task;
use crate::task::TaskError;
use crate::testkit::{End, Rig};

#[derive(Debug, thiserror::Error)]
#[error("declined")]
struct Declined;

#[derive(Debug, thiserror::Error)]
#[error("charge failed")]
struct ChargeFailed(#[source] Declined);

/// Fails so many times, in one of several ways.
#[derive(Serialize, Deserialize)]
struct Flaky {
    times: u16,
    how: How,
}
task!(Flaky as "test.flaky" -> u16, quick(3).jitter(0.0));

#[derive(Clone, Copy, Serialize, Deserialize)]
enum How {
    Error,
    Permanent,
    RetryAfter,
    Snooze,
}

#[derive(Serialize, Deserialize)]
struct Charge;
task!(Charge as "test.charge" -> (), quick(3).permanent_on::<Declined>());

async fn flaky(attempt: Attempt<Flaky>) -> Result<u16, TaskError> {
    let tries = attempt
        .state::<Arc<AtomicU32>>()?
        .fetch_add(1, Ordering::SeqCst);
    if tries >= u32::from(attempt.args.times) {
        return Ok(attempt.number());
    }
    Err(match attempt.args.how {
        How::Error => ChargeFailed(Declined).into(),
        How::Permanent => TaskError::permanent("card declined"),
        How::RetryAfter => TaskError::retry_after(ms(37), "busy"),
        How::Snooze => TaskError::snooze(ms(5)),
    })
}

async fn start() -> Rig {
    Rig::builder()
        .state(Arc::new(AtomicU32::new(0)))
        .task(flaky)
        .task(|_: Attempt<Charge>| async { Err(ChargeFailed(Declined).into()) })
        .start()
        .await
}

/// Goal: a task that is out of attempts is buried with all that is known of each of them.
/// Method: it fails each of its three attempts; read its dead letter.
#[test]
fn an_exhausted_task_is_buried_with_all_its_failures() {
    run(async {
        let rig = start().await;
        let how = How::Error;
        let failure = rig.run(Flaky { times: 9, how }).await.unwrap_err();
        assert_eq!((failure.attempt, &*failure.message), (3, "charge failed"));
        let letter = rig.letters(1).await.remove(0);
        assert_eq!(letter.reason, DeadReason::Exhausted);
        assert_eq!((letter.attempts, letter.failures.len()), (3, 3));
        assert_eq!(letter.args.as_deref(), Some(r#"{"times":9,"how":"Error"}"#));
        let mut at = letter.enqueued_at.unwrap();
        for (failure, attempt) in letter.failures.iter().zip(1..) {
            assert_eq!(
                (failure.attempt, failure.kind),
                (attempt, FailureKind::Error)
            );
            assert_eq!(
                (&*failure.worker, &*failure.causes),
                ("rig", &["declined".to_owned()][..])
            );
            assert!(failure.at >= at, "failures are in order");
            at = failure.at;
        }
        assert!(
            !rig.probe.logged("error=charge failed").is_empty(),
            "the log says why"
        );
        let queue = status(&rig, "default").await;
        assert_eq!(
            (queue.counters.retried, queue.counters.dead, queue.held()),
            (2, 1, 0)
        );
        rig.stop().await;
    });
}

/// Goal: what fails for good is not tried again, whether the task says so or its policy.
/// Method: one error of each sort.
#[test]
fn a_permanent_error_buries_at_once() {
    run(async {
        let rig = start().await;
        let how = How::Permanent;
        let failure = rig.run(Flaky { times: 9, how }).await.unwrap_err();
        assert_eq!((failure.attempt, failure.kind), (1, FailureKind::Permanent));
        let failure = rig.run(Charge).await.unwrap_err();
        assert_eq!((failure.attempt, failure.kind), (1, FailureKind::Permanent));
        let letters = rig.letters(2).await;
        assert!(
            letters
                .iter()
                .all(|letter| letter.reason == DeadReason::Permanent)
        );
        rig.stop().await;
    });
}

/// Goal: a task that fails twice succeeds in its third attempt.
/// Method: count the attempts in the result and in what was seen.
#[test]
fn a_failed_attempt_is_followed_by_another() {
    run(async {
        let rig = start().await;
        let how = How::Error;
        let handle = rig.enqueue(Flaky { times: 2, how }).await;
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 3));
        assert_eq!(crate::testkit::output::<u16>(&record), 3);
        let ends = [End::Retried, End::Retried, End::Succeeded];
        assert_eq!(rig.probe.ends(handle.id), ends);
        rig.stop().await;
    });
}

/// Goal: a task decides itself how long it waits; a snooze does not count as an attempt.
/// Method: one failure of each sort, then success.
#[test]
fn retry_after_counts_and_snooze_does_not() {
    run(async {
        let rig = start().await;
        let how = How::RetryAfter;
        assert_eq!(rig.run(Flaky { times: 1, how }).await, Ok(2));
        assert_eq!(rig.probe.logged("retry_in_ms=37").len(), 1);
        rig.stop().await;
        let rig = start().await;
        let how = How::Snooze;
        let handle = rig.enqueue(Flaky { times: 4, how }).await;
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.probe.starts(handle.id), 5);
        rig.stop().await;
    });
}
