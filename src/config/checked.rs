//! Checked: the configuration as it is used. Made once, by `load`; nothing behind it checks again.
//!
//! The fields are named as the keys of the file are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_actors::breaker::BreakerOverride;
use celeriac_actors::budget::RetryBudget;
use celeriac_actors::health::Thresholds;
use celeriac_actors::ids::{BreakerName, QueueName, TaskName};
use celeriac_actors::mode::Mode;
use celeriac_actors::retention::RetentionLimits;
use celeriac_actors::route::{self, Route};

use super::keys::queue_name_fault;
use super::mistake::{Mistake, Origin, Report};
use super::secret::Secret;
use super::target::{BrokerTarget, StoreTarget};
use crate::command::Command;
use crate::suggest;

/// What a process is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// On somebody's desk.
    Development,
    /// For real.
    Production,
}

/// What a process does that wants to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recycle {
    /// It ends with 75.
    Exit,
    /// It starts afresh in its own place.
    Exec,
}

/// What an acknowledged task of the embedded broker survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// A power cut.
    Full,
    /// A crash of the process.
    Normal,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Term,
}

/// Whether log lines for people are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// On a terminal only.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The configuration in force. Holds the broker's and the store's secrets; neither shows in `Debug`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What this process is run for.
    pub environment: Environment,
    /// The directory of the embedded broker and of the store.
    pub data_dir: PathBuf,
    /// Where tasks wait.
    pub broker: BrokerTarget,
    /// The queues this worker takes tasks from, sorted; all of `queues` unless chosen.
    pub consume: Vec<QueueName>,
    /// How many attempts run at once in this process.
    pub concurrency: usize,
    /// How many threads run blocking work.
    pub blocking_threads: usize,
    /// How many event loops share the work.
    pub arbiters: usize,
    /// How many tasks are fetched ahead, as a multiple of the concurrency: 0, 1 or 2.
    pub prefetch: usize,
    /// How long a worker may be silent before its tasks are given to others.
    pub lease: Duration,
    /// How often leases are renewed and lost workers are looked for.
    pub sweep: Duration,
    /// How long running tasks may go on after the first signal.
    pub grace: Duration,
    /// How long a task whose kind is unknown waits before it is buried.
    pub unknown_task_grace: Duration,
    /// The largest stored task, compressed, in bytes.
    pub max_frame: usize,
    /// The largest task once it is decompressed, in bytes; at least `max_frame`.
    pub max_args: usize,
    /// How many blocked threads are replaced, per arbiter, before the process asks to be recycled.
    pub max_stuck_lanes: usize,
    /// How many threads that hang in blocking work are replaced before the process asks to be recycled.
    pub max_stuck_threads: usize,
    /// What the process does that asks to be recycled.
    pub recycle: Recycle,
    /// The file that takes tasks while the broker is away, if there is one.
    pub spool: Option<PathBuf>,
    /// How many bytes may wait there.
    pub spool_max: u64,
    /// Which queue a task goes to, the built-in routes last; the first match wins.
    pub routes: Vec<Route>,
    /// The queues by name, the built-in ones included.
    pub queues: BTreeMap<QueueName, QueueConfig>,
    /// The tasks that programs run.
    pub commands: Vec<Command>,
    /// What is said about single tasks, by name.
    pub tasks: BTreeMap<TaskName, TaskOverride>,
    /// What is said about single breakers, by name.
    pub breakers: BTreeMap<BreakerName, BreakerOverride>,
    /// The embedded broker.
    pub embedded: EmbeddedConfig,
    /// The broker on Redis.
    pub redis: RedisConfig,
    /// Results of tasks.
    pub results: ResultsConfig,
    /// Dead letters, snapshots and the audit.
    pub store: StoreConfig,
    /// The HTTP API; `None` serves none.
    pub http: Option<HttpConfig>,
    /// How many dead letters are kept, and for how long.
    pub dead_letters: RetentionLimits,
    /// Child processes.
    pub isolation: IsolationConfig,
    /// From which figure on something is a reason of the verdict.
    pub health: Thresholds,
    /// Restarts of our own actors.
    pub supervision: SupervisionConfig,
    /// Log lines.
    pub log: LogConfig,
}

/// One queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// How many attempts of this queue run at once in this process; `None` is no cap of its own.
    pub concurrency: Option<usize>,
    /// The queue's share while several have work, 1 to 100.
    pub weight: u32,
    /// What its retries may cost in this process; `None` is nothing.
    pub retry_budget: Option<RetryBudget>,
}

