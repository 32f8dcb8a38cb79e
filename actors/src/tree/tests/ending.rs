//! How the tree ends: drained, told to give back, stopped, or beaten.

use std::time::Duration;

use super::{Gate, Hang, Noop, ms, queue, rig, run, status};
use crate::child::ExitReason;
use crate::intensity::Limit;
use crate::state::TaskState;
use crate::testkit::{End, Fault, Method};

const BOUND: Duration = Duration::from_secs(60);

/// Goal: draining finishes what runs, gives back the rest in its order and uncounted, and fetches nothing more.
/// Method: one permit, a task that hangs, and others prefetched behind it.
#[test]
fn a_drain_finishes_what_runs_and_gives_back_the_rest() {
    run(async {
        let gate = Gate::new();
        let rig = rig(&gate)
            .options(|options| {
                options.lanes = 1;
                options.concurrency = 1;
            })
            .start()
            .await;
        rig.enqueue_all(vec![Noop; 20]).await;
        let hangs = rig.enqueue(Hang).await;
        let behind = rig.enqueue_all(vec![Noop; 5]).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        let started = |handle: &crate::producer::TaskHandle| rig.probe.starts(handle.id);
        let drained = async {
            rig.tree().drain().await;
        };
        let opened = async {
            while status(&rig, "default").await.active > 1 {
                tokio::time::sleep(ms(2)).await;
            }
            let late = rig.enqueue(Noop).await;
            gate.open();
            late
        };
        let ((), late) = tokio::time::timeout(BOUND, async { tokio::join!(drained, opened) })
            .await
            .unwrap();
        assert_eq!(rig.wait(&hangs).await.state, TaskState::Succeeded);
        let all: Vec<_> = behind.iter().chain([&late]).collect();
        assert_eq!(all.iter().map(|handle| started(handle)).sum::<usize>(), 0);
        let label = |id: crate::ids::TaskId| {
            let hex = id.as_uuid().simple().to_string();
            hex[hex.len() - 4..].to_owned()
        };
        let ready: Vec<String> = all.iter().map(|handle| label(handle.id)).collect();
        let expected = format!(
            "ready [{}] scheduled [] retrying [] active [] dead []",
            ready.join(" ")
        );
        assert_eq!(rig.broker().snapshot(&queue("default")), expected);
        assert_eq!(
            status(&rig, "default").await.consumers,
            0,
            "the incarnation is closed"
        );
        assert_eq!(rig.stop().await, ExitReason::Normal);
    });
}

/// Goal: what still runs at the end of the grace is dropped and given back, uncounted, and nothing is fetched again.
/// Method: tasks that never end.
#[test]
fn what_still_runs_is_given_back() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        let handles = rig.enqueue_all(vec![Hang; 4]).await;
        for handle in &handles {
            rig.probe.wait_for_start(handle.id, 1).await;
        }
        let given = tokio::time::timeout(ms(100), rig.tree().drain()).await;
        assert!(given.is_err(), "they never end");
        rig.tree().give_back(BOUND).await;
        rig.tree().let_go(BOUND).await;
        let queue = status(&rig, "default").await;
        assert_eq!(
            (queue.ready, queue.active, queue.consumers),
            (4, 0, 0),
            "{}",
            rig.probe
        );
        for handle in &handles {
            assert_eq!(rig.probe.ends(handle.id), [End::Released]);
            assert_eq!(rig.probe.starts(handle.id), 1);
        }
        assert_eq!(rig.stop().await, ExitReason::Normal);
    });
}

/// Goal: a tree that is stopped gives back what runs, and asks nobody's leave.
/// Method: stop it in the middle of work, without a drain.
#[test]
fn a_stop_gives_back_what_runs() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        let broker = std::sync::Arc::clone(rig.broker());
        let handles = rig.enqueue_all(vec![Hang; 4]).await;
        for handle in &handles {
            rig.probe.wait_for_start(handle.id, 1).await;
        }
        let stopped = tokio::time::timeout(BOUND, rig.stop()).await;
        assert_eq!(stopped.unwrap(), ExitReason::Normal);
        let snapshot = broker.snapshot(&queue("default"));
        assert!(
            snapshot.contains("active [] ") && !snapshot.contains("ready []"),
            "{snapshot}"
        );
    });
}

/// Goal: a tree stops in time while the broker is away; a drain with nothing to finish ends at once.
/// Method: take the broker away for good.
#[test]
fn a_stop_does_not_wait_for_a_broker_that_is_away() {
    run(async {
        let rig = rig(&Gate::new()).start().await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.faults().plan(Fault::Away);
        rig.tree().give_back(ms(200)).await;
        let stopped = tokio::time::timeout(BOUND, rig.stop()).await;
        assert_eq!(stopped.unwrap(), ExitReason::Normal);
    });
}

/// Goal: a child is restarted by name, and its tasks run again without a restart of anything else.
/// Method: restart a consumer while it runs a task.
#[test]
fn a_child_is_restarted_by_its_path() {
    run(async {
        let gate = Gate::new();
        let rig = rig(&gate)
            .options(|options| options.lanes = 1)
            .start()
            .await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.restart("work/lane-0/consumer-default").await;
        rig.probe.wait_for_start(hangs.id, 2).await;
        gate.open();
        assert_eq!(rig.wait(&hangs).await.attempts, 1);
        assert!(!rig.tree().restart("work/lane-9/thread").await);
        rig.restart("services").await;
        rig.wait_for_tree(|tree| tree.find("services").unwrap().incarnation == 2)
            .await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        rig.stop().await;
    });
}

/// Goal: one of our own actors that keeps panicking brings the tree to its end, with an error.
/// Method: let each panic in its own call to the broker, once more than is accepted.
#[test]
fn a_service_that_keeps_panicking_ends_the_tree() {
    run(async {
        for method in [Method::Sweep, Method::PromoteDue] {
            let rig = rig(&Gate::new())
                .options(|options| options.limit = Limit::new(1, Duration::from_secs(60)))
                .start()
                .await;
            assert_eq!(rig.run(Noop).await, Ok(()));
            rig.faults().plan(Fault::Panic { method, times: 2 });
            let exit = tokio::time::timeout(BOUND, rig.tree().exited()).await;
            assert!(matches!(exit.unwrap(), ExitReason::Error { .. }));
        }
    });
}
