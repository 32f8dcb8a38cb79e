//! Question: what does a call through a closed breaker cost, beside the call itself?
//!
//! `find` is `attempt.breaker(name)`; `call` is a call that succeeds through a breaker that was found before; `both` is what
//! a task writes. Nothing asks the broker. What a kind of task without a breaker pays is in `dispatch`.

use std::sync::Arc;
use std::time::Instant;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::clock::SystemClock;
use celeriac::policy::seconds;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::testkit::MemoryBroker;
use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

/// Runs so many rounds of one case and returns how many nanoseconds they took.
#[derive(Clone, Serialize, Deserialize)]
struct Rounds {
    case: u8,
    rounds: u64,
}
celeriac::task!(Rounds as "bench.rounds" -> u64);

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
async fn run(attempt: Attempt<Rounds>) -> Result<u64, celeriac::task::TaskError> {
    let Rounds { case, rounds } = attempt.args;
    let found = attempt.breaker("bench");
    let start = Instant::now();
    for _ in 0..rounds {
        match case {
            0 => drop(std::hint::black_box(attempt.breaker("bench"))),
            1 => found.call(answer()).await?,
            _ => attempt.breaker("bench").call(answer()).await?,
        }
    }
    Ok(u64::try_from(start.elapsed().as_nanos())?)
}

async fn answer() -> Result<(), std::io::Error> {
    std::hint::black_box(Ok(()))
}

fn closed(criterion: &mut Criterion) {
    let broker = Arc::new(MemoryBroker::new(Arc::new(SystemClock)));
    let options = RuntimeOptions::new(broker, fresh_worker_id());
    let runtime = Runtime::start(App::new().task(run), options).expect("a runtime");
    let client = runtime.client().sync().expect("a client");
    let mut group = criterion.benchmark_group("breaker/closed");
    for (case, name) in [(0, "find"), (1, "call"), (2, "both")] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let task = Rounds { case, rounds };
                let handle = client.enqueue(&task, Default::default()).expect("a task");
                let nanos = client.wait::<Rounds>(&handle, seconds(600));
                std::time::Duration::from_nanos(nanos.expect("an end"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, closed);
criterion_main!(benches);
