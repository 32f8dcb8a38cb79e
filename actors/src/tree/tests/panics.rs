//! Code of users that panics, wherever it can.

use actix::{Actor, ActorContext, Context, Handler};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Noop, quick, run};
use crate::attempt::{Attempt, Run};
use crate::child::ChildState;
use crate::failure::{Failure, FailureKind};
use crate::intensity::Limit;
use crate::panics::force_backtraces;
use crate::state::TaskState;
use crate::task;
use crate::testkit::{End, Rig};
use crate::workshop::TaskActor;

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Place {
    Nowhere,
    Body,
    Call,
    Destructor,
    Handler,
    AfterRun,
    Stop,
}

#[derive(Serialize, Deserialize)]
struct Bomb(Place);
task!(Bomb as "test.bomb" -> (), quick(1));

#[derive(Serialize, Deserialize)]
struct Handled(Place);
task!(Handled as "test.handled" -> (), quick(1));

/// Its arguments panic while they are decoded.
#[derive(Serialize)]
struct Cursed;
task!(Cursed as "test.cursed" -> (), quick(1));

impl<'de> Deserialize<'de> for Cursed {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cursed arguments");
    }
}

struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("boom in Destructor");
    }
}

struct Minefield;

impl Actor for Minefield {
    type Context = Context<Self>;
}

impl Handler<Attempt<Handled>> for Minefield {
    type Result = Run<()>;

    fn handle(&mut self, attempt: Attempt<Handled>, ctx: &mut Context<Self>) -> Run<()> {
        let place = attempt.args.0;
        assert!(place != Place::Handler, "boom in Handler");
        let run = attempt.run(|_| async { Ok(()) });
        assert!(place != Place::AfterRun, "boom in AfterRun");
        if place == Place::Stop {
            ctx.stop();
        }
        run
    }
}

fn rig() -> crate::testkit::RigBuilder {
    Rig::builder()
        .task(|a: Attempt<Bomb>| {
            assert!(a.args.0 != Place::Call, "boom in Call");
            async move {
                let _fuse = (a.args.0 == Place::Destructor).then(|| Fuse);
                tokio::task::yield_now().await;
                assert!(a.args.0 != Place::Body, "boom in Body");
                Ok(())
            }
        })
        .task(|_: Attempt<Cursed>| async { Ok(()) })
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .actor(TaskActor::new(|| Minefield).handles::<Handled>())
        .options(|options| options.lanes = 1)
}

#[track_caller]
fn is_panic(failure: &Failure, message: &str) {
    assert_eq!(
        (failure.kind, &*failure.message),
        (FailureKind::Panic, message)
    );
    let location = failure.location.as_deref().unwrap_or_default();
    assert!(location.contains("panics.rs:"), "{location:?}");
}

/// Goal: a panic is a failed attempt with its message and place, and the next task runs.
/// Method: panic in each place that a function has, with backtraces forced on.
#[test]
fn a_function_that_panics_fails_its_attempt() {
    run(async {
        let rig = rig().start().await;
        force_backtraces(true);
        let failure = rig.run(Bomb(Place::Body)).await.unwrap_err();
        is_panic(&failure, "boom in Body");
        let backtrace = failure.backtrace.unwrap_or_default();
        assert!(backtrace.contains("tree::tests::panics"), "{backtrace}");
        force_backtraces(false);
        for (place, message) in [
            (Place::Call, "boom in Call"),
            (Place::Destructor, "boom in Destructor"),
        ] {
            is_panic(&rig.run(Bomb(place)).await.unwrap_err(), message);
        }
        is_panic(&rig.run(Cursed).await.unwrap_err(), "cursed arguments");
        assert_eq!(rig.run(Bomb(Place::Nowhere)).await, Ok(()));
        assert_eq!(
            rig.tree()
                .inspect()
                .find("work/lane-0")
                .unwrap()
                .restarts_total,
            0
        );
        rig.stop().await;
    });
}

