//! Question: what does one task cost between the broker and the user's code, as a function and as a task actor?
//!
//! The whole tree runs on the broker in memory, so what is timed is fetch, admission, dispatch, polling, conclusion and
//! settlement, with the memory broker's own work; the difference of the two rows is the mailbox of the actor. Tasks are
//! enqueued outside of the measured time.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use celeriac::app::App;
use celeriac::attempt::{Attempt, Run};
use celeriac::clock::SystemClock;
use celeriac::ids::QueueName;
use celeriac::ports::Broker;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::testkit::MemoryBroker;
use celeriac::time::Clock;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

const TASKS: u64 = 5_000;

#[derive(Clone, Serialize, Deserialize)]
struct Function(u64);
celeriac::task!(Function as "bench.function");

#[derive(Clone, Serialize, Deserialize)]
struct Message(u64);
celeriac::task!(Message as "bench.message");

struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Attempt<Message>> for Worker {
    type Result = Run<()>;

    fn handle(&mut self, attempt: Attempt<Message>, _: &mut Context<Self>) -> Run<()> {
        attempt.run(|_| async { Ok(()) })
    }
}

async fn succeeded(broker: &dyn Broker) -> u64 {
    let queues = broker.queues().await.expect("the queues");
    queues.iter().map(|queue| queue.counters.succeeded).sum()
}

/// Returns how long the tree took from the moment the queue was resumed until all tasks were settled.
async fn drain<T: celeriac::task::Task + Clone>(runtime: &Runtime, task: T) -> Duration {
    let client = runtime.client();
    let queue = QueueName::new("default").expect("a name");
    let goal = succeeded(&**client.broker()).await + TASKS;
    client.broker().pause(&queue, true).await.expect("a pause");
    let tasks = std::iter::repeat_n(task, usize::try_from(TASKS).expect("a count"));
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

fn dispatch(criterion: &mut Criterion) {
    let broker = Arc::new(MemoryBroker::new(Arc::new(SystemClock)));
    let mut options = RuntimeOptions::new(broker, fresh_worker_id());
    options.tree.concurrency = 256;
    let app = App::new()
        .task(|_: Attempt<Function>| async { Ok(()) })
        .actor(|| Worker, |worker| worker.handles::<Message>());
    let runtime = Runtime::start(app, options).expect("a runtime");
    let driver = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let driver = driver.expect("a runtime for the producer");

    let mut group = criterion.benchmark_group("dispatch");
    group
        .throughput(Throughput::Elements(TASKS))
        .sample_size(10);
    group.bench_function("function", |bencher| {
        bencher.iter_custom(|rounds| {
            driver.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    total += drain(&runtime, Function(1)).await;
                }
                total
            })
        });
    });
    group.bench_function("actor", |bencher| {
        bencher.iter_custom(|rounds| {
            driver.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    total += drain(&runtime, Message(1)).await;
                }
                total
            })
        });
    });
    group.finish();
    driver.block_on(runtime.stop(Duration::from_secs(5)));
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
