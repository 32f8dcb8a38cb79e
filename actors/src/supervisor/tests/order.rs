//! Who starts and stops, and in which order.

use actix::ActorContext;
use tokio::time::{Instant, sleep};

use super::rig::*;
use crate::backoff::Backoff;
use crate::child::{
    ChildSpec, ChildState, ExitReason, Recipe, Restart, Shutdown, StartError, Strategy,
    SupervisorSpec, TreeNode,
};
use crate::intensity::Limit;
use crate::reference::Slot;
use crate::supervisor::Root;

/// Starts a root with puppets `a`, `b` and `c`, lets `b` panic, and returns what happened until all serve again.
fn crash_of_b(strategy: Strategy) -> String {
    paused(async {
        let journal = Journal::default();
        let (a, _) = puppet("a", &journal);
        let (b, to_b) = puppet("b", &journal);
        let (c, to_c) = puppet("c", &journal);
        let spec = SupervisorSpec::new(strategy, Limit::default())
            .child(a)
            .child(b)
            .child(c);
        let root = Root::start("root", spec, journal.environment());
        to_c.send(Act::Echo(0)).await.unwrap();
        assert_eq!(journal.take(), "+a1 +b1 +c1");
        assert!(to_b.send(Act::Panic).await.is_err());
        to_b.send(Act::Echo(0)).await.unwrap();
        root.wait_for(TreeNode::is_complete).await;
        let restarts = journal.take();
        assert_eq!(
            root.tree()
                .children
                .iter()
                .map(|node| node.restarts_total)
                .sum::<u64>(),
            1
        );
        assert_eq!(root.stop().await, ExitReason::Normal);
        restarts
    })
}

#[test]
fn one_for_one_restarts_the_one() {
    assert_eq!(crash_of_b(Strategy::OneForOne), "-b1 +b2");
}

#[test]
fn one_for_all_stops_in_reverse_and_starts_in_order() {
    assert_eq!(crash_of_b(Strategy::OneForAll), "-b1 -c1 -a1 +a2 +b2 +c2");
}

#[test]
fn rest_for_one_restarts_the_later_ones() {
    assert_eq!(crash_of_b(Strategy::RestForOne), "-b1 -c1 +b2 +c2");
}

#[test]
fn a_temporary_sibling_goes_down_with_the_others_and_stays_down() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let (b, _) = puppet("b", &journal);
        let (c, to_c) = puppet("c", &journal);
        let spec = SupervisorSpec::new(Strategy::RestForOne, Limit::default())
            .child(a)
            .child(b.restart(Restart::Temporary))
            .child(c.restart(Restart::Transient));
        let root = Root::start("root", spec, journal.environment());
        to_c.send(Act::Stop).await.unwrap();
        root.wait_for(|tree| tree.find("c").is_some_and(|c| c.state == ChildState::Ended))
            .await;
        assert!(to_a.send(Act::Panic).await.is_err());
        to_a.send(Act::Echo(0)).await.unwrap();
        assert_eq!(journal.take(), "+a1 +b1 +c1 -c1 -a1 -b1 +a2");
    });
}

/// Goal: stop in reverse; a child that ignores it is killed when its time is over, and no later.
#[test]
fn stops_in_reverse_and_kills_who_ignores_it() {
    paused(async {
        let journal = Journal::default();
        let (a, _) = puppet("a", &journal);
        let (c, to_c) = puppet("c", &journal);
        let stubborn = Slot::<Puppet>::new("stubborn");
        let seen = journal.clone();
        let recipe = Recipe::new(move |birth| Puppet::new(birth, &seen)).on_stop(|_, _| {});
        let drains = Slot::<Puppet>::new("drains");
        let seen = journal.clone();
        let drain = Recipe::new(move |birth| Puppet::new(birth, &seen)).on_stop(|_, ctx| {
            actix::AsyncContext::run_later(ctx, secs(2), |_, ctx| ctx.stop());
        });
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
            .child(a)
            .child(ChildSpec::new(&stubborn, recipe).shutdown(Shutdown::within(secs(3))))
            .child(ChildSpec::new(&drains, drain))
            .child(c);
        let root = Root::start("root", spec, journal.environment());
        to_c.send(Act::Echo(0)).await.unwrap();
        journal.take();
        let begun = Instant::now();
        assert_eq!(root.stop().await, ExitReason::Normal);
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(journal.take(), "-c1 -drains1 -stubborn1 -a1");
        let tree = root.tree();
        let reasons: Vec<_> = tree
            .children
            .iter()
            .map(|node| node.last_exit.clone().unwrap().reason)
            .collect();
        use ExitReason::{Killed, Normal};
        assert_eq!(reasons, [Normal, Killed, Normal, Normal]);
    });
}

