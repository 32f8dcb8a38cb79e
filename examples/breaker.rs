//! A circuit breaker: while what tasks depend on is down, they are parked, use up no attempt, and all succeed later.
//!
//! `cargo run --example breaker`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::breaker::{BreakerPolicy, BreakerState};
use celeriac::policy::{Policy, seconds};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::task::TaskError;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Charge {
    order: u32,
}
celeriac::task!(Charge as "billing.charge" -> u32, Policy::default()
    .backoff(Duration::from_millis(50), seconds(1)));

/// The bank, which is down at first and counts how often it is called.
#[derive(Default)]
struct Bank {
    up: AtomicBool,
    calls: AtomicUsize,
}

impl Bank {
    async fn charge(&self, order: u32) -> Result<u32, std::io::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.up.load(Ordering::SeqCst) {
            Ok(order)
        } else {
            Err(std::io::Error::other("the bank is down"))
        }
    }
}

async fn charge(attempt: Attempt<Charge>) -> Result<u32, TaskError> {
    let bank = attempt.state::<Arc<Bank>>()?;
    // Open: `?` parks the task. Closed: the call is made, and its end counted.
    let bank_is_up = attempt.breaker("bank");
    Ok(bank_is_up.call(bank.charge(attempt.args.order)).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let bank = Arc::new(Bank::default());
    let policy = BreakerPolicy::default()
        .consecutive(3)
        .open_for(Duration::from_millis(200), seconds(1));
    let app = App::new()
        .state(Arc::clone(&bank))
        .breaker("bank", policy)
        .task(charge);
    let mut options = RuntimeOptions::embedded(directory.path())?;
    options.tree.concurrency = 4;
    let runtime = Runtime::start(app, options)?;

    let client = runtime.client();
    let orders = (1..=200).map(|order| Charge { order });
    let handles = client.enqueue_many(orders).await?;
    while state(&runtime) != BreakerState::Open {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("the breaker opened");
    tokio::time::sleep(seconds(1)).await;
    let spared = bank.calls.load(Ordering::SeqCst) < 30;
    println!("200 tasks waited, the bank was left alone: {spared}");

    bank.up.store(true, Ordering::SeqCst);
    let mut charged = 0;
    for handle in &handles {
        client.wait::<Charge>(handle, seconds(30)).await?;
        charged += 1;
    }
    println!("{charged} orders were charged once the bank was back");
    println!("the breaker is {}", state(&runtime).as_str());

    runtime.stop(seconds(5)).await;
    Ok(())
}

fn state(runtime: &Runtime) -> BreakerState {
    let bank = runtime.breakers().into_iter().next();
    bank.map_or(BreakerState::Closed, |bank| bank.record.state)
}
