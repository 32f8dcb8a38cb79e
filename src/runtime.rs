//! The composition root: puts broker, store, tasks and tree together, and leads them through their life.
//!
//! `start -> (quiet, drain) -> stop`. The tree lives on a thread of its own, inside an actix system; whoever starts it
//! may be synchronous code, another actix system or any tokio runtime, and steers it through [`Runtime`].

mod leaving;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use celeriac_actors::activity::LaneActivity;
use celeriac_actors::blocking::BlockingPool;
use celeriac_actors::breaker::{BreakerView, Breakers};
use celeriac_actors::budget::BudgetStatus;
use celeriac_actors::child::{Environment, ExitReason, TreeNode};
use celeriac_actors::context::{AppState, WorkerContext};
use celeriac_actors::events::Observer;
use celeriac_actors::explain::KnownTasks;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::herald::{BEAT, Describe};
use celeriac_actors::hooks::HookLine;
use celeriac_actors::ids::{QueueName, WorkerId};
use celeriac_actors::measure::KindFigures;
use celeriac_actors::policy::ResultLimits;
use celeriac_actors::ports::{Broker, ChildStatus, DeadLetters, Isolation, Spool, WorkerRecord};
use celeriac_actors::producer::{Producer, ProducerOptions};
use celeriac_actors::registry::Registry;
use celeriac_actors::route::Route;
use celeriac_actors::supervisor::Observer as TreeObserver;
use celeriac_actors::time::{Clock, Timestamp};
use celeriac_actors::tree::{Tree, TreeOptions, TreeParts};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::app::{App, AppError, Parts};
use crate::client::Client;
use crate::clock::SystemClock;
use crate::isolation::{self, IsolationOptions};
use crate::monitor::{Monitor, MonitorOptions, MonitorSetup, OwnFigures};
use crate::sqlite::{OpenError, SqliteBroker, SqliteOptions};

use self::leaving::{leave, let_go};

/// Everything a runtime is made of.
#[derive(Clone)]
pub struct RuntimeOptions {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Where dead letters are kept; `None` leaves them in the broker.
    pub store: Option<Arc<dyn DeadLetters>>,
    /// This process.
    pub worker: WorkerId,
    /// The shape of the tree.
    pub tree: TreeOptions,
    /// Which queue a task goes to by its name.
    pub routes: Vec<Route>,
    /// The bounds of frames.
    pub limits: FrameLimits,
    /// The bounds of results.
    pub results: ResultLimits,
    /// How many threads blocking work has.
    pub blocking_threads: usize,
    /// How many of them are replaced when they hang beyond the hard limit of their work, before the process asks to be
    /// recycled. Default as many as there are.
    pub max_stuck_threads: usize,
    /// How long what runs may go on in a process that asks to be recycled. Default 25 s.
    pub recycle_grace: Duration,
    /// Where it logs.
    pub log: Logger,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where the tasks go that its tasks and its client enqueue while the broker is away; default none.
    pub spool: Option<Arc<dyn Spool>>,
    /// Who is told what happens to tasks.
    pub observer: Option<Arc<dyn Observer>>,
    /// Who is told what happens to the children of the tree.
    pub tree_observer: Option<TreeObserver>,
    /// Where this process serves the HTTP API, for its record; default nowhere.
    pub http: Option<SocketAddr>,
    /// How attempts are isolated, in a program that offers it (see [`isolation::enter`]).
    pub isolation: IsolationOptions,
    /// What the monitor watches and holds it against.
    pub monitor: MonitorOptions,
}

