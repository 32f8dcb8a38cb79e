//! Permits, prefetch, fairness, several workers, and many tasks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Crowd, Gate, Noop, ms, queue, rig, run, status};
use crate::attempt::Attempt;
use crate::permits::QueueShare;
use crate::producer::EnqueueOptions;
use crate::state::TaskState;
use crate::task;
use crate::testkit::{Rig, RigBuilder};

/// Takes a moment, and is counted while it runs.
#[derive(Clone, Serialize, Deserialize)]
struct Work(String);
task!(Work as "test.work");

#[derive(Clone, Default)]
struct Crowds {
    all: Crowd,
    capped: Crowd,
}

fn working(crowds: &Crowds) -> RigBuilder {
    rig(&Gate::new())
        .state(crowds.clone())
        .task(|a: Attempt<Work>| async move {
            let crowds = a.state::<Crowds>()?;
            let _in_all = crowds.all.enter();
            let _in_capped = (a.args.0 == "capped").then(|| crowds.capped.enter());
            tokio::time::sleep(ms(3)).await;
            Ok(())
        })
        .queues(["default", "capped"])
        .options(|options| {
            options.concurrency = 4;
            let cap = QueueShare {
                cap: Some(1),
                ..QueueShare::default()
            };
            options.queues[1].1 = cap;
        })
}

async fn enqueue(rig: &Rig, name: &str, count: usize) -> Vec<crate::producer::TaskHandle> {
    let options = || EnqueueOptions {
        queue: Some(queue(name)),
        want_outcome: true,
        ..EnqueueOptions::default()
    };
    let prepare = |_| {
        rig.producer()
            .prepare(&Work(name.into()), options())
            .unwrap()
    };
    let prepared: Vec<_> = (0..count).map(prepare).collect();
    let handles = prepared.iter().map(|p| p.handle.clone()).collect();
    rig.producer().add(prepared).await.unwrap();
    handles
}

/// Goal: no more attempts run than there are permits, no queue exceeds its cap, no more is held than is prefetched,
/// and a queue with a few tasks is served while another one is full of them.
/// Method: saturate one queue, then add a few tasks to a capped one, and look all the while.
#[test]
fn permits_bound_and_share() {
    run(async {
        let crowds = Crowds::default();
        let rig = working(&crowds).start().await;
        enqueue(&rig, "default", 450).await;
        for _ in 0..4 {
            enqueue(&rig, "default", 450).await;
        }
        let few = enqueue(&rig, "capped", 10).await;
        let mut most = 0;
        for handle in &few {
            assert_eq!(rig.wait(handle).await.state, TaskState::Succeeded);
            let held: u64 = rig.queues().await.iter().map(|queue| queue.active).sum();
            most = most.max(held);
        }
        let left = status(&rig, "default").await.held();
        assert!(
            left > 100,
            "the few are served before the many: {left} are left"
        );
        assert!(most <= 4 + 2 * 4, "{most} are held");
        rig.wait_until_empty().await;
        assert!(crowds.all.most() <= 4 && crowds.capped.most() == 1);
        assert!(
            crowds.all.most() >= 3,
            "permits are used: {}",
            crowds.all.most()
        );
        rig.probe
            .until(|| rig.tree().permits().totals() == (4, 4))
            .await;
        rig.stop().await;
    });
}

/// Goal: two workers on one broker share the work, and each task runs once.
/// Method: two trees, a few hundred tasks.
#[test]
fn two_workers_share_the_work() {
    run(async {
        let crowds = Crowds::default();
        let first = working(&crowds).start().await;
        let second = working(&crowds)
            .beside(&first)
            .worker("second")
            .start()
            .await;
        let handles = enqueue(&first, "default", 300).await;
        for handle in &handles {
            assert_eq!(first.wait(handle).await.state, TaskState::Succeeded);
        }
        let starts = |rig: &Rig| rig.probe.count(|event| event.end.is_none());
        let (a, b) = (starts(&first), starts(&second));
        assert_eq!(a + b, 300);
        assert!(
            a > 30 && b > 30,
            "{a} and {b}\n{}\n\n{}",
            first.probe,
            second.probe
        );
        first.stop().await;
        second.stop().await;
    });
}

/// Goal: many tasks all end, once, and the books balance.
/// Method: ten thousand that do nothing.
#[test]
fn ten_thousand_tasks_balance() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        let handles = rig.enqueue_all(vec![Noop; 10_000]).await;
        for handle in &handles {
            assert_eq!(rig.wait(handle).await.state, TaskState::Succeeded);
        }
        let queue = status(&rig, "default").await;
        let counters = queue.counters;
        assert_eq!((counters.enqueued, counters.succeeded), (10_000, 10_000));
        assert_eq!((counters.outstanding(), queue.held()), (0, 0));
        assert_eq!(
            (counters.released, counters.rescued, counters.stale),
            (0, 0, 0),
            "{:?}",
            rig.probe.logged("thread")
        );
        assert_eq!(rig.probe.count(|event| event.end.is_none()), 10_000);
        assert_eq!(
            rig.tree()
                .activity()
                .iter()
                .map(|lane| lane.running_total)
                .sum::<usize>(),
            0
        );
        rig.stop().await;
    });
}

/// Goal: an idle tree leaves the broker alone, and still wakes at once.
/// Method: count calls over a second, then time tasks that come one by one.
#[test]
fn an_idle_tree_is_quiet_and_wakes_at_once() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        tokio::time::sleep(ms(100)).await;
        let before = rig.faults().calls();
        tokio::time::sleep(ms(1_000)).await;
        let calls = rig.faults().calls() - before;
        assert!(calls <= 10, "{calls} calls in a second");
        let start = tokio::time::Instant::now();
        for _ in 0..50 {
            assert_eq!(rig.run(Noop).await, Ok(()));
        }
        let each = start.elapsed() / 50;
        // Without bells it is the net under them that wakes, every few seconds.
        assert!(each < Duration::from_secs(1), "{each:?} each");
        rig.stop().await;
    });
}
