//! Children on other threads, and threads that are blocked. Real time: each wait is for a notification.

use std::sync::mpsc;
use std::time::Duration;

use actix_rt::Arbiter;
use tokio::time::{Instant, timeout};

use super::rig::*;
use crate::child::{
    ChildSpec, ChildState, ExitReason, OnUnresponsive, Pings, Placement, Shutdown, Strategy,
    SupervisorSpec,
};
use crate::intensity::Limit;
use crate::reference::{SendError, Slot};
use crate::supervisor::{Inspect, Root, SupervisionEvent};

const MS: Duration = Duration::from_millis(1);

fn pings(on_unresponsive: OnUnresponsive) -> Option<Pings> {
    Some(Pings {
        period: 5 * MS,
        deadline: 50 * MS,
        on_unresponsive,
    })
}

#[test]
fn a_child_on_another_arbiter_is_restarted_there() {
    unpaused(async {
        let journal = Journal::default();
        let arbiter = Arbiter::new();
        let (a, to_a) = puppet("a", &journal);
        let (b, to_b) = puppet("b", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForAll, Limit::default())
            .child(a.placement(Placement::On(arbiter.handle())))
            .child(b.placement(Placement::Fresh));
        let root = Root::start("root", spec, journal.environment());
        assert_eq!(to_b.send(Act::Echo(1)).await, Ok(1));
        assert!(to_a.send(Act::Panic).await.is_err());
        root.wait_for(|tree| {
            tree.is_complete() && tree.find("b").is_some_and(|b| b.incarnation == 2)
        })
        .await;
        assert_eq!(
            (to_a.send(Act::Echo(1)).await, to_b.send(Act::Echo(2)).await),
            (Ok(1), Ok(2))
        );
        assert_eq!(root.stop().await, ExitReason::Normal);
        assert_eq!(journal.take(), "+a1 +b1 -a1 -b1 +a2 +b2 -b2 -a2");
    });
}

#[test]
fn an_arbiter_that_goes_away_is_a_kill() {
    unpaused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let first = Arbiter::new();
        let handle = first.handle();
        let placement = Placement::chosen(move |incarnation| {
            Ok(if incarnation == 1 {
                handle.clone()
            } else {
                Arbiter::new().handle()
            })
        });
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
            .child(a.placement(placement));
        let root = Root::start("root", spec, journal.environment());
        to_a.send(Act::Echo(1)).await.unwrap();
        first.stop();
        let tree = root
            .wait_for(|tree| tree.find("a").is_some_and(|a| a.incarnation == 2))
            .await;
        assert_eq!(
            tree.find("a").unwrap().last_exit.as_ref().unwrap().reason,
            ExitReason::Killed
        );
        assert_eq!(to_a.send(Act::Echo(2)).await, Ok(2));
        root.stop().await;
    });
}

/// Goal: a blocked thread is seen, the tree can be read meanwhile, and the child is taken back when it answers.
#[test]
fn a_blocked_thread_is_reported_while_inspect_answers() {
    unpaused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let inner = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let lane = ChildSpec::supervisor(&Slot::new("lane"), inner)
            .placement(Placement::Fresh)
            .pings(pings(OnUnresponsive::Report));
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(lane);
        let root = Root::start("root", spec, journal.environment());
        to_a.send(Act::Echo(1)).await.unwrap();

        let (unblock, blocked) = mpsc::channel();
        let call = to_a.send(Act::Block(blocked));
        let look = async {
            let tree = root
                .wait_for(|tree| {
                    tree.find("lane")
                        .is_some_and(|lane| lane.state == ChildState::Unresponsive)
                })
                .await;
            assert!(tree.find("lane/a").unwrap().stale && !tree.stale);
            let begun = Instant::now();
            let inspected = root.reference().send(Inspect).await.unwrap();
            assert_eq!(inspected.find("lane/a").unwrap().backlog, 1);
            assert!(begun.elapsed() < secs(1));
            drop(unblock);
            root.wait_for(|tree| {
                tree.find("lane")
                    .is_some_and(|lane| lane.state == ChildState::Up)
            })
            .await;
        };
        let (answer, ()) = tokio::join!(call, look);
        assert_eq!(answer, Ok(1));
        assert_eq!(root.tree().find("lane").unwrap().incarnation, 1);
        root.stop().await;
    });
}

/// Goal: a lane whose thread is blocked is abandoned and replaced by one on a new thread; nobody waits for the old.
#[test]
fn a_blocked_thread_is_replaced() {
    unpaused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let inner = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let lane = ChildSpec::supervisor(&Slot::new("lane"), inner)
            .placement(Placement::Fresh)
            .pings(pings(OnUnresponsive::Replace));
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(lane);
        let root = Root::start("root", spec, journal.environment());
        to_a.send(Act::Echo(1)).await.unwrap();

        let (unblock, blocked) = mpsc::channel();
        assert_eq!(
            to_a.send(Act::Block(blocked)).await,
            Err(SendError::Interrupted { name: "a".into() })
        );
        assert_eq!(to_a.send(Act::Slow(MS)).await, Ok(2));
        let tree = root.tree();
        let lane = tree.find("lane").unwrap();
        assert_eq!((lane.incarnation, lane.restarts_in_window), (2, 1));
        assert_eq!(
            lane.last_exit.as_ref().unwrap().reason,
            ExitReason::Unresponsive
        );
        assert!(
            journal
                .events()
                .iter()
                .any(|event| matches!(event, SupervisionEvent::ChildUnresponsive { .. }))
        );

        // The old thread unblocks, finds that it was given up on, and closes: its puppet stops, the new one serves.
        drop(unblock);
        timeout(secs(10), async {
            while !journal.peek().contains("-a1") {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(to_a.send(Act::Slow(MS)).await, Ok(2));
        root.stop().await;
    });
}

#[test]
fn stopping_never_waits_for_a_blocked_thread() {
    unpaused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let shutdown = Shutdown {
            ask: 20 * MS,
            kill: 10 * MS,
        };
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
            .child(a.placement(Placement::Fresh).shutdown(shutdown));
        let root = Root::start("root", spec, journal.environment());
        to_a.send(Act::Echo(1)).await.unwrap();
        let (_unblock, blocked) = mpsc::channel();
        let begun = Instant::now();
        let stop = async {
            tokio::task::yield_now().await;
            root.stop().await
        };
        let (call, reason) = tokio::join!(to_a.send(Act::Block(blocked)), stop);
        assert_eq!(reason, ExitReason::Normal);
        assert!(matches!(call, Err(SendError::Interrupted { .. })));
        assert!(begun.elapsed() < secs(5));
        assert_eq!(
            root.tree()
                .find("a")
                .unwrap()
                .last_exit
                .as_ref()
                .unwrap()
                .reason,
            ExitReason::Killed
        );
    });
}
