//! Each fact has its reason, and reasons do not flap.

use std::time::Duration;

use super::*;
use crate::ids::{QueueName, WorkerId};
use crate::ports::Durability;
use crate::time::Timestamp;

const SEC: Duration = Duration::from_secs(1);

fn billing() -> QueueName {
    QueueName::new("billing").unwrap()
}

fn queue() -> QueueFacts {
    QueueFacts {
        queue: billing(),
        ready: 0,
        active: 0,
        paused: false,
        dead_outbox: 0,
        oldest_ready: None,
        dead_per_minute: None,
        attempts: 0,
        failed: 0,
    }
}

fn worker() -> WorkerFacts {
    let mut worker = WorkerFacts::well(WorkerId::new("w").unwrap(), vec![billing()]);
    worker.lanes = 2;
    worker
}

fn well() -> Facts {
    Facts {
        broker: Reach::Here,
        store: Reach::Here,
        durability: Some(Durability::PowerSafe),
        queues: vec![queue()],
        workers: vec![worker()],
        ..Facts::default()
    }
}

fn away() -> Reach {
    Reach::Away {
        since: 2 * SEC,
        error: "refused".to_owned(),
    }
}

/// The facts, changed, and what is found then.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<(ReasonKind, String, Severity)> {
    let mut facts = well();
    change(&mut facts);
    let findings = judge(&facts, &Thresholds::default(), &|_, _| None);
    let parts = |f: Finding| (f.kind, f.subject, f.severity);
    findings.into_iter().map(parts).collect()
}

#[test]
fn each_fact_has_its_reason() {
    use ReasonKind as R;
    use Severity::{Critical, Degraded};
    assert_eq!(found(|_| {}), []);
    let one = |kind, subject: &str, severity| vec![(kind, subject.to_owned(), severity)];
    assert_eq!(
        found(|f| f.broker = away()),
        one(R::BrokerAway, "", Critical)
    );
    assert_eq!(found(|f| f.store = away()), one(R::StoreAway, "", Degraded));
    assert_eq!(
        found(|f| f.durability = Some(Durability::Volatile)),
        one(R::VolatileBroker, "", Degraded)
    );
    assert_eq!(
        found(|f| f.evicts = true),
        one(R::EvictingBroker, "", Critical)
    );
    let w = |change: fn(&mut WorkerFacts)| found(|f| change(&mut f.workers[0]));
    assert_eq!(
        w(|w| w.broker_away = Some((SEC, String::new()))),
        one(R::BrokerAway, "w", Critical)
    );
    assert_eq!(
        w(|w| w.store_away = Some((SEC, String::new()))),
        one(R::StoreAway, "w", Degraded)
    );
    assert_eq!(
        w(|w| w.stuck_threads = 1),
        one(R::Stuck, "w/threads", Degraded)
    );
    assert_eq!(
        w(|w| w.parked = vec![("work/x".to_owned(), String::new())]),
        one(R::CrashLoop, "w/work/x", Critical)
    );
    assert_eq!(w(|w| w.looping = vec![("x".to_owned(), 2)]), []);
    assert_eq!(
        w(|w| w.looping = vec![("x".to_owned(), 3)]),
        one(R::CrashLoop, "w/x", Degraded)
    );
    assert_eq!(
        w(|w| w.skew = Some(6 * SEC)),
        one(R::ClockSkew, "w", Degraded)
    );
    let block = |lanes| {
        move |f: &mut Facts| {
            let blocked = |lane| BlockedLane {
                lane,
                task: None,
                id: None,
            };
            f.workers[0].blocked = (0..lanes).map(blocked).collect();
        }
    };
    assert_eq!(found(block(1)), one(R::BlockedThread, "w/lane-0", Degraded));
    assert!(found(block(2)).iter().all(|found| found.2 == Critical));
    let disk = |free| {
        found(|f| {
            f.disks.push(Disk {
                path: "/d".to_owned(),
                free,
                total: 100,
            });
        })
    };
    assert_eq!(disk(50), []);
    assert_eq!(disk(9), one(R::Disk, "/d", Degraded));
    assert_eq!(disk(1), one(R::Disk, "/d", Critical));
}

#[test]
fn a_queue_with_work_needs_a_worker_that_takes_it() {
    let lone = |change: fn(&mut Facts)| {
        found(|facts| {
            facts.queues[0].ready = 3;
            change(facts);
        })
    };
    let queue = (
        ReasonKind::NoWorker,
        "billing".to_owned(),
        Severity::Critical,
    );
    let whole = (ReasonKind::NoWorker, String::new(), Severity::Degraded);
    assert_eq!(lone(|_| {}), []);
    assert_eq!(
        lone(|f| f.workers[0].alive = false),
        [whole.clone(), queue.clone()]
    );
    assert_eq!(
        lone(|f| f.workers[0].quiet = true),
        std::slice::from_ref(&queue)
    );
    assert_eq!(lone(|f| f.workers[0].queues.clear()), [queue]);
    assert_eq!(
        lone(|f| {
            f.workers[0].queues.clear();
            f.queues[0].paused = true;
        }),
        []
    );
    // Without the broker nobody knows who lives.
    let blind = found(|f| {
        f.broker = away();
        f.workers.clear();
    });
    assert_eq!(blind.len(), 1);
}

