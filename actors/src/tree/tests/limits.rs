//! Soft limits, hard limits, and work that blocks a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{Door, Dropped, OpenAtEnd, ms, quick, run};
use crate::attempt::Attempt;
use crate::failure::FailureKind;
use crate::policy::seconds;
use crate::state::TaskState;
use crate::task;
use crate::task::TaskError;
use crate::testkit::{End, Rig};

#[derive(Serialize, Deserialize)]
struct Soft {
    obeys: bool,
}
task!(Soft as "test.soft" -> (), quick(1).soft_limit(ms(500)).hard_limit(seconds(60)));

#[derive(Serialize, Deserialize)]
struct Hard;
task!(Hard as "test.hard" -> (), quick(2).hard_limit(seconds(2)));

#[derive(Serialize, Deserialize)]
enum Block {
    Return,
    Panic,
    /// In its first attempt until the door is open.
    Wait,
}
task!(Block as "test.block" -> u64, quick(2).hard_limit(seconds(2)));

/// Goal: at its soft limit an attempt is asked to stop; one that does not care may finish.
/// Method: one waits for the limit and says so, one runs past it.
#[test]
fn a_soft_limit_asks_and_does_not_force() {
    run(async {
        let rig = Rig::builder()
            .task(|a: Attempt<Soft>| async move {
                assert!(!a.is_past_soft_limit());
                a.soft_limit().await;
                assert!(a.is_past_soft_limit() && a.remaining() > seconds(50));
                if a.args.obeys {
                    return Err(TaskError::soft_limit());
                }
                tokio::time::sleep(ms(20)).await;
                Ok(())
            })
            .start()
            .await;
        let failure = rig.run(Soft { obeys: true }).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::SoftLimit);
        assert_eq!(rig.run(Soft { obeys: false }).await, Ok(()));
        rig.stop().await;
    });
}

/// Goal: at its hard limit an attempt is dropped for real, and the task is tried again.
/// Method: the first attempt waits for ever with something in its hands; the second returns.
#[test]
fn a_hard_limit_drops_the_attempt() {
    run(async {
        let dropped = Arc::new(AtomicBool::new(false));
        let rig = Rig::builder()
            .state(Arc::clone(&dropped))
            .task(|a: Attempt<Hard>| async move {
                if a.number() == 1 {
                    let _in_hand = Dropped(Arc::clone(a.state::<Arc<AtomicBool>>()?));
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
            .start()
            .await;
        let handle = rig.enqueue(Hard).await;
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 2));
        assert!(dropped.load(Ordering::SeqCst));
        assert_eq!(rig.probe.ends(handle.id), [End::Retried, End::Succeeded]);
        assert!(
            !rig.probe
                .logged("error=dropped at its hard limit of 2s")
                .is_empty()
        );
        rig.stop().await;
    });
}

/// Goal: blocking work returns, panics and overstays its limit without harm to its lane.
/// Method: one task of each sort; the last one's thread is blocked until the end of the test.
#[test]
fn blocking_work_has_threads_of_its_own() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = Rig::builder()
            .state(door.clone())
            .task(|a: Attempt<Block>| async move {
                let first = a.number() == 1;
                let door = a.state::<Door>()?.clone();
                match a.args {
                    Block::Panic => a.blocking(|| -> u64 { panic!("boom in blocking") }).await,
                    Block::Wait if first => {
                        a.blocking(move || {
                            door.pass();
                            1
                        })
                        .await
                    }
                    _ => a.blocking(|| 42).await,
                }
                .map_err(TaskError::from)
            })
            .start()
            .await;
        assert_eq!(rig.run(Block::Return).await, Ok(42));
        let failure = rig.run(Block::Panic).await.unwrap_err();
        assert!(failure.message.contains("boom in blocking"), "{failure:?}");
        assert!(failure.message.contains("limits.rs:"), "{failure:?}");
        let handle = rig.enqueue(Block::Wait).await;
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 2));
        assert_eq!(rig.probe.ends(handle.id), [End::Retried, End::Succeeded]);
        door.open();
        rig.stop().await;
    });
}
