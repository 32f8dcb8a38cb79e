//! `celeriac run`: the daemon. Starts the runtime, waits for signals, and leads it to its end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::budget::RetryBudget;
use celeriac_actors::events::Observer;
use celeriac_actors::ids::QueueName;
use celeriac_actors::intensity::Limit;
use celeriac_actors::permits::QueueShare;
use celeriac_actors::policy::ResultLimits;
use celeriac_actors::ports::{Broker, DeadLetters, Snapshots, Spool};
use celeriac_actors::tree::TreeOptions;
use clap::Args;
use slog::{Logger, error, info, warn};

mod opening;
mod signals;

use self::opening::open_patiently;
use self::signals::Signals;
use super::Global;
use super::demo_tasks;
use super::exit::{Exit, Failure};
use super::policies::adjust;
use super::session::Session;
use crate::admin::with_commands;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{Config, Recycle, StoreTarget};
use crate::database::outbox::Gauges;
use crate::isolation::{IsolationOptions, own_program};
use crate::runtime::{self, Runtime, RuntimeOptions, fresh_worker_id};
use crate::telemetry;
use crate::web::{Ground, Hub, Web, Work};

/// How often `--burst` looks whether everything is done.
const BURST_LOOK: Duration = Duration::from_millis(100);

/// What to do about a supervisor that gave up.
const ADVICE: &str = "what it held was given back: start the process again; if it ends like this again, the crashes above \
    (with RUST_BACKTRACE=1) say where";

/// Runs tasks until told to stop.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The queues to drain, separated by commas; all that are configured by default.
    #[arg(long, value_name = "A,B")]
    queues: Option<String>,
    /// How many attempts run at once; 16 for each core by default.
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// Serve the HTTP API here; 127.0.0.1:7654 by default, port 0 takes a free one.
    #[arg(long, value_name = "ADDR", conflicts_with = "no_http")]
    http: Option<String>,
    /// Serve no HTTP API.
    #[arg(long)]
    no_http: bool,
    /// End with 0 when nothing is ready, active, due for retry, unsettled, spooled or in an outbox of the program.
    #[arg(long)]
    burst: bool,
    /// Know the demo tasks (`demo.echo`, `demo.checksum`, ...) as well.
    #[arg(long)]
    demo: bool,
    /// End with the process that started this one, however that ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// `development` or `production`.
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
}

pub(crate) fn run(args: &RunArgs, global: Global, app: App) -> Result<Exit, Failure> {
    if args.with_parent {
        end_with_parent()?;
    }
    let app = if args.demo { demo_tasks::add(app) } else { app };
    let set = [
        ("consume", args.queues.clone()),
        ("concurrency", args.concurrency.clone()),
        ("environment", args.env.clone()),
        ("http.addr", args.http.clone()),
        ("http.enabled", args.no_http.then(|| "false".to_owned())),
    ];
    app.check()
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut session = Session::open(&global, &app, &set)?;
    let logging = telemetry::start(&session.config.log, Arc::new(crate::clock::SystemClock));
    let (log, guard) = logging.map_err(|error| Failure::new(Exit::Usage, error))?;
    session.log = log.clone();
    for note in &session.notes {
        info!(log, "configuration"; "key" => &note.key, "note" => &note.message);
    }
    for mistake in &session.programs {
        warn!(log, "a command cannot be started here"; "key" => &mistake.key, "found" => &mistake.found);
    }
    let ended = daemon(args, &session, app, &log);
    // A reader that has stalled costs the last lines, not the exit.
    let _all_written = guard.finish(telemetry::FLUSH_LIMIT);
    match (ended, session.config.recycle) {
        (Ok(Exit::Recycle), Recycle::Exec) => Err(start_afresh()),
        (ended, _) => ended,
    }
}

