//! How long a task is tried, and with which waits: rules by error, waits that an error asks for, bounds in time and number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ms, quick, run, status};
use crate::attempt::Attempt;
use crate::backoff::Backoff;
use crate::budget::RetryBudget;
use crate::envelope::Overrides;
use crate::policy::{Policy, RetryRule, seconds};
use crate::ports::{Broker, ScanRequest};
use crate::producer::EnqueueOptions;
use crate::state::{DeadReason, TaskState};
use crate::task;
use crate::task::TaskError;
use crate::testkit::{PATIENCE, Rig};
use crate::time::{Clock, Timestamp};

#[derive(Debug, thiserror::Error)]
#[error("busy")]
struct Busy(Duration);

#[derive(Debug, thiserror::Error)]
#[error("reset")]
struct Reset;

/// Fails in one of several ways, always.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Fails {
    Busy,
    Reset,
    Otherwise,
    Asks,
    Cancels,
}
task!(Fails as "test.fails" -> (), policy());

#[derive(Serialize, Deserialize)]
struct Late;
task!(Late as "test.late" -> (), quick(9).retry_for(seconds(60)).fixed_backoff(seconds(25)).jitter(0.0));

#[derive(Clone, Serialize, Deserialize)]
struct Sick;
task!(Sick as "test.sick" -> (), quick(2));

#[derive(Serialize, Deserialize)]
struct Sleepy;
task!(Sleepy as "test.sleepy" -> (), quick(1).max_snoozes(3));

fn policy() -> Policy {
    Policy::default()
        .max_attempts(5)
        .backoff_by(|attempt| seconds(u64::from(attempt) * 11))
        .jitter(0.0)
        .retry_after_of(|busy: &Busy| Some(busy.0))
        .retry_on::<Reset>(RetryRule::default().max_attempts(2).delay(seconds(3)))
}

async fn fails(attempt: Attempt<Fails>) -> Result<(), TaskError> {
    Err(match attempt.args {
        Fails::Busy => Busy(seconds(70)).into(),
        Fails::Reset => Reset.into(),
        Fails::Otherwise => "otherwise".into(),
        Fails::Asks => TaskError::retry_after(seconds(90), Busy(seconds(70))),
        Fails::Cancels => TaskError::cancel("the order is gone"),
    })
}

async fn start() -> Rig {
    Rig::builder()
        .task(fails)
        .task(|_: Attempt<Late>| async { Err("late".into()) })
        .task(|_: Attempt<Sleepy>| async { Err(TaskError::snooze(ms(1))) })
        .start()
        .await
}

