//! Question: do the steps of the store that people wait for stay fast with many dead letters?
//!
//! A page (the first and one from the middle), a rare filter, statistics and clusters (all, a range that cuts days) and an
//! insert of a batch, on SQLite with [`LETTERS`] letters over thirty days. Set it to a million for the figure that counts; filling
//! the store then takes minutes and is not timed.

#![expect(clippy::unwrap_used, reason = "a bench ends by its panic")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use celeriac::store::{Store, StoreOptions, StoreUrl};
use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::ids::{BurialId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{DeadCursor, DeadFilter, DeadLetter, DeadLetters as _, DeadStatus};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// How many dead letters there are.
const LETTERS: u64 = 50_000;
/// Over how long they were buried.
const SPAN: u64 = 30 * 86_400_000;
/// When the first was buried.
const START: u64 = 1_760_000_000_000;
const BATCH: u64 = 500;

fn buried_at(number: u64) -> Timestamp {
    Timestamp::from_millis(START + number * (SPAN / LETTERS))
}

fn letter(number: u64) -> DeadLetter {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let queues = ["default", "billing", "kyb", "notifications"];
    let pick = |of: usize| usize::try_from(mixed % of as u64).unwrap_or(0);
    let failure = Failure::new(
        FailureKind::Error,
        format!("card {number} was declined by the bank"),
    )
    .with_causes(["the bank answered 402".to_owned()])
    .of(
        3,
        "web-1:4711:9f3a01c2",
        buried_at(number),
        Duration::from_millis(12),
    );
    DeadLetter {
        id: BurialId {
            task: TaskId::from_bytes(u128::from(mixed).rotate_left(64).to_be_bytes()),
            number,
        },
        queue: QueueName::new(queues[pick(4)]).unwrap(),
        task: Some(TaskName::new(format!("{}.task_{}", queues[pick(4)], pick(25))).unwrap()),
        reason: DeadReason::ALL[pick(2)],
        note: String::new(),
        frame: vec![0xce; 300],
        args: Some(format!(
            "{{\"subscription_id\":\"sub_{number}\",\"amount\":{mixed}}}"
        )),
        headers: BTreeMap::new(),
        failures: vec![failure.clone(), failure.clone(), failure],
        attempts: 3,
        deliveries: 0,
        enqueued_at: Some(buried_at(number)),
        buried_at: buried_at(number),
        worker: "web-1:4711:9f3a01c2".to_owned(),
        status: DeadStatus::ALL[if number % 100 == 7 { 3 } else { 0 }],
        revivals: 0,
        edited: None,
    }
}

fn filled(runtime: &Runtime, dir: &std::path::Path) -> Store {
    let url = StoreUrl::file(dir.join("store.db"));
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    runtime.block_on(async {
        store.migrate().await.unwrap();
        for first in (0..LETTERS).step_by(5_000) {
            let letters = (first..(first + 5_000).min(LETTERS)).map(letter).collect();
            store.insert(letters).await.unwrap();
        }
    });
    store
}

fn steps(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&runtime, dir.path());
    let all = DeadFilter::default();
    let at = |number: u64| Timestamp::from_millis(START + SPAN / LETTERS * number);
    let cut = DeadFilter {
        since: Some(at(LETTERS / 7)),
        until: Some(at(LETTERS / 7 * 6)),
        ..all.clone()
    };
    // Both are common; together they never are.
    let rare = DeadFilter {
        queue: Some(QueueName::new("billing").unwrap()),
        task: Some(TaskName::new("kyb.task_6").unwrap()),
        ..all.clone()
    };
    let one = DeadFilter {
        id: Some(letter(LETTERS / 2).id.task),
        ..all.clone()
    };
    let middle = Some(DeadCursor {
        buried_at: at(LETTERS / 2),
        id: letter(LETTERS / 2).id,
    });
    let mut group = c.benchmark_group(format!("store/{LETTERS}"));
    group.sample_size(20);
    for (name, filter, after) in [
        ("first page of 50", &all, None),
        ("page of 50 from the middle", &all, middle),
        ("page of a filter that nothing meets", &rare, None),
        ("page of one task", &one, None),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(runtime.block_on(store.list(filter, after, 50)).unwrap()));
        });
    }
    for (name, filter) in [
        ("statistics of all", &all),
        ("statistics of a range that cuts days", &cut),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(runtime.block_on(store.stats(filter)).unwrap()));
        });
    }
    for (name, filter) in [
        ("page of 50 clusters", &all),
        ("page of 50 clusters of a range that cuts days", &cut),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(runtime.block_on(store.clusters(filter, None, 50)).unwrap()));
        });
    }
    group.throughput(Throughput::Elements(BATCH));
    let mut next = LETTERS;
    group.bench_function("insert a batch", |b| {
        b.iter_batched(
            || {
                next += BATCH;
                (next - BATCH..next).map(letter).collect::<Vec<_>>()
            },
            |letters| runtime.block_on(store.insert(letters)).unwrap(),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
