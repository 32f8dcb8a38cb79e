//! Where it is measured: a broker whose tasks are nobody else's, gone afterwards.
//!
//! On SQLite a directory of its own on the disk of the data directory, on Redis a namespace of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ids::{QueueName, WorkerId};
use celeriac_actors::ports::{Broker, Durability};
use celeriac_actors::producer::ProducerOptions;
use celeriac_actors::route::Route;

use crate::cli::exit::{Exit, Failure};
use crate::cli::session::{Session, open_failure};
use crate::client::Client;
use crate::clock::SystemClock;
use crate::config::{BrokerTarget, Synchronous};
#[cfg(feature = "redis")]
use crate::redis::{RedisBroker, RedisOptions};
use crate::runtime::fresh_worker_id;
use crate::sqlite::{SqliteBroker, SqliteOptions};

/// What every place made here is called by, and something random.
const PREFIX: &str = "celeriac-bench-";

/// How long the server remembers calls of a measurement: longer than a call is repeated, and not much longer.
const REMEMBER: Duration = Duration::from_secs(30);

/// Makes places to measure in, and cleans up behind them.
pub(super) struct Site<'a> {
    session: &'a Session,
    allow_volatile: bool,
    queues: Vec<QueueName>,
    #[cfg(feature = "redis")]
    open: Mutex<Vec<Arc<RedisBroker>>>,
    /// The directories of the embedded broker.
    directories: Mutex<Vec<tempfile::TempDir>>,
}

/// One place to measure in.
pub(super) struct Ground {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) worker: WorkerId,
    routes: Vec<Route>,
    keeper: Keeper,
}

/// What keeps the tasks.
enum Keeper {
    Files(SqliteOptions),
    #[cfg(feature = "redis")]
    Server(Arc<RedisBroker>),
}

impl<'a> Site<'a> {
    /// Measures at the session's broker, with tasks in these queues.
    pub(super) fn new(session: &'a Session, allow_volatile: bool, queues: Vec<QueueName>) -> Self {
        Self {
            session,
            allow_volatile,
            queues,
            #[cfg(feature = "redis")]
            open: Mutex::default(),
            directories: Mutex::default(),
        }
    }

    /// Makes a place where nothing is.
    pub(super) fn ground(&self) -> Result<Ground, Failure> {
        let worker = fresh_worker_id();
        let ground = match &self.session.config.broker {
            BrokerTarget::Embedded { dir } => self.embedded(dir, worker)?,
            #[cfg(feature = "redis")]
            BrokerTarget::Redis { url } => self.redis(url.expose(), worker)?,
            other => {
                return Err(Failure::usage(format!(
                    "nothing can be measured at {other}: take `sqlite:` or a Redis URL"
                )));
            }
        };
        if ground.broker.durability() == Durability::Volatile && !self.allow_volatile {
            return Err(Failure::usage(
                "this server keeps tasks in memory only; measure it anyway with `--allow-volatile`",
            ));
        }
        Ok(ground)
    }

    fn embedded(&self, dir: &Path, worker: WorkerId) -> Result<Ground, Failure> {
        // In or beside the data directory: on the disk whose speed matters.
        let place = dir.ancestors().find(|place| place.is_dir());
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(place.unwrap_or(Path::new(".")))
            .map_err(Failure::unavailable)?;
        let config = &self.session.config;
        let mut options = SqliteOptions::new(directory.path())
            .power_safe(config.embedded.synchronous == Synchronous::Full)
            .worker(worker.clone());
        options.max_frame = config.max_frame;
        lock(&self.directories).push(directory);
        Ok(Ground {
            broker: Arc::new(SqliteBroker::open(options.clone()).map_err(open_failure)?),
            worker,
            routes: config.routes.clone(),
            keeper: Keeper::Files(options),
        })
    }