impl RuntimeOptions {
    /// The queues that exist without any configuration.
    pub const QUEUES: [&'static str; 4] = ["default", "billing", "kyb", "notifications"];

    /// Creates options for the embedded broker in `directory`, with every default and no store: dead tasks stay in the
    /// broker until a store takes them.
    ///
    /// # Errors
    /// [`OpenError`] when the data directory cannot be used.
    pub fn embedded(directory: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let worker = fresh_worker_id();
        let options = SqliteOptions::new(directory).worker(worker.clone());
        let broker = SqliteBroker::open(options)?;
        Ok(Self::new(Arc::new(broker), worker))
    }

    /// Creates options for any broker, with every default. `worker` must be the one the broker was opened as.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, worker: WorkerId) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let queues = Self::QUEUES
            .iter()
            .filter_map(|name| QueueName::new(name).ok());
        let tree = TreeOptions {
            lanes: u16::try_from(cores.max(2)).unwrap_or(2),
            concurrency: 16 * cores,
            ..TreeOptions::new(queues)
        };
        Self {
            broker,
            store: None,
            worker,
            tree,
            routes: celeriac_actors::route::built_in(),
            limits: FrameLimits::default(),
            results: ResultLimits::default(),
            blocking_threads: 4 * cores,
            max_stuck_threads: 4 * cores,
            recycle_grace: Duration::from_secs(25),
            log: Logger::root(Discard, o!()),
            clock: Arc::new(SystemClock),
            spool: None,
            observer: None,
            tree_observer: None,
            http: None,
            isolation: IsolationOptions::default(),
            monitor: MonitorOptions::default(),
        }
    }
}

/// Returns an identity for this process: host, process id and a random part.
///
/// # Panics
/// Never: what it puts together is always a worker id.
#[must_use]
pub fn fresh_worker_id() -> WorkerId {
    let host = host_name();
    let host: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(100)
        .collect();
    let random = u32::from_be_bytes(random_bytes());
    let name = format!("{host}:{}:{random:08x}", std::process::id());
    WorkerId::new(name).expect("letters, digits and `-.:`, at most 120 of them, are a worker id")
}

/// Returns the name of this host, `localhost` where it has none.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

fn random_bytes() -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..4]);
    bytes
}

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program has mistakes.
    #[error("the program's tasks cannot be used: {0}")]
    App(#[from] AppError),
    /// The program was built so that a panic ends the process: nothing could be supervised.
    #[error(
        "built with `panic = \"abort\"`, which ends the process at the first panic of a task; remove it from the profile"
    )]
    PanicAbort,
    /// The operating system gives no thread.
    #[error("no thread could be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The runtime's thread ended while it started.
    #[error("the runtime ended while it started")]
    Ended,
}

/// How a runtime ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It was told to stop.
    Stopped,
    /// Its own actors crashed more often than is accepted.
    GaveUp(String),
    /// Too many threads are blocked for good: the process should be replaced.
    Recycle,
}

/// What a worker tells of itself in its record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerDetail {
    /// The tree.
    pub tree: TreeNode,
    /// What runs.
    pub lanes: Vec<LaneActivity>,
    /// The circuit breakers it uses.
    #[serde(default)]
    pub breakers: Vec<BreakerView>,
    /// The child processes that isolated attempts run in.
    #[serde(default)]
    pub children: Vec<ChildStatus>,
    /// How many threads hang in blocking work beyond its hard limit.
    #[serde(default)]
    pub stuck_threads: usize,
    /// How long the broker has been away, in milliseconds, and what it said.
    pub broker_away: Option<(u64, String)>,
    /// How long the store has been away, in milliseconds, and what it said.
    pub store_away: Option<(u64, String)>,
    /// How its retry budgets stand.
    #[serde(default)]
    pub retry_budgets: Vec<BudgetStatus>,
    /// Where it serves the HTTP API.
    #[serde(default)]
    pub http: Option<SocketAddr>,
    /// What it counted of each kind of task in each queue, since it started.
    #[serde(default)]
    pub figures: Vec<KindFigures>,
    /// When it told this, by its own clock.
    #[serde(default)]
    pub told_at: Option<Timestamp>,
    /// The kinds of tasks it knows; `None` where an earlier version does not tell.
    #[serde(default)]
    pub tasks: Option<KnownTasks>,
    /// How many attempts of a queue it runs at once, for queues with a cap of their own.
    #[serde(default)]
    pub queue_caps: Vec<(QueueName, usize)>,
}

/// A running runtime. Dropping it stops the tree without a grace period.
#[derive(Debug)]
pub struct Runtime {
    tree: Arc<Tree>,
    producer: Producer,
    worker: WorkerId,
    orders: mpsc::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
    quiet: Arc<watch::Sender<bool>>,
    monitor: Monitor,
    blocking: BlockingPool,
    /// Through which the herald finds the tree, for as long as this handle lives.
    _seen: Arc<OnceLock<Arc<Tree>>>,
}

