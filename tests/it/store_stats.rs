//! Statistics equal a naive count, whatever happened to the letters and wherever the range cuts into a day.

use std::collections::BTreeMap;

use celeriac::store::Store;
use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ports::{
    DeadFilter, DeadLetter, DeadLetters as _, DeadStats, DeadStatus, StatsRow,
};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::store_support::{Bed, all, expected, id, letter, on_both, queue, task};

on_both!(
    statistics_equal_a_naive_count,
    statistics_sort_and_name_their_lines,
    several_processes_at_once_keep_the_counts,
);

const DAY: u64 = 86_400_000;

/// Instants on few days, often at their very ends, so that ranges cut days in every way.
pub(crate) fn instant() -> impl Strategy<Value = u64> {
    (
        0_u64..4,
        prop_oneof![Just(0), Just(1), Just(DAY - 1), 0..DAY],
    )
        .prop_map(|(day, at)| (20_000 + day) * DAY + at)
}

pub(crate) fn any_filter() -> impl Strategy<Value = DeadFilter> {
    let maybe = |half: f64| proptest::option::weighted(half, instant());
    let one_of =
        |all: &'static [&'static str]| proptest::option::weighted(0.3, prop::sample::select(all));
    (
        one_of(&["default", "billing", "kyb", "nothing"]),
        one_of(&["demo.fail", "demo.panic", "nothing"]),
        proptest::option::weighted(0.1, 0_u64..300),
        proptest::option::weighted(0.2, prop::sample::select(&DeadReason::ALL)),
        (
            proptest::option::weighted(0.2, prop::sample::select(&DeadStatus::ALL)),
            proptest::option::weighted(0.3, 0_u64..300),
        ),
        (maybe(0.6), maybe(0.6)),
    )
        .prop_map(
            |(of_queue, of_task, number, reason, (status, like), (since, until))| DeadFilter {
                queue: of_queue.map(queue),
                task: of_task.map(task),
                id: number.map(|number| id(number).task),
                reason,
                status,
                fingerprint: like.map(|number| Fingerprint::of(&letter(number, 0))),
                since: since.map(Timestamp::from_millis),
                until: until.map(Timestamp::from_millis),
            },
        )
}

/// Goal: the kept counts never drift from the rows.
/// Method: random letters, random changes, random filters; after each round purge, so that counts also go down.
async fn statistics_equal_a_naive_count(bed: Bed) {
    let store = bed.migrated().await;
    let mut runner = TestRunner::deterministic();
    for round in 0..6_u64 {
        let times = proptest::collection::vec(instant(), 50);
        let times = times.new_tree(&mut runner).unwrap().current();
        let letters: Vec<_> = times
            .iter()
            .zip(round * 50..)
            .map(|(at, number)| letter(number, *at))
            .collect();
        store.insert(letters.clone()).await.unwrap();
        store.insert(letters).await.unwrap();
        change(&store, round * 50, &mut runner).await;
        for _ in 0..60 {
            let filter = any_filter().new_tree(&mut runner).unwrap().current();
            let listed = all(&store, &DeadFilter::default(), 1_000).await;
            assert_eq!(
                store.stats(&filter).await.unwrap(),
                counted(&expected(&listed, &filter)),
                "{filter:?}"
            );
        }
        let filter = any_filter().new_tree(&mut runner).unwrap().current();
        store.purge(&filter, 30).await.unwrap();
    }
    let left = all(&store, &DeadFilter::default(), 1_000).await;
    assert_eq!(
        store.stats(&DeadFilter::default()).await.unwrap(),
        counted(&left)
    );
}

/// Begins, finishes and discards some of the fifty letters from `first` on.
pub(crate) async fn change(store: &Store, first: u64, runner: &mut TestRunner) {
    let some = proptest::collection::vec(first..first + 50, 3..20);
    let mut numbers = || some.new_tree(runner).unwrap().current();
    for number in numbers() {
        store.begin_revival(id(number), None).await.unwrap();
    }
    let finished: Vec<_> = numbers().into_iter().map(id).collect();
    store.finish_revival(&finished).await.unwrap();
    let discarded: Vec<_> = numbers().into_iter().map(id).collect();
    store.discard(&discarded).await.unwrap();
}

fn counted(letters: &[DeadLetter]) -> DeadStats {
    let by = |key: fn(&DeadLetter) -> String| {
        let mut counts = BTreeMap::<String, u64>::new();
        for letter in letters {
            *counts.entry(key(letter)).or_default() += 1;
        }
        let rows = counts
            .into_iter()
            .map(|(key, count)| StatsRow { key, count });
        rows.collect::<Vec<_>>()
    };
    let most_first = |mut rows: Vec<StatsRow>| {
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    };
    DeadStats {
        total: letters.len() as u64,
        by_queue: most_first(by(|l| l.queue.to_string())),
        by_task: most_first(by(|l| {
            l.task.as_ref().map_or("?".into(), ToString::to_string)
        })),
        by_reason: most_first(by(|l| l.reason.to_string())),
        by_status: most_first(by(|l| l.status.to_string())),
        by_day: by(|l| l.buried_at.to_string()[..10].to_owned())
            .into_iter()
            .rev()
            .collect(),
    }
}

async fn statistics_sort_and_name_their_lines(bed: Bed) {
    let store = bed.migrated().await;
    let at = [0, 1, DAY, 2 * DAY];
    store
        .insert(
            at.into_iter()
                .zip(0..)
                .map(|(at, n)| letter(n, at))
                .collect(),
        )
        .await
        .unwrap();
    let stats = store.stats(&DeadFilter::default()).await.unwrap();
    let row = |key: &str, count| StatsRow {
        key: key.to_owned(),
        count,
    };
    assert_eq!(
        stats.by_queue,
        [row("default", 2), row("billing", 1), row("kyb", 1)]
    );
    assert_eq!(
        stats.by_task,
        [row("demo.panic", 2), row("?", 1), row("demo.fail", 1)]
    );
    assert_eq!(
        stats.by_day,
        [
            row("1970-01-03", 1),
            row("1970-01-02", 1),
            row("1970-01-01", 2)
        ]
    );
}

/// Goal: processes that store, discard and purge the same letters at once neither lose counts nor lock each other out.
/// Method: four stores with pools of their own go over the same letters in different orders.
async fn several_processes_at_once_keep_the_counts(bed: Bed) {
    let letters: Vec<_> = (0..600).map(|n| letter(n, n * DAY / 60)).collect();
    drop(bed.migrated().await);
    let mut processes = tokio::task::JoinSet::new();
    for number in 0..4 {
        let store = bed.migrated().await;
        let mut letters = letters.clone();
        letters.rotate_left(150 * number);
        processes.spawn(async move {
            let mut fresh = 0;
            for batch in letters.chunks(40) {
                fresh += store.insert(batch.to_vec()).await.unwrap();
                let ids: Vec<_> = batch
                    .iter()
                    .rev()
                    .step_by(3)
                    .map(|letter| letter.id)
                    .collect();
                store.discard(&ids).await.unwrap();
            }
            fresh
        });
    }
    assert_eq!(processes.join_all().await.into_iter().sum::<u64>(), 600);
    let store = bed.migrated().await;
    let listed = all(&store, &DeadFilter::default(), 1_000).await;
    assert_eq!(
        store.stats(&DeadFilter::default()).await.unwrap(),
        counted(&listed)
    );
}
