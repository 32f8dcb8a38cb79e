//! Question: how many task lifecycles (enqueue, fetch, settle) a second does the embedded broker carry, driven raw?
//!
//! One process, 260-byte frames (200 bytes of arguments), no runtime above: producers and consumers are tokio tasks on
//! one thread that call the port. Timed from the first enqueue to the last settlement. Also: what a backlog costs, what
//! single callers get, how fast due tasks become ready, how long a task waits for its consumer, what idling costs.
//!
//! `cargo bench --bench embedded_raw [-- PART…]`, PART being batches, singles, latency, backlog, scheduled, idle.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench measures real time, prints what it found and ends where something fails"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac_actors::header::{Header, Priority};
use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName, TaskId};
use celeriac_actors::lease::{ExchangeCall, Incarnation, MAX_BATCH, Outcome, Settlement};
use celeriac_actors::ports::{Broker, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::time::Timestamp;
use tokio::task::JoinSet;

const FRAME: usize = 260;

fn main() {
    let arguments = std::env::args().skip(1);
    let parts: Vec<String> = arguments.filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        for power_safe in [false, true] {
            if wanted("batches") {
                for (producers, batch) in [(1, 256), (2, 256), (4, 64), (16, 16)] {
                    batches(power_safe, producers, batch).await;
                }
            }
            if wanted("singles") {
                singles(power_safe, 256).await;
                singles(power_safe, 1).await;
            }
            if wanted("latency") {
                latency(power_safe).await;
            }
        }
        if wanted("backlog") {
            backlog(1_000).await;
            backlog(1_000_000).await;
        }
        if wanted("scheduled") {
            scheduled(200_000).await;
        }
        if wanted("idle") {
            idle().await;
        }
    });
}

struct Rig {
    broker: Arc<SqliteBroker>,
    queue: QueueName,
    directory: tempfile::TempDir,
}

impl Rig {
    fn new(power_safe: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(directory.path()).power_safe(power_safe);
        Self {
            broker: Arc::new(SqliteBroker::open(options).unwrap()),
            queue: "bench".parse().unwrap(),
            directory,
        }
    }

    fn producer(&self) -> Producer {
        Producer {
            broker: Arc::clone(&self.broker),
            queue: self.queue.clone(),
            channel: ChannelId::random(),
            number: 0,
        }
    }

    async fn consumer(&self) -> Consumer {
        let incarnation = Incarnation {
            id: IncarnationId::random(),
            queue: self.queue.clone(),
            worker: "bench:1:1".parse().unwrap(),
            lane: 0,
            lease: Duration::from_secs(60),
        };
        self.broker.open(&incarnation).await.unwrap();
        Consumer {
            broker: Arc::clone(&self.broker),
            incarnation,
            number: 0,
            next_tag: 0,
            done: Vec::new(),
        }
    }
}

struct Producer {
    broker: Arc<SqliteBroker>,
    queue: QueueName,
    channel: ChannelId,
    number: u64,
}

impl Producer {
    async fn add(&mut self, count: usize, when: When) {
        self.number += 1;
        let task = |_| NewTask {
            frame: frame(),
            when,
        };
        let call = EnqueueCall {
            queue: self.queue.clone(),
            channel: self.channel,
            number: self.number,
            tasks: (0..count).map(task).collect(),
            kind: EnqueueKind::New,
            remember: Duration::from_secs(3_600),
        };
        self.broker.enqueue(Arc::new(call)).await.unwrap();
    }
}

struct Consumer {
    broker: Arc<SqliteBroker>,
    incarnation: Incarnation,
    number: u64,
    next_tag: u64,
    done: Vec<u64>,
}

impl Consumer {
    /// Settles what was fetched before and fetches what is next. Returns how many it settled.
    async fn turn(&mut self, want: u32) -> usize {
        self.number += 1;
        let done = std::mem::take(&mut self.done);
        let settled = done.len();
        let settle = |tag| Settlement {
            tag,
            outcome: Outcome::Succeed { result: None },
        };
        let call = ExchangeCall {
            queue: self.incarnation.queue.clone(),
            incarnation: self.incarnation.id,
            number: self.number,
            settlements: done.into_iter().map(settle).collect(),
            want,
            first_tag: self.next_tag,
        };
        let reply = self.broker.exchange(Arc::new(call)).await.unwrap();
        self.next_tag += u64::from(want);
        self.done = reply.deliveries.iter().map(|d| d.tag).collect();
        settled
    }

    /// Works until `total` tasks are settled, waiting where there are none.
    async fn drain(&mut self, total: usize, want: u32) {
        let mut settled = 0;
        while settled < total {
            settled += self.turn(want).await;
            if self.done.is_empty() && settled < total {
                self.rest().await;
            }
        }
    }

    async fn rest(&self) {
        let queues = [self.incarnation.queue.clone()];
        let limit = Duration::from_secs(1);
        self.broker.wait(&queues, limit).await.unwrap();
    }
}