/// What the runtime's thread is told.
#[derive(Debug)]
enum Order {
    Stop {
        grace: Duration,
        now: Arc<tokio::sync::Notify>,
    },
}

impl Runtime {
    /// Starts the tree on a thread of its own; returns when its first children have been tried.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(app: App, options: RuntimeOptions) -> Result<Self, StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        let Parts {
            registry,
            state,
            dead_letters,
            services,
            hooks,
        } = app.into_parts(isolation::is_entered())?;
        let known = Arc::new(registry.clone());
        let line = (!hooks.is_empty()).then(|| HookLine::new(hooks, options.observer.clone()));
        let isolation = isolation::open(&options, &registry)?;
        let producer = producer(&options, &known, line.as_ref());
        let worker = Arc::new(worker_context(
            &options,
            &registry,
            state,
            (&producer, isolation.clone()),
        ));
        let seen = Arc::new(OnceLock::new());
        let quiet = Arc::new(watch::Sender::new(false));
        let monitor = Monitor::new(Arc::clone(&options.clock));
        let watched = monitor.service(monitor_setup(&options, &seen), options.tree.limit);
        let mut services = services.specify(&known, &producer, (&options, line.as_ref()));
        services.push(watched);
        let parts = TreeParts {
            broker: Arc::clone(&options.broker),
            store: options
                .store
                .clone()
                .map(|store| dead_letters.before(store)),
            services,
            registry,
            observer: observer(&options, line.as_ref()),
            describe: Some(describe(&options, &seen, &quiet, (worker.clone(), &known))),
            environment: environment(&options, worker.log.clone()),
            worker,
        };
        let blocking = parts.worker.blocking.clone();
        let (started, is_started) = std::sync::mpsc::sync_channel(1);
        let (orders, orders_in) = mpsc::channel(4);
        let (exit, exit_in) = watch::channel(None);
        let stage = Stage {
            options: options.tree.clone(),
            recycle_grace: options.recycle_grace,
            isolation,
            parts,
            orders: orders_in,
            exit,
            hooks: line.map(|line| (line, options.worker.clone())),
        };
        std::thread::Builder::new()
            .name("celeriac".to_owned())
            .spawn(move || stage.run(&started))?;
        let tree: Arc<Tree> = is_started.recv().map_err(|_| StartError::Ended)?;
        // Set once, here.
        let _only_once = seen.set(Arc::clone(&tree));
        Ok(Self {
            tree,
            producer,
            worker: options.worker,
            orders,
            exit: exit_in,
            quiet,
            monitor,
            blocking,
            _seen: seen,
        })
    }

    /// Returns a client of the same broker.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::from_producer(self.producer.clone())
    }

    /// Returns the identity of this process.
    #[must_use]
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// Returns the tree as it is now.
    #[must_use]
    pub fn inspect(&self) -> TreeNode {
        self.tree.inspect()
    }

    /// Returns what runs now, lane by lane.
    #[must_use]
    pub fn activity(&self) -> Vec<LaneActivity> {
        self.tree.activity()
    }

    /// Returns the circuit breakers that it uses, with what was counted here.
    #[must_use]
    pub fn breakers(&self) -> Vec<BreakerView> {
        self.tree.breakers()
    }

    /// Returns how long the broker has been away, and what it said.
    #[must_use]
    pub fn broker_outage(&self) -> Option<(Duration, String)> {
        self.tree.broker_outage()
    }

    /// Returns what was counted of each kind of task in each queue since it started.
    #[must_use]
    pub fn figures(&self) -> Vec<KindFigures> {
        self.tree.figures()
    }

    /// Returns how many threads hang in blocking work that has overstayed its limit.
    #[must_use]
    pub fn stuck_threads(&self) -> usize {
        self.blocking.stuck()
    }

    /// Returns the monitor: the verdict about the whole, as this process sees it.
    #[must_use]
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Returns whether every child of the tree serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.tree.inspect().is_complete()
    }

    /// Returns whether the tree is at work, whatever its leaves do: a parked task actor is no reason to end the process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.tree.inspect().is_alive()
    }

    /// Completes when the runtime has ended, with why.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit::Stopped),
            Err(_) => Exit::GaveUp("the runtime's thread ended".to_owned()),
        }
    }

    /// Stops fetching, lets what runs finish for at most `grace`, gives the rest back uncounted, and ends the tree.
    ///
    /// Takes about half a second longer than `grace` at most, whatever tasks do; a slow broker may make that a few seconds,
    /// one that is away three. What such a broker cannot be told is logged and left to it: when the lease is over, other
    /// workers run those tasks again.
    ///
    /// Blocking work and code that blocks a lane's thread cannot be ended: its tasks are given back last of all, while it
    /// runs on until the process exits. Exit soon.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the order back.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.stop_or(grace, std::future::pending()).await
    }

    /// As [`Runtime::stop`], but ends the grace period when `hurry` completes.
    pub async fn stop_or(&self, grace: Duration, hurry: impl Future<Output = ()>) -> Exit {
        self.quiet.send_replace(true);
        let now = Arc::new(tokio::sync::Notify::new());
        let order = Order::Stop {
            grace,
            now: Arc::clone(&now),
        };
        if self.orders.send(order).await.is_err() {
            return self.exited().await;
        }
        tokio::select! {
            exit = self.exited() => exit,
            () = hurry => {
                now.notify_one();
                self.exited().await
            }
        }
    }
}

