//! Deliveries that do not start, or not as others do.

use std::time::Duration;

use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use super::{Crowd, Gate, Hang, Noop, ms, queue, quick, rig, run, status};
use crate::attempt::Attempt;
use crate::frame::FrameLimits;
use crate::header::DELIVERIES_OFFSET;
use crate::ids::{TaskId, TaskName, WorkerId};
use crate::ports::{Broker, ScanRequest};
use crate::producer::{EnqueueOptions, TaskHandle};
use crate::revocation::Revocation;
use crate::state::{DeadReason, TaskState};
use crate::task;
use crate::testkit::{PATIENCE, Rig};
use crate::time::Clock;

#[derive(Serialize, Deserialize)]
struct Obey;
task!(Obey as "test.obey" -> (), quick(3));

#[derive(Serialize, Deserialize)]
struct Large(String);
task!(Large as "test.large");

#[derive(Clone, Serialize, Deserialize)]
struct Crowded;
task!(Crowded as "test.crowded");

async fn pause(rig: &Rig, paused: bool) {
    rig.broker().pause(&queue("default"), paused).await.unwrap();
}

async fn revoke(rig: &Rig, handle: &TaskHandle) {
    let forget_at = rig.clock().now().plus(Duration::from_secs(600));
    rig.broker()
        .revoke(&handle.queue, &[Revocation::id(handle.id)], forget_at)
        .await
        .unwrap();
}

/// Patches the bytes of a task that is ready.
async fn patch(rig: &Rig, id: TaskId, change: impl FnOnce(&mut Vec<u8>)) {
    let request = ScanRequest {
        queue: queue("default"),
        state: TaskState::Ready,
        after: None,
        limit: 100,
    };
    let page = rig.broker().scan(&request).await.unwrap();
    let of_task = |frame: &&Vec<u8>| frame.get(8..24) == Some(&id.as_bytes()[..]);
    let mut frame = page
        .tasks
        .iter()
        .map(|task| &task.frame)
        .find(of_task)
        .unwrap()
        .clone();
    change(&mut frame);
    assert!(rig.broker().corrupt(&queue("default"), id, &frame));
}

/// Goal: a task that is revoked before it starts never does.
/// Method: revoke it while its queue is paused.
#[test]
fn a_revoked_task_never_starts() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        pause(&rig, true).await;
        let handle = rig.enqueue(Noop).await;
        revoke(&rig, &handle).await;
        pause(&rig, false).await;
        assert_eq!(rig.wait(&handle).await.state, TaskState::Cancelled);
        assert_eq!(rig.probe.starts(handle.id), 0);
        rig.stop().await;
    });
}

/// Goal: a running task hears that it is revoked, and is not tried again; even where its process has no permit left and
/// hears no bells.
/// Method: it runs until it is cancelled, and fails then; beside other permits, and as the only one.
#[test]
fn a_running_task_hears_of_its_revocation() {
    run(async {
        for concurrency in [32, 1] {
            let rig = Rig::builder()
                .task(|a: Attempt<Obey>| async move {
                    a.cancelled().await;
                    Err("stopped as asked".into())
                })
                .options(|options| options.concurrency = concurrency)
                .start()
                .await;
            let handle = rig.enqueue(Obey).await;
            rig.probe.wait_for_start(handle.id, 1).await;
            revoke(&rig, &handle).await;
            assert_eq!(rig.wait(&handle).await.state, TaskState::Cancelled);
            assert_eq!(rig.probe.starts(handle.id), 1);
            rig.stop().await;
        }
    });
}

/// Goal: a task whose time is over ends as expired, unstarted.
/// Method: let it expire while its queue is paused.
#[test]
fn an_expired_task_never_starts() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        pause(&rig, true).await;
        let expires_at = Some(rig.clock().now().plus(ms(500)));
        let handle = rig.enqueue_with(
            Noop,
            EnqueueOptions {
                expires_at,
                ..EnqueueOptions::default()
            },
        );
        let handle = handle.await;
        rig.clock().advance(ms(1_000));
        pause(&rig, false).await;
        assert_eq!(rig.wait(&handle).await.state, TaskState::Expired);
        assert_eq!(rig.probe.starts(handle.id), 0);
        rig.stop().await;
    });
}

