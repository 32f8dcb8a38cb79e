//! Questions: how many no-op tasks a second does one process take through their whole life on the embedded broker, at
//! which durability; and how long is it from an enqueue to the start of the task?
//!
//! The measured path is the shipped one: client, broker, tree, consumers, settlement. A lifecycle's time runs from the
//! first enqueue call to the last settlement, producers and consumers together. Latency is measured at a steady rate of
//! single awaited enqueues, from before the call to the first instruction of the task.
//!
//! `cargo bench --bench embedded -- [TASKS]`

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench prints figures; percentiles are indices"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::client::Client;
use celeriac::clock::SystemClock;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac::time::Clock;
use serde::{Deserialize, Serialize};

/// How many producers enqueue at once.
const PRODUCERS: usize = 4;
/// How many tasks one enqueue call carries.
const BATCH: usize = 500;
/// How many single enqueues the latency is measured over, and how far apart they are.
const PROBES: usize = 3_000;
const PACE: Duration = Duration::from_millis(1);

#[derive(Clone, Serialize, Deserialize)]
struct Noop {
    payload: String,
}
celeriac::task!(Noop as "bench.noop");

#[derive(Serialize, Deserialize)]
struct Probe {
    sent_ns: u64,
    slot: usize,
}
celeriac::task!(Probe as "bench.probe");

/// The latencies that probes wrote, in nanoseconds.
#[derive(Clone)]
struct Latencies(Arc<Vec<AtomicU64>>);

fn now_ns() -> u64 {
    u64::try_from(SystemClock.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

struct Bench {
    runtime: Runtime,
    client: Client,
    latencies: Latencies,
    _directory: tempfile::TempDir,
}

fn start(power_safe: bool, concurrency: usize) -> Bench {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let worker = fresh_worker_id();
    let options = SqliteOptions::new(directory.path())
        .worker(worker.clone())
        .power_safe(power_safe);
    let broker = Arc::new(SqliteBroker::open(options).expect("an embedded broker"));
    let mut options = RuntimeOptions::new(broker, worker);
    options.tree.concurrency = concurrency;
    let latencies = Latencies(Arc::new((0..PROBES).map(|_| AtomicU64::new(0)).collect()));
    let app = App::new()
        .state(latencies.clone())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|probe: Attempt<Probe>| async move {
            let latency = now_ns().saturating_sub(probe.args.sent_ns).max(1);
            probe.state::<Latencies>()?.0[probe.args.slot].store(latency, Ordering::Relaxed);
            Ok(())
        });
    let runtime = Runtime::start(app, options).expect("a runtime");
    let client = runtime.client();
    Bench {
        runtime,
        client,
        latencies,
        _directory: directory,
    }
}

async fn succeeded(client: &Client) -> u64 {
    let queues = client.broker().queues().await.expect("the queues");
    queues.iter().map(|queue| queue.counters.succeeded).sum()
}

/// Returns how many tasks a second went from enqueue to settlement.
async fn lifecycle(bench: &Bench, tasks: usize) -> f64 {
    let before = succeeded(&bench.client).await;
    let goal = before + tasks as u64;
    // 200 bytes of arguments as they are stored.
    let noop = Noop {
        payload: "x".repeat(187),
    };
    let start = SystemClock.since_boot();
    let producers = (0..PRODUCERS).map(|_| {
        let (client, noop) = (bench.client.clone(), noop.clone());
        tokio::spawn(async move {
            let share = tasks / PRODUCERS;
            for sent in (0..share).step_by(BATCH) {
                let batch = std::iter::repeat_n(noop.clone(), BATCH.min(share - sent));
                client.enqueue_many(batch).await.expect("an enqueue");
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.expect("a producer");
    }
    let enqueued = SystemClock.since_boot();
    while succeeded(&bench.client).await < goal {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = SystemClock.since_boot().saturating_sub(start);
    let enqueue = enqueued.saturating_sub(start);
    println!(
        "  enqueue {:>9.0}/s   lifecycle {:>9.0}/s   ({tasks} tasks in {took:.2?})",
        tasks as f64 / enqueue.as_secs_f64(),
        tasks as f64 / took.as_secs_f64()
    );
    tasks as f64 / took.as_secs_f64()
}

/// Prints p50, p99 and the maximum of the time from enqueue to start.
async fn latency(bench: &Bench) {
    let mut rhythm = tokio::time::interval(PACE);
    let before = succeeded(&bench.client).await;
    for slot in 0..PROBES {
        rhythm.tick().await;
        let client = bench.client.clone();
        tokio::spawn(async move {
            let probe = Probe {
                sent_ns: now_ns(),
                slot,
            };
            client.enqueue(&probe).await.expect("an enqueue");
        });
    }
    while succeeded(&bench.client).await < before + PROBES as u64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let slots = bench.latencies.0.iter();
    let mut all: Vec<u64> = slots.map(|slot| slot.load(Ordering::Relaxed)).collect();
    all.sort_unstable();
    let us = |part: f64| all[((all.len() - 1) as f64 * part) as usize] as f64 / 1_000.0;
    let (p50, p99, max) = (us(0.50), us(0.99), us(1.0));
    println!(
        "  latency at {}/s: p50 {p50:.0} us, p99 {p99:.0} us, max {max:.0} us",
        1_000
    );
}

fn main() {
    let tasks = std::env::args()
        .skip(1)
        .find_map(|text| text.parse().ok())
        .unwrap_or(100_000);
    let driver = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the producers");
    for (name, power_safe) in [
        ("FULL (power-safe, the default)", true),
        ("NORMAL (crash-safe)", false),
    ] {
        for concurrency in [32, 256] {
            println!("embedded, synchronous={name}, concurrency {concurrency}");
            let bench = start(power_safe, concurrency);
            driver.block_on(async {
                for _ in 0..3 {
                    lifecycle(&bench, tasks).await;
                }
                if concurrency == 32 {
                    latency(&bench).await;
                }
            });
            driver.block_on(bench.runtime.stop(Duration::from_secs(5)));
        }
    }
}
