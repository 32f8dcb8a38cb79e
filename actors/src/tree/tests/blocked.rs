//! A task that never yields: it has its thread, and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Door, Gate, Noop, OpenAtEnd, ms, queue, quick, run, status, until};
use crate::attempt::Attempt;
use crate::child::ExitReason;
use crate::failure::FailureKind;
use crate::policy::seconds;
use crate::producer::{EnqueueOptions, TaskHandle};
use crate::state::TaskState;
use crate::task;
use crate::testkit::{Fault, Method, PATIENCE, Rig, RigBuilder};

/// Blocks its thread until the door is open.
#[derive(Serialize, Deserialize)]
struct Spin;
task!(Spin as "test.spin" -> (), quick(1).hard_limit(seconds(60)));

/// The same, with a limit that it exceeds.
#[derive(Serialize, Deserialize)]
struct Stuck;
task!(Stuck as "test.stuck" -> (), quick(1).hard_limit(ms(300)));

/// Yields until the gate is open; then blocks its thread until the door is.
#[derive(Serialize, Deserialize)]
struct Pounce;
task!(Pounce as "test.pounce" -> (), quick(1).hard_limit(seconds(60)));

fn rig(door: &Door) -> RigBuilder {
    Rig::builder()
        .state(door.clone())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|a: Attempt<Spin>| async move {
            a.state::<Door>()?.pass();
            Ok(())
        })
        .task(|a: Attempt<Stuck>| async move {
            a.state::<Door>()?.pass();
            Ok(())
        })
        .queues(["default", "other"])
        .options(|options| {
            options.blocked_deadline = ms(750);
            options.concurrency = 8;
        })
}

/// Goal: a blocked thread is named, the work behind it runs elsewhere, its lane gets a fresh thread, and when it comes
/// back its task is done, once.
/// Method: block one of two lanes in the middle of a burst, and open the door when all else is done.
#[test]
fn a_blocked_lane_is_replaced_and_its_neighbours_run_elsewhere() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig(&door).start().await;
        let before = rig.enqueue_all(vec![Noop; 50]).await;
        let spin = rig.enqueue(Spin).await;
        let after = rig.enqueue_all(vec![Noop; 50]).await;
        let line = rig.probe.wait_for_line("thread is blocked by a task").await;
        assert!(
            line.contains("task=test.spin") && line.contains(&spin.id.to_string()),
            "{line}"
        );
        let named = || {
            let activity = rig.tree().activity();
            activity
                .iter()
                .any(|lane| lane.blocked_by.as_ref().is_some_and(|by| by.id == spin.id))
        };
        rig.probe.until(named).await;
        for handle in before.iter().chain(&after) {
            assert_eq!(rig.wait(handle).await.state, TaskState::Succeeded);
        }
        let other = EnqueueOptions {
            queue: Some(queue("other")),
            ..EnqueueOptions::default()
        };
        let other = rig.enqueue_with(Noop, other).await;
        assert_eq!(rig.wait(&other).await.state, TaskState::Succeeded);
        let replaced = || {
            rig.tree()
                .activity()
                .iter()
                .any(|lane| lane.generation == 2)
        };
        rig.probe.until(replaced).await;
        let up = |lane: &str| {
            rig.tree()
                .inspect()
                .find(lane)
                .is_some_and(crate::child::TreeNode::is_complete)
        };
        rig.probe
            .until(|| up("work/lane-0") && up("work/lane-1"))
            .await;
        let permits = || rig.tree().permits().totals();
        rig.probe.until(|| permits() == (8, 8)).await;
        for handle in rig.enqueue_all(vec![Noop; 50]).await {
            assert_eq!(rig.wait(&handle).await.state, TaskState::Succeeded);
        }
        door.open();
        let record = rig.wait(&spin).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.probe.starts(spin.id), 1);
        rig.wait_until_empty().await;
        rig.probe.until(|| rig.tree().activity().len() == 2).await;
        rig.stop().await;
    });
}

/// Goal: a blocked thread keeps the permits of what runs on it and no others, long before its lane is replaced.
/// Method: a lone task blocks the thread of a consumer that had taken permits for four; its lane is never replaced.
#[test]
fn a_blocked_lane_keeps_no_idle_permits() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let patient = |options: &mut crate::tree::TreeOptions| {
            options.blocked_deadline = seconds(300);
        };
        let rig = rig(&door).options(patient).start().await;
        let spin = rig.enqueue(Spin).await;
        rig.probe.wait_for_line("thread is blocked by a task").await;
        let permits = || rig.tree().permits().totals();
        rig.probe.until(|| permits() == (8, 7)).await;
        for handle in rig.enqueue_all(vec![Noop; 50]).await {
            assert_eq!(rig.wait(&handle).await.state, TaskState::Succeeded);
        }
        door.open();
        assert_eq!(rig.wait(&spin).await.state, TaskState::Succeeded);
        for handle in rig.enqueue_all(vec![Noop; 50]).await {
            assert_eq!(rig.wait(&handle).await.state, TaskState::Succeeded);
        }
        rig.probe.until(|| permits() == (8, 8)).await;
        rig.stop().await;
    });
}

