//! The Redis broker: any number of processes on any number of machines share one server, or a cluster of them.
//!
//! Ready tasks lie in a list per queue and priority, those in flight in a hash per consumer incarnation, those that wait
//! in a set by due time (`keys`). Every atomic step is a Lua script of its own (`scripts/`), so the rules hold whoever
//! calls. Commands go over a connection of the caller's own runtime (`link`); one thread per broker waits for bells
//! (`bells`) and listens to channels (`hub`).
//!
//! Nothing of the client library is visible from outside.

mod acl;
mod bells;
mod board;
mod boot;
mod decode;
mod dial;
mod dropped;
mod elsewhere;
mod encode;
mod fault;
mod gate;
mod gauge;
mod generation;
mod hub;
mod keys;
mod link;
mod members;
mod node;
mod options;
mod pool;
mod port;
mod proof;
mod results;
mod scan;
mod script;
mod sweep;
#[cfg(test)]
mod tests;
mod tls;
mod together;
mod topology;
mod url;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ids::{IncarnationId, QueueName, WorkerId};
use celeriac_actors::ports::BrokerError;
use redis::{Cmd, Value};
use tokio::time::Instant;

use self::bells::Listener;
use self::board::Board;
use self::boot::Boot;
use self::dropped::Dropped;
use self::elsewhere::Elsewhere;
use self::hub::{Channels, Hub};
use self::keys::{Keys, slot};
use self::link::Links;
use self::proof::Proof;
use self::script::{REGISTER, Script};
use self::together::Together;

pub use self::acl::acl_rules;
pub use self::boot::{Exam, ServerExam, examine};
pub use self::gauge::ServerUsage;
pub use self::options::{OpenError, RedisOptions};
pub use self::url::{RedisUrl, UrlError};

/// How often whoever enqueues makes sure that the registry has heard of a queue: data that was wiped may never be
/// noticed by a process that only adds.
const REGISTER_AGAIN: Duration = Duration::from_secs(60);

/// The Redis broker.
#[derive(Debug)]
pub struct RedisBroker {
    keys: Keys,
    links: Arc<Links>,
    boot: Boot,
    max_frame: usize,
    worker: Option<WorkerId>,
    proof: Option<Proof>,
    board: Arc<Board>,
    channels: Arc<Channels>,
    /// The queues that the registry has heard of, and when that was last made sure.
    registered: Mutex<HashMap<QueueName, Instant>>,
    dropped: Dropped,
    renewals: Together<Leases, Vec<IncarnationId>>,
    sweeps: Together<String, sweep::Step>,
    /// Where results are kept, if not with the tasks.
    elsewhere: Option<Arc<Elsewhere>>,
    _background: Background,
}

