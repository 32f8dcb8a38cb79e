//! Canary revivals on the real tree: they go on while tasks succeed, and stop while most letters are untouched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{quick, run};
use crate::attempt::Attempt;
use crate::ids::BurialId;
use crate::ports::{Broker, DeadFilter, DeadStatus};
use crate::revival::canary::{Canary, CanaryCounts, CanaryEnd, CanaryNews, CanaryPlan};
use crate::task;
use crate::testkit::Rig;

#[derive(Serialize, Deserialize)]
struct Frail;
task!(Frail as "test.frail" -> (), quick(1));

const LETTERS: usize = 15;

/// Starts a rig in which fifteen tasks have died.
async fn graveyard(healthy: &Arc<AtomicBool>) -> Rig {
    let rig = Rig::builder()
        .state(Arc::clone(healthy))
        .task(|a: Attempt<Frail>| async move {
            match a.state::<Arc<AtomicBool>>()?.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err("ill".into()),
            }
        });
    let rig = rig.start().await;
    for _ in 0..LETTERS {
        rig.run(Frail).await.unwrap_err();
    }
    rig.letters(LETTERS).await;
    rig
}

/// Makes steps until it is over; `seen` is told of each.
async fn finish(
    rig: &Rig,
    plan: CanaryPlan,
    mut seen: impl FnMut(&CanaryNews),
) -> (CanaryEnd, CanaryCounts) {
    let broker: Arc<dyn Broker> = rig.broker().clone();
    let mut canary = Canary::new(DeadFilter::default(), plan);
    loop {
        let news = canary.step(&**rig.store(), &broker).await.unwrap();
        seen(&news);
        if let CanaryNews::Over(end) = news {
            return (end, *canary.counts());
        }
    }
}

fn count(rig: &Rig, status: DeadStatus) -> usize {
    let letters = rig.store().letters();
    letters.iter().filter(|l| l.status == status).count()
}

/// Goal: what succeeds is revived to the last letter, the newest first, each stage after the ends of the one before.
#[test]
fn a_cured_graveyard_is_emptied() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let rig = graveyard(&healthy).await;
        healthy.store(true, Ordering::SeqCst);
        let newest_first: Vec<BurialId> =
            rig.store().letters().iter().rev().map(|l| l.id).collect();
        let (mut revived, mut ended, mut stages) = (Vec::new(), 0, Vec::new());
        let (end, counts) = finish(&rig, CanaryPlan::default(), |news| match news {
            CanaryNews::Revived { letter, .. } => {
                if ended == revived.len() {
                    stages.push(ended);
                }
                revived.push(*letter);
            }
            CanaryNews::Ended { .. } => ended += 1,
            _ => {}
        })
        .await;
        assert_eq!(end, CanaryEnd::Done);
        assert_eq!(
            (counts.revived, counts.succeeded, counts.failed),
            (15, 15, 0)
        );
        assert_eq!(revived, newest_first);
        assert!(stages.starts_with(&[0, 1, 11]), "{stages:?}");
        assert_eq!(count(&rig, DeadStatus::Revived), LETTERS);
        rig.stop().await;
    });
}

/// Goal: a canary that dies of the same again costs one letter; also where its former end is still kept.
#[test]
fn a_dying_canary_leaves_the_rest() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let rig = graveyard(&healthy).await;
        let (end, counts) = finish(&rig, CanaryPlan::default(), |_| ()).await;
        assert_eq!(end, CanaryEnd::TooManyFailed);
        assert_eq!((counts.revived, counts.failed), (1, 1));
        // The letter of its new death, too, is new.
        rig.letters(LETTERS + 1).await;
        assert_eq!(count(&rig, DeadStatus::New), LETTERS);
        rig.stop().await;
    });
}

/// Goal: what goes wrong after the first stage stops it within the second.
#[test]
fn a_relapse_in_the_second_stage_leaves_the_rest() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let rig = graveyard(&healthy).await;
        healthy.store(true, Ordering::SeqCst);
        let relapse = |news: &CanaryNews| {
            if matches!(news, CanaryNews::Ended { .. }) {
                healthy.store(false, Ordering::SeqCst);
            }
        };
        let (end, counts) = finish(&rig, CanaryPlan::default(), relapse).await;
        assert_eq!(end, CanaryEnd::TooManyFailed);
        assert_eq!((counts.revived, counts.succeeded), (11, 1));
        assert!(counts.failed >= 2, "{counts:?}");
        let reviving = count(&rig, DeadStatus::Reviving);
        assert_eq!((reviving, count(&rig, DeadStatus::Revived)), (0, 11));
        rig.stop().await;
    });
}

/// Goal: a stage that does not end is given up on, and only what was asked for is revived.
#[test]
fn a_stage_that_does_not_end_stops_it() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let rig = graveyard(&healthy).await;
        healthy.store(true, Ordering::SeqCst);
        let plan = CanaryPlan {
            limit: Some(3),
            ..CanaryPlan::default()
        };
        let (end, counts) = finish(&rig, plan, |_| ()).await;
        assert_eq!((end, counts.succeeded), (CanaryEnd::Done, 3));
        let broker: Arc<dyn Broker> = rig.broker().clone();
        let queue = rig.store().letters()[0].queue.clone();
        broker.pause(&queue, true).await.unwrap();
        let plan = CanaryPlan {
            wait: Duration::from_millis(200),
            ..CanaryPlan::default()
        };
        let (end, counts) = finish(&rig, plan, |_| ()).await;
        assert_eq!((end, counts.pending()), (CanaryEnd::TooSlow, 1));
        assert_eq!(count(&rig, DeadStatus::New), LETTERS - 4);
        rig.stop().await;
    });
}
