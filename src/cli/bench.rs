//! `celeriac bench`: what a broker and this machine can do, measured on the path that is shipped: the client, consumers,
//! actors and settlement of `run`, in one process. Touches nobody's tasks and leaves nothing behind.

mod backlog;
mod figures;
mod ground;
mod load;
mod machine;
mod raw;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::When;
use clap::Args;
use slog::Logger;
use tokio::signal::unix::{SignalKind, signal};

use self::figures::{Figures, Measured, Rounds, Setup};
use self::ground::{Ground, Site, failed};
use self::load::Load;
use self::machine::Machine;
use self::stage::Stage;
use super::exit::{Exit, Failure};
use super::session::Session;
use super::{Global, output};
use crate::app::App;
use crate::telemetry;

/// For how many seconds latency is measured.
const LATENCY_SECONDS: u32 = 3;

/// The most latencies that are noted.
const MOST_PROBES: u32 = 200_000;

/// Measures what a broker and this machine can do.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// How many tasks each measurement has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// How many bytes the arguments of a task have.
    #[arg(long, value_name = "B", default_value_t = 200)]
    payload: usize,
    /// How many tasks one enqueue call carries, at most 500.
    #[arg(long, value_name = "N", default_value_t = u64::from(MAX_BATCH),
        value_parser = clap::value_parser!(u64).range(1..=u64::from(MAX_BATCH)))]
    batch: u64,
    /// How many tasks a second are enqueued one by one while latency is measured.
    #[arg(long, value_name = "R", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Drive the broker without the runtime as well, and say how much of that the runtime reaches.
    #[arg(long)]
    raw: bool,
    /// How often lifecycles are measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many attempts run at once; 16 for each core by default.
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// Measure as well with so many ready tasks behind.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    behind: Option<u64>,
    /// Measure as well what so many scheduled tasks cost, before and when they are due.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    scheduled: Option<u64>,
    /// Accept a server that keeps tasks in memory only.
    #[arg(long)]
    allow_volatile: bool,
}

pub(crate) fn run(args: &BenchArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let set = [("concurrency", args.concurrency.clone())];
    let mut session = Session::open(global, app, &set)?;
    if global.log_level.is_none() {
        session.config.log.level = slog::Level::Warning;
    }
    let logging = telemetry::start(&session.config.log, Arc::new(crate::clock::SystemClock));
    let (log, guard) = logging.map_err(|error| Failure::new(Exit::Usage, error))?;
    let measured = Session::block_on(interruptible(args, &session, &log));
    // A reader that has stalled costs the last lines, not the exit.
    let _all_written = guard.finish(telemetry::FLUSH_LIMIT);
    let figures = measured??;
    if session.json {
        output::json(&figures);
    } else {
        figures.print();
    }
    Ok(Exit::Ok)
}

/// Measures, and cleans up however that ends.
async fn interruptible(
    args: &BenchArgs,
    session: &Session,
    log: &Logger,
) -> Result<Figures, Failure> {
    let mut queues = session.config.consume.clone();
    queues.push(load::queue()?);
    let site = Site::new(session, args.allow_volatile, queues);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let measured = tokio::select! {
        measured = measure(args, &site, log) => measured,
        _ = terminate.recv() => Err(failed("interrupted; everything is cleaned up")),
        _ = interrupt.recv() => Err(failed("interrupted; everything is cleaned up")),
    };
    if measured.is_err() {
        // A runtime that was cut off writes for a moment longer.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let cleaned = site.clean().await;
    let figures = measured?;
    cleaned?;
    Ok(figures)
}

async fn measure(args: &BenchArgs, site: &Site<'_>, log: &Logger) -> Result<Figures, Failure> {
    let load = Load::new(args.tasks, args.payload, args.batch)?;
    let mut figures = begin(args, site).await?;
    say("enqueueing alone");
    (figures.enqueue_per_s, figures.stored_bytes_per_task) = fill(site, &load, None).await?;
    let hour = When::After(Duration::from_secs(3_600));
    let (rate, bytes) = fill(site, &load, Some(hour)).await?;
    figures.scheduled_bytes_per_task = bytes;
    lifecycles(args, site, &load, log, &mut figures).await?;
    if let Some(ready) = args.behind {
        say("lifecycles before a backlog");
        figures.behind = Some(backlog::behind(site, &load, ready, log).await?);
    }
    if let Some(tasks) = args.scheduled {
        say("scheduled tasks");
        figures.scheduled = Some(backlog::scheduled(site, &load.of(tasks), rate, log).await?);
    }
    Ok(figures)
}

/// Says what is done now, to a person.
fn say(what: &str) {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        output::complain(&format!("{what} ..."));
    }
}

