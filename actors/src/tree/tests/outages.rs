//! Brokers and stores that are away, leases that are lost, consumers that die.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Gate, Hang, Noop, ms, queue, quick, rig, run, status};
use crate::attempt::Attempt;
use crate::child::TreeNode;
use crate::ports::Broker;
use crate::state::TaskState;
use crate::task;
use crate::testkit::{End, MemoryBroker};
use crate::testkit::{Fault, Method, Rig, RunningClock};

#[derive(Clone, Serialize, Deserialize)]
struct Doze;
task!(Doze as "test.doze");

#[derive(Serialize, Deserialize)]
struct Die;
task!(Die as "test.die" -> (), quick(1));

fn restarts(node: &TreeNode) -> u64 {
    node.restarts_total + node.children.iter().map(restarts).sum::<u64>()
}

fn dozing(gate: &Gate) -> crate::testkit::RigBuilder {
    rig(gate)
        .task(|_: Attempt<Doze>| async {
            tokio::time::sleep(ms(1)).await;
            Ok(())
        })
        .task(|_: Attempt<Die>| async { Err("dead".into()) })
}

async fn all_ran_once(rig: &Rig, handles: &[crate::producer::TaskHandle]) {
    for handle in handles {
        let record = rig.wait(handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.probe.starts(handle.id), 1, "{}", rig.probe);
    }
    let queue = status(rig, "default").await;
    assert_eq!(
        (
            queue.held(),
            queue.counters.outstanding(),
            queue.counters.stale
        ),
        (0, 0, 0)
    );
}

/// Goal: replies that are lost and calls that do not arrive lose nothing and run nothing twice.
/// Method: a few hundred tasks, with failures planned for every call of theirs.
#[test]
fn lost_replies_run_nothing_twice() {
    run(async {
        let rig = dozing(&Gate::new()).start().await;
        for (method, times) in [(Method::Exchange, 7), (Method::Open, 1), (Method::Renew, 2)] {
            rig.faults().plan(Fault::LostReply { method, times });
            rig.faults().plan(Fault::Unanswered { method, times });
        }
        let handles = rig.enqueue_all(vec![Doze; 300]).await;
        all_ran_once(&rig, &handles).await;
        assert_eq!(restarts(&rig.tree().inspect()), 0);
        rig.stop().await;
    });
}

/// Goal: a broker that is away is a state: nobody crashes, nothing is lost, its leaving and its return are logged once.
/// Method: take it away in the middle of a load, see that the tree says so, bring it back.
#[test]
fn a_broker_that_is_away_is_waited_for() {
    run(async {
        let rig = dozing(&Gate::new()).start().await;
        let handles = rig.enqueue_all(vec![Doze; 300]).await;
        rig.probe.wait_for(|events| events.len() > 50).await;
        rig.faults().plan(Fault::Away);
        rig.probe
            .until(|| rig.tree().broker_outage().is_some())
            .await;
        tokio::time::sleep(ms(200)).await;
        rig.faults().heal();
        all_ran_once(&rig, &handles).await;
        rig.probe
            .until(|| rig.tree().broker_outage().is_none())
            .await;
        assert_eq!(restarts(&rig.tree().inspect()), 0);
        for line in ["is away; retrying", "is back away_ms"] {
            let logged = rig.probe.logged(line);
            assert_eq!(logged.len(), 1, "{logged:?}");
        }
        rig.stop().await;
    });
}

/// Goal: a broker that takes no writes and answers reads is one outage, and told of once.
/// Method: make it read-only in the middle of a load, while others ring its bells; heal it.
#[test]
fn a_broker_that_refuses_writes_is_one_outage() {
    run(async {
        let rig = dozing(&Gate::new()).start().await;
        let mut handles = rig.enqueue_all(vec![Doze; 100]).await;
        rig.probe.wait_for(|events| events.len() > 50).await;
        rig.faults().plan(Fault::ReadOnly);
        rig.probe.wait_for_line("refuses writes").await;
        for _ in 0..10 {
            let calls = rig.faults().calls();
            // Rings the bell that a call of the tree waits for.
            handles.push(rig.enqueue(Doze).await);
            rig.probe.until(|| rig.faults().calls() > calls + 3).await;
        }
        assert!(rig.tree().broker_outage().is_some());
        rig.faults().heal();
        all_ran_once(&rig, &handles).await;
        rig.probe
            .until(|| rig.tree().broker_outage().is_none())
            .await;
        assert_eq!(restarts(&rig.tree().inspect()), 0);
        for (line, times) in [("refuses writes", 1), ("is away", 0), ("is back", 1)] {
            let logged = rig.probe.logged(line);
            assert_eq!(logged.len(), times, "{logged:?}");
        }
        rig.stop().await;
    });
}

