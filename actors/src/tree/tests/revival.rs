//! Dead letters that live again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{quick, run, status};
use crate::attempt::Attempt;
use crate::ports::{Broker, DeadLetters, DeadStatus};
use crate::revival::{ReviveError, revive};
use crate::state::TaskState;
use crate::task;
use crate::testkit::{Rig, RigBuilder};

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
            let letter = dying.store().begin_revival(letter.id).await.unwrap();
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
