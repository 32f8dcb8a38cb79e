//! One child: when it is restarted, how it says why it ended, and that nothing spins.

use actix::{Actor, ActorContext, Context};
use tokio::time::{Instant, sleep};

use super::rig::*;
use crate::backoff::Backoff;
use crate::child::{
    ChildSpec, ChildState, ExitReason, Recipe, Restart, StartError, Strategy, SupervisorSpec,
};
use crate::intensity::Limit;
use crate::reference::{SendError, Slot};
use crate::supervisor::{
    AddChild, AddChildError, Inspect, RemoveChild, RestartChild, Root, StopChild,
};

fn one_for_one(limit: Limit) -> SupervisorSpec {
    SupervisorSpec::new(Strategy::OneForOne, limit)
}

/// Goal: a panicking child is replaced, and whoever holds a reference need not know.
#[test]
fn a_panicking_child_is_replaced_and_the_next_message_is_served() {
    paused(async {
        let journal = Journal::default();
        let (spec, child) = puppet("a", &journal);
        let root = Root::start(
            "root",
            one_for_one(Limit::default()).child(spec),
            journal.environment(),
        );
        assert_eq!(child.send(Act::Echo(5)).await, Ok(5));

        let lost = child.send(Act::Panic).await;
        assert_eq!(lost, Err(SendError::Interrupted { name: "a".into() }));
        assert_eq!(child.send(Act::Echo(6)).await, Ok(6));

        let tree = root.tree();
        let node = tree.find("a").unwrap();
        assert_eq!(
            (
                node.incarnation,
                node.restarts_total,
                node.restarts_in_window
            ),
            (2, 1, 1)
        );
        let ExitReason::Panic { report } = &node.last_exit.as_ref().unwrap().reason else {
            panic!("{node:?}")
        };
        assert_eq!(report.message, "told to panic");
        assert!(report.location.as_ref().unwrap().contains("rig.rs"));
        assert_eq!(journal.take(), "+a1 -a1 +a2");
        assert_eq!(root.stop().await, ExitReason::Normal);
    });
}

/// Goal: restart rule by kind of exit, as the table in [`Restart`] says.
#[test]
fn permanent_transient_and_temporary_follow_their_table() {
    for (restart, act, again) in [
        (Restart::Permanent, Act::Stop, true),
        (Restart::Permanent, Act::Fail, true),
        (Restart::Permanent, Act::Panic, true),
        (Restart::Permanent, Act::Outage, true),
        (Restart::Transient, Act::Stop, false),
        (Restart::Transient, Act::Fail, true),
        (Restart::Transient, Act::Panic, true),
        (Restart::Transient, Act::Outage, true),
        (Restart::Temporary, Act::Stop, false),
        (Restart::Temporary, Act::Fail, false),
        (Restart::Temporary, Act::Panic, false),
        (Restart::Temporary, Act::Outage, false),
    ] {
        paused(async {
            let case = format!("{restart:?} {act:?}");
            let journal = Journal::default();
            let (spec, child) = puppet("a", &journal);
            let spec = one_for_one(Limit::default()).child(spec.restart(restart));
            let root = Root::start("root", spec, journal.environment());
            let _answered_or_not = child.send(act).await;
            let tree = root
                .wait_for(|tree| {
                    tree.find("a").is_some_and(|a| {
                        a.last_exit.is_some()
                            && a.state != ChildState::Restarting
                            && a.state != ChildState::Starting
                    })
                })
                .await;
            let state = tree.find("a").unwrap().state;
            assert_eq!(
                state,
                if again {
                    ChildState::Up
                } else {
                    ChildState::Ended
                },
                "{case}"
            );
            let next = child.send(Act::Echo(1)).await;
            let ended = Err(SendError::Ended { name: "a".into() });
            assert_eq!(next, if again { Ok(1) } else { ended }, "{case}");
        });
    }
}

#[test]
fn the_exit_reason_is_what_the_actor_noted() {
    paused(async {
        let journal = Journal::default();
        let (spec, child) = puppet("a", &journal);
        let root = Root::start(
            "root",
            one_for_one(Limit::default()).child(spec),
            journal.environment(),
        );
        let mut reasons = Vec::new();
        for (act, incarnation) in [(Act::Stop, 1), (Act::Fail, 2), (Act::Outage, 3)] {
            assert_eq!(child.send(act).await, Ok(incarnation));
            let tree = root
                .wait_for(|tree| {
                    tree.find("a")
                        .is_some_and(|a| a.state == ChildState::Restarting)
                })
                .await;
            reasons.push(
                tree.find("a")
                    .unwrap()
                    .last_exit
                    .clone()
                    .unwrap()
                    .reason
                    .to_string(),
            );
            child.send(Act::Echo(0)).await.unwrap();
        }
        assert_eq!(
            reasons,
            [
                "normal",
                "error: told to fail",
                "outage: told that the store is away"
            ]
        );
    });
}

