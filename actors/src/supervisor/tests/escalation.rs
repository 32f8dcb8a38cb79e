//! Too many crashes: escalation through the levels, parking, and what is never counted.

use tokio::time::{Instant, sleep};

use super::rig::*;
use crate::backoff::Backoff;
use crate::child::{
    ChildSpec, ChildState, ExitReason, OnExhausted, StartError, Strategy, SupervisorSpec,
};
use crate::intensity::Limit;
use crate::reference::{SendError, Slot};
use crate::supervisor::{Root, SupervisionEvent};

/// Goal: the crash after the last accepted one ends the supervisor, level by level up to the root.
#[test]
fn one_crash_too_many_escalates_to_the_root() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let (b, _) = puppet("b", &journal);
        let inner = SupervisorSpec::new(Strategy::OneForOne, Limit::new(1, secs(60)))
            .child(a)
            .child(b);
        let middle = SupervisorSpec::new(Strategy::OneForOne, Limit::new(1, secs(60)))
            .child(ChildSpec::supervisor(&Slot::new("inner"), inner));
        let outer = SupervisorSpec::new(Strategy::OneForOne, Limit::new(0, secs(60)))
            .child(ChildSpec::supervisor(&Slot::new("middle"), middle));
        let root = Root::start("root", outer, journal.environment());

        // Two crashes end an incarnation of `inner`, two of those `middle`, one of those the root.
        for crash in 1..=4 {
            assert_eq!(to_a.send(Act::Echo(crash)).await, Ok(crash));
            assert!(to_a.send(Act::Panic).await.is_err());
        }
        let reason = root.exited().await;
        let ExitReason::Error { message } = &reason else {
            panic!("{reason}")
        };
        assert!(
            message.contains("by child middle") && message.contains("told to panic"),
            "{message}"
        );
        assert_eq!(
            journal.take(),
            "+a1 +b1 -a1 +a2 -a2 -b1 +a3 +b2 -a3 +a4 -a4 -b2"
        );
        let escalated: Vec<_> = journal
            .events()
            .into_iter()
            .filter_map(|event| match event {
                SupervisionEvent::Escalated { path, .. } => Some(path.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(
            escalated,
            [
                "root/middle/inner",
                "root/middle/inner",
                "root/middle",
                "root"
            ]
        );
        assert_eq!(root.tree().state, ChildState::Ended);
    });
}

#[test]
fn crashes_of_siblings_count_together_and_old_ones_do_not() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let (b, to_b) = puppet("b", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::new(2, secs(10)))
            .child(a.stable_after(secs(3_600)))
            .child(b.stable_after(secs(3_600)));
        let root = Root::start("root", spec, journal.environment());
        for _ in 0..5 {
            assert!(to_a.send(Act::Panic).await.is_err());
            assert!(to_b.send(Act::Panic).await.is_err());
            sleep(secs(11)).await;
        }
        assert_eq!(root.tree().state, ChildState::Up);
        for child in [&to_a, &to_b, &to_a] {
            assert!(child.send(Act::Panic).await.is_err());
        }
        assert!(matches!(root.exited().await, ExitReason::Error { .. }));
    });
}

#[test]
fn being_stable_forgets_the_crashes() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::new(1, secs(3_600)))
            .child(a.stable_after(secs(30)));
        let root = Root::start("root", spec, journal.environment());
        for _ in 0..5 {
            assert!(to_a.send(Act::Panic).await.is_err());
            to_a.send(Act::Echo(0)).await.unwrap();
            assert_eq!(root.tree().find("a").unwrap().restarts_in_window, 1);
            sleep(secs(31)).await;
            assert_eq!(root.tree().find("a").unwrap().restarts_in_window, 0);
        }
        assert_eq!(root.tree().find("a").unwrap().restarts_total, 5);
    });
}

