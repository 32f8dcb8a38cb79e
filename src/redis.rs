//! The Redis broker: any number of processes on any number of machines share one server, or a cluster of them.
//!
//! Ready tasks lie in a list per queue and priority, those in flight in a hash per consumer incarnation, those that wait
//! in a set by due time (`keys`). Every atomic step is a Lua script of its own (`scripts/`), so the rules hold whoever
//! calls. Commands go over a connection of the caller's own runtime (`link`); one thread per broker waits for bells
//! (`bells`) and listens to channels (`hub`).
//!
//! Nothing of the client library is visible from outside.

mod bells;
mod decode;
mod encode;
mod fault;
mod gauge;
mod hub;
mod keys;
mod link;
mod port;
mod proof;
mod scan;
mod script;
mod sweep;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ids::{QueueName, WorkerId};
use celeriac_actors::ports::{BrokerError, Durability};
use redis::{Cmd, Value};

pub use self::gauge::ServerUsage;

use self::bells::{Board, Listener};
use self::hub::{Channels, Hub};
use self::keys::{Keys, slot};
use self::link::{Links, Timeouts};
use self::proof::Proof;
use self::script::Script;

/// The Redis broker.
#[derive(Debug)]
pub struct RedisBroker {
    keys: Keys,
    links: Arc<Links>,
    durability: Durability,
    worker: Option<WorkerId>,
    proof: Option<Proof>,
    board: Arc<Board>,
    channels: Arc<Channels>,
    /// The queues that the registry has heard of, and when that was last made sure.
    registered: Mutex<HashSet<QueueName>>,
    dropped_results: AtomicU64,
    _background: Background,
}

impl RedisBroker {
    /// Connects.
    pub fn connect(url: &str, namespace: &str, worker: Option<WorkerId>) -> Self {
        let keys = Keys::new(namespace);
        let client = redis::Client::open(url).expect("url");
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(2),
        };
        let links = Arc::new(Links::new(client, timeouts));
        let board = Arc::new(Board::default());
        let channels = Arc::new(Channels::default());
        let listener = Listener {
            board: Arc::downgrade(&board),
            links: Arc::clone(&links),
            keys: keys.clone(),
        };
        let hub = Hub {
            channels: Arc::clone(&channels),
            board: Arc::downgrade(&board),
            links: Arc::clone(&links),
        };
        Self {
            keys,
            links,
            durability: Durability::CrashSafe,
            proof: worker.as_ref().and_then(|_| Proof::own()),
            worker,
            board,
            channels,
            registered: Mutex::default(),
            dropped_results: AtomicU64::new(0),
            _background: Background::start(listener, hub).expect("thread"),
        }
    }

    /// Returns how many results lost their bodies because the server's memory was at its limit.
    #[must_use]
    pub fn dropped_results(&self) -> u64 {
        self.dropped_results.load(Ordering::Relaxed)
    }

    /// Calls a script on a queue's keys.
    async fn run(&self, script: &Script, queue: &QueueName, call: &Cmd) -> Reply<Value> {
        self.links
            .run(slot(&self.keys.root(queue)), script, call)
            .await
    }

    /// Sends a command about one key.
    async fn query(&self, key: &str, command: &Cmd) -> Reply<Value> {
        self.links.query(slot(key), command).await
    }

    /// Has the registry know a queue.
    async fn register(&self, queue: &QueueName) -> Reply<()> {
        if self.registered().contains(queue) {
            return Ok(());
        }
        let registry = self.keys.registry();
        let mut command = redis::cmd("SADD");
        command.arg(&registry).arg(queue.as_str());
        self.query(&registry, &command).await?;
        self.registered().insert(queue.clone());
        Ok(())
    }

    fn registered(&self) -> std::sync::MutexGuard<'_, HashSet<QueueName>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

type Reply<T> = Result<T, BrokerError>;

/// The thread that waits for bells and listens to channels.
#[derive(Debug)]
struct Background {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Background {
    fn start(listener: Listener, hub: Hub) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("celeriac-redis".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    drop(tokio::spawn(listener.run()));
                    drop(tokio::spawn(hub.run()));
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
            drop(stop.send(()));
        }
    }
}
