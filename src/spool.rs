//! The spool: enqueueing goes on while the broker is away. A SQLite file of its own, on this machine.
//!
//! A producer that has one ([`ProducerOptions::spool`](celeriac_actors::producer::ProducerOptions::spool)) writes there
//! what the broker does not take, and its newer tasks of the same queue behind it. A thread of the process relays what
//! waits as soon as the broker takes it: in order within a queue, and once each, at whichever moment a process died.
//!
//! Any number of processes may share a file; one relays at a time, and the others step in when it dies. All of them must
//! use the same broker. While tasks come faster than they are relayed, everything goes through the spool.
//!
//! ```no_run
//! # fn example(broker: std::sync::Arc<dyn celeriac::ports::Broker>) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use celeriac::client::Client;
//! use celeriac::clock::SystemClock;
//! use celeriac::producer::ProducerOptions;
//! use celeriac::spool::{SpoolOptions, SqliteSpool};
//!
//! let spool = SqliteSpool::open(SpoolOptions::new("/var/lib/app/spool.db"), Arc::clone(&broker))?;
//! let options = ProducerOptions { spool: Some(Arc::new(spool)), ..ProducerOptions::default() };
//! let client = Client::new(broker, Arc::new(SystemClock), options);
//! # Ok(())
//! # }
//! ```

pub(crate) mod book;
pub(crate) mod courier;
mod lock;
#[cfg(test)]
mod model;
mod options;
mod rejected;
mod relay;
mod scribe;

use std::fs::{DirBuilder, File, OpenOptions as FileOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, EnqueueCall, Sent, Spool, SpoolError};
use diesel::result::QueryResult;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use self::book::{Book, Held};
use self::relay::Relay;
use self::scribe::{Scribe, failed};

pub use self::options::{OpenError, SpoolOptions, SpoolStatus};
pub use self::rejected::{PutBack, Rejected};

/// How often somebody who waits for the spool to be empty looks.
const LOOK: Duration = Duration::from_millis(20);

/// A spool on SQLite, and the thread that relays it.
///
/// Dropping it ends the thread at once: what waits is relayed by the next process that opens it.
#[derive(Debug)]
pub struct SqliteSpool {
    /// Ends before the desk that it works at.
    _relay: Relay,
    desk: Arc<Desk>,
}

/// What the caller's threads and the relay share.
#[derive(Debug)]
struct Desk {
    options: SpoolOptions,
    scribe: Scribe,
    /// For a quick look.
    reading: Mutex<Book>,
    /// Something was spooled here.
    news: Notify,
    /// Somebody waits: the next attempt may come at once.
    hurry: Notify,
    /// How many attempts to relay have failed.
    failed: watch::Sender<u64>,
}

impl Desk {
    fn reading(&self) -> MutexGuard<'_, Book> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how much waits.
    fn held(&self) -> Result<Held, SpoolError> {
        self.reading().held().map_err(|error| failed(&error))
    }

    /// Has a step of the book carried out and made durable.
    async fn ask<T: Send + 'static>(
        &self,
        mut step: impl FnMut(&mut Book) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.scribe.ask(move |book| step(book).map(Ok)).await
    }
}

impl SqliteSpool {
    /// Opens the spool, making it where it is missing, and begins to relay what waits in it to `broker`.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn open(options: SpoolOptions, broker: Arc<dyn Broker>) -> Result<Self, OpenError> {
        let path = options.path.as_path();
        prepare(path)?;
        let desk = Desk {
            scribe: Scribe::start(Book::open(path)?).map_err(OpenError::file(path))?,
            reading: Mutex::new(Book::connect(path)?),
            news: Notify::new(),
            hurry: Notify::new(),
            failed: watch::Sender::new(0),
            options: options.clone(),
        };
        let desk = Arc::new(desk);
        let relay = Relay::start(Arc::clone(&desk), broker, options.log.clone());
        Ok(Self {
            _relay: relay.map_err(OpenError::file(path))?,
            desk,
        })
    }

    /// Returns what is in it.
    ///
    /// # Errors
    /// [`SpoolError::Failed`].
    pub fn status(&self) -> Result<SpoolStatus, SpoolError> {
        let status = status(&mut self.desk.reading());
        status.map_err(|error| failed(&error))
    }

    /// Returns what is in the spool at `path` without making, changing or relaying anything; `None` when there is none.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn examine(path: &Path) -> Result<Option<SpoolStatus>, OpenError> {
        if !path.try_exists().map_err(OpenError::file(path))? {
            return Ok(None);
        }
        let mut book = Book::connect(path)?;
        if !book.is_ours(path)? {
            return Ok(None);
        }
        let status = status(&mut book).map_err(|error| OpenError::sqlite(path, &error))?;
        Ok(Some(status))
    }
}

#[async_trait]
impl Spool for SqliteSpool {
    fn holds(&self, queue: &QueueName) -> Result<bool, SpoolError> {
        let holds = self.desk.reading().holds(queue.as_str());
        holds.map_err(|error| failed(&error))
    }

    async fn put(&self, call: Arc<EnqueueCall>, sent: Sent) -> Result<(), SpoolError> {
        let now = self.desk.options.clock.now();
        let bounds = self.desk.options.bounds();
        let step = move |book: &mut Book| book.put(&call, sent, (bounds, now));
        self.desk.scribe.ask(step).await?;
        self.desk.news.notify_one();
        Ok(())
    }

    async fn drain(&self, patience: Duration) -> Result<u64, SpoolError> {
        let deadline = Instant::now() + patience;
        let mut failures = self.desk.failed.subscribe();
        let before = *failures.borrow_and_update();
        self.desk.news.notify_one();
        self.desk.hurry.notify_one();
        loop {
            let left = self.desk.held()?.tasks;
            let has_failed = *failures.borrow_and_update() > before;
            if left == 0 || has_failed || Instant::now() >= deadline {
                return Ok(left);
            }
            drop(timeout(LOOK, failures.changed()).await);
        }
    }
}

fn status(book: &mut Book) -> QueryResult<SpoolStatus> {
    let held = book.held()?;
    Ok(SpoolStatus {
        tasks: held.tasks,
        bytes: held.bytes,
        oldest: book.oldest()?,
        rejected: book.rejected()?,
    })
}

/// Makes directory and file for their owner only, where they are missing, on a file system whose locks hold.
fn prepare(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(OpenError::file(directory))?;
    }
    crate::sqlite::doubts_about(directory).map_err(|error| OpenError::FileSystem {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let file = FileOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    drop(file.map_err(OpenError::file(path))?);
    // The name of a new file must survive, too.
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(OpenError::file(directory))
}