    #[cfg(feature = "redis")]
    fn redis(&self, url: &str, worker: WorkerId) -> Result<Ground, Failure> {
        let namespace = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let options = RedisOptions::new(url).map_err(|error| Failure::new(Exit::Usage, error))?;
        let options = options
            .namespace(namespace)
            .worker(worker.clone())
            .allow_volatile(self.allow_volatile);
        let broker = RedisBroker::open(options).map_err(|error| {
            let exit = if error.is_outage() {
                Exit::Unavailable
            } else {
                Exit::Usage
            };
            Failure::new(exit, error)
        })?;
        let broker = Arc::new(broker);
        lock(&self.open).push(Arc::clone(&broker));
        Ok(Ground {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            worker,
            routes: self.session.config.routes.clone(),
            keeper: Keeper::Server(broker),
        })
    }

    /// Deletes what was made.
    pub(super) async fn clean(&self) -> Result<(), Failure> {
        #[cfg(feature = "redis")]
        {
            let open = std::mem::take(&mut *lock(&self.open));
            for broker in open {
                broker.erase(&self.queues).await?;
            }
        }
        for directory in std::mem::take(&mut *lock(&self.directories)) {
            directory.close().map_err(Failure::unavailable)?;
        }
        Ok(())
    }

    /// Returns what the session was opened with.
    pub(super) fn session(&self) -> &Session {
        self.session
    }
}

impl Ground {
    /// Returns a client, as any program has one.
    pub(super) fn client(&self) -> Client {
        let options = ProducerOptions {
            routes: self.routes.clone(),
            remember: REMEMBER,
            ..ProducerOptions::default()
        };
        Client::new(Arc::clone(&self.broker), Arc::new(SystemClock), options)
    }

    /// Returns the broker's kind, and its version where it is a server.
    pub(super) async fn kind(&self) -> Result<(&'static str, Option<String>), Failure> {
        match &self.keeper {
            Keeper::Files(_) => Ok(("embedded", None)),
            #[cfg(feature = "redis")]
            Keeper::Server(broker) => Ok(("redis", Some(broker.usage().await?.version))),
        }
    }

    /// Returns how long the server has been on a core; `None` where there is none.
    pub(super) async fn server_cpu(&self) -> Result<Option<Duration>, Failure> {
        match &self.keeper {
            Keeper::Files(_) => Ok(None),
            #[cfg(feature = "redis")]
            Keeper::Server(broker) => Ok(Some(broker.usage().await?.cpu)),
        }
    }

    /// Returns how many scripts the server was called for, by all its clients; `None` where there is none.
    pub(super) async fn server_calls(&self) -> Result<Option<u64>, Failure> {
        match &self.keeper {
            Keeper::Files(_) => Ok(None),
            #[cfg(feature = "redis")]
            Keeper::Server(broker) => Ok(Some(broker.usage().await?.scripts)),
        }
    }

    /// Returns how many bytes the tasks take: memory of the server, or files of a broker that is closed for it, so that
    /// nothing of them is in its log only.
    pub(super) async fn weigh(self) -> Result<(Self, u64), Failure> {
        let options = match &self.keeper {
            Keeper::Files(options) => options.clone(),
            #[cfg(feature = "redis")]
            Keeper::Server(broker) => {
                let used = freed(broker).await?;
                return Ok((self, used));
            }
        };
        let Self {
            broker,
            worker,
            routes,
            ..
        } = self;
        drop(broker);
        let bytes = size_of(&options.directory).map_err(Failure::unavailable)?;
        let broker = SqliteBroker::open(options.clone()).map_err(open_failure)?;
        let ground = Self {
            broker: Arc::new(broker),
            worker,
            routes,
            keeper: Keeper::Files(options),
        };
        Ok((ground, bytes))
    }
}

/// Returns the memory that the server uses, once it has freed what was deleted in an earlier measurement.
#[cfg(feature = "redis")]
async fn freed(broker: &RedisBroker) -> Result<u64, Failure> {
    const LOOKS: u32 = 2_000;

    for _ in 0..LOOKS {
        let usage = broker.usage().await?;
        if usage.unfreed == 0 {
            return Ok(usage.used_memory);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(failed(
        "the server goes on freeing memory: its use cannot be told",
    ))
}

fn size_of(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was measured did not end as it must.
pub(super) fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::TaskFailed, anyhow::anyhow!("{what}"))
}