/// Waits until the only task waits for its next attempt, and returns when that is due.
async fn due(rig: &Rig) -> Timestamp {
    let request = ScanRequest {
        queue: super::queue("default"),
        state: TaskState::Retrying,
        after: None,
        limit: 10,
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = rig.broker().scan(&request).await.unwrap();
        if let Some(due) = page.tasks.first().and_then(|task| task.due) {
            return due;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", rig.probe);
        tokio::time::sleep(ms(2)).await;
    }
}

/// Goal: the wait after a failure is what the attempt asked for, else what its error says, else what is said of its type,
/// else what the function of its kind says.
/// Method: one failure of each sort, the waits in different lengths; the clock is turned past each.
#[test]
fn the_wait_is_what_knows_most_about_the_failure() {
    run(async {
        for (task, waits) in [
            (Fails::Asks, 90),
            (Fails::Busy, 70),
            (Fails::Reset, 3),
            (Fails::Otherwise, 11),
        ] {
            let rig = start().await;
            let begun = rig.clock().now();
            rig.enqueue(task).await;
            let waited = due(&rig).await.since(begun).as_secs_f64();
            // The broker's clock runs on while the attempt is made.
            assert!(
                (waits as f64..waits as f64 + 2.0).contains(&waited),
                "{waited} instead of {waits}"
            );
            rig.stop().await;
        }
    });
}

/// Goal: one type of error can have fewer attempts than its kind.
/// Method: the type that has two; the clock is turned past the wait between them.
#[test]
fn a_type_of_error_has_attempts_of_its_own() {
    run(async {
        let rig = start().await;
        let handle = rig.enqueue(Fails::Reset).await;
        due(&rig).await;
        rig.clock().advance(seconds(4));
        assert_eq!(rig.wait(&handle).await.attempts, 2);
        assert_eq!(rig.letters(1).await[0].reason, DeadReason::Exhausted);
        rig.stop().await;
    });
}

/// Goal: a task that is cancelled by its own code ends without another attempt and without a dead letter.
/// Method: it does so in its first attempt.
#[test]
fn a_task_may_say_that_nobody_needs_it() {
    run(async {
        let rig = start().await;
        let handle = rig.enqueue(Fails::Cancels).await;
        let end = rig.wait(&handle).await;
        assert_eq!((end.state, end.attempts), (TaskState::Cancelled, 1));
        let failure: crate::failure::Failure =
            crate::frame::decode_value(&end.body, rig.producer().limits()).unwrap();
        assert_eq!(failure.message, "the order is gone");
        let queue = status(&rig, "default").await;
        assert_eq!((queue.counters.cancelled, queue.counters.dead), (1, 0));
        rig.stop().await;
    });
}

/// Goal: no attempt begins later than the span of its kind after the first failure.
/// Method: waits of 25 s in a span of 60 s leave room for three attempts; the third failure is the last, and says why.
#[test]
fn attempts_end_with_the_span_of_their_kind() {
    run(async {
        let rig = start().await;
        let handle = rig.enqueue(Late).await;
        for attempt in 2..=3 {
            due(&rig).await;
            rig.clock().advance(seconds(26));
            rig.probe.wait_for_start(handle.id, attempt).await;
        }
        assert_eq!(rig.wait(&handle).await.attempts, 3);
        let letter = rig.letters(1).await.remove(0);
        assert_eq!(letter.reason, DeadReason::Exhausted);
        assert!(
            letter
                .note
                .starts_with("late (no further attempt begins after 2026-"),
            "{}",
            letter.note
        );
        rig.stop().await;
    });
}

/// Goal: a task that waited too long for its next attempt has none, by the broker's clock; its first is made in any case.
/// Method: its last moment has passed when it is enqueued, or passes while its queue is paused.
#[test]
fn the_brokers_clock_decides_whether_it_is_too_late() {
    run(async {
        let rig = start().await;
        let until = |at: Timestamp| EnqueueOptions {
            overrides: Overrides {
                retry_until: Some(at),
                ..Overrides::default()
            },
            ..EnqueueOptions::default()
        };
        let past = until(rig.clock().now().minus(ms(1)));
        let handle = rig.enqueue_with(Fails::Otherwise, past).await;
        assert_eq!(rig.wait(&handle).await.attempts, 1);

        let soon = until(rig.clock().now().plus(seconds(30)));
        let handle = rig.enqueue_with(Fails::Otherwise, soon).await;
        due(&rig).await;
        rig.broker().pause(&handle.queue, true).await.unwrap();
        rig.clock().advance(seconds(31));
        rig.broker().pause(&handle.queue, false).await.unwrap();
        let end = rig.wait(&handle).await;
        assert_eq!((end.state, end.attempts), (TaskState::Dead, 1));
        assert_eq!(rig.probe.starts(handle.id), 1);
        let letters = rig.letters(2).await;
        let letter = letters
            .iter()
            .find(|letter| letter.id.task == handle.id)
            .unwrap();
        assert_eq!(
            (letter.reason, letter.failures.len()),
            (DeadReason::Exhausted, 1)
        );
        assert!(
            letter.note.starts_with("otherwise (no further attempt"),
            "{}",
            letter.note
        );
        rig.stop().await;
    });
}

/// Goal: a task is not snoozed for ever, and a snooze changes nothing but their number.
/// Method: it always asks for one more than its kind allows.
#[test]
fn snoozes_have_an_end() {
    run(async {
        let rig = start().await;
        let options = EnqueueOptions::default().header("tenant", "7");
        let handle = rig.enqueue_with(Sleepy, options).await;
        let end = rig.wait(&handle).await;
        assert_eq!(
            (end.state, rig.probe.starts(handle.id)),
            (TaskState::Dead, 4)
        );
        let letter = rig.letters(1).await.remove(0);
        assert_eq!((letter.reason, letter.attempts), (DeadReason::Exhausted, 1));
        assert_eq!(
            letter.note,
            "snoozed 3 times, which is all that `max_snoozes` allows"
        );
        assert_eq!(letter.headers["tenant"], "7");
        rig.stop().await;
    });
}

/// Goal: when everything fails, retries beyond the budget of their queue wait longer; none is lost, and none costs an
/// attempt.
/// Method: twenty tasks that fail twice, with a budget of one retry a second and ten saved up.
#[test]
fn retries_without_budget_wait() {
    run(async {
        let budget = RetryBudget {
            share: 0.0,
            floor: 1,
        };
        let rig = Rig::builder()
            .task(|_: Attempt<Sick>| async { Err("sick".into()) })
            .options(|options| options.retry_budgets = vec![(super::queue("default"), budget)])
            .start()
            .await;
        let handles = rig.enqueue_all(std::iter::repeat_n(Sick, 20)).await;
        for handle in &handles {
            rig.probe.wait_for_start(handle.id, 1).await;
        }
        rig.probe
            .until(|| rig.tree().retry_budgets()[0].delayed > 0)
            .await;
        let mut ended = Vec::new();
        for handle in &handles {
            let ids = [handle.id];
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while ended.len() < handles.len() {
                assert!(tokio::time::Instant::now() < deadline, "{}", rig.probe);
                rig.clock().advance(seconds(1));
                let end = rig.broker().wait_results(&handle.queue, &ids, ms(50)).await;
                if let Some(end) = end.unwrap().pop() {
                    ended.push((end.state, end.attempts));
                    break;
                }
            }
        }
        assert_eq!(ended, vec![(TaskState::Dead, 2); 20]);
        let counters = status(&rig, "default").await.counters;
        assert_eq!((counters.retried, counters.dead), (20, 20));
        rig.stop().await;
    });
}

#[test]
fn schedules_have_names() {
    let mut rng = rand::rng();
    let mut waits = |policy: Policy| {
        let policy = policy.jitter(0.0);
        [1, 2, 3].map(|attempt| policy.delay_after(attempt, &mut rng).as_secs())
    };
    let policy = Policy::default();
    assert_eq!(waits(policy.clone()), [1, 2, 4]);
    assert_eq!(
        waits(policy.clone().linear_backoff(seconds(5), seconds(12))),
        [5, 10, 12]
    );
    assert_eq!(waits(policy.clone().fixed_backoff(seconds(7))), [7, 7, 7]);
    let by = policy.backoff_by(|attempt| seconds(100 / u64::from(attempt)));
    assert_eq!(waits(by.clone()), [100, 50, 33]);
    assert_eq!(
        waits(by.with_backoff(|_| Backoff::fixed(seconds(1)))),
        [1, 1, 1]
    );
}