#[test]
fn a_nested_tree_stops_from_its_leaves_last_to_first() {
    paused(async {
        let journal = Journal::default();
        let (a, _) = puppet("a", &journal);
        let (b, _) = puppet("b", &journal);
        let (c, to_c) = puppet("c", &journal);
        let inner = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
            .child(a)
            .child(b);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
            .child(ChildSpec::supervisor(&Slot::new("inner"), inner))
            .child(c);
        let root = Root::start("root", spec, journal.environment());
        to_c.send(Act::Echo(0)).await.unwrap();
        // A nested supervisor counts as started when its children have been.
        assert_eq!(journal.take(), "+a1 +b1 +c1");
        assert_eq!(root.tree().find("inner/b").unwrap().state, ChildState::Up);
        root.stop().await;
        assert_eq!(journal.take(), "-c1 -b1 -a1");
    });
}

/// Goal: dependent children wait for the one before them; independent ones only for its first try.
#[test]
fn a_start_that_fails_holds_up_dependent_children_only() {
    for (strategy, expected) in [
        (Strategy::OneForOne, "?1 +b1 ?2 ?3 +a3"),
        (Strategy::RestForOne, "?1 ?2 ?3 +a3 +b1"),
        (Strategy::OneForAll, "?1 ?2 ?3 +a3 +b1"),
    ] {
        paused(async {
            let journal = Journal::default();
            let (a, _) = fallible_puppet("a", &journal, |incarnation| {
                if incarnation < 3 {
                    Err(StartError::outage("away"))
                } else {
                    Ok(())
                }
            });
            let (b, _) = puppet("b", &journal);
            let spec = SupervisorSpec::new(strategy, Limit::default())
                .child(a)
                .child(b);
            let root = Root::start("root", spec, journal.environment());
            root.wait_for(TreeNode::is_complete).await;
            assert_eq!(journal.take(), expected, "{strategy:?}");
        });
    }
}

#[test]
fn stopping_cancels_a_restart_that_is_pending() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let slow = Backoff::new(secs(1_000), secs(1_000));
        let spec =
            SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a.backoff(slow));
        let root = Root::start("root", spec, journal.environment());
        assert!(to_a.send(Act::Panic).await.is_err());
        root.wait_for(|tree| {
            tree.find("a")
                .is_some_and(|a| a.state == ChildState::Restarting)
        })
        .await;
        let begun = Instant::now();
        assert_eq!(root.stop().await, ExitReason::Normal);
        assert_eq!(begun.elapsed().as_secs(), 0);
        sleep(secs(2_000)).await;
        assert_eq!(journal.take(), "+a1 -a1");
    });
}

/// Goal: stop at any moment, also before or while anything has started, and twice.
/// Method: stop after `n` turns of the scheduler, for every `n` until the tree is up for certain.
#[test]
fn stopping_at_any_moment_is_harmless() {
    for turns in 0..60 {
        paused(async {
            let journal = Journal::default();
            let (a, _) = puppet("a", &journal);
            let (b, _) = puppet("b", &journal);
            let inner = SupervisorSpec::new(Strategy::OneForAll, Limit::default()).child(b);
            let spec = SupervisorSpec::new(Strategy::RestForOne, Limit::default())
                .child(a)
                .child(ChildSpec::supervisor(&Slot::new("inner"), inner));
            let root = Root::start("root", spec, journal.environment());
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            let (first, second) = tokio::join!(root.stop(), root.stop());
            assert_eq!(
                (first, second),
                (ExitReason::Normal, ExitReason::Normal),
                "{turns}"
            );
            assert_eq!(root.stop().await, ExitReason::Normal);
            let written = journal.take();
            assert_eq!(
                written.matches('+').count(),
                written.matches('-').count(),
                "{turns}: {written}"
            );
        });
    }
}

/// Goal: nothing outlives its root, in whatever way that ends.
#[test]
fn dropping_or_killing_the_root_ends_everything_below() {
    for kill in [false, true] {
        paused(async {
            let journal = Journal::default();
            let (a, to_a) = puppet("a", &journal);
            let inner = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
            let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default())
                .child(ChildSpec::supervisor(&Slot::new("inner"), inner));
            let root = Root::start("root", spec, journal.environment());
            to_a.send(Act::Echo(0)).await.unwrap();
            if kill {
                root.kill();
                assert_eq!(root.exited().await, ExitReason::Killed);
            } else {
                drop(root);
            }
            sleep(secs(1)).await;
            assert_eq!(journal.take(), "+a1 -a1");
        });
    }
}