/// Goal: an outage of an hour spends no restart intensity and is not retried in a hurry.
#[test]
fn an_outage_is_never_counted_but_waits() {
    paused(async {
        let journal = Journal::default();
        let begun = Instant::now();
        let (a, to_a) = fallible_puppet("a", &journal, move |_| {
            if begun.elapsed() < secs(3_600) {
                Err(StartError::outage("away"))
            } else {
                Ok(())
            }
        });
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::new(0, secs(60))).child(a);
        let root = Root::start("root", spec, journal.environment());
        assert_eq!(
            to_a.clone()
                .with_patience(secs(7_200))
                .send(Act::Echo(1))
                .await,
            Ok(1)
        );
        let tries = journal.take().split(' ').count();
        assert!((720..1_200).contains(&tries), "{tries}");
        // The same from a running actor.
        for _ in 0..5 {
            to_a.send(Act::Outage).await.unwrap();
        }
        to_a.send(Act::Echo(1)).await.unwrap();
        let tree = root.tree();
        assert_eq!(
            (tree.state, tree.find("a").unwrap().restarts_in_window),
            (ChildState::Up, 0)
        );
        sleep(secs(60)).await;
        assert!(
            journal
                .events()
                .contains(&SupervisionEvent::ChildRecovered {
                    path: "root/a".into()
                })
        );
    });
}

/// Goal: a user's actor kind that crashes for hours stops nobody, costs little, and comes back when it can.
#[test]
fn a_parked_kind_never_escalates_and_recovers() {
    paused(async {
        let journal = Journal::default();
        let begun = Instant::now();
        let (user, to_user) = fallible_puppet("user", &journal, move |_| {
            if begun.elapsed() < secs(14_400) {
                Err(StartError::Failed("no".into()))
            } else {
                Ok(())
            }
        });
        let (ours, to_ours) = puppet("ours", &journal);
        let park = OnExhausted::Park {
            limit: Limit::new(2, secs(60)),
            retry: Backoff::new(secs(1), secs(60)).with_jitter(0.0),
        };
        let spec = SupervisorSpec::new(Strategy::OneForAll, Limit::new(0, secs(60)))
            .child(user.on_exhausted(park))
            .child(ours);
        let root = Root::start("root", spec, journal.environment());

        root.wait_for(|tree| {
            tree.find("user")
                .is_some_and(|user| user.state == ChildState::Parked)
        })
        .await;
        assert_eq!(
            to_user.send(Act::Echo(1)).await,
            Err(SendError::Parked {
                name: "user".into()
            })
        );
        assert_eq!(to_ours.send(Act::Echo(1)).await, Ok(1));
        sleep(secs(14_400)).await;
        let tries = journal.take().matches('?').count();
        assert!((230..260).contains(&tries), "{tries}");

        root.wait_for(|tree| {
            tree.find("user")
                .is_some_and(|user| user.state == ChildState::Up)
        })
        .await;
        assert_eq!(to_user.send(Act::Echo(2)).await, Ok(2));
        // On probation until it is stable: one more crash parks it again at once.
        assert!(to_user.send(Act::Panic).await.is_err());
        let tree = root
            .wait_for(|tree| {
                tree.find("user")
                    .is_some_and(|user| user.state == ChildState::Parked)
            })
            .await;
        assert_eq!(tree.find("ours").unwrap().incarnation, 1);
        root.wait_for(|tree| {
            tree.find("user")
                .is_some_and(|user| user.state == ChildState::Up)
        })
        .await;
        sleep(secs(31)).await;
        assert_eq!(root.tree().find("user").unwrap().restarts_in_window, 0);
        let (parked, recovered) =
            journal
                .events()
                .iter()
                .fold((0, 0), |(parked, recovered), event| match event {
                    SupervisionEvent::ChildParked { .. } => (parked + 1, recovered),
                    SupervisionEvent::ChildRecovered { .. } => (parked, recovered + 1),
                    _ => (parked, recovered),
                });
        assert_eq!((parked, recovered), (1, 1));
        assert_eq!(root.stop().await, ExitReason::Normal);
    });
}
