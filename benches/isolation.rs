//! Question: what does an attempt cost inline, on a thread and in a child process, and what do tasks that wreck their
//! children cost their neighbours?
//!
//! The whole tree runs on the broker in memory. `attempts` times from the moment the queue is resumed until all tasks are
//! settled, with one child and one thread, so that its rows are rates of a single place. `neighbours` times 10,000 tasks
//! that sleep for 5 ms at concurrency 64, alone and while tasks of the worst kinds die and hang in two children all along, in a
//! queue of their own and in the same one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac::clock::SystemClock;
use celeriac::ids::QueueName;
use celeriac::mode::Mode;
use celeriac::policy::Policy;
use celeriac::ports::Broker;
use celeriac::route::Route;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::testkit::MemoryBroker;
use celeriac::time::Clock;
use celeriac::{App, Attempt, Task, TaskError};
use criterion::{Criterion, SamplingMode, Throughput};
use serde::{Deserialize, Serialize};

const TASKS: u64 = 5_000;
const NEIGHBOURS: u64 = 10_000;

#[derive(Clone, Serialize, Deserialize)]
struct Inline(u64);
celeriac::task!(Inline as "bench.inline");

#[derive(Clone, Serialize, Deserialize)]
struct Blocking(u64);
celeriac::task!(Blocking as "bench.blocking");

#[derive(Clone, Serialize, Deserialize)]
struct Isolated(u64);
celeriac::task!(Isolated as "bench.isolated" -> (), Policy::default().mode(Mode::Isolated));

#[derive(Clone, Serialize, Deserialize)]
struct Sleep;
celeriac::task!(Sleep as "bench.sleep");

/// Wrecks its child, in one of the ways there are.
#[derive(Clone, Serialize, Deserialize)]
struct Wreck(u64);
celeriac::task!(Wreck as "bench.wreck" -> (), Policy::default()
    .mode(Mode::Isolated)
    .max_attempts(1)
    .hard_limit(Duration::from_millis(200)));

fn app() -> App {
    App::new()
        .task(|_: Attempt<Inline>| async { Ok(()) })
        .blocking_task(|_: Attempt<Blocking>| Ok(()))
        .task(|_: Attempt<Isolated>| async { Ok(()) })
        .task(|_: Attempt<Sleep>| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        })
        .task(wreck)
}

async fn wreck(attempt: Attempt<Wreck>) -> Result<(), TaskError> {
    match attempt.args.0 % 3 {
        0 => std::process::abort(),
        1 => std::process::exit(0),
        _ => loop {
            std::hint::spin_loop();
        },
    }
}

async fn succeeded(broker: &dyn Broker) -> u64 {
    let queues = broker.queues().await.expect("the queues");
    queues.iter().map(|queue| queue.counters.succeeded).sum()
}

/// Returns how long the tree took from the moment the queue was resumed until all tasks were settled.
async fn drain<T: Task + Clone>(runtime: &Runtime, task: T, count: u64) -> Duration {
    let client = runtime.client();
    let queue = QueueName::new("default").expect("a name");
    let goal = succeeded(&**client.broker()).await + count;
    client.broker().pause(&queue, true).await.expect("a pause");
    let tasks = std::iter::repeat_n(task, usize::try_from(count).expect("a count"));
    client.enqueue_many(tasks).await.expect("an enqueue");
    let start = SystemClock.since_boot();
    client
        .broker()
        .pause(&queue, false)
        .await
        .expect("a resume");
    while succeeded(&**client.broker()).await < goal {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    SystemClock.since_boot().saturating_sub(start)
}

fn runtime(children: usize, concurrency: usize, apart: bool) -> Runtime {
    let broker = Arc::new(MemoryBroker::new(Arc::new(SystemClock)));
    let mut options = RuntimeOptions::new(broker, fresh_worker_id());
    options.tree.concurrency = concurrency;
    options.blocking_threads = 1;
    options.isolation.children = children;
    if apart {
        options.routes.insert(0, Route::new("bench.wreck", "kyb"));
    }
    for (queue, share) in &mut options.tree.queues {
        if apart && queue.as_str() == "kyb" {
            share.cap = Some(children);
        }
    }
    Runtime::start(app(), options).expect("a runtime")
}

fn attempts(criterion: &mut Criterion, driver: &tokio::runtime::Runtime) {
    let runtime = runtime(1, 64, true);
    let mut group = criterion.benchmark_group("attempts");
    group
        .throughput(Throughput::Elements(TASKS))
        .sample_size(10);
    let measured =
        |group: &mut criterion::BenchmarkGroup<'_, _>, name: &str, once: &dyn Fn() -> Duration| {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| once()).sum());
            });
        };
    measured(&mut group, "inline", &|| {
        driver.block_on(drain(&runtime, Inline(1), TASKS))
    });
    measured(&mut group, "blocking", &|| {
        driver.block_on(drain(&runtime, Blocking(1), TASKS))
    });
    measured(&mut group, "isolated", &|| {
        driver.block_on(drain(&runtime, Isolated(1), TASKS))
    });
    group.finish();
    driver.block_on(runtime.stop(Duration::from_secs(5)));
}

/// Keeps the children busy with what wrecks them until told to stop.
async fn wreck_all_along(runtime: &Runtime, over: &AtomicBool) {
    let client = runtime.client();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let some: Vec<Wreck> = (number..number + 3).map(Wreck).collect();
        number += 3;
        client.enqueue_many(some).await.expect("an enqueue");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn neighbours(criterion: &mut Criterion, driver: &tokio::runtime::Runtime) {
    let apart = runtime(2, 64 + 8, true);
    let mixed = runtime(2, 64 + 8, false);
    let mut group = criterion.benchmark_group("neighbours");
    group
        .throughput(Throughput::Elements(NEIGHBOURS))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10);
    for (name, runtime, disturbed) in [
        ("alone", &apart, false),
        ("beside wrecks", &apart, true),
        ("beside wrecks in the same queue", &mixed, true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                driver.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let over = AtomicBool::new(!disturbed);
                        let drained = async {
                            total += drain(runtime, Sleep, NEIGHBOURS).await;
                            over.store(true, Ordering::Relaxed);
                        };
                        tokio::join!(drained, wreck_all_along(runtime, &over));
                    }
                    total
                })
            });
        });
    }
    group.finish();
    for runtime in [apart, mixed] {
        driver.block_on(runtime.stop(Duration::from_secs(5)));
    }
}

fn main() {
    celeriac::isolation::enter(app);
    let driver = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the producer");
    let mut criterion = Criterion::default().configure_from_args();
    attempts(&mut criterion, &driver);
    neighbours(&mut criterion, &driver);
    criterion.final_summary();
}