/// Starts one lane, lets a fetch get three tasks, and blocks the thread before its reply is heard. Returns the task that
/// blocks it, and the three.
async fn pounced(door: &Door, deadline: Duration) -> (Rig, TaskHandle, Vec<TaskHandle>) {
    let gate = Gate::new();
    let rig = rig(door)
        .state(gate.clone())
        .task(|a: Attempt<Pounce>| async move {
            a.state::<Gate>()?.opened().await;
            a.state::<Door>()?.pass();
            Ok(())
        })
        // Alone with its permits, it fetches all three at once.
        .queues(["default"])
        .options(|options| {
            options.lanes = 1;
            options.blocked_deadline = deadline;
        })
        .start()
        .await;
    let pounce = rig.enqueue(Pounce).await;
    rig.probe.wait_for_start(pounce.id, 1).await;
    rig.faults().plan(Fault::HeldReply {
        method: Method::Exchange,
    });
    let fetched = rig.enqueue_all(vec![Noop; 3]).await;
    until(&rig, |queue| queue.active == 4).await;
    gate.open();
    (rig, pounce, fetched)
}

/// Shows that all of them ended well, each at its first start, and that nothing was lost or made up.
async fn all_ran_once(rig: &Rig, handles: impl Iterator<Item = &TaskHandle>) {
    for handle in handles {
        let record = rig.wait(handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.probe.starts(handle.id), 1, "{}", rig.probe);
    }
    rig.wait_until_empty().await;
    let counters = status(rig, "default").await.counters;
    assert_eq!((counters.outstanding(), counters.succeeded), (0, 4));
    assert_eq!((counters.released, counters.rescued), (3, 0));
}

/// Goal: what a fetch was given whose reply nobody hears, because its thread is blocked, runs on the lane's next thread.
/// Method: hold the reply until the three tasks have run; the door opens last.
#[test]
fn what_an_unheard_fetch_was_given_runs_elsewhere() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let (rig, pounce, fetched) = pounced(&door, ms(750)).await;
        for handle in &fetched {
            assert_eq!(rig.wait(handle).await.state, TaskState::Succeeded);
        }
        assert_eq!(rig.probe.ends(pounce.id), [], "its thread is still blocked");
        rig.faults().heal();
        door.open();
        all_ran_once(&rig, fetched.iter().chain([&pounce])).await;
        rig.probe.until(|| rig.tree().activity().len() == 1).await;
        rig.stop().await;
    });
}

/// Goal: a reply that is heard too late starts nothing: what it carries was given back, and comes again.
/// Method: hold the reply until the three tasks were given back; then let the same thread hear it.
#[test]
fn a_fetch_that_is_heard_too_late_starts_nothing() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let (rig, pounce, fetched) = pounced(&door, seconds(300)).await;
        until(&rig, |queue| queue.counters.released == 3).await;
        rig.faults().heal();
        door.open();
        all_ran_once(&rig, fetched.iter().chain([&pounce])).await;
        assert_eq!(rig.tree().activity()[0].generation, 1);
        rig.stop().await;
    });
}

/// Goal: an attempt that blocks its thread is ended at its hard limit, and what it says afterwards is refused.
/// Method: its limit passes while it is blocked; then the door is opened.
#[test]
fn a_blocking_attempt_is_taken_at_its_hard_limit() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig(&door).start().await;
        let failure = rig.run(Stuck).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Blocked);
        assert_eq!(rig.run(Noop).await, Ok(()));
        door.open();
        rig.probe
            .wait_for_line("thread answers again, or has ended")
            .await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        let counters = status(&rig, "default").await.counters;
        assert_eq!((counters.dead, counters.succeeded), (1, 2));
        rig.letters(1).await;
        rig.stop().await;
    });
}

/// Goal: when more threads are blocked for good than can be made up for, the process asks to be replaced; even then
/// the tree stops in time. What cost it its threads is charged for that: else it would cost the next process its own.
/// Method: one lane; block its first thread and the second.
#[test]
fn too_many_blocked_threads_ask_for_a_new_process() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig(&door)
            .options(|options| options.lanes = 1)
            .start()
            .await;
        let first = rig.enqueue(Spin).await;
        rig.probe.wait_for_start(first.id, 1).await;
        let replaced = || {
            rig.tree()
                .activity()
                .iter()
                .any(|lane| lane.generation == 2)
        };
        rig.probe.until(replaced).await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        let second = rig.enqueue(Spin).await;
        rig.probe.wait_for_start(second.id, 1).await;
        rig.tree().wants_recycling().await;
        let stopped = tokio::time::timeout(PATIENCE, rig.tree().stop()).await;
        assert_eq!(stopped.unwrap(), ExitReason::Normal);
        let after = status(&rig, "default").await;
        assert_eq!((after.active, after.ready, after.counters.dead), (0, 0, 2));
    });
}
