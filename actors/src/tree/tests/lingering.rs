//! Blocking work that outlives its attempt: nothing can stop it, so its task waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Crowd, Door, Noop, OpenAtEnd, ms, quick, run, status};
use crate::attempt::Attempt;
use crate::policy::seconds;
use crate::producer::TaskHandle;
use crate::state::TaskState;
use crate::task;
use crate::task::TaskError;
use crate::testkit::{Fault, Method, PATIENCE, Rig, RigBuilder, RunningClock};

/// Blocks a thread of the pool until the door is open; counted while it does.
#[derive(Serialize, Deserialize)]
struct Dig;
task!(Dig as "test.dig" -> (), quick(3).hard_limit(seconds(60)));

/// The same, with a limit that it exceeds in its first attempt.
#[derive(Serialize, Deserialize)]
struct Overdig;
task!(Overdig as "test.overdig" -> (), quick(2).hard_limit(seconds(3)));

/// The consumer of the one lane.
/// Longer than a busy machine keeps a thread waiting: nobody here may lose it.
const LEASE: Duration = Duration::from_secs(5);

const CONSUMER: &str = "work/lane-0/consumer-default";

#[derive(Clone, Default)]
struct Site {
    door: Door,
    crowd: Crowd,
}

impl Site {
    fn work(&self) {
        let _inside = self.crowd.enter();
        self.door.pass();
    }
}

fn rig(site: &Site) -> RigBuilder {
    Rig::builder()
        .state(site.clone())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|a: Attempt<Dig>| async move {
            let site = a.state::<Site>()?.clone();
            a.blocking(move || site.work())
                .await
                .map_err(TaskError::from)
        })
        .task(|a: Attempt<Overdig>| async move {
            let site = a.state::<Site>()?.clone();
            if a.number() == 1 {
                a.blocking(move || site.work()).await?;
            }
            Ok(())
        })
        .options(|options| {
            options.lanes = 1;
            options.lease = LEASE;
        })
}

/// Adds a task and waits until its blocking work has begun.
async fn dig(rig: &Rig, site: &Site) -> TaskHandle {
    let handle = rig.enqueue(Dig).await;
    rig.probe.until(|| site.crowd.now() == 1).await;
    handle
}

fn incarnation(rig: &Rig) -> u64 {
    let tree = rig.tree().inspect();
    tree.find(CONSUMER).map_or(0, |node| node.incarnation)
}

fn is_undone(rig: &Rig, task: &TaskHandle) -> bool {
    let gauges = rig.tree().board.gauges();
    let tables = gauges.iter().flat_map(|gauge| gauge.tables());
    let mut running = tables.flat_map(|table| table.running());
    running.any(|(_, context)| context.id() == task.id && context.aborted().is_some())
}

/// Shows that the task is not given back while its work goes on, and that it is done in the end.
async fn waits_for_its_work(rig: Rig, site: &Site, dig: &TaskHandle) {
    // It would be in front of this one.
    assert_eq!(rig.run(Noop).await, Ok(()));
    assert_eq!(rig.probe.starts(dig.id), 1, "{}", rig.probe);
    let during = status(&rig, "default").await;
    assert_eq!((during.active, during.ready), (1, 0), "{}", rig.probe);
    site.door.open();
    let record = rig.wait(dig).await;
    assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
    assert_eq!(rig.probe.starts(dig.id), 2, "{}", rig.probe);
    assert_eq!(site.crowd.most(), 1, "it ran beside itself");
    rig.wait_until_empty().await;
    let counters = status(&rig, "default").await.counters;
    assert_eq!(
        (counters.outstanding(), counters.rescued, counters.stale),
        (0, 0, 0),
        "{}",
        rig.probe
    );
    assert_eq!((counters.succeeded, counters.released), (2, 1));
    rig.stop().await;
}

/// Goal: blocking work of a consumer that its supervisor restarts does not run beside itself.
/// Method: restart the consumer alone, the thread before it, its lane, all lanes, while the work goes on.
#[test]
fn a_restarted_consumer_leaves_its_blocking_work_in_peace() {
    for path in [CONSUMER, "work/lane-0/thread", "work/lane-0", "work"] {
        run(async {
            let site = Site::default();
            let _at_end = OpenAtEnd(site.door.clone());
            let rig = rig(&site).start().await;
            let task = dig(&rig, &site).await;
            let before = rig.tree().inspect();
            let started = |tree: &crate::child::TreeNode| tree.find(path).unwrap().incarnation;
            rig.restart(path).await;
            rig.wait_for_tree(|tree| started(tree) > started(&before) && tree.is_complete())
                .await;
            waits_for_its_work(rig, &site, &task).await;
        });
    }
}

