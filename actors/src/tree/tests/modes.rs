//! Attempts on threads that may be blocked: where they run, how they end, what happens when they never end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Door, Dropped, Noop, OpenAtEnd, ms, quick, run, status};
use crate::attempt::Attempt;
use crate::blocking::BlockingPool;
use crate::envelope::Overrides;
use crate::failure::FailureKind;
use crate::mode::Mode;
use crate::policy::seconds;
use crate::ports::Broker as _;
use crate::producer::EnqueueOptions;
use crate::registry::{RegisterError, Registry};
use crate::revocation::Revocation;
use crate::state::TaskState;
use crate::task;
use crate::task::TaskError;
use crate::testkit::{PATIENCE, Rig, RigBuilder, failure, output};
use crate::time::Clock as _;

/// Tells the name of the thread that runs it, after a wait.
#[derive(Clone, Serialize, Deserialize)]
struct Where;
task!(Where as "test.where" -> String, quick(2).mode(Mode::Blocking));

/// The same, synchronous.
#[derive(Serialize, Deserialize)]
struct WhereSync;
task!(WhereSync as "test.where_sync" -> String);

/// Panics.
#[derive(Serialize, Deserialize)]
struct Boom;
task!(Boom as "test.boom" -> (), quick(1));

/// Waits for the door, whatever its limit says.
#[derive(Serialize, Deserialize)]
struct Stay;
task!(Stay as "test.stay" -> (), quick(1).hard_limit(ms(100)));

/// Awaits for ever, on a thread of the pool.
#[derive(Serialize, Deserialize)]
struct Hang;
task!(Hang as "test.hang" -> (), quick(1).hard_limit(ms(100)).mode(Mode::Blocking));

fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

fn rig(door: &Door) -> RigBuilder {
    Rig::builder()
        .state(door.clone())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|_: Attempt<Where>| async {
            tokio::time::sleep(ms(1)).await;
            Ok(thread())
        })
        .blocking_task(|_: Attempt<WhereSync>| Ok(thread()))
        .blocking_task(|_: Attempt<Boom>| -> Result<(), TaskError> { panic!("boom") })
        .blocking_task(|a: Attempt<Stay>| {
            a.state::<Door>()?.pass();
            Ok(())
        })
}

fn overridden(mode: Mode) -> EnqueueOptions {
    EnqueueOptions {
        overrides: Overrides {
            mode: Some(mode),
            ..Overrides::default()
        },
        ..EnqueueOptions::default()
    }
}

/// Goal: an attempt runs where its policy says, or its task instead; a synchronous function never on its lane's thread.
#[test]
fn attempts_run_where_they_are_to_run() {
    run(async {
        let rig = rig(&Door::default()).start().await;
        let pool = "celeriac-block-";
        assert!(rig.run(Where).await.unwrap().starts_with(pool));
        assert!(rig.run(WhereSync).await.unwrap().starts_with(pool));
        for (mode, on_pool) in [(Mode::Inline, false), (Mode::Blocking, true)] {
            let handle = rig.enqueue_with(Where, overridden(mode)).await;
            let name: String = output(&rig.wait(&handle).await);
            assert_eq!(name.starts_with(pool), on_pool, "{mode}: {name}");
            let handle = rig.enqueue_with(WhereSync, overridden(mode)).await;
            let name: String = output(&rig.wait(&handle).await);
            assert!(name.starts_with(pool), "{mode}: {name}");
        }
        let isolated = rig.enqueue_with(Where, overridden(Mode::Isolated)).await;
        let refused = failure(&rig.wait(&isolated).await);
        assert_eq!(refused.kind, FailureKind::Permanent, "{refused:?}");
        assert!(refused.message.contains("isolated"), "{refused:?}");
        rig.stop().await;
    });
}

#[test]
fn a_panic_on_a_thread_of_the_pool_has_its_place() {
    run(async {
        let rig = rig(&Door::default()).start().await;
        let failure = rig.run(Boom).await.unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Panic, "boom")
        );
        assert!(failure.location.unwrap().contains("modes.rs"));
        assert!(rig.run(WhereSync).await.is_ok());
        rig.stop().await;
    });
}

/// Goal: an async function on a thread is dropped at its hard limit where it awaits, and its thread is free again.
#[test]
fn an_async_function_on_a_thread_is_dropped_at_its_hard_limit() {
    run(async {
        let dropped = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&dropped);
        let rig = rig(&Door::default())
            .blocking_pool(BlockingPool::replacing(1, 0))
            .task(move |_: Attempt<Hang>| {
                let held = Dropped(Arc::clone(&held));
                async move {
                    let _held = held;
                    std::future::pending::<Result<(), TaskError>>().await
                }
            })
            .start()
            .await;
        assert_eq!(
            rig.run(Hang).await.unwrap_err().kind,
            FailureKind::HardLimit
        );
        assert!(rig.run(WhereSync).await.is_ok(), "{}", rig.probe);
        assert!(dropped.load(std::sync::atomic::Ordering::SeqCst));
        rig.stop().await;
    });
}

