//! The end of a process whose threads are blocked: nothing on them answers, and all they hold is given back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Crowd, Door, Gate, Hang, Noop, OpenAtEnd, ms, queue, quick, run, status};
use crate::attempt::Attempt;
use crate::child::ExitReason;
use crate::policy::seconds;
use crate::producer::TaskHandle;
use crate::task;
use crate::testkit::{Fault, PATIENCE, Rig, RigBuilder};

/// Has its thread until the door is open.
#[derive(Serialize, Deserialize)]
struct Spin;
task!(Spin as "test.spin" -> (), quick(3).hard_limit(seconds(300)));

/// Has a thread of the pool until the door is open.
#[derive(Serialize, Deserialize)]
struct Dig;
task!(Dig as "test.dig" -> (), quick(3).hard_limit(seconds(300)));

/// How long a stop may take here, whatever the machine does beside it.
const BOUND: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Site {
    door: Door,
    /// Who is at the door.
    crowd: Crowd,
}

impl Site {
    fn work(&self) {
        let _inside = self.crowd.enter();
        self.door.pass();
    }
}

fn rig(site: &Site, lanes: u16) -> RigBuilder {
    Rig::builder()
        .state(site.clone())
        .state(Gate::new())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|a: Attempt<Hang>| async move {
            a.state::<Gate>()?.opened().await;
            Ok(())
        })
        .task(|a: Attempt<Spin>| async move {
            a.state::<Site>()?.work();
            Ok(())
        })
        .task(|a: Attempt<Dig>| async move {
            let site = a.state::<Site>()?.clone();
            a.blocking(move || site.work())
                .await
                .map_err(crate::task::TaskError::from)
        })
        .queues(["default", "other", "third"])
        .options(move |options| {
            options.lanes = lanes;
            options.concurrency = 32;
        })
}

/// Runs a load of every kind, then blocks every lane. Returns how many tasks run.
async fn load(rig: &Rig, site: &Site, lanes: usize) -> u64 {
    let mut running: Vec<TaskHandle> = rig.enqueue_all(vec![Hang; 6]).await;
    running.push(rig.enqueue(Dig).await);
    for handle in &running {
        rig.probe.wait_for_start(handle.id, 1).await;
    }
    for _ in 0..lanes {
        let spin = rig.enqueue(Spin).await;
        rig.probe.wait_for_start(spin.id, 1).await;
    }
    rig.probe.until(|| site.crowd.now() == lanes + 1).await;
    (running.len() + lanes) as u64
}

/// Goal: the stop of a process whose threads are all blocked gives back all they hold, at once and uncounted, and nothing
/// that happens on them afterwards has an effect.
/// Method: lanes blocked for a moment and for long enough to be known; open the door when all is over.
#[test]
fn what_is_on_blocked_threads_is_given_back() {
    for (lanes, known) in [(1, false), (2, false), (2, true)] {
        run(async {
            let site = Site::default();
            let _at_end = OpenAtEnd(site.door.clone());
            let rig = rig(&site, lanes).start().await;
            let tasks = load(&rig, &site, lanes.into()).await;
            if known {
                rig.probe.wait_for_line("thread is blocked by a task").await;
            }
            rig.tree().give_back(BOUND).await;
            let stopped = tokio::time::timeout(BOUND, rig.tree().stop()).await;
            assert_eq!(stopped.unwrap(), ExitReason::Normal);
            assert_eq!(site.crowd.now(), usize::from(lanes) + 1, "they are at it");
            for name in ["default", "other", "third"] {
                let after = status(&rig, name).await;
                assert_eq!((after.active, after.consumers), (0, 0), "{}", rig.probe);
            }
            let before = status(&rig, "default").await;
            assert_eq!((before.ready, before.counters.rescued), (tasks, 0));
            assert_eq!(before.counters.released, tasks, "{}", rig.probe);
            let held = rig.broker().snapshot(&queue("default"));

            site.door.open();
            rig.probe.until(|| site.crowd.now() == 0).await;
            // Whatever the threads do with it is done soon, or never.
            tokio::time::sleep(ms(50)).await;
            assert_eq!(rig.broker().snapshot(&queue("default")), held);
            assert_eq!(status(&rig, "default").await.counters, before.counters);
        });
    }
}

/// Goal: what runs on a thread that was given up on has its grace like anything else.
/// Method: drain when the lane has a fresh thread, then open the door.
#[test]
fn what_is_on_a_replaced_thread_may_end_in_a_drain() {
    run(async {
        let site = Site::default();
        let _at_end = OpenAtEnd(site.door.clone());
        let options = |options: &mut crate::tree::TreeOptions| options.blocked_deadline = ms(500);
        let rig = rig(&site, 1).options(options).start().await;
        let spin = rig.enqueue(Spin).await;
        let replaced = || {
            rig.tree()
                .activity()
                .iter()
                .any(|lane| lane.generation == 2)
        };
        rig.probe.until(replaced).await;
        assert!(
            tokio::time::timeout(ms(200), rig.tree().drain())
                .await
                .is_err(),
            "it has not ended"
        );
        site.door.open();
        tokio::time::timeout(BOUND, rig.tree().drain())
            .await
            .unwrap();
        rig.tree().stop().await;
        assert_eq!(rig.probe.starts(spin.id), 1);
        let after = status(&rig, "default").await;
        assert_eq!(
            (after.counters.succeeded, after.ready, after.active),
            (1, 0, 0)
        );
    });
}

/// Goal: a stop with blocked threads is bounded while the broker is away, too; what it was not told is left to the lease.
#[test]
fn a_stop_with_blocked_threads_does_not_wait_for_a_broker_that_is_away() {
    run(async {
        let site = Site::default();
        let _at_end = OpenAtEnd(site.door.clone());
        let rig = rig(&site, 2).start().await;
        let tasks = load(&rig, &site, 2).await;
        rig.faults().plan(Fault::Away);
        rig.tree().give_back(ms(200)).await;
        let stopped = tokio::time::timeout(BOUND, rig.tree().stop()).await;
        assert_eq!(stopped.unwrap(), ExitReason::Normal);
        assert_eq!(rig.tree().unsettled() as u64, tasks);
        rig.faults().heal();
        assert_eq!(status(&rig, "default").await.active, tasks);
        rig.tree().let_go(PATIENCE).await;
        assert_eq!(status(&rig, "default").await.ready, tasks);
    });
}