/// Goal: a task of an unknown kind is given back for others, and buried when its grace is over.
/// Method: nobody ever knows it.
#[test]
fn an_unknown_task_is_given_back_and_then_buried() {
    run(async {
        let grace = Duration::from_secs(60);
        let rig = rig(&Gate::new())
            .options(|options| options.unknown_grace = grace)
            .start()
            .await;
        let name = TaskName::new("test.unheard_of").unwrap();
        let options = EnqueueOptions {
            want_outcome: true,
            ..EnqueueOptions::default()
        };
        let prepared = rig
            .producer()
            .prepare_encoded(&name, "default", &[0xc0], options)
            .unwrap();
        let handle = prepared.handle.clone();
        rig.producer().add(vec![prepared]).await.unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while status(&rig, "default").await.counters.released == 0 {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(ms(5)).await;
        }
        rig.clock().advance(grace);
        assert_eq!(rig.wait(&handle).await.state, TaskState::Dead);
        let letter = rig.letters(1).await.remove(0);
        assert_eq!(
            (letter.reason, letter.attempts),
            (DeadReason::UnknownTask, 0)
        );
        assert_eq!(rig.run(Noop).await, Ok(()));
        rig.stop().await;
    });
}

/// Goal: bytes that are no task, and tasks that are too large, become dead letters; the queue moves on.
/// Method: spoil a stored task, send one that exceeds the workers' limit, then one that is good.
#[test]
fn garbage_and_giants_are_buried_raw() {
    run(async {
        let limits = FrameLimits {
            max_frame: 2_000,
            ..FrameLimits::default()
        };
        let rig = rig(&Gate::new())
            .task(|_: Attempt<Large>| async { Ok(()) })
            .limits(limits)
            .start()
            .await;
        pause(&rig, true).await;
        let spoilt = rig.enqueue(Noop).await;
        let cut = rig.enqueue(Noop).await;
        assert!(
            rig.broker()
                .corrupt(&spoilt.queue, spoilt.id, b"{\"not\":\"ours\"}")
        );
        patch(&rig, cut.id, |frame| frame.truncate(45)).await;
        let noise = rand::rng().sample_iter(Alphanumeric).take(4_000);
        rig.enqueue(Large(noise.map(char::from).collect())).await;
        let good = rig.enqueue(Noop).await;
        pause(&rig, false).await;
        assert_eq!(rig.wait(&good).await.state, TaskState::Succeeded);
        let letters = rig.letters(3).await;
        let count = |reason| {
            letters
                .iter()
                .filter(|letter| letter.reason == reason)
                .count()
        };
        assert_eq!(count(DeadReason::Undecodable), 2, "{letters:?}");
        assert_eq!(count(DeadReason::Oversized), 1, "{letters:?}");
        let raw = |letter: &crate::ports::DeadLetter| letter.frame == b"{\"not\":\"ours\"}";
        assert!(letters.iter().any(raw), "{letters:?}");
        rig.stop().await;
    });
}

/// Goal: tasks that were taken back twice run one at a time in a process; others beside them run as ever.
/// Method: patch the number of deliveries of some tasks, and count who runs at once.
#[test]
fn suspects_run_one_at_a_time() {
    run(async {
        let crowd = Crowd::default();
        let rig = rig(&Gate::new())
            .state(crowd.clone())
            .task(|a: Attempt<Crowded>| async move {
                let _inside = a.state::<Crowd>()?.enter();
                tokio::time::sleep(ms(10)).await;
                Ok(())
            })
            .start()
            .await;
        pause(&rig, true).await;
        let suspects = rig.enqueue_all(vec![Crowded; 6]).await;
        for suspect in &suspects {
            patch(&rig, suspect.id, |frame| frame[DELIVERIES_OFFSET] = 2).await;
        }
        let others = rig.enqueue_all(vec![Noop; 6]).await;
        pause(&rig, false).await;
        for handle in suspects.iter().chain(&others) {
            assert_eq!(rig.wait(handle).await.state, TaskState::Succeeded);
        }
        assert_eq!(crowd.most(), 1);
        rig.stop().await;
    });
}

/// Goal: a suspect that runs at two crashes of its worker is buried as poison.
/// Method: a worker whose death is proven again and again, while the suspect runs.
#[test]
fn a_suspect_that_is_there_at_two_crashes_is_poison() {
    run(async {
        let rig = rig(&Gate::new())
            .options(|options| options.sweep = ms(50))
            .start()
            .await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.broker().declare_dead(&WorkerId::new("rig").unwrap());
        let letter = rig.letters(1).await.remove(0);
        assert_eq!(
            (letter.id.task, letter.reason),
            (hangs.id, DeadReason::Poison)
        );
        rig.stop().await;
    });
}