/// Goal: a thread that hangs beyond the hard limit of its work is replaced, up to the bound; beyond it the process asks to
/// be replaced. What waits for a thread meanwhile uses up none of its own limit.
/// Method: a pool of one thread with one replacement; two attempts that stay, and one that waits behind them.
#[test]
fn stuck_threads_are_replaced_up_to_a_bound() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let pool = BlockingPool::replacing(1, 1);
        let rig = rig(&door)
            .blocking_pool(pool.clone())
            .options(|options| options.blocked_deadline = ms(400))
            .start()
            .await;
        assert_eq!(
            rig.run(Stay).await.unwrap_err().kind,
            FailureKind::HardLimit
        );
        assert!(rig.run(WhereSync).await.is_ok(), "its thread was replaced");
        let waits = tokio::time::timeout(ms(600), rig.tree().wants_recycling());
        assert!(waits.await.is_err(), "one is within the bound");

        let second = rig.enqueue(Stay).await;
        assert_eq!(
            failure(&rig.wait(&second).await).kind,
            FailureKind::HardLimit
        );
        let third = rig.enqueue(Stay).await;
        rig.tree().wants_recycling().await;
        assert_eq!(pool.stuck(), 2, "{}", rig.probe);
        assert_eq!(rig.probe.ends(third.id), [], "it has not begun");
        door.open();
        rig.wait(&third).await;
        rig.probe.until(|| pool.stuck() == 0).await;
        assert!(rig.run(WhereSync).await.is_ok());
        let counters = status(&rig, "default").await.counters;
        assert_eq!((counters.dead, counters.stale), (2, 0), "{}", rig.probe);
        rig.stop().await;
    });
}

/// Goal: an attempt that waits for a thread is given back at once when the process ends, one that has a thread last of all.
#[test]
fn what_waits_for_a_thread_is_given_back_at_once() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig(&door)
            .blocking_pool(BlockingPool::replacing(1, 0))
            .start()
            .await;
        let mut long = EnqueueOptions::default();
        long.overrides.hard_limit_ms = Some(60_000);
        let first = rig.enqueue_with(Stay, long.clone()).await;
        rig.probe.wait_for_start(first.id, 1).await;
        let second = rig.enqueue_with(Stay, long).await;
        rig.probe.wait_for_start(second.id, 1).await;
        rig.tree().give_back(PATIENCE).await;
        let queue = status(&rig, "default").await;
        assert_eq!((queue.ready, queue.active), (1, 1), "{}", rig.probe);
        rig.tree().stop().await;
        let queue = status(&rig, "default").await;
        assert_eq!((queue.ready, queue.active), (2, 0), "{}", rig.probe);
    });
}

#[test]
fn a_mode_that_a_kind_cannot_have_is_a_mistake() {
    let mut registry = Registry::default();
    registry
        .blocking_function(|_: Attempt<Noop>| Ok(()))
        .unwrap();
    let noop: crate::ids::TaskName = "test.noop".parse().unwrap();
    let check = |mode, isolation| registry.check_mode(&noop, mode, isolation);
    assert_eq!(check(Mode::Blocking, false), Ok(()));
    assert_eq!(check(Mode::Isolated, true), Ok(()));
    assert!(matches!(
        check(Mode::Inline, true),
        Err(RegisterError::Mode { .. })
    ));
    assert!(matches!(
        check(Mode::Isolated, false),
        Err(RegisterError::Mode { .. })
    ));
    assert!(registry.mode_mistakes(false).is_empty());
    registry.adjust(&noop, |policy| {
        policy.mode(Mode::Inline).hard_limit(seconds(1))
    });
    assert_eq!(registry.mode_mistakes(false).len(), 1);
}

/// Tells that it heard of its revocation.
#[derive(Serialize, Deserialize)]
struct Heed;
task!(Heed as "test.heed" -> (), quick(1));

/// Goal: an attempt that is revoked while it waits for a thread does not begin when there is one.
/// Method: the only thread is taken; what waits for it is revoked together with a task that tells when that was heard.
#[test]
fn what_is_revoked_while_it_waits_for_a_thread_does_not_begin() {
    run(async {
        let door = Door::default();
        let _at_end = OpenAtEnd(door.clone());
        let rig = rig(&door)
            .blocking_pool(BlockingPool::new(1))
            .task(|a: Attempt<Heed>| async move {
                a.cancelled().await;
                Ok(())
            })
            .options(|options| options.lanes = 1)
            .start()
            .await;
        let mut long = EnqueueOptions::default();
        long.overrides.hard_limit_ms = Some(60_000);
        let first = rig.enqueue_with(Stay, long).await;
        rig.probe.wait_for_start(first.id, 1).await;
        let second = rig.enqueue(WhereSync).await;
        let heed = rig.enqueue(Heed).await;
        for handle in [&second, &heed] {
            rig.probe.wait_for_start(handle.id, 1).await;
        }
        let revoked = [&second, &heed].map(|handle| Revocation::id(handle.id));
        let forget_at = rig.clock().now().plus(Duration::from_secs(600));
        let broker = rig.broker();
        let told = broker.revoke(&second.queue, &revoked, forget_at).await;
        told.unwrap();
        rig.wait(&heed).await;
        door.open();
        assert_eq!(rig.wait(&second).await.state, TaskState::Cancelled);
        assert_eq!(rig.probe.starts(second.id), 1, "and not again");
        rig.stop().await;
    });
}