/// Becomes a fresh process of the same program with the same arguments; returns only when that fails.
fn start_afresh() -> Failure {
    use std::os::unix::process::CommandExt as _;

    let program = match own_program() {
        Ok(program) => program,
        Err(error) => return Failure::new(Exit::Recycle, error),
    };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).exec();
    Failure::new(
        Exit::Recycle,
        anyhow::Error::from(error).context("cannot start afresh"),
    )
}

/// Has the kernel kill this process when its parent is gone.
fn end_with_parent() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    Ok(())
}

/// Starts to serve HTTP, before anything else runs: a daemon that waits for its broker lives.
fn serve(session: &Session, log: &Logger, hub: &Arc<Hub>) -> Result<Option<Web>, Failure> {
    let Some(config) = &session.config.http else {
        return Ok(None);
    };
    let ground = Ground {
        config: session.config.clone(),
        effective: session.effective.clone(),
        limits: session.limits(),
        keeper: session.keeper(),
        clock: Arc::new(SystemClock),
        log: log.clone(),
    };
    Web::start(config, ground, Arc::clone(hub)).map_err(Failure::usage)
}

fn daemon(args: &RunArgs, session: &Session, app: App, log: &Logger) -> Result<Exit, Failure> {
    let config = &session.config;
    let worker = fresh_worker_id();
    let hub = Hub::new(Arc::new(SystemClock));
    // Dropped last: it answers until everything else has ended.
    let web = serve(session, log, &hub)?;
    let clockwork = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let clockwork = clockwork.map_err(|error| Failure::new(Exit::GaveUp, error))?;
    // Heard from now on: none is lost between the wait for the broker and the end of the work.
    let mut signals = clockwork.block_on(async { Signals::listen() })?;
    let opened = clockwork.block_on(open_patiently(session, &worker, (&mut signals, log)))?;
    let Some(broker) = opened else {
        return Ok(Exit::Ok);
    };
    let mut app = with_commands(app, config);
    adjust(&mut app, config);
    for (name, over) in &config.breakers {
        app.override_breaker(name.clone(), *over);
    }
    let mut options = RuntimeOptions::new(Arc::clone(&broker), worker);
    options.tree = tree_options(config);
    options.routes = config.routes.clone();
    options.limits = session.limits();
    options.results = ResultLimits {
        ttl: config.results.ttl,
        max_size: config.results.max_size,
    };
    options.blocking_threads = config.blocking_threads;
    options.max_stuck_threads = config.max_stuck_threads;
    options.recycle_grace = config.grace;
    options.isolation = isolation_options(config, args.demo);
    options.monitor.thresholds = config.health.clone();
    options.monitor.retention = config.dead_letters;
    options.monitor.directories = vec![config.data_dir.clone()];
    options.log = log.clone();
    options.spool = session.spool(&broker)?;
    if let Err(error) = make_data_directory(config) {
        warn!(log, "the data directory cannot be made"; "path" => %config.data_dir.display(), "error" => %error);
    }
    let store = Arc::new(session.store()?);
    options.store = Some(Arc::clone(&store) as Arc<dyn DeadLetters>);
    options.monitor.snapshots = Some(Arc::clone(&store) as Arc<dyn Snapshots>);
    if let Some(web) = &web {
        options.http = Some(web.address());
        options.observer = Some(Arc::clone(&hub) as Arc<dyn Observer>);
        options.tree_observer = Some(hub.of_tree());
    }
    let registry = app.registry().clone();
    let burst = args.burst.then(|| Burst {
        broker: Arc::clone(&broker),
        outboxes: app.outboxes(),
        spool: options.spool.clone(),
        consumed: config.consume.clone(),
    });
    let runtime = Runtime::start(app, options).map_err(|error| Failure::new(Exit::Usage, error))?;
    let runtime = Arc::new(runtime);
    if let Some(web) = &web {
        web.attach(Work {
            runtime: Arc::clone(&runtime),
            broker: Arc::clone(&broker),
            store,
            registry,
        });
    }
    let _for_as_long_as_it_lives =
        clockwork.spawn(Arc::clone(&hub).verdicts(runtime.monitor().subscribe()));
    clockwork.block_on(async {
        info!(log, "runs"; "worker" => %runtime.worker(), "concurrency" => config.concurrency,
            "durability" => broker.durability().as_str(), "broker" => %config.broker);
        live(&runtime, signals, (config.grace, web.as_ref()), burst, log).await
    })
}