/// Returns what all attempts of the process share.
fn worker_context(
    options: &RuntimeOptions,
    registry: &Registry,
    state: AppState,
    (producer, isolation): (&Producer, Option<Arc<dyn Isolation>>),
) -> WorkerContext {
    let log = options.log.new(o!("worker" => options.worker.to_string()));
    let (broker, clock) = (Arc::clone(&options.broker), Arc::clone(&options.clock));
    WorkerContext {
        worker: options.worker.clone(),
        state,
        blocking: BlockingPool::replacing(options.blocking_threads, options.max_stuck_threads),
        breakers: Breakers::new(broker, clock, &options.worker, log.clone()).of_program(registry),
        log,
        clock: Arc::clone(&options.clock),
        producer: producer.clone(),
        limits: options.limits,
        results: options.results,
        isolation,
    }
}

/// Returns who is told what happens: the hooks, which tell the other one, where there are some.
fn observer(options: &RuntimeOptions, hooks: Option<&Arc<HookLine>>) -> Option<Arc<dyn Observer>> {
    let hooks = hooks.map(|line| Arc::clone(line) as Arc<dyn Observer>);
    hooks.or_else(|| options.observer.clone())
}

fn producer(
    options: &RuntimeOptions,
    known: &Arc<Registry>,
    hooks: Option<&Arc<HookLine>>,
) -> Producer {
    let producer = ProducerOptions {
        routes: options.routes.clone(),
        limits: options.limits,
        spool: options.spool.clone(),
        known: Some(Arc::clone(known)),
        hooks: hooks.cloned(),
        ..ProducerOptions::default()
    };
    let (broker, clock) = (Arc::clone(&options.broker), Arc::clone(&options.clock));
    Producer::new(broker, clock, producer)
}

fn environment(options: &RuntimeOptions, log: Logger) -> Environment {
    Environment {
        log,
        clock: Arc::clone(&options.clock),
        seed: u64::from(u32::from_be_bytes(random_bytes())),
        observer: options.tree_observer.clone(),
    }
}

/// Returns what the monitor works with; it asks the tree what was counted from the moment it stands.
fn monitor_setup(options: &RuntimeOptions, tree: &Arc<OnceLock<Arc<Tree>>>) -> MonitorSetup {
    let tree = Arc::downgrade(tree);
    let figures: OwnFigures = Arc::new(move || {
        let tree = tree.upgrade();
        let tree = tree.as_ref().and_then(|tree| tree.get());
        tree.map(|tree| tree.figures()).unwrap_or_default()
    });
    MonitorSetup {
        worker: options.worker.clone(),
        broker: Arc::clone(&options.broker),
        options: options.monitor.clone(),
        letters: options.store.clone(),
        figures,
    }
}

/// What the runtime's thread works with.
struct Stage {
    options: TreeOptions,
    recycle_grace: Duration,
    isolation: Option<Arc<dyn Isolation>>,
    parts: TreeParts,
    orders: mpsc::Receiver<Order>,
    exit: watch::Sender<Option<Exit>>,
    hooks: Option<(Arc<HookLine>, WorkerId)>,
}