/// Goal: what a dead consumer held runs again at once, uncounted, and what it had finished is not run again.
/// Method: kill it by a panic in its own call, which carries the end of one task while another one runs.
#[test]
fn a_consumer_that_dies_costs_no_attempt() {
    run(async {
        let gate = Gate::new();
        let rig = dozing(&gate)
            .options(|options| {
                options.lanes = 1;
                // It is not the end of a lease that gives anything back here.
                options.lease = Duration::from_secs(600);
            })
            .start()
            .await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.faults().plan(Fault::Panic {
            method: Method::Exchange,
            times: 1,
        });
        let other = rig.enqueue(Noop).await;
        rig.probe.wait_for_start(hangs.id, 2).await;
        gate.open();
        for handle in [&hangs, &other] {
            let record = rig.wait(handle).await;
            assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        }
        let tree = rig.tree().inspect();
        assert_eq!(
            tree.find("work/lane-0/consumer-default")
                .unwrap()
                .restarts_total,
            1
        );
        rig.wait_until_empty().await;
        rig.stop().await;
    });
}

/// Goal: a task that was done when its consumer died is not run again.
/// Method: the consumer dies in the call that settles it.
#[test]
fn what_was_done_when_a_consumer_died_stays_done() {
    run(async {
        let gate = Gate::new();
        let rig = dozing(&gate)
            .options(|options| options.lanes = 1)
            .start()
            .await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.faults().plan(Fault::Panic {
            method: Method::Exchange,
            times: 1,
        });
        gate.open();
        let record = rig.wait(&hangs).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.probe.starts(hangs.id), 1);
        rig.wait_until_empty().await;
        rig.stop().await;
    });
}

/// Goal: a worker that was presumed dead drops what it runs, starts over, and can settle nothing of before.
/// Method: cut it off from the broker while its lease passes and another process sweeps; then let it come back.
#[test]
fn a_lost_lease_cancels_and_starts_over() {
    run(async {
        let (gate, clock) = (Gate::new(), Arc::new(RunningClock::new()));
        let broker = MemoryBroker::new(clock.clone());
        let rig = dozing(&gate)
            .broker(broker)
            .options(|options| {
                options.lanes = 1;
                options.lease = Duration::from_secs(1);
            })
            .start()
            .await;
        let hangs = rig.enqueue(Hang).await;
        rig.probe.wait_for_start(hangs.id, 1).await;
        rig.faults().plan(Fault::Away);
        let mut rescued = 0;
        while rescued == 0 {
            clock.advance(ms(400));
            rescued = rig
                .broker()
                .sweep(&queue("default"), 100)
                .await
                .unwrap()
                .rescued;
        }
        rig.faults().heal();
        rig.probe.wait_for_start(hangs.id, 2).await;
        gate.open();
        let record = rig.wait(&hangs).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        rig.probe
            .wait_for_line("incarnation was closed by the broker")
            .await;
        rig.wait_until_empty().await;
        let ends = rig.probe.ends(hangs.id);
        assert_eq!(
            ends.iter().filter(|end| **end == End::Succeeded).count(),
            1,
            "{ends:?}"
        );
        assert_eq!(restarts(&rig.tree().inspect()), 0);
        rig.stop().await;
    });
}

/// Goal: a store that is away delays dead letters and loses none.
/// Method: tasks die while it is away; it comes back.
#[test]
fn dead_letters_wait_for_the_store() {
    run(async {
        let rig = dozing(&Gate::new()).start().await;
        rig.store().set_away(true);
        for _ in 0..3 {
            rig.run(Die).await.unwrap_err();
        }
        rig.probe
            .until(|| rig.tree().store_outage().is_some())
            .await;
        assert_eq!(status(&rig, "default").await.dead_outbox, 3);
        rig.store().set_away(false);
        rig.letters(3).await;
        rig.probe
            .until(|| rig.tree().store_outage().is_none())
            .await;
        assert_eq!(restarts(&rig.tree().inspect()), 0);
        rig.stop().await;
    });
}