/// Makes the data directory for a store whose file is to be in it: of the brokers, only the embedded one needs it.
fn make_data_directory(config: &Config) -> io::Result<()> {
    match &config.store.target {
        StoreTarget::Sqlite { file } if file.starts_with(&config.data_dir) => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data_dir),
        _ => Ok(()),
    }
}

/// Waits for a signal, the end of the work, or the end of the runtime.
async fn live(
    runtime: &Runtime,
    mut signals: Signals,
    (grace, web): (Duration, Option<&Web>),
    burst: Option<Burst>,
    log: &Logger,
) -> Result<Exit, Failure> {
    let exit = tokio::select! {
        exit = runtime.exited() => exit,
        () = until_done(burst) => runtime.stop(grace).await,
        () = notify_systemd(runtime) => runtime.exited().await,
        () = signals.next() => {
            web.iter().for_each(|web| web.leaving());
            info!(log, "told to stop; finishing what runs"; "grace" => %humantime::format_duration(grace));
            let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            let hurry = async {
                signals.echo_over().await;
                signals.next().await;
                warn!(log, "told to stop again; giving back what runs");
            };
            runtime.stop_or(grace, hurry).await
        }
    };
    match exit {
        runtime::Exit::Stopped => {
            info!(log, "stopped");
            Ok(Exit::Ok)
        }
        runtime::Exit::Recycle => {
            error!(
                log,
                "wants to be replaced: too many threads are blocked for good"
            );
            Ok(Exit::Recycle)
        }
        runtime::Exit::GaveUp(reason) => {
            error!(log, "the supervisor gave up"; "reason" => &reason, "advice" => ADVICE);
            Err(Failure::new(
                Exit::GaveUp,
                anyhow::anyhow!("the supervisor gave up: {reason}; {ADVICE}"),
            ))
        }
    }
}

/// Whom to ask whether everything is done.
struct Burst {
    broker: Arc<dyn Broker>,
    spool: Option<Arc<dyn Spool>>,
    outboxes: Gauges,
    /// The queues that are drained here.
    consumed: Vec<QueueName>,
}

/// Completes when nothing is ready, active, due for retry or unsettled, nor on its way from the spool or from an outbox of
/// the program; never without `--burst`.
async fn until_done(burst: Option<Burst>) {
    let Some(Burst {
        broker,
        spool,
        outboxes,
        consumed,
    }) = burst
    else {
        return std::future::pending().await;
    };
    // One that cannot be read relays nothing either: the daemon says so, and does not wait for it.
    let holds = |spool: &Arc<dyn Spool>, queue| spool.holds(queue).unwrap_or(false);
    loop {
        tokio::time::sleep(BURST_LOOK).await;
        // Before the broker: what has left the outbox or the spool is there.
        if waits(&outboxes).await {
            continue;
        }
        let spool = spool.as_ref();
        if spool.is_some_and(|spool| consumed.iter().any(|queue| holds(spool, queue))) {
            continue;
        }
        let queues = match broker.queues().await {
            Ok(queues) => queues,
            Err(error) if error.is_outage() => continue,
            Err(_) => return,
        };
        let left = |queue: &celeriac_actors::ports::QueueStatus| {
            queue.ready + queue.active + queue.retrying + queue.dead_outbox
        };
        // What is paused, or drained by others, will not end here.
        let ours = queues
            .iter()
            .filter(|queue| consumed.contains(&queue.queue) && !queue.paused);
        if ours.map(left).sum::<u64>() == 0 {
            return;
        }
    }
}

