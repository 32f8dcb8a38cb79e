//! Tasks that are revoked: before they start, and while they run; by rules, gently and not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Dropped, Gate, Hang, Noop, ms, queue, quick, rig, run, status};
use crate::attempt::Attempt;
use crate::failure::{Failure, FailureKind};
use crate::frame::decode_value;
use crate::ids::TaskName;
use crate::policy::seconds;
use crate::ports::Broker;
use crate::producer::EnqueueOptions;
use crate::revocation::{Revocation, Selector};
use crate::state::TaskState;
use crate::task;
use crate::task::{Task, TaskError};
use crate::testkit::Rig;
use crate::time::Clock;

/// Ends, once it is asked to stop, in one of several ways.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Told {
    Succeeds,
    Fails,
    FailsForGood,
    Snoozes,
    Panics,
}
task!(Told as "test.told" -> (), quick(3));

async fn told(attempt: Attempt<Told>) -> Result<(), TaskError> {
    attempt.cancelled().await;
    assert!(attempt.is_revoked());
    match attempt.args {
        Told::Succeeds => Ok(()),
        Told::Fails => Err("stopped".into()),
        Told::FailsForGood => Err(TaskError::permanent("stopped")),
        Told::Snoozes => Err(TaskError::snooze(ms(1))),
        Told::Panics => panic!("stopped"),
    }
}

/// Hears nothing.
#[derive(Serialize, Deserialize)]
struct Deaf;
task!(Deaf as "test.deaf" -> (), quick(3));

async fn revoke(rig: &Rig, revocation: Revocation) {
    let forget_at = rig.clock().now().plus(Duration::from_secs(600));
    let (queue, all) = (queue("default"), [revocation]);
    rig.broker().revoke(&queue, &all, forget_at).await.unwrap();
}

fn all_of<T: Task>(rig: &Rig) -> Selector {
    Selector::Task {
        name: TaskName::new(T::NAME).unwrap(),
        until: rig.clock().now(),
    }
}

/// Goal: an attempt that is asked to stop decides whether its task succeeded; whatever else it does, the task is cancelled.
/// Method: one that ends in each way.
#[test]
fn what_fails_after_it_was_revoked_is_cancelled() {
    run(async {
        let rig = Rig::builder().task(told).start().await;
        for (task, state) in [
            (Told::Succeeds, TaskState::Succeeded),
            (Told::Fails, TaskState::Cancelled),
            (Told::FailsForGood, TaskState::Cancelled),
            (Told::Snoozes, TaskState::Cancelled),
            (Told::Panics, TaskState::Cancelled),
        ] {
            let handle = rig.enqueue(task).await;
            rig.probe.wait_for_start(handle.id, 1).await;
            revoke(&rig, Revocation::id(handle.id)).await;
            assert_eq!(rig.wait(&handle).await.state, state);
            assert_eq!(rig.probe.starts(handle.id), 1);
        }
        let counters = status(&rig, "default").await.counters;
        assert_eq!(
            (counters.cancelled, counters.succeeded, counters.dead),
            (4, 1, 0)
        );
        rig.stop().await;
    });
}

/// Goal: a revocation that terminates ends an attempt that hears nothing, and drops what it had.
/// Method: it waits for ever, with a value in its hands.
#[test]
fn a_terminated_attempt_is_dropped() {
    run(async {
        let dropped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&dropped);
        let rig = Rig::builder()
            .task(move |_: Attempt<Deaf>| {
                let held = Dropped(Arc::clone(&seen));
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                    Ok(())
                }
            })
            .start()
            .await;
        let handle = rig.enqueue(Deaf).await;
        rig.probe.wait_for_start(handle.id, 1).await;
        // Asking first does not stand in the way of ending it later.
        revoke(&rig, Revocation::id(handle.id)).await;
        revoke(&rig, Revocation::id(handle.id).terminate()).await;
        let end = rig.wait(&handle).await;
        assert_eq!((end.state, end.attempts), (TaskState::Cancelled, 1));
        let failure: Failure = decode_value(&end.body, rig.producer().limits()).unwrap();
        assert_eq!(failure.kind, FailureKind::Cancelled);
        assert!(dropped.load(Ordering::SeqCst));
        assert_eq!(status(&rig, "default").await.held(), 0);
        rig.stop().await;
    });
}

/// Goal: a rule by kind means those that wait and those that run, no other kind, and nothing that is enqueued later.
/// Method: some run and some wait behind a pause; later ones succeed.
#[test]
fn a_kind_is_revoked_up_to_now() {
    run(async {
        let gate = Gate::new();
        let rig = rig(&gate).task(told).start().await;
        let running = rig.enqueue(Told::Fails).await;
        rig.probe.wait_for_start(running.id, 1).await;
        rig.broker().pause(&running.queue, true).await.unwrap();
        let waiting = rig.enqueue(Told::Fails).await;
        let options = EnqueueOptions::default().countdown(seconds(60));
        let scheduled = rig.enqueue_with(Told::Fails, options).await;
        let other = rig.enqueue(Noop).await;
        revoke(&rig, Revocation::new(all_of::<Told>(&rig))).await;
        rig.broker().pause(&running.queue, false).await.unwrap();
        for handle in [&running, &waiting] {
            assert_eq!(rig.wait(handle).await.state, TaskState::Cancelled);
        }
        rig.clock().advance(seconds(61));
        assert_eq!(rig.wait(&scheduled).await.state, TaskState::Cancelled);
        assert_eq!(rig.wait(&other).await.state, TaskState::Succeeded);
        assert_eq!(
            rig.probe.starts(waiting.id) + rig.probe.starts(scheduled.id),
            0
        );

        let later = rig.enqueue(Told::Succeeds).await;
        rig.probe.wait_for_start(later.id, 1).await;
        revoke(&rig, Revocation::id(later.id)).await;
        assert_eq!(rig.wait(&later).await.state, TaskState::Succeeded);
        rig.stop().await;
    });
}

/// Goal: a rule by header ends what runs with it, and leaves its neighbours alone.
/// Method: two tenants, one of them revoked.
#[test]
fn a_header_is_revoked_across_kinds() {
    run(async {
        let gate = Gate::new();
        let rig = rig(&gate).task(told).start().await;
        let of = |tenant: &str| EnqueueOptions::default().header("tenant", tenant);
        let hangs = rig.enqueue_with(Hang, of("7")).await;
        let hears = rig.enqueue_with(Told::Fails, of("7")).await;
        let neighbour = rig.enqueue_with(Hang, of("70")).await;
        for handle in [&hangs, &hears, &neighbour] {
            rig.probe.wait_for_start(handle.id, 1).await;
        }
        let of = Selector::Header {
            key: "tenant".to_owned(),
            value: "7".to_owned(),
            until: rig.clock().now(),
        };
        revoke(&rig, Revocation::new(of).terminate()).await;
        for handle in [&hangs, &hears] {
            assert_eq!(rig.wait(handle).await.state, TaskState::Cancelled);
        }
        gate.open();
        assert_eq!(rig.wait(&neighbour).await.state, TaskState::Succeeded);
        rig.stop().await;
    });
}
