//! Snapshots: minutes become hours and days, whoever writes them and how often.

use celeriac_actors::ids::WorkerId;
use celeriac_actors::measure::{Spread, Sum};
use celeriac_actors::ports::{
    Counters, Minute, QueueSnapshot, SnapshotRange, Snapshots as _, Span, TaskSnapshot,
};
use celeriac_actors::time::Timestamp;

use crate::store_support::{Bed, on_both, queue};

on_both!(
    minutes_become_hours_and_days,
    several_processes_write_the_same_minute_once,
    old_snapshots_go_in_steps,
);

const MINUTE: u64 = 60_000;

fn at(minute: u64) -> Timestamp {
    // A day that begins at its first minute.
    Timestamp::from_millis(20_000 * 86_400_000 + minute * MINUTE)
}

fn minute(number: u64, worker: &str) -> Minute {
    let counters = Counters {
        enqueued: 10 * (number + 1),
        ..Counters::default()
    };
    let sum = Sum {
        started: 2,
        run: Spread {
            buckets: vec![1, 1],
            sum_us: 700,
        },
        ..Sum::default()
    };
    Minute {
        at: at(number),
        queues: vec![QueueSnapshot {
            at: at(number),
            queue: queue("billing"),
            ready: number % 7,
            scheduled: 0,
            retrying: 0,
            active: 1,
            dead_outbox: 0,
            consumers: 2,
            oldest_ms: 5,
            paused: number == 61,
            counters,
        }],
        tasks: vec![TaskSnapshot {
            at: at(number),
            queue: queue("billing"),
            task: "a.b".to_owned(),
            worker: WorkerId::new(worker).unwrap(),
            sum,
        }],
    }
}

fn all(span: Span) -> SnapshotRange {
    SnapshotRange {
        span,
        since: at(0),
        until: at(100_000),
        queue: None,
        limit: 10_000,
    }
}

async fn minutes_become_hours_and_days(bed: Bed) {
    let store = bed.migrated().await;
    store.probe().await.unwrap();
    // Late ones come last, as when a store was away; and one comes twice.
    for number in (60..63).chain(0..2).chain([1]) {
        store.write(&minute(number, "w:1")).await.unwrap();
    }
    let minutes = store.queue_snapshots(&all(Span::Minute)).await.unwrap();
    let begins: Vec<Timestamp> = minutes.iter().map(|it| it.at).collect();
    assert_eq!(begins, [0, 1, 60, 61, 62].map(at));
    let hours = store.queue_snapshots(&all(Span::Hour)).await.unwrap();
    let [first, second] = &hours[..] else {
        panic!("two hours: {hours:?}");
    };
    assert_eq!(
        (first.at, first.ready, first.counters.enqueued),
        (at(0), 1, 20)
    );
    assert_eq!((second.at, second.ready, second.paused), (at(60), 6, true));
    assert_eq!(second.counters.enqueued, 630);
    let days = store.queue_snapshots(&all(Span::Day)).await.unwrap();
    assert_eq!(
        (days.len(), days[0].ready, days[0].counters.enqueued),
        (1, 6, 630)
    );
    let tasks = store.task_snapshots(&all(Span::Day)).await.unwrap();
    assert_eq!((tasks.len(), tasks[0].sum.started), (1, 10));
    assert_eq!(tasks[0].sum.run.buckets, [5, 5]);
    let other = SnapshotRange {
        queue: Some(queue("kyb")),
        ..all(Span::Minute)
    };
    assert_eq!(store.queue_snapshots(&other).await, Ok(Vec::new()));
    let page = SnapshotRange {
        since: at(1),
        limit: 2,
        ..all(Span::Minute)
    };
    assert_eq!(store.queue_snapshots(&page).await.unwrap().len(), 2);
}

async fn several_processes_write_the_same_minute_once(bed: Bed) {
    drop(bed.migrated().await);
    let stores: Vec<_> = (0..3).map(|_| bed.open()).collect();
    for number in 0..5 {
        let writes = stores.iter().enumerate().map(|(i, store)| async move {
            let minute = minute(number, &format!("w:{i}"));
            // Busy is no failure that lasts: it is repeated, as the monitor does.
            while store.write(&minute).await.is_err() {}
        });
        futures_util::future::join_all(writes).await;
    }
    let store = &stores[0];
    let queues = store.queue_snapshots(&all(Span::Minute)).await.unwrap();
    assert_eq!(queues.len(), 5);
    let hours = store.task_snapshots(&all(Span::Hour)).await.unwrap();
    let started: Vec<u64> = hours.iter().map(|it| it.sum.started).collect();
    assert_eq!(started, [10, 10, 10]);
}

async fn old_snapshots_go_in_steps(bed: Bed) {
    let store = bed.migrated().await;
    for number in 0..10 {
        store.write(&minute(number, "w:1")).await.unwrap();
    }
    assert_eq!(store.prune(Span::Minute, at(0), 3).await, Ok(0));
    let mut gone = Vec::new();
    loop {
        match store.prune(Span::Minute, at(8), 3).await.unwrap() {
            0 => break,
            some => gone.push(some),
        }
    }
    assert_eq!(gone.iter().sum::<u64>(), 16, "{gone:?}");
    assert!(gone.len() > 1);
    let left = store.queue_snapshots(&all(Span::Minute)).await.unwrap();
    assert_eq!(left.len(), 2);
    assert_eq!(
        store.queue_snapshots(&all(Span::Hour)).await.unwrap().len(),
        1
    );
}