#[test]
fn figures_of_queues_are_held_against_their_own_thresholds() {
    let mut facts = well();
    facts.queues[0].oldest_ready = Some(60 * SEC);
    facts.queues[0].attempts = 100;
    facts.queues[0].failed = 80;
    facts.queues[0].dead_per_minute = Some(11.0);
    facts.queues[0].dead_outbox = 1_000_000;
    let mut strict = Thresholds::default();
    let own = QueueThresholds {
        ready_age: Two {
            degraded: SEC,
            critical: 2 * SEC,
        },
        ..QueueThresholds::default()
    };
    strict.queues.insert(billing(), own);
    let kinds = |thresholds: &Thresholds| {
        let findings = judge(&facts, thresholds, &|_, _| None);
        let parts = |f: Finding| (f.kind, f.severity);
        findings.into_iter().map(parts).collect::<Vec<_>>()
    };
    let others = [
        (ReasonKind::DeadRate, Severity::Degraded),
        (ReasonKind::FailureRate, Severity::Critical),
        (ReasonKind::DeadOutbox, Severity::Critical),
    ];
    assert_eq!(kinds(&Thresholds::default()), others);
    let all = [&[(ReasonKind::ReadyAge, Severity::Critical)], &others[..]].concat();
    assert_eq!(kinds(&strict), all);
}

fn at(secs: u64) -> (Duration, Timestamp) {
    (
        Duration::from_secs(secs),
        Timestamp::from_millis(secs * 1_000),
    )
}

/// Goal: an hour of noise around a threshold is one reason, not hundreds.
#[test]
fn a_noisy_hour_does_not_flap() {
    let mut tracker = Tracker::default();
    let thresholds = Thresholds::default();
    let mut turns = 0;
    for second in 0..3_600_u64 {
        let mut facts = well();
        // Back and forth over the threshold of five minutes, and a broker that is away for two seconds of each seven.
        facts.queues[0].oldest_ready = Some(if second % 3 == 0 {
            310 * SEC
        } else {
            290 * SEC
        });
        if second % 7 < 2 {
            facts.broker = away();
        }
        let (now, wall) = at(second);
        let changes = tracker.look(&facts, &thresholds, now, wall);
        turns += changes.len();
    }
    // The two reasons, and the turn to critical.
    assert_eq!(turns, 3, "{:?}", tracker.history().collect::<Vec<_>>());
    let (now, wall) = at(3_600);
    assert_eq!(tracker.health(now).verdict, Verdict::Critical);
    let mut turns = Vec::new();
    for second in 0..60 {
        let (now, wall) = (now + second * SEC, wall.plus(second * SEC));
        turns.extend(tracker.look(&well(), &thresholds, now, wall));
    }
    let healed = matches!(
        &turns[..],
        [
            Change::Cleared { .. },
            Change::Cleared { .. },
            Change::Verdict {
                to: Verdict::Healthy,
                from: Verdict::Critical,
                ..
            },
        ]
    );
    assert!(healed, "{turns:?}");
}

#[test]
fn what_nobody_looks_at_is_unknown() {
    let mut tracker = Tracker::default();
    assert_eq!(tracker.health(SEC).verdict, Verdict::Unknown);
    let (now, wall) = at(5);
    let first = tracker.look(&well(), &Thresholds::default(), now, wall);
    assert!(matches!(
        first[..],
        [Change::Verdict {
            to: Verdict::Healthy,
            ..
        }]
    ));
    assert_eq!(tracker.health(now + STALE_AFTER).verdict, Verdict::Healthy);
    let late = now + STALE_AFTER + SEC;
    assert_eq!(tracker.health(late).verdict, Verdict::Unknown);
    assert_eq!(tracker.idle(now + SEC, wall), []);
    assert_eq!(tracker.idle(late, wall.plus(12 * SEC)).len(), 1);
    assert_eq!(tracker.idle(late, wall.plus(12 * SEC)), []);
}

#[test]
fn a_reason_keeps_its_beginning_and_tells_when_it_grows_worse() {
    let mut tracker = Tracker::default();
    let thresholds = Thresholds::default();
    let mut facts = well();
    facts.queues[0].oldest_ready = Some(400 * SEC);
    let (now, wall) = at(10);
    tracker.look(&facts, &thresholds, now, wall);
    facts.queues[0].oldest_ready = Some(2_000 * SEC);
    let (now, later) = at(20);
    let changes = tracker.look(&facts, &thresholds, now, later);
    assert_eq!(changes.len(), 2, "{changes:?}");
    let health = tracker.health(now);
    assert_eq!(
        (health.verdict, health.reasons[0].since),
        (Verdict::Critical, wall)
    );
    assert_eq!(health.reasons[0].figure, 2_000.0);
}

#[test]
fn names_that_are_made_up_do_not_fill_the_memory() {
    let mut tracker = Tracker::default();
    let mut facts = well();
    facts.disks = (0..5_000)
        .map(|i| Disk {
            path: i.to_string(),
            free: 0,
            total: 1,
        })
        .collect();
    let (now, wall) = at(1);
    tracker.look(&facts, &Thresholds::default(), now, wall);
    assert_eq!(tracker.health(now).reasons.len(), 1_000);
    assert_eq!(tracker.history().count(), 256);
}