/// Goal: the same for a consumer that panics, and while it goes on its lease is renewed.
/// Method: it panics in its own call; then more than a lease passes.
#[test]
fn a_dead_consumer_leaves_its_blocking_work_in_peace() {
    run(async {
        let site = Site::default();
        let _at_end = OpenAtEnd(site.door.clone());
        let rig = rig(&site).start().await;
        let task = dig(&rig, &site).await;
        rig.faults().plan(Fault::Panic {
            method: Method::Exchange,
            times: 1,
        });
        let other = rig.enqueue(Noop).await;
        rig.probe.until(|| incarnation(&rig) == 2).await;
        assert_eq!(rig.wait(&other).await.state, TaskState::Succeeded);
        tokio::time::sleep(LEASE + seconds(1)).await;
        assert_eq!(rig.probe.starts(task.id), 1, "{}", rig.probe);
        let during = status(&rig, "default").await;
        assert_eq!((during.active, during.counters.rescued), (1, 0));
        site.door.open();
        let record = rig.wait(&task).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(site.crowd.most(), 1, "it ran beside itself");
        rig.wait_until_empty().await;
        rig.stop().await;
    });
}

/// Goal: a process that was away longer than its lease undoes what it runs, but not before its blocking work has ended.
/// Method: let the workers' clock jump; the broker has missed nothing.
#[test]
fn an_undone_attempt_waits_for_its_blocking_work() {
    run(async {
        let (site, clock) = (Site::default(), Arc::new(RunningClock::new()));
        let _at_end = OpenAtEnd(site.door.clone());
        let rig = rig(&site).clock(clock.clone()).start().await;
        let task = dig(&rig, &site).await;
        clock.advance(Duration::from_secs(60));
        rig.probe
            .wait_for_line("was away longer than the lease")
            .await;
        // What it says comes before what it does.
        rig.probe.until(|| is_undone(&rig, &task)).await;
        waits_for_its_work(rig, &site, &task).await;
    });
}

/// Goal: blocking work that a stopped consumer left behind has until its hard limit and no longer.
/// Method: restart the consumer; keep the door shut until the task was taken from its thread and ran again.
#[test]
fn left_blocking_work_is_taken_at_its_hard_limit() {
    run(async {
        let site = Site::default();
        let _at_end = OpenAtEnd(site.door.clone());
        let rig = rig(&site).start().await;
        let task = rig.enqueue(Overdig).await;
        rig.probe.until(|| site.crowd.now() == 1).await;
        rig.restart(CONSUMER).await;
        rig.probe.until(|| incarnation(&rig) == 2).await;
        let record = rig.wait(&task).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 2));
        assert_eq!(rig.probe.starts(task.id), 2);
        assert_eq!(site.crowd.now(), 1, "it is at it still");
        site.door.open();
        rig.wait_until_empty().await;
        let counters = status(&rig, "default").await.counters;
        assert_eq!((counters.outstanding(), counters.retried), (0, 1));
        rig.stop().await;
    });
}

/// Goal: the end of a process waits for no blocking work, its own or left behind: it is given back, uncounted.
/// Method: give everything back while it goes on, once with and once without a restart of its consumer before.
#[test]
fn blocking_work_is_given_back_when_the_process_ends() {
    for left_behind in [false, true] {
        run(async {
            let site = Site::default();
            let _at_end = OpenAtEnd(site.door.clone());
            let rig = rig(&site).start().await;
            let task = dig(&rig, &site).await;
            if left_behind {
                rig.restart(CONSUMER).await;
                rig.probe.until(|| incarnation(&rig) == 2).await;
            }
            // What was left behind holds up no drain; what runs does, for ever.
            let patience = if left_behind { PATIENCE } else { ms(100) };
            let drained = tokio::time::timeout(patience, rig.tree().drain()).await;
            assert_eq!(drained.is_ok(), left_behind);
            assert_eq!(status(&rig, "default").await.active, 1);
            rig.tree().give_back(PATIENCE).await;
            let meanwhile = status(&rig, "default").await;
            assert_eq!(
                (meanwhile.ready, meanwhile.active),
                (0, 1),
                "not before all else"
            );
            rig.tree().stop().await;
            let after = status(&rig, "default").await;
            assert_eq!(
                (after.ready, after.active, after.consumers),
                (1, 0, 0),
                "{}",
                rig.probe
            );
            assert_eq!(after.counters.rescued, 0);
            assert_eq!(rig.probe.starts(task.id), 1);
            assert_eq!(site.crowd.now(), 1, "it is at it still");
        });
    }
}
