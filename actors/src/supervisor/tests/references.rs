//! What a stable reference promises while its child comes and goes.

use std::time::Duration;

use actix::Actor;
use tokio::time::{Instant, timeout};

use super::rig::*;
use crate::backoff::Backoff;
use crate::child::{ChildState, ExitReason, Strategy, SupervisorSpec};
use crate::intensity::Limit;
use crate::reference::{SendError, Slot, TrySendError};
use crate::supervisor::Root;

fn name() -> std::sync::Arc<str> {
    "a".into()
}

/// Goal: a request waits for a restart, for as long as it has patience, and is never lost silently.
#[test]
fn a_request_waits_for_the_restart_within_its_patience() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let backoff = Backoff::new(secs(3), secs(3)).with_jitter(0.0);
        let spec =
            SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a.backoff(backoff));
        let root = Root::start("root", spec, journal.environment());
        assert!(to_a.send(Act::Panic).await.is_err());

        let begun = Instant::now();
        let hasty = to_a.clone().with_patience(secs(1));
        assert_eq!(
            hasty.send(Act::Echo(1)).await,
            Err(SendError::Unavailable { name: name() })
        );
        assert_eq!(begun.elapsed().as_secs(), 1);
        assert_eq!(to_a.send(Act::Echo(2)).await, Ok(2));
        assert_eq!(begun.elapsed().as_secs(), 3);
        assert_eq!(root.stop().await, ExitReason::Normal);
        assert_eq!(
            to_a.send(Act::Echo(3)).await,
            Err(SendError::Ended { name: name() })
        );
    });
}

/// Goal: what was in the mailbox when the child died is interrupted, and is not sent to the next one.
#[test]
fn messages_behind_a_panic_are_interrupted_and_never_sent_again() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let root = Root::start("root", spec, journal.environment());
        to_a.send(Act::Echo(0)).await.unwrap();
        let interrupted = Err(SendError::Interrupted { name: name() });
        let (first, second, third) = tokio::join!(
            to_a.send(Act::Panic),
            to_a.send(Act::Panic),
            to_a.send(Act::Panic)
        );
        assert_eq!(
            (first, second, third),
            (interrupted.clone(), interrupted.clone(), interrupted)
        );
        // Had the second been sent again, there would be a second crash.
        to_a.send(Act::Echo(0)).await.unwrap();
        assert_eq!(root.tree().find("a").unwrap().restarts_total, 1);
    });
}

#[test]
fn the_backlog_counts_what_is_not_answered() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let root = Root::start("root", spec, journal.environment());
        let backlog = || root.tree().find("a").unwrap().backlog;
        let slow = timeout(secs(1), to_a.send(Act::Slow(secs(9))));
        let look = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            backlog()
        };
        let (slow, seen) = tokio::join!(slow, look);
        assert!(slow.is_err());
        assert_eq!((seen, backlog()), (1, 0));
    });
}

/// Goal: events are shed at the mailbox's bound, whoever of many holders sends them.
#[test]
fn try_send_sheds_at_the_bound_and_tells_a_restart_from_an_end() {
    paused(async {
        let journal = Journal::default();
        let (a, to_a) = puppet("a", &journal);
        let spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default()).child(a);
        let root = Root::start("root", spec, journal.environment());
        assert!(matches!(
            to_a.try_send(Act::Echo(0)),
            Err(TrySendError::Unavailable(Act::Echo(0)))
        ));
        to_a.send(Act::Echo(0)).await.unwrap();
        let accepted = (0..100)
            .take_while(|&n| to_a.clone().try_send(Act::Echo(n)).is_ok())
            .count();
        assert_eq!(accepted, 16);
        assert!(matches!(
            to_a.try_send(Act::Echo(1)),
            Err(TrySendError::Full(Act::Echo(1)))
        ));
        root.stop().await;
        assert!(matches!(
            to_a.try_send(Act::Echo(1)),
            Err(TrySendError::Ended(Act::Echo(1)))
        ));
    });
}

#[test]
fn a_slot_can_point_at_an_actor_that_nobody_supervises() {
    paused(async {
        let journal = Journal::default();
        let (spec, to_a) = puppet("a", &journal);
        let root = Root::start(
            "r",
            SupervisorSpec::default().child(spec),
            journal.environment(),
        );
        to_a.send(Act::Echo(0)).await.unwrap();
        assert_eq!(root.tree().find("a").unwrap().state, ChildState::Up);

        struct Plain;
        impl Actor for Plain {
            type Context = actix::Context<Self>;
        }
        impl actix::Handler<Act> for Plain {
            type Result = u64;
            fn handle(&mut self, _: Act, _: &mut actix::Context<Self>) -> u64 {
                7
            }
        }
        let reference = Slot::attached("plain", Plain.start()).reference::<Act>();
        assert!(reference.is_up());
        assert_eq!(reference.send(Act::Stop).await, Ok(7));
    });
}
