//! What the ends of isolated attempts mean for their tasks, with processes that only pretend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Door, Noop, OpenAtEnd, ms, queue, quick, run, status};
use crate::attempt::Attempt;
use crate::context::AttemptProcess;
use crate::failure::FailureKind;
use crate::isolated::{IsolatedAttempt, Report};
use crate::mode::Mode;
use crate::policy::seconds;
use crate::ports::{Broker, ChildStatus, Death, IsolatedEnd, Isolation, Stop};
use crate::state::{DeadReason, TaskState};
use crate::task;
use crate::testkit::{Fault, MemoryBroker, Rig, RigBuilder, RunningClock, failure};

/// Kills its process.
#[derive(Serialize, Deserialize)]
struct Die;
task!(Die as "test.die" -> (), quick(5).mode(Mode::Isolated));

/// Never ends.
#[derive(Serialize, Deserialize)]
struct Spin;
task!(Spin as "test.spin" -> (), quick(1).mode(Mode::Isolated).hard_limit(ms(100)));

/// Does not end, and has time.
#[derive(Serialize, Deserialize)]
struct Stay;
task!(Stay as "test.stay" -> (), quick(1).mode(Mode::Isolated).hard_limit(seconds(300)));

/// Has its lane's thread until the door is open.
#[derive(Serialize, Deserialize)]
struct Block;
task!(Block as "test.block" -> (), quick(1).hard_limit(seconds(300)));

/// A process that does what the name of the task says.
#[derive(Debug)]
struct Pretended;

/// Counts how often processes were killed from elsewhere.
#[derive(Debug)]
struct Killed;

static KILLED: AtomicUsize = AtomicUsize::new(0);

impl AttemptProcess for Killed {
    fn ask(&self) {}

    fn kill(&self) {
        KILLED.fetch_add(1, Ordering::SeqCst);
    }
}

fn death(status: &str) -> Death {
    Death {
        status: status.to_owned(),
        peak_memory: Some(3 << 20),
        host: "somewhere".to_owned(),
        pid: 7,
        last_lines: vec!["first".to_owned(), "last".to_owned()],
        was_alone: true,
    }
}

#[async_trait]
impl Isolation for Pretended {
    async fn run(&self, attempt: IsolatedAttempt) -> IsolatedEnd {
        if !attempt.begin() {
            return IsolatedEnd::Withdrawn;
        }
        match attempt.task().as_str() {
            "test.die" => IsolatedEnd::Died(death("signal 6 (SIGABRT)")),
            "test.stay" => {
                attempt.runs_in(Arc::new(Killed));
                let _why = attempt.stopped().await;
                let _killed = attempt.leaves_process();
                IsolatedEnd::Died(death("signal 9 (SIGKILL)"))
            }
            "test.spin" => match attempt.stopped().await {
                Stop::HardLimit => IsolatedEnd::Died(death("signal 15 (SIGTERM)")),
                Stop::Released => IsolatedEnd::Died(death("signal 9 (SIGKILL)")),
            },
            _ => IsolatedEnd::Reported(Report::refused("sent here for nothing")),
        }
    }

    fn children(&self) -> Vec<ChildStatus> {
        Vec::new()
    }

    async fn close(&self) {}
}

fn rig() -> RigBuilder {
    Rig::builder()
        .isolation(Arc::new(Pretended))
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|_: Attempt<Die>| async { Ok(()) })
        .task(|_: Attempt<Spin>| async { Ok(()) })
}

/// Goal: a task whose process dies is interrupted, not failed; at the second death it is poison, with the evidence.
#[test]
fn a_death_is_a_strike_and_no_attempt() {
    run(async {
        let rig = rig().start().await;
        let die = rig.enqueue(Die).await;
        let record = rig.wait(&die).await;
        assert_eq!((record.state, record.attempts), (TaskState::Dead, 0));
        let crash = failure(&record);
        assert_eq!(crash.kind, FailureKind::Crash);
        assert_eq!(crash.message, "its process died: signal 6 (SIGABRT)");
        let causes = [
            "peak memory 3.0 MiB",
            "process 7 on host somewhere",
            "wrote: first",
            "wrote: last",
        ];
        assert_eq!(crash.causes, causes);
        let letter = rig.letters(1).await.remove(0);
        assert_eq!(letter.reason, DeadReason::Poison);
        assert_eq!(rig.probe.starts(die.id), 2);
        assert_eq!(rig.run(Noop).await, Ok(()), "the worker goes on");
        let counters = status(&rig, "default").await.counters;
        assert_eq!(
            (counters.retried, counters.dead, counters.outstanding()),
            (1, 1, 0)
        );
        rig.stop().await;
    });
}

/// Goal: a process that is ended at the hard limit of its attempt costs that attempt, and its evidence is kept.
#[test]
fn a_hard_limit_costs_the_attempt() {
    run(async {
        let rig = rig().start().await;
        let failure = rig.run(Spin).await.unwrap_err();
        assert_eq!((failure.kind, failure.attempt), (FailureKind::HardLimit, 1));
        assert!(failure.message.contains("SIGTERM"), "{failure:?}");
        assert!(failure.causes.contains(&"wrote: last".to_owned()));
        rig.stop().await;
    });
}

/// Goal: the end of the worker undoes an isolated attempt.
#[test]
fn an_isolated_attempt_is_undone_at_the_end_of_its_worker() {
    run(async {
        let rig = rig().start().await;
        let options = crate::producer::EnqueueOptions {
            overrides: crate::envelope::Overrides {
                hard_limit_ms: Some(60_000),
                ..Default::default()
            },
            ..Default::default()
        };
        let spin = rig.enqueue_with(Spin, options).await;
        rig.probe.wait_for_start(spin.id, 1).await;
        rig.tree().give_back(crate::testkit::PATIENCE).await;
        rig.tree().let_go(crate::testkit::PATIENCE).await;
        let queue = status(&rig, "default").await;
        assert_eq!((queue.ready, queue.counters.released), (1, 1));
        rig.stop().await;
    });
}

/// Goal: a lost lease ends the process of an attempt, although the thread that would do so is blocked.
/// Method: cut the worker off from the broker while its lease passes and another process sweeps; then let it come back.
#[test]
fn a_lost_lease_ends_the_process_of_an_attempt_on_a_blocked_lane() {
    run(async {
        let (door, clock) = (Door::default(), Arc::new(RunningClock::new()));
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig()
            .broker(MemoryBroker::new(clock.clone()))
            .state(door)
            .task(|_: Attempt<Stay>| async { Ok(()) })
            .task(|a: Attempt<Block>| async move {
                a.state::<Door>()?.pass();
                Ok(())
            })
            .options(|options| {
                options.lanes = 1;
                options.lease = Duration::from_secs(1);
                options.blocked_deadline = seconds(300);
            })
            .start()
            .await;
        let stay = rig.enqueue(Stay).await;
        rig.probe.wait_for_start(stay.id, 1).await;
        let block = rig.enqueue(Block).await;
        rig.probe.wait_for_start(block.id, 1).await;
        assert_eq!(KILLED.load(Ordering::SeqCst), 0);
        rig.faults().plan(Fault::Away);
        let mut rescued = 0;
        while rescued == 0 {
            clock.advance(ms(400));
            let swept = rig.broker().sweep(&queue("default"), 100).await;
            rescued = swept.unwrap().rescued;
        }
        rig.faults().heal();
        rig.probe.until(|| KILLED.load(Ordering::SeqCst) == 1).await;
        rig.stop().await;
    });
}
