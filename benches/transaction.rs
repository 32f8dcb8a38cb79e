//! Question: what does a transaction of an attempt cost beside its queries?
//!
//! Attempts on the broker in memory that insert one row into a SQLite file, each in a transaction of its own: on a blocking
//! thread by hand, with `attempt.transaction`, and with that and a task for the outbox. `synchronous = OFF`, so that the
//! disk is not what is timed. The last row has no outbox relayed: only its writing is timed.

use std::sync::Arc;
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::clock::SystemClock;
use celeriac::database::{Database, Transactional as _, outbox};
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::task::{Task, TaskError};
use celeriac::testkit::MemoryBroker;
use celeriac::time::Clock;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use serde::{Deserialize, Serialize};

const TASKS: u64 = 1_000;
const INSERT: &str = "INSERT INTO rows VALUES (1)";

type SqlitePool = Pool<ConnectionManager<SqliteConnection>>;

#[derive(Clone, Serialize, Deserialize)]
struct ByHand;
celeriac::task!(ByHand as "bench.by_hand");

#[derive(Clone, Serialize, Deserialize)]
struct Transaction;
celeriac::task!(Transaction as "bench.transaction");

#[derive(Clone, Serialize, Deserialize)]
struct Enqueueing;
celeriac::task!(Enqueueing as "bench.enqueueing");

async fn by_hand(attempt: Attempt<ByHand>) -> Result<(), TaskError> {
    let pool = attempt.state::<SqlitePool>()?.clone();
    let work = move || {
        let mut conn = pool.get()?;
        conn.immediate_transaction(|conn| conn.batch_execute(INSERT))?;
        Ok(())
    };
    attempt.blocking(work).await?
}

async fn transaction(attempt: Attempt<Transaction>) -> Result<(), TaskError> {
    let work = |conn: &mut SqliteConnection, _: &mut _| Ok(conn.batch_execute(INSERT)?);
    attempt.transaction(work).await
}

/// Writes to the outbox as the library does, into a database whose outbox nobody relays.
async fn enqueueing(attempt: Attempt<Enqueueing>) -> Result<(), TaskError> {
    let producer = attempt.producer().clone();
    let work = move |conn: &mut SqliteConnection, _: &mut _| {
        conn.batch_execute(INSERT)?;
        outbox::enqueue(
            conn,
            &producer,
            &ByHand,
            celeriac::producer::EnqueueOptions::default(),
        )?;
        Ok(())
    };
    attempt.transaction(work).await
}

async fn drain<T: Task + Clone>(runtime: &Runtime, task: T) -> Duration {
    let client = runtime.client();
    let succeeded = async || {
        let queues = client.broker().queues().await.expect("the queues");
        queues
            .iter()
            .map(|queue| queue.counters.succeeded)
            .sum::<u64>()
    };
    let goal = succeeded().await + TASKS;
    let start = SystemClock.since_boot();
    let tasks = std::iter::repeat_n(task, usize::try_from(TASKS).expect("a count"));
    client.enqueue_many(tasks).await.expect("an enqueue");
    while succeeded().await < goal {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    SystemClock.since_boot().saturating_sub(start)
}

fn transactions(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rows.db");
    // One connection: waiting for the lock of another is not what is timed.
    let pool: SqlitePool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::new(file.to_str().expect("UTF-8")))
        .expect("a pool");
    let mut held = pool.get().expect("a connection");
    let conn = &mut *held;
    conn.batch_execute(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE rows (number BIGINT)",
    )
    .expect("the tables");
    outbox::create(conn).expect("the tables of the outbox");
    drop(held);

    let broker = Arc::new(MemoryBroker::new(Arc::new(SystemClock)));
    let options = RuntimeOptions::new(broker, fresh_worker_id());
    let app = App::new()
        .state(pool.clone())
        .database(Database::new(pool))
        .task(by_hand)
        .task(transaction)
        .task(enqueueing);
    let runtime = Runtime::start(app, options).expect("a runtime");
    let driver = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let driver = driver.expect("a runtime for the producer");

    let mut group = criterion.benchmark_group("transaction");
    group
        .throughput(Throughput::Elements(TASKS))
        .sample_size(10);
    macro_rules! row {
        ($name:literal, $task:expr) => {
            group.bench_function($name, |bencher| {
                bencher.iter_custom(|rounds| {
                    driver.block_on(async {
                        let mut total = Duration::ZERO;
                        for _ in 0..rounds {
                            total += drain(&runtime, $task).await;
                        }
                        total
                    })
                });
            });
        };
    }
    row!("by hand", ByHand);
    row!("attempt.transaction", Transaction);
    row!("with an outbox row", Enqueueing);
    group.finish();
    driver.block_on(runtime.stop(Duration::from_secs(5)));
}

criterion_group!(benches, transactions);
criterion_main!(benches);
