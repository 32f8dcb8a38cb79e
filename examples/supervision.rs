//! Supervision: a task actor that panics is rebuilt, and parked when it does so too often; a service that keeps crashing
//! takes its supervisor down with it, level by level.
//!
//! `cargo run --example supervision`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler};
use celeriac::app::App;
use celeriac::attempt::{Attempt, Run};
use celeriac::child::{
    ChildSpec, ChildState, Environment, Recipe, Strategy, SupervisorSpec, TreeNode,
};
use celeriac::client::WaitError;
use celeriac::clock::SystemClock;
use celeriac::intensity::Limit;
use celeriac::policy::{Policy, seconds};
use celeriac::producer::EnqueueOptions;
use celeriac::reference::Slot;
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::supervisor::{Root, Supervisor};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Fragile;
celeriac::task!(Fragile as "example.fragile" -> (), Policy::default().max_attempts(1));

#[derive(Serialize, Deserialize)]
struct Sturdy;
celeriac::task!(Sturdy as "example.sturdy" -> u32);

/// Panics at every attempt.
struct Glass;

impl Actor for Glass {
    type Context = Context<Self>;
}

impl Handler<Attempt<Fragile>> for Glass {
    type Result = Run<()>;

    fn handle(&mut self, _: Attempt<Fragile>, _: &mut Context<Self>) -> Run<()> {
        panic!("broken glass")
    }
}

/// Stops with an error as soon as it has started.
struct Hopeless;

impl Actor for Hopeless {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

fn draw(node: &TreeNode, depth: usize) {
    let restarts = if node.restarts_total > 0 {
        format!(", {} restarts", node.restarts_total)
    } else {
        String::new()
    };
    println!(
        "{:depth$}{} {:?}{restarts}",
        "",
        node.name,
        node.state,
        depth = depth * 2
    );
    node.children
        .iter()
        .for_each(|child| draw(child, depth + 1));
}

async fn a_task_actor_is_parked() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let app = App::new()
        .actor(
            || Glass,
            |glass| glass.handles::<Fragile>().limit(Limit::new(2, seconds(30))),
        )
        .task(|_: Attempt<Sturdy>| async { Ok(42) });
    let mut options = RuntimeOptions::embedded(directory.path())?;
    options.tree.lanes = 1;
    options.tree.queues.truncate(1);
    let runtime = Runtime::start(app, options)?;
    let client = runtime.client();
    while !runtime.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("before:");
    draw(&runtime.inspect(), 1);

    let wanted = EnqueueOptions::default().want_outcome();
    for _ in 0..3 {
        let handle = client.enqueue_with(&Fragile, wanted.clone()).await?;
        match client.wait::<Fragile>(&handle, seconds(10)).await {
            Err(WaitError::Dead {
                failure: Some(failure),
                ..
            }) => {
                println!("died of a panic: {}", failure.message);
            }
            other => anyhow::bail!("expected a dead letter, got {other:?}"),
        }
    }
    let parked = |tree: &TreeNode| {
        tree.find("work/lane-0/actors/glass")
            .is_some_and(|glass| glass.state == ChildState::Parked)
    };
    while !parked(&runtime.inspect()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("after:");
    draw(&runtime.inspect(), 1);
    let handle = client.enqueue(&Sturdy).await?;
    println!(
        "the other task still runs: {}",
        client.wait::<Sturdy>(&handle, seconds(10)).await?
    );
    runtime.stop(seconds(5)).await;
    Ok(())
}

/// Two levels: the inner supervisor gives up after two restarts, the outer one after one of those.
fn escalation() -> anyhow::Result<()> {
    let limit = |max| Limit::new(max, seconds(30));
    let hopeless = ChildSpec::new(&Slot::new("hopeless"), Recipe::new(|_| Hopeless));
    let inner = SupervisorSpec::new(Strategy::OneForOne, limit(2)).child(hopeless);
    let inner = ChildSpec::supervisor(&Slot::<Supervisor>::new("inner"), inner);
    let outer = SupervisorSpec::new(Strategy::OneForAll, limit(1)).child(inner);
    let environment = Environment {
        log: slog::Logger::root(slog::Discard, slog::o!()),
        clock: Arc::new(SystemClock),
        seed: 1,
        observer: None,
    };
    let reason = actix_rt::System::new().block_on(async move {
        let root = Root::start("outer", outer, environment);
        root.exited().await
    });
    println!("escalated: {reason}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    a_task_actor_is_parked().await?;
    std::thread::spawn(escalation)
        .join()
        .map_err(|_| anyhow::anyhow!("the tree panicked"))?
}