/// Goal: the attempt that an actor panics with is the culprit; those behind it in the mailbox run, uncounted.
/// Method: several attempts in the mailbox of one actor, the second of which panics in `handle`.
#[test]
fn a_handler_that_panics_fails_the_culprit_only() {
    run(async {
        for (place, message) in [
            (Place::Handler, "boom in Handler"),
            (Place::AfterRun, "boom in AfterRun"),
        ] {
            let rig = rig().start().await;
            let places = [Place::Nowhere, place, Place::Nowhere, Place::Nowhere];
            let handles = rig.enqueue_all(places.map(Handled)).await;
            for (handle, place) in handles.iter().zip(places) {
                let record = rig.wait(handle).await;
                assert_eq!(record.attempts, 1);
                if place == Place::Nowhere {
                    assert_eq!(record.state, TaskState::Succeeded, "{}", rig.probe);
                } else {
                    is_panic(&crate::testkit::failure(&record), message);
                }
            }
            let tree = rig.tree().inspect();
            let actor = tree.find("work/lane-0/actors/minefield").unwrap();
            assert_eq!(actor.incarnation, 2);
            rig.stop().await;
        }
    });
}

/// Goal: an actor that stops itself is built again, and nothing is lost.
/// Method: it stops while it handles the second of four attempts.
#[test]
fn an_actor_that_stops_itself_is_built_again() {
    run(async {
        let rig = rig().start().await;
        let places = [Place::Nowhere, Place::Stop, Place::Nowhere, Place::Nowhere];
        for handle in rig.enqueue_all(places.map(Handled)).await {
            let record = rig.wait(&handle).await;
            assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        }
        assert_eq!(rig.run(Handled(Place::Nowhere)).await, Ok(()));
        rig.stop().await;
    });
}

/// Goal: a kind of actor that always panics is parked, and harms nobody else.
/// Method: feed it more than its limit allows, beside other tasks.
#[test]
fn an_actor_that_always_panics_is_parked_and_others_go_on() {
    run(async {
        let limit = Limit::new(2, std::time::Duration::from_secs(60));
        let rig = Rig::builder()
            .actor(
                TaskActor::new(|| Minefield)
                    .limit(limit)
                    .handles::<Handled>(),
            )
            .task(|_: Attempt<Noop>| async { Ok(()) })
            .options(|options| options.lanes = 1)
            .start()
            .await;
        for _ in 0..3 {
            let failure = rig.run(Handled(Place::Handler)).await.unwrap_err();
            is_panic(&failure, "boom in Handler");
        }
        let path = "work/lane-0/actors/minefield";
        let parked = |state| state == ChildState::Parked;
        rig.wait_for_tree(|tree| parked(tree.find(path).unwrap().state))
            .await;
        let waits = rig.enqueue(Handled(Place::Nowhere)).await;
        rig.probe.wait_for_end(waits.id, End::Released).await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        let tree = rig.tree().inspect();
        assert_eq!(tree.state, ChildState::Up);
        assert_eq!(tree.find("work/lane-0").unwrap().restarts_total, 0);
        rig.stop().await;
    });
}

/// Goal: a factory that panics or fails parks its kind of actor, and harms nobody else.
/// Method: neither ever builds; a function beside them runs.
#[test]
fn a_factory_that_never_builds_is_parked() {
    run(async {
        let limit = Limit::new(1, std::time::Duration::from_secs(60));
        let panics = TaskActor::new(|| -> Minefield { panic!("no actor today") });
        let rig = Rig::builder()
            .actor(panics.limit(limit).handles::<Handled>())
            .task(|_: Attempt<Noop>| async { Ok(()) })
            .options(|options| options.lanes = 1)
            .start()
            .await;
        let path = "work/lane-0/actors/minefield";
        let parked = |state| state == ChildState::Parked;
        rig.wait_for_tree(|tree| parked(tree.find(path).unwrap().state))
            .await;
        assert!(!rig.probe.logged("no actor today").is_empty());
        let waits = rig.enqueue(Handled(Place::Nowhere)).await;
        rig.probe.wait_for_end(waits.id, End::Released).await;
        assert_eq!(rig.run(Noop).await, Ok(()));
        rig.stop().await;
    });
}