impl Stage {
    fn run(self, started: &std::sync::mpsc::SyncSender<Arc<Tree>>) {
        let Self {
            options,
            recycle_grace,
            isolation,
            parts,
            mut orders,
            exit,
            hooks,
        } = self;
        let (lease, log) = (options.lease, parts.environment.log.clone());
        let ended = actix_rt::System::new().block_on(async move {
            let tree = Arc::new(Tree::start(options, parts));
            if started.send(Arc::clone(&tree)).is_err() {
                return Exit::Stopped;
            }
            if let Some((line, worker)) = &hooks {
                line.ready(worker);
            }
            let ended = tokio::select! {
                order = orders.recv() => {
                    if let Some((line, worker)) = &hooks {
                        line.stopping(worker);
                    }
                    let hooks = hooks.as_ref().map(|(line, _)| &**line);
                    obey(order, &tree, hooks).await
                }
                reason = tree.exited() => ended_by_itself(&reason),
                () = tree.wants_recycling() => {
                    // Its own half of the lanes may serve yet: what runs there ends as in any other stop.
                    let _in_time = tokio::time::timeout(recycle_grace, tree.drain()).await;
                    let hooks = hooks.as_ref().map(|(line, _)| &**line);
                    leave(&tree, hooks, Duration::ZERO).await;
                    Exit::Recycle
                }
            };
            let_go(&tree, (lease, &log), isolation.as_deref()).await;
            ended
        });
        exit.send_replace(Some(ended));
    }
}

async fn obey(order: Option<Order>, tree: &Tree, hooks: Option<&HookLine>) -> Exit {
    let mut spare = Duration::ZERO;
    if let Some(Order::Stop { grace, now }) = order {
        let began = Instant::now();
        tokio::select! {
            () = tree.drain() => spare = grace.saturating_sub(began.elapsed()),
            () = tokio::time::sleep(grace) => {}
            () = now.notified() => {}
        }
    }
    leave(tree, hooks, spare).await;
    Exit::Stopped
}

fn ended_by_itself(reason: &ExitReason) -> Exit {
    Exit::GaveUp(reason.to_string())
}

/// Returns what makes the record of this process, from the moment the tree stands.
fn describe(
    options: &RuntimeOptions,
    tree: &Arc<OnceLock<Arc<Tree>>>,
    quiet: &Arc<watch::Sender<bool>>,
    (worker, known): (Arc<WorkerContext>, &Registry),
) -> Describe {
    let tasks = KnownTasks::of(known.names().cloned());
    let caps = options.tree.queues.iter();
    let queue_caps: Vec<_> = caps
        .filter_map(|(queue, share)| Some((queue.clone(), share.cap?)))
        .collect();
    let record = WorkerRecord {
        worker: options.worker.clone(),
        host: host_name(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: options
            .tree
            .queues
            .iter()
            .map(|(queue, _)| queue.clone())
            .collect(),
        concurrency: u32::try_from(options.tree.concurrency).unwrap_or(u32::MAX),
        started_at: options.clock.now(),
        quiet: false,
        detail: String::new(),
        beat: BEAT,
        seen_at: Timestamp::EPOCH,
        alive: true,
    };
    let (tree, quiet) = (Arc::downgrade(tree), Arc::clone(quiet));
    let http = options.http;
    Arc::new(move || {
        let tree = tree.upgrade()?;
        let tree = tree.get()?;
        let away = |outage: Option<(Duration, String)>| {
            outage.map(|(since, error)| (celeriac_actors::time::millis(since), error))
        };
        let detail = WorkerDetail {
            tree: tree.inspect(),
            lanes: tree.activity(),
            breakers: tree.breakers(),
            children: worker
                .isolation
                .as_ref()
                .map(|isolation| isolation.children())
                .unwrap_or_default(),
            stuck_threads: worker.blocking.stuck(),
            broker_away: away(tree.broker_outage()),
            store_away: away(tree.store_outage()),
            retry_budgets: tree.retry_budgets(),
            http,
            figures: tree.figures(),
            told_at: Some(worker.clock.now()),
            tasks: Some(tasks.clone()),
            queue_caps: queue_caps.clone(),
        };
        let detail = serde_json::to_string(&detail).unwrap_or_default();
        Some(WorkerRecord {
            quiet: *quiet.borrow(),
            detail,
            ..record.clone()
        })
    })
}
