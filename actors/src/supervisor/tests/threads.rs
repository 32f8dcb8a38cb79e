//! Children on other threads, and threads that are blocked. Real time: each wait is for a notification.

use std::sync::mpsc;
use std::time::Duration;

use actix_rt::Arbiter;

use super::rig::*;
use crate::child::{
    ChildSpec, ChildState, ExitReason, OnUnresponsive, Pings, Placement, Shutdown, Strategy,
    SupervisorSpec, TreeNode,
};
use crate::intensity::Limit;
use crate::reference::{SendError, Slot};
use crate::supervisor::{Inspect, Root, SupervisionEvent};

const MS: Duration = Duration::from_millis(1);

fn pings(on_unresponsive: OnUnresponsive) -> Option<Pings> {
    Some(Pings {
        period: 5 * MS,
        // A thread that is well may be kept waiting for so long by a busy machine.
        deadline: 1_500 * MS,
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
        root.wait_for(TreeNode::is_complete).await;
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
        root.wait_for(TreeNode::is_complete).await;

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
            // The thread is blocked until after the answer.
            let inspected = root.reference().send(Inspect).await.unwrap();
            assert_eq!(inspected.find("lane/a").unwrap().backlog, 1);
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
            .pings(pings(OnUnresponsive::Replace {
                abandoned_at_most: 1,
            }));
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(lane);
        let root = Root::start("root", spec, journal.environment());
        root.wait_for(TreeNode::is_complete).await;

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
        journal.until("-a1").await;
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
        root.wait_for(TreeNode::is_complete).await;
        let (_unblock, blocked) = mpsc::channel();
        let stop = async {
            journal.until("!a1").await;
            root.stop().await
        };
        let (call, reason) = tokio::join!(to_a.send(Act::Block(blocked)), stop);
        assert_eq!(reason, ExitReason::Normal);
        assert!(matches!(call, Err(SendError::Interrupted { .. })));
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

/// Goal: a child that blocks thread after thread costs no more of them than its spec allows.
#[test]
fn no_more_threads_are_abandoned_than_allowed() {
    unpaused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let a = a
            .placement(Placement::Fresh)
            .pings(pings(OnUnresponsive::Replace {
                abandoned_at_most: 1,
            }));
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let root = Root::start("root", spec, journal.environment());
        root.wait_for(TreeNode::is_complete).await;
        let (unblock_first, first) = mpsc::channel();
        let (_unblock_second, second) = mpsc::channel();
        assert!(to_a.send(Act::Block(first)).await.is_err());
        let look = async {
            let tree = root
                .wait_for(|tree| {
                    tree.find("a")
                        .is_some_and(|a| a.incarnation == 2 && a.state == ChildState::Unresponsive)
                })
                .await;
            assert_eq!(tree.find("a").unwrap().abandoned, 1);
            // The first thread lets go, which makes room for abandoning the second.
            drop(unblock_first);
            root.wait_for(|tree| tree.find("a").is_some_and(|a| a.incarnation == 3))
                .await;
        };
        let (second, ()) = tokio::join!(to_a.send(Act::Block(second)), look);
        assert!(matches!(second, Err(SendError::Interrupted { .. })));
        assert_eq!(to_a.send(Act::Echo(3)).await, Ok(3));
        root.stop().await;
    });
}

/// Goal: a thread that is blocked while its child starts holds up neither the others nor the stop.
#[test]
fn a_child_that_blocks_in_its_factory_is_abandoned() {
    unpaused(async {
        let journal = Journal::default();
        let (_unblock, blocked) = mpsc::channel::<()>();
        let blocked = std::sync::Mutex::new(blocked);
        let (a, to_a) = fallible_puppet("a", &journal, move |incarnation| {
            if incarnation == 1 {
                let _never = blocked.lock().unwrap().recv();
            }
            Ok(())
        });
        let a = a
            .placement(Placement::Fresh)
            .start_timeout(2_000 * MS)
            .shutdown(Shutdown {
                ask: 20 * MS,
                kill: 10 * MS,
            });
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let root = Root::start("root", spec, journal.environment());
        assert_eq!(to_a.send(Act::Slow(MS)).await, Ok(2));
        let tree = root.tree();
        assert_eq!(tree.find("a").unwrap().abandoned, 1);
        assert_eq!(root.stop().await, ExitReason::Normal);
    });
}