impl RedisBroker {
    /// Opens the broker: connects, and checks that the server is fit for one.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn open(options: RedisOptions) -> Result<Self, OpenError> {
        let keys = Keys::new(&options.url.namespace);
        let links = Arc::new(Links::new(&options)?);
        let boot = block_on(boot::check(&links, &options))??;
        let worker = options.worker.clone();
        let board = Arc::new(Board::default());
        let channels = Arc::new(Channels::default());
        let listener = Listener {
            board: Arc::downgrade(&board),
            links: Arc::clone(&links),
            keys: keys.clone(),
        };
        let elsewhere = match options.results.clone() {
            Some(url) => Some(Arc::new(Elsewhere::open(url, &options, &keys, &links)?)),
            None => None,
        };
        let hubs = Hubs {
            own: Hub {
                channels: Arc::clone(&channels),
                board: Arc::downgrade(&board),
                links: Arc::clone(&links),
            },
            results: elsewhere.as_ref().map(|elsewhere| Hub {
                channels: Arc::clone(&elsewhere.channels),
                board: Arc::downgrade(&board),
                links: Arc::clone(&elsewhere.links),
            }),
            // A client keeps no results; what a worker left behind waits for the next one.
            mover: elsewhere
                .as_ref()
                .filter(|_| options.worker.is_some())
                .map(Arc::downgrade),
        };
        Ok(Self {
            keys,
            links,
            boot,
            max_frame: options.max_frame,
            proof: worker.as_ref().and_then(|_| Proof::own()),
            worker,
            board,
            channels,
            registered: Mutex::default(),
            dropped: Dropped::new(options.log.clone()),
            renewals: Together::default(),
            sweeps: Together::default(),
            elsewhere,
            _background: Background::start(listener, hubs)?,
        })
    }

    /// Returns what is doubtful about the servers, as lines for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.boot.warnings
    }

    /// Returns the version of the oldest server.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.boot.version
    }

    /// Returns how many results lost their bodies because the server's memory was at its limit.
    #[must_use]
    pub fn dropped_results(&self) -> u64 {
        self.dropped.total()
    }

    /// Calls a script on a queue's keys.
    async fn run(&self, script: &Script, queue: &QueueName, call: &Cmd) -> Reply<Value> {
        self.links
            .run(slot(&self.keys.root(queue)), script, call)
            .await
    }

    /// Returns the connections to where results are kept.
    fn result_links(&self) -> &Links {
        self.elsewhere
            .as_ref()
            .map_or(&self.links, |elsewhere| &elsewhere.links)
    }

    /// Returns the keys under which results are kept.
    fn result_keys(&self) -> &Keys {
        self.elsewhere
            .as_ref()
            .map_or(&self.keys, |elsewhere| elsewhere.keys_there())
    }

    /// Has results taken to where they are kept, if that is elsewhere.
    fn results_wait(&self) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.there_is_something.notify_one();
        }
    }

    /// Sends a command about one key.
    async fn query(&self, key: &str, command: &Cmd) -> Reply<Value> {
        self.links.query(slot(key), command).await
    }

    /// Has the registry know a queue.
    async fn register(&self, queue: &QueueName) -> Reply<()> {
        let last = self.registered().get(queue).copied();
        if last.is_some_and(|last| last.elapsed() < REGISTER_AGAIN) {
            return Ok(());
        }
        let registry = self.keys.registry();
        // A script, for a plain command is refused when memory is at its limit, and then nobody could open and settle.
        let mut call = REGISTER.call(&registry);
        call.arg(queue.as_str());
        self.links.run(slot(&registry), &REGISTER, &call).await?;
        self.registered().insert(queue.clone(), Instant::now());
        Ok(())
    }

    fn registered(&self) -> std::sync::MutexGuard<'_, HashMap<QueueName, Instant>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns every queue the registry has heard of, by name.
async fn known_queues(links: &Links, keys: &Keys) -> Reply<Vec<QueueName>> {
    let registry = keys.registry();
    let mut command = redis::cmd("SMEMBERS");
    command.arg(&registry);
    let names = match links.query(slot(&registry), &command).await? {
        Value::Array(names) | Value::Set(names) => names,
        other => return Err(decode::strange(&format!("{other:?} is no set"))),
    };
    let mut queues = Vec::new();
    for name in names {
        let name = QueueName::new(decode::text(name)?);
        queues.push(name.map_err(|error| decode::strange(&error.to_string()))?);
    }
    queues.sort();
    Ok(queues)
}

/// The root of a queue's keys, and incarnations of it.
type Leases = (String, Vec<IncarnationId>);

type Reply<T> = Result<T, BrokerError>;

/// What the background thread runs beside the bells.
struct Hubs {
    own: Hub,
    results: Option<Hub>,
    mover: Option<std::sync::Weak<Elsewhere>>,
}

/// The thread that waits for bells and listens to channels.
#[derive(Debug)]
struct Background {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Background {
    fn start(listener: Listener, hubs: Hubs) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("celeriac-redis".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    drop(tokio::spawn(listener.run()));
                    drop(tokio::spawn(hubs.own.run()));
                    if let Some(hub) = hubs.results {
                        drop(tokio::spawn(hub.run()));
                    }
                    if let Some(elsewhere) = hubs.mover {
                        drop(tokio::spawn(elsewhere::take_there(elsewhere)));
                    }
                    // Ends with the broker, and its tasks with the runtime.
                    drop(stopped.await);
                });
            })?;
        Ok(Self { stop: Some(stop) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A thread that is gone needs no word.
            let _told = stop.send(());
        }
    }
}

/// Runs a future to its end on a thread and a runtime of its own, whatever runs here.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> io::Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(future))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("redis-open".into())
            .spawn_scoped(scope, run)?;
        let ended = thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