/// Returns whether tasks wait in an outbox; of one that cannot be read nobody knows, and its relay says so.
async fn waits(outboxes: &Gauges) -> bool {
    let outboxes = outboxes.clone();
    let read = tokio::task::spawn_blocking(move || outboxes.read()).await;
    matches!(read, Ok(Ok(Some(status))) if status.pending > 0)
}

/// Tells systemd that the daemon is ready, and that it lives for as long as its tree does. Never completes.
async fn notify_systemd(runtime: &Runtime) {
    // A child that cannot start yet (a parked task actor) delays the word for a while and does not withhold it.
    let ready = async {
        while !runtime.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _either = tokio::time::timeout(Duration::from_secs(5), ready).await;
    // Nobody asked to be told where there is no socket.
    let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(limit / 2).await;
        if runtime.is_alive() {
            let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// Returns the shape of the tree that a configuration asks for.
pub(crate) fn tree_options(config: &Config) -> TreeOptions {
    let share = |queue: &QueueName| {
        let configured = config.queues.get(queue);
        configured.map_or_else(QueueShare::default, |q| QueueShare {
            weight: q.weight,
            cap: q.concurrency,
        })
    };
    let supervision = &config.supervision;
    TreeOptions {
        queues: config
            .consume
            .iter()
            .map(|queue| (queue.clone(), share(queue)))
            .collect(),
        retry_budgets: retry_budgets(config),
        lanes: u16::try_from(config.arbiters).unwrap_or(u16::MAX),
        concurrency: config.concurrency,
        prefetch: config.prefetch,
        lease: config.lease,
        sweep: config.sweep,
        unknown_grace: config.unknown_task_grace,
        max_stuck_lanes: config.max_stuck_lanes,
        limit: Limit::new(supervision.max_restarts, supervision.within),
        backoff: Backoff::new(supervision.backoff_base, supervision.backoff_ceiling)
            .with_jitter(supervision.backoff_jitter),
        stable_after: supervision.stable_after,
        ..TreeOptions::new([])
    }
}

/// Returns what the retries of the queues that are drained may cost.
fn retry_budgets(config: &Config) -> Vec<(QueueName, RetryBudget)> {
    let of = |queue: &QueueName| {
        let budget = config.queues.get(queue)?.retry_budget?;
        Some((queue.clone(), budget))
    };
    config.consume.iter().filter_map(of).collect()
}

fn isolation_options(config: &Config, demo: bool) -> IsolationOptions {
    let isolation = &config.isolation;
    IsolationOptions {
        children: isolation.children,
        max_tasks_per_child: isolation.max_tasks_per_child,
        max_memory_per_child: isolation.max_memory_per_child,
        memory_limit: isolation.memory_limit,
        nice: isolation.nice,
        demo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::outbox::OutboxStatus;
    use celeriac_actors::testkit::{MemoryBroker, RunningClock};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Goal: a burst does not end while rows wait in an outbox, and ends when they are gone.
    #[tokio::test]
    async fn a_burst_waits_for_the_outbox() {
        let left = Arc::new(AtomicU64::new(3));
        let mut outboxes = Gauges::default();
        let rows = Arc::clone(&left);
        outboxes.push(move || {
            let pending = rows.load(Ordering::Acquire);
            rows.store(pending.saturating_sub(1), Ordering::Release);
            Ok(OutboxStatus {
                pending,
                rejected: 0,
            })
        });
        let burst = Burst {
            broker: Arc::new(MemoryBroker::new(Arc::new(RunningClock::default()))),
            spool: None,
            outboxes,
            consumed: Vec::new(),
        };
        until_done(Some(burst)).await;
        assert_eq!(left.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn an_outbox_that_cannot_be_read_is_not_waited_for() {
        let mut outboxes = Gauges::default();
        outboxes.push(|| Err("away".to_owned()));
        assert!(!waits(&outboxes).await);
    }
}