fn frame() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME);
    Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::NORMAL,
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: TaskId::from_bytes([7; 16]),
        enqueued_at: Timestamp::from_millis(1),
        expires_at: None,
    }
    .write(&mut bytes);
    bytes.resize(FRAME, 7);
    bytes
}

const fn class(power_safe: bool) -> &'static str {
    if power_safe { "FULL" } else { "NORMAL" }
}

async fn batches(power_safe: bool, producers: usize, batch: usize) {
    const TOTAL: usize = 256 * 1_600;
    let rig = Rig::new(power_safe);
    let mut consumer = rig.consumer().await;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut set = JoinSet::new();
    for _ in 0..producers {
        let mut producer = rig.producer();
        set.spawn(async move {
            for _ in 0..TOTAL / producers / batch {
                producer.add(batch, When::Now).await;
            }
        });
    }
    consumer.drain(TOTAL, 256).await;
    set.join_all().await;
    let rate = TOTAL as f64 / start.elapsed().as_secs_f64();
    let each = (cpu_seconds() - cpu) / TOTAL as f64 * 1e6;
    println!(
        "batches   {:6} {producers:3} producers x {batch:3}: {rate:9.0} lifecycles/s, {each:.2} µs CPU each",
        class(power_safe)
    );
}

async fn singles(power_safe: bool, callers: usize) {
    let total = if callers == 1 { 10_000 } else { 204_800 };
    let rig = Rig::new(power_safe);
    let mut consumer = rig.consumer().await;
    let start = Instant::now();
    let mut set = JoinSet::new();
    for _ in 0..callers {
        let mut producer = rig.producer();
        set.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..total / callers {
                let from = Instant::now();
                producer.add(1, When::Now).await;
                times.push(from.elapsed());
            }
            times
        });
    }
    consumer.drain(total, 256).await;
    let times = set.join_all().await.concat();
    let rate = total as f64 / start.elapsed().as_secs_f64();
    println!(
        "singles   {:6} {callers:3} callers: {rate:9.0} lifecycles/s; enqueue {}",
        class(power_safe),
        percentiles(times)
    );
}

async fn latency(power_safe: bool) {
    const TASKS: usize = 3_000;
    let rig = Rig::new(power_safe);
    let mut consumer = rig.consumer().await;
    let mut producer = rig.producer();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let clock = Arc::clone(&sent);
    let produce = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..TASKS {
            tick.tick().await;
            clock.lock().unwrap().push(Instant::now());
            producer.add(1, When::Now).await;
        }
    });
    let mut times = Vec::new();
    while times.len() < TASKS {
        consumer.turn(64).await;
        if consumer.done.is_empty() {
            consumer.rest().await;
        }
        for _ in 0..consumer.done.len() {
            let from = sent.lock().unwrap()[times.len()];
            times.push(from.elapsed());
        }
    }
    produce.await.unwrap();
    println!(
        "latency   {:6} enqueue to delivery at 1,000/s: {}",
        class(power_safe),
        percentiles(times)
    );
}

async fn backlog(behind: usize) {
    const TOTAL: usize = 256 * 800;
    let rig = Rig::new(false);
    let mut producer = rig.producer();
    for _ in 0..behind / 500 {
        producer.add(500, When::Now).await;
    }
    let mut consumer = rig.consumer().await;
    // What filling left to the background is over.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut other = rig.producer();
    let produce = tokio::spawn(async move {
        for _ in 0..TOTAL / 256 {
            other.add(256, When::Now).await;
        }
    });
    consumer.drain(TOTAL, 256).await;
    produce.await.unwrap();
    let each = start.elapsed().as_secs_f64() / TOTAL as f64 * 1e6;
    let cpu = (cpu_seconds() - cpu) / TOTAL as f64 * 1e6;
    println!("backlog   {behind:8} ready behind: {each:.2} µs a lifecycle, {cpu:.2} µs CPU");
}

async fn scheduled(tasks: usize) {
    let rig = Rig::new(true);
    let mut producer = rig.producer();
    let from = Instant::now();
    for n in 0..tasks / 500 {
        let spread = Duration::from_millis((n as u64 * 7919) % 1_000);
        let delay = Duration::from_millis(2_000) + spread;
        producer.add(500, When::After(delay)).await;
    }
    let added = tasks as f64 / from.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let from = Instant::now();
    let mut moved = 0;
    while moved < tasks {
        let step = rig.broker.promote_due(&rig.queue, MAX_BATCH).await;
        moved += step.unwrap().moved as usize;
    }
    let rate = tasks as f64 / from.elapsed().as_secs_f64();
    println!("scheduled {tasks}: added {added:.0}/s, made ready {rate:.0}/s");
}

async fn idle() {
    let before = resident();
    let rig = Rig::new(true);
    rig.producer().add(1, When::Now).await;
    let after = resident();
    let from = cpu_seconds();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let spent = (cpu_seconds() - from) / 10.0 * 100.0;
    println!(
        "idle      {} KiB for {}, {spent:.2} % of a core",
        after - before,
        rig.directory.path().display()
    );
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