/// Goal: a child that stops in `started` neither spins nor lives for ever.
/// Method: with a limit that is never reached, count the starts within a minute of paused time.
#[test]
fn a_child_that_stops_in_started_does_not_spin() {
    struct Quitter(Journal, bool);
    impl Actor for Quitter {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Context<Self>) {
            self.0.write("+".into());
            assert!(!self.1, "in started");
            ctx.stop();
        }
    }
    for panics in [false, true] {
        paused(async {
            let journal = Journal::default();
            let slot = Slot::new("quitter");
            let seen = journal.clone();
            let recipe = Recipe::new(move |_| Quitter(seen.clone(), panics));
            let spec = ChildSpec::new(&slot, recipe).backoff(Backoff::default().with_jitter(0.0));
            let limit = Limit::new(10_000, secs(60));
            let root = Root::start(
                "root",
                one_for_one(limit).child(spec),
                journal.environment(),
            );
            sleep(secs(60)).await;
            // 10 ms doubling to 5 s: ten starts in the first ten seconds, then one every five.
            let starts = journal.take().split(' ').count();
            assert!((15..=25).contains(&starts), "{starts}");
            assert_eq!(root.stop().await, ExitReason::Normal);
        });
    }
}

#[test]
fn a_factory_that_fails_at_first_is_tried_again_after_a_backoff() {
    paused(async {
        let journal = Journal::default();
        let (spec, child) = fallible_puppet("a", &journal, |incarnation| match incarnation {
            1 => Err(StartError::Failed("not yet".into())),
            2 => Err(StartError::outage("redis is away")),
            3 => panic!("factory"),
            _ => Ok(()),
        });
        let root = Root::start(
            "root",
            one_for_one(Limit::new(2, secs(60))).child(spec),
            journal.environment(),
        );
        assert_eq!(child.send(Act::Echo(1)).await, Ok(1));
        let tree = root.tree();
        let node = tree.find("a").unwrap();
        // Three exits, of which the outage is not counted.
        assert_eq!(
            (
                node.incarnation,
                node.restarts_total,
                node.restarts_in_window
            ),
            (4, 3, 2)
        );
    });
}

#[test]
fn a_factory_that_takes_too_long_is_cut_off() {
    paused(async {
        let journal = Journal::default();
        let slot = Slot::<Puppet>::new("a");
        let recipe = Recipe::starting(|_| std::future::pending());
        let spec = ChildSpec::new(&slot, recipe)
            .start_timeout(secs(3))
            .restart(Restart::Temporary);
        let root = Root::start(
            "root",
            one_for_one(Limit::default()).child(spec),
            journal.environment(),
        );
        let begun = Instant::now();
        let tree = root
            .wait_for(|tree| tree.find("a").is_some_and(|a| a.state == ChildState::Ended))
            .await;
        assert_eq!(begun.elapsed().as_secs(), 3);
        let reason = &tree.find("a").unwrap().last_exit.as_ref().unwrap().reason;
        assert_eq!(
            reason.to_string(),
            "error: it did not start within its timeout"
        );
    });
}

#[test]
fn children_come_and_go_while_the_supervisor_runs() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let (same_name, _) = puppet("a", &journal);
        let root = Root::start("root", one_for_one(Limit::default()), journal.environment());
        assert_eq!(
            root.reference().send(AddChild(a.clone())).await.unwrap(),
            Ok(())
        );
        let taken = root.reference().send(AddChild(same_name)).await.unwrap();
        assert_eq!(taken, Err(AddChildError::NameTaken("a".into())));
        assert_eq!(to_a.send(Act::Echo(1)).await, Ok(1));

        root.reference()
            .send(RestartChild("a".into()))
            .await
            .unwrap()
            .unwrap();
        root.wait_for(|tree| {
            tree.find("a")
                .is_some_and(|a| a.incarnation == 2 && a.state == ChildState::Up)
        })
        .await;
        assert_eq!(root.tree().find("a").unwrap().restarts_in_window, 0);

        root.reference()
            .send(StopChild("a".into()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(journal.take(), "+a1 -a1 +a2 -a2");
        assert_eq!(
            to_a.send(Act::Echo(1)).await,
            Err(SendError::Ended { name: "a".into() })
        );
        root.reference()
            .send(RestartChild("a".into()))
            .await
            .unwrap()
            .unwrap();
        root.wait_for(|tree| tree.find("a").is_some_and(|a| a.state == ChildState::Up))
            .await;
        assert_eq!(to_a.send(Act::Echo(2)).await, Ok(2));

        root.reference()
            .send(RemoveChild("a".into()))
            .await
            .unwrap()
            .unwrap();
        assert!(
            root.reference()
                .send(StopChild("a".into()))
                .await
                .unwrap()
                .is_err()
        );
        assert_eq!(root.reference().send(Inspect).await.unwrap().children, []);
        assert_eq!(root.reference().send(AddChild(a)).await.unwrap(), Ok(()));
        assert_eq!(to_a.send(Act::Stop).await, Ok(4));
    });
}

#[test]
fn two_children_of_one_name_are_refused_at_start() {
    paused(async {
        let journal = Journal::default();
        let (a, _) = puppet("a", &journal);
        let root = Root::start(
            "root",
            one_for_one(Limit::default()).child(a.clone()).child(a),
            journal.environment(),
        );
        assert_eq!(
            root.exited().await.to_string(),
            "error: a child called a is there already"
        );
    });
}
