//! Isolated attempts that wait for a child process: they take up nobody's permit, and have not started.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Noop, ms, quick, run, status};
use crate::attempt::Attempt;
use crate::isolated::{IsolatedAttempt, Report};
use crate::mode::Mode;
use crate::ports::{ChildStatus, Death, IsolatedEnd, Isolation};
use crate::producer::TaskHandle;
use crate::revocation::Revocation;
use crate::state::TaskState;
use crate::task;
use crate::testkit::{Rig, RigBuilder};
use crate::time::Clock as _;

/// Has its child until it is told to stop.
#[derive(Clone, Serialize, Deserialize)]
struct Hang;
task!(Hang as "test.hang" -> (), quick(1).mode(Mode::Isolated).hard_limit(Duration::from_secs(3_600)));

/// Ends at once.
#[derive(Clone, Serialize, Deserialize)]
struct Step;
task!(Step as "test.step" -> (), quick(1).mode(Mode::Isolated));

/// One child, which is not really there.
#[derive(Debug)]
struct OneChild(Arc<Semaphore>);

#[async_trait]
impl Isolation for OneChild {
    fn places(&self) -> Option<Arc<Semaphore>> {
        Some(Arc::clone(&self.0))
    }

    async fn run(&self, mut attempt: IsolatedAttempt) -> IsolatedEnd {
        let brought = attempt.take_place();
        let acquired = async {
            match brought {
                Some(place) => Ok(place),
                None => Arc::clone(&self.0).acquire_owned().await,
            }
        };
        let place = tokio::select! {
            place = acquired => place,
            _why = attempt.stopped() => return IsolatedEnd::Withdrawn,
        };
        if place.is_err() || !attempt.begin() {
            return IsolatedEnd::Withdrawn;
        }
        if attempt.task().as_str() == "test.step" {
            tokio::task::yield_now().await;
            return IsolatedEnd::Reported(Report::refused("done"));
        }
        let _why = attempt.stopped().await;
        IsolatedEnd::Died(Death {
            status: "signal 9 (SIGKILL)".to_owned(),
            peak_memory: None,
            host: "somewhere".to_owned(),
            pid: 7,
            last_lines: Vec::new(),
            was_alone: true,
        })
    }

    fn children(&self) -> Vec<ChildStatus> {
        Vec::new()
    }

    async fn close(&self) {
        self.0.close();
    }
}

/// A process with three permits and room for six deliveries that wait.
fn rig() -> RigBuilder {
    Rig::builder()
        .isolation(Arc::new(OneChild(Arc::new(Semaphore::new(1)))))
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|_: Attempt<Hang>| async { Ok(()) })
        .task(|_: Attempt<Step>| async { Ok(()) })
        .options(|options| {
            options.lanes = 1;
            options.concurrency = 3;
        })
}

/// Returns how many attempts run, and how many wait for a child.
fn at_work(rig: &Rig) -> (usize, usize) {
    let lanes = rig.tree().activity();
    let running = lanes.iter().map(|lane| lane.running_total).sum();
    (running, lanes.iter().map(|lane| lane.waiting_total).sum())
}

/// Starts a rig whose one child is taken, with `waiting` more attempts that want one.
async fn taken(waiting: usize) -> (Rig, TaskHandle, Vec<TaskHandle>) {
    let rig = rig().start().await;
    let first = rig.enqueue(Hang).await;
    rig.probe.wait_for_start(first.id, 1).await;
    let others = rig.enqueue_all(vec![Hang; waiting]).await;
    rig.probe.until(|| at_work(&rig) == (1, waiting)).await;
    (rig, first, others)
}

async fn revoke(rig: &Rig, handle: &TaskHandle) {
    let forget_at = rig.clock().now().plus(Duration::from_secs(3_600));
    let revocation = Revocation::id(handle.id).terminate();
    let broker = rig.broker();
    crate::ports::Broker::revoke(&**broker, &handle.queue, &[revocation], forget_at)
        .await
        .unwrap();
}

/// Goal: attempts that wait for a child leave the permits to others of their queue, and are not said to run.
/// Method: twice as many as there are permits wait, while others run.
#[test]
fn waiting_for_a_child_takes_up_no_permit() {
    run(async {
        let (rig, first, others) = taken(6).await;
        for _ in 0..20 {
            assert_eq!(rig.run(Noop).await, Ok(()));
        }
        assert_eq!(at_work(&rig), (1, 6));
        assert!(others.iter().all(|other| rig.probe.starts(other.id) == 0));
        let shown = rig.tree().activity().remove(0);
        assert_eq!(shown.prefetched, 0);
        let ids: Vec<_> = shown.waiting.iter().map(|waiting| waiting.id).collect();
        assert!(others.iter().all(|other| ids.contains(&other.id)));
        // The next one has its turn, oldest first.
        revoke(&rig, &first).await;
        rig.probe.wait_for_start(others[0].id, 1).await;
        rig.stop().await;
    });
}

/// Goal: a queue is not emptied into a process whose children are taken.
#[test]
fn no_more_wait_than_may_be_prefetched() {
    run(async {
        let (rig, ..) = taken(6).await;
        rig.enqueue_all(vec![Hang; 30]).await;
        // One runs, two wait with their permits.
        rig.probe.until(|| at_work(&rig) == (1, 8)).await;
        let queue = status(&rig, "default").await;
        assert!(queue.ready >= 30 - 2 - 6, "{queue:?}");
        rig.stop().await;
    });
}

/// Goal: a revocation ends what waits for a child without a start; a stop gives it back at once, whatever runs.
#[test]
fn what_waits_is_cancelled_and_given_back() {
    run(async {
        let (rig, first, others) = taken(6).await;
        revoke(&rig, &others[2]).await;
        let record = rig.wait(&others[2]).await;
        assert_eq!(record.state, TaskState::Cancelled);
        // Two more wait with a permit.
        let more = rig.enqueue_all(vec![Hang; 3]).await;
        rig.probe.until(|| at_work(&rig) == (1, 8)).await;
        let drained = rig.tree().drain();
        let given_back = async {
            loop {
                let queue = status(&rig, "default").await;
                if queue.ready == 8 {
                    return;
                }
                tokio::time::sleep(ms(5)).await;
            }
        };
        tokio::select! {
            () = drained => panic!("one still runs"),
            () = given_back => {}
        }
        assert_eq!(at_work(&rig), (1, 0));
        let waited = others.iter().chain(&more[..]);
        let begun = waited
            .filter(|other| rig.probe.starts(other.id) > 0)
            .count();
        assert!(begun <= 2, "those with a permit: {begun}");
        assert_eq!(rig.probe.starts(first.id), 1);
        rig.stop().await;
    });
}

/// Goal: many attempts pass through one child, and whoever waits for a place and whoever waits for a permit never wait for
/// each other.
/// Method: far more than may wait, among others that need permits only, on two queues.
#[test]
fn all_have_their_turn() {
    run(async {
        let rig = rig().options(|options| options.lanes = 2).start().await;
        let mut handles = Vec::new();
        for _ in 0..10 {
            handles.extend(rig.enqueue_all(vec![Step; 15]).await);
            handles.extend(rig.enqueue_all(vec![Noop; 15]).await);
        }
        for handle in &handles {
            let state = rig.wait(handle).await.state;
            assert!(matches!(state, TaskState::Dead | TaskState::Succeeded));
        }
        assert_eq!(at_work(&rig), (0, 0));
        let (total, free) = rig.tree().permits().totals();
        assert!(free <= total);
        let queue = status(&rig, "default").await;
        assert_eq!((queue.held(), queue.counters.released), (0, 0));
        rig.stop().await;
    });
}