/// Notes what is measured, and how.
async fn begin(args: &BenchArgs, site: &Site<'_>) -> Result<Figures, Failure> {
    let config = &site.session().config;
    let ground = site.ground()?;
    let (kind, version) = ground.kind().await?;
    let broker = Measured {
        kind,
        version,
        durability: ground.broker.durability().as_str(),
    };
    drop(ground);
    site.clean().await?;
    Ok(Figures {
        enqueue_per_s: 0.0,
        lifecycle_per_s: 0.0,
        raw_lifecycle_per_s: None,
        ratio_to_raw: None,
        latency_p50_us: 0.0,
        latency_p99_us: 0.0,
        latency_max_us: 0.0,
        stored_bytes_per_task: 0.0,
        scheduled_bytes_per_task: 0.0,
        daemon_cpu_us_per_task: 0.0,
        server_cpu_us_per_task: None,
        server_calls_per_1000_tasks: None,
        lifecycle_rounds: Vec::new(),
        raw_lifecycle_rounds: Vec::new(),
        behind: None,
        scheduled: None,
        broker,
        setup: Setup {
            tasks: args.tasks,
            payload: args.payload,
            batch: args.batch,
            rate: args.rate,
            concurrency: config.concurrency,
            lanes: config.arbiters,
            rounds: args.rounds,
        },
        machine: Machine::here(),
    })
}

/// Enqueues a load that nobody consumes; returns tasks a second, and bytes a task.
async fn fill(site: &Site<'_>, load: &Load, when: Option<When>) -> Result<(f64, f64), Failure> {
    let ground = site.ground()?;
    let client = ground.client();
    // What the first calls set up is there from now on.
    load.of(load.tasks.min(10 * load.batch))
        .enqueue(&client)
        .await?;
    drop(client);
    let (ground, before) = ground.weigh().await?;
    let client = ground.client();
    let took = match when {
        None => load.enqueue(&client).await?,
        Some(when) => load.schedule(&client, when).await?,
    };
    drop(client);
    let (ground, after) = ground.weigh().await?;
    drop(ground);
    site.clean().await?;
    let tasks = load.tasks as f64;
    let grown = after.saturating_sub(before) as f64;
    Ok((tasks / took.as_secs_f64(), grown / tasks))
}

/// Measures lifecycles with and without the runtime in turn, then latency.
async fn lifecycles(
    args: &BenchArgs,
    site: &Site<'_>,
    load: &Load,
    log: &Logger,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let ground = site.ground()?;
    let bare: Option<Ground> = args.raw.then(|| site.ground()).transpose()?;
    let probes = (LATENCY_SECONDS * args.rate).min(MOST_PROBES) as usize;
    let stage = Stage::start(&ground, site.session(), log, probes)?;
    let lanes = u16::try_from(site.session().config.arbiters).unwrap_or(u16::MAX);
    let warm = load.of(load.tasks.div_ceil(10).min(20_000));
    let mut rounds = Rounds::default();
    say("lifecycles");
    stage.lifecycle(&warm).await?;
    if let Some(bare) = &bare {
        raw::lifecycle(bare, &warm, lanes).await?;
    }
    for _ in 0..args.rounds {
        rounds.shipped.push(stage.lifecycle(load).await?);
        if let Some(bare) = &bare {
            rounds.raw.push(raw::lifecycle(bare, load, lanes).await?);
        }
    }
    figures.lifecycles(&rounds, load.tasks);
    say("latency");
    figures.latency(stage.latency(args.rate).await?);
    stage.stop().await;
    drop((ground, bare));
    site.clean().await
}
