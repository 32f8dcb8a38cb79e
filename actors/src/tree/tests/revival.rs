//! Dead letters that live again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{quick, run, status};
use crate::attempt::Attempt;
use crate::frame::{FrameLimits, encode_value};
use crate::letters::edited_args;
use crate::ports::{Broker, DeadLetters, DeadStatus};
use crate::producer::TaskHandle;
use crate::registry::Registry;
use crate::revival::{ReviveError, edit, revive, revive_with};
use crate::state::TaskState;
use crate::task;
use crate::testkit::{End, Rig, RigBuilder, output};

#[derive(Serialize, Deserialize)]
struct Mortal;
task!(Mortal as "test.mortal" -> u16, quick(2));

fn rig(healthy: &Arc<AtomicBool>) -> RigBuilder {
    Rig::builder()
        .state(Arc::clone(healthy))
        .task(|a: Attempt<Mortal>| async move {
            if a.state::<Arc<AtomicBool>>()?.load(Ordering::SeqCst) {
                Ok(a.number())
            } else {
                Err("ill".into())
            }
        })
}

/// Goal: a revived task starts a new life and ends well; its letter says so, and it cannot be revived twice.
/// Method: let it die, heal what it died of, revive it.
#[test]
fn a_revived_task_starts_a_new_life() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let rig = rig(&healthy).start().await;
        rig.run(Mortal).await.unwrap_err();
        let letter = rig.letters(1).await.remove(0);
        healthy.store(true, Ordering::SeqCst);
        let broker: Arc<dyn Broker> = rig.broker().clone();
        let handle = revive(letter.id, &**rig.store(), &broker).await.unwrap();
        let done = || {
            rig.probe
                .ends(handle.id)
                .contains(&crate::testkit::End::Succeeded)
        };
        rig.probe.until(done).await;
        rig.wait_until_empty().await;
        let counters = status(&rig, "default").await.counters;
        assert_eq!(
            (counters.revived, counters.succeeded, counters.outstanding()),
            (1, 1, 0)
        );
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        assert_eq!(rig.store().letters()[0].status, DeadStatus::Revived);
        let again = revive(letter.id, &**rig.store(), &broker).await;
        assert!(matches!(again, Err(ReviveError::Store(_))));
        rig.stop().await;
    });
}

/// Goal: a revival that a crash left half done is finished, once.
/// Method: leave it after each of its steps, then start a worker.
#[test]
fn a_half_done_revival_is_finished_once() {
    run(async {
        for enqueued in [false, true] {
            let healthy = Arc::new(AtomicBool::new(false));
            let dying = rig(&healthy).start().await;
            dying.run(Mortal).await.unwrap_err();
            let letter = dying.letters(1).await.remove(0);
            healthy.store(true, Ordering::SeqCst);
            let letter = dying.store().begin_revival(letter.id, None).await.unwrap();
            if enqueued {
                let broker: Arc<dyn Broker> = dying.broker().clone();
                dying.store().set_away(true);
                let crashed = crate::revival::finish(&letter, &**dying.store(), &broker).await;
                assert!(matches!(crashed, Err(ReviveError::Store(_))));
                dying.store().set_away(false);
            }
            let next = rig(&healthy).beside(&dying).worker("next").start().await;
            let revived = || next.store().letters()[0].status == DeadStatus::Revived;
            next.probe.until(revived).await;
            next.wait_until_empty().await;
            let counters = status(&next, "default").await.counters;
            assert_eq!((counters.revived, counters.succeeded), (1, 1), "{enqueued}");
            dying.stop().await;
            next.stop().await;
        }
    });
}

#[derive(Serialize, Deserialize)]
struct Charge {
    amount: u32,
}
task!(Charge as "test.charge" -> u32, quick(1));

/// Waits until a revived task has succeeded; returns its output.
async fn lived(rig: &Rig, handle: &TaskHandle) -> u32 {
    let done = || rig.probe.ends(handle.id).contains(&End::Succeeded);
    rig.probe.until(done).await;
    rig.wait_until_empty().await;
    output(&rig.wait(handle).await)
}

/// Goal: a task that died of its arguments lives again with others, also when the revival is finished by somebody else; its
/// letter keeps what it died of.
#[test]
fn a_task_is_revived_with_other_arguments() {
    run(async {
        let rig = Rig::builder().task(|a: Attempt<Charge>| async move {
            match a.args.amount {
                0 => Err("nothing to charge".into()),
                amount => Ok(amount),
            }
        });
        let rig = rig.start().await;
        rig.run(Charge { amount: 0 }).await.unwrap_err();
        rig.run(Charge { amount: 0 }).await.unwrap_err();
        let letters = rig.letters(2).await;
        let limits = FrameLimits::default();
        let broker: Arc<dyn Broker> = rig.broker().clone();
        let at = (&**rig.store() as &dyn DeadLetters, &broker);
        let mut known = Registry::default();
        known
            .function(|a: Attempt<Charge>| async move { Ok(a.args.amount) })
            .unwrap();
        let args = |amount: serde_json::Value| {
            encode_value(&serde_json::json!({ "amount": amount })).unwrap()
        };

        let wrong = revive_with(letters[0].id, &args("7".into()), &known, &limits, at).await;
        let said = wrong.unwrap_err().to_string();
        assert!(said.contains("`test.charge` takes at `amount`"), "{said}");
        assert_eq!(rig.store().letters(), letters, "nothing was decided");

        let done = revive_with(letters[0].id, &args(7.into()), &known, &limits, at).await;
        assert_eq!(lived(&rig, &done.unwrap()).await, 7);
        let letter = &rig.store().letters()[0];
        assert_eq!(
            (&letter.frame, letter.status),
            (&letters[0].frame, DeadStatus::Revived)
        );
        assert_eq!(edited_args(letter, &limits).unwrap(), r#"{"amount":7}"#);

        // Somebody decides and is gone; others neither change it nor send anything else.
        let edited = edit(&letters[1], &args(8.into()), &known, &limits).unwrap();
        rig.store()
            .begin_revival(letters[1].id, Some(&edited))
            .await
            .unwrap();
        let other = revive_with(letters[1].id, &args(9.into()), &known, &limits, at).await;
        assert!(matches!(other, Err(ReviveError::Edited(_))), "{other:?}");
        let handle = revive(letters[1].id, &**rig.store(), &broker)
            .await
            .unwrap();
        assert_eq!(lived(&rig, &handle).await, 8);
        rig.stop().await;
    });
}