/// What is said about one kind of task; `None` leaves what the task says itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskOverride {
    /// How often the task is tried before it is dead.
    pub max_attempts: Option<u16>,
    /// When a running attempt is asked to stop.
    pub soft_limit: Option<Duration>,
    /// When a running attempt is ended.
    pub hard_limit: Option<Duration>,
    /// Where attempts run.
    pub mode: Option<Mode>,
    /// The wait before the second attempt.
    pub backoff_base: Option<Duration>,
    /// The longest wait before an attempt.
    pub backoff_ceiling: Option<Duration>,
    /// The share of the wait that chance may take off, 0 to 1.
    pub backoff_jitter: Option<f64>,
}

/// The embedded broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// What an acknowledged task survives.
    pub synchronous: Synchronous,
}

/// The broker on Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Whether a server that loses acknowledged tasks when it restarts will do.
    pub allow_volatile: bool,
    /// Whether a server that throws tasks away when its memory is full will do.
    pub allow_eviction: bool,
}

/// Results of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultsConfig {
    /// Where they are kept; `None` is beside the broker.
    pub target: Option<BrokerTarget>,
    /// How long one is kept.
    pub ttl: Duration,
    /// The largest that is kept, in bytes; 0 keeps none.
    pub max_size: usize,
}

/// Dead letters, snapshots and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where they are kept.
    pub target: StoreTarget,
    /// Whether `run` brings the schema up to date.
    pub migrate_at_start: bool,
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it is served; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether somebody asked for the address, so that another one will not do.
    pub is_asked_for: bool,
    /// Who may read; `None` is nobody beside those who may change.
    pub read_token: Option<TokenSource>,
    /// Who may read and change; `None` is nobody, or everybody where there is no token at all.
    pub admin_token: Option<TokenSource>,
    /// The names under which it may be asked for, beside IP addresses and `localhost`; lower case.
    pub hosts: Vec<String>,
}

/// Where a bearer token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// In the configuration.
    Given(Secret),
    /// In this file.
    File(PathBuf),
}

/// Child processes of isolated attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationConfig {
    /// How many there are.
    pub children: usize,
    /// How many attempts one runs.
    pub max_tasks_per_child: Option<u64>,
    /// How much memory one may have after an attempt, in bytes.
    pub max_memory_per_child: Option<u64>,
    /// How much address space one may have, in bytes.
    pub memory_limit: Option<u64>,
    /// By how much their priority is lower.
    pub nice: u8,
}

/// Restarts of our own actors.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisionConfig {
    /// How many restarts are borne `within` a span.
    pub max_restarts: u32,
    /// The span over which restarts are counted.
    pub within: Duration,
    /// How long an actor must stay up for its restarts to be forgotten.
    pub stable_after: Duration,
    /// The wait before the first restart.
    pub backoff_base: Duration,
    /// The longest wait before a restart.
    pub backoff_ceiling: Duration,
    /// The share of the wait that chance may take off, 0 to 1.
    pub backoff_jitter: f64,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe lines that are written.
    pub level: slog::Level,
    /// How lines are written.
    pub format: LogFormat,
    /// Whether lines for people are coloured.
    pub color: Color,
    /// How many lines may wait for a slow reader.
    pub buffer: usize,
}

impl Config {
    /// Returns the queue that the routes choose for a task; `None` leaves it to the task.
    #[must_use]
    pub fn route(&self, task: &str) -> Option<&str> {
        route::queue_for(&self.routes, task)
    }

    /// Checks the name of a queue that somebody typed at `flag`, such as `--queue`.
    ///
    /// # Errors
    /// A report of one mistake, with a suggestion, when there is no such queue.
    pub fn known_queue(&self, name: &str, flag: &str) -> Result<(), Report> {
        let origin = Origin::Flag {
            name: flag.to_owned(),
        };
        match check_queue(
            name,
            self.queues.keys().map(QueueName::as_str),
            "queue",
            &origin,
        ) {
            Some(mistake) => Err(Report {
                mistakes: vec![mistake],
            }),
            None => Ok(()),
        }
    }
}

/// Returns what is wrong with the mention of a queue, if anything is.
pub(super) fn check_queue<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    key: &str,
    origin: &Origin,
) -> Option<Mistake> {
    if known.clone().any(|queue| queue == name) {
        return None;
    }
    let found = match queue_name_fault(name) {
        Some(fault) => format!("found {fault}"),
        None => format!("there is no queue {name:?}"),
    };
    let known: Vec<&str> = known.collect();
    let hint = suggest::did_you_mean(name, known.iter().copied());
    let allowed = format!(
        "{}, or a new one declared by `[queues.NAME]`",
        known.join(", ")
    );
    Some(
        Mistake::error(key, origin.clone(), found)
            .allowed(allowed)
            .hint(hint),
    )
}
