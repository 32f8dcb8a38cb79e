//! A task actor with state, retries with backoff, and an error that is not worth repeating.
//!
//! The payment provider of this example refuses the first two calls and declines one card for good.
//!
//! `cargo run --example billing`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use celeriac::app::App;
use celeriac::attempt::{Attempt, Run};
use celeriac::client::WaitError;
use celeriac::policy::{Policy, seconds};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::task::{Task, TaskError};
use celeriac::workshop::Boot;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Charge {
    subscription: String,
    cents: u64,
}

impl Task for Charge {
    const NAME: &'static str = "billing.charge";
    const QUEUE: &'static str = "billing";
    type Output = Receipt;

    fn policy() -> Policy {
        let (base, ceiling) = (Duration::from_millis(20), Duration::from_secs(1));
        Policy::default()
            .max_attempts(5)
            .backoff(base, ceiling)
            .hard_limit(seconds(30))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    subscription: String,
    attempt: u16,
}

/// What a provider's library would offer.
#[derive(Clone, Default)]
struct Provider {
    calls: Arc<AtomicU32>,
}

#[derive(Debug)]
enum Refusal {
    Overloaded,
    Declined,
}

impl Provider {
    async fn charge(&self, subscription: &str, _: u64) -> Result<(), Refusal> {
        match (subscription, self.calls.fetch_add(1, Ordering::Relaxed)) {
            ("sub-without-funds", _) => Err(Refusal::Declined),
            (_, 0 | 1) => Err(Refusal::Overloaded),
            _ => Ok(()),
        }
    }
}

/// The actor: one instance on each lane, built again by `connect` after a crash.
struct Billing {
    provider: Provider,
}

impl Billing {
    fn connect(boot: Boot) -> Result<Self, &'static str> {
        let provider = boot
            .worker
            .state
            .get::<Provider>()
            .ok_or("no provider is registered")?;
        Ok(Self {
            provider: provider.clone(),
        })
    }
}

impl Actor for Billing {
    type Context = Context<Self>;
}

impl Handler<Attempt<Charge>> for Billing {
    type Result = Run<Receipt>;

    fn handle(&mut self, attempt: Attempt<Charge>, _: &mut Context<Self>) -> Run<Receipt> {
        let provider = self.provider.clone();
        attempt.run(|attempt| async move {
            let Charge {
                subscription,
                cents,
            } = &attempt.args;
            match provider.charge(subscription, *cents).await {
                Ok(()) => Ok(Receipt {
                    subscription: subscription.clone(),
                    attempt: attempt.number(),
                }),
                Err(Refusal::Overloaded) => Err("the provider is overloaded".into()),
                Err(Refusal::Declined) => Err(TaskError::permanent("card declined")),
            }
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let app = App::new()
        .state(Provider::default())
        .actor(Billing::connect, |billing| billing.handles::<Charge>());
    let runtime = Runtime::start(app, RuntimeOptions::embedded(directory.path())?)?;
    let client = runtime.client();

    let charge = |name: &str| Charge {
        subscription: name.to_owned(),
        cents: 900,
    };
    let paid = client.enqueue(&charge("sub-42")).await?;
    let receipt = client.wait::<Charge>(&paid, seconds(10)).await?;
    println!(
        "{} was charged at attempt {}",
        receipt.subscription, receipt.attempt
    );

    let options = celeriac::producer::EnqueueOptions::default().want_outcome();
    let declined = client
        .enqueue_with(&charge("sub-without-funds"), options)
        .await?;
    match client.wait::<Charge>(&declined, seconds(10)).await {
        Err(WaitError::Dead {
            failure: Some(failure),
            ..
        }) => {
            println!(
                "sub-without-funds died at attempt {}: {}",
                failure.attempt, failure.message
            );
        }
        other => anyhow::bail!("expected a dead letter, got {other:?}"),
    }

    runtime.stop(seconds(5)).await;
    Ok(())
}
