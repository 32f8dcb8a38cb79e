//! The embedded broker: a SQLite database in a data directory, shared by any number of processes of one machine.
//!
//! One thread per process writes, for many callers at once (`writer`); acknowledgements wait for the log to be synced
//! beside it (`syncer`); inspection has a connection of its own (`reader`); the log is moved into the database in the
//! background (`keeper`); processes ring each other's bells (`bells`). Ready tasks lie in packs, what one call handed
//! out is one row (`pack`, `lives`), so that a task costs a share of a row and not four.
//!
//! Nothing of Diesel or SQLite is visible from outside.
//!
//! ```
//! use celeriac::sqlite::{SqliteBroker, SqliteOptions};
//! use celeriac_actors::ports::{Broker, Durability};
//!
//! let directory = tempfile::tempdir()?;
//! let broker = SqliteBroker::open(SqliteOptions::new(directory.path()))?;
//! assert_eq!(broker.durability(), Durability::PowerSafe);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alive;
mod backoff;
mod bells;
mod board;
mod errors;
mod exam;
mod job;
mod keeper;
mod lives;
mod options;
mod pack;
mod place;
mod port;
mod queue;
mod reader;
mod reads;
mod room;
mod scan;
mod schema;
pub(crate) mod sql;
mod steps;
mod syncer;
#[cfg(test)]
mod tests;
mod tx;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::Clock;

pub(crate) use self::errors::{Trouble, trouble};
pub use self::exam::Exam;
pub use self::options::{OpenError, SqliteOptions};

use self::alive::Alive;
use self::bells::{Bell, Ringer};
use self::board::Board;
use self::errors::StepError;
use self::job::{Call, Reply};
use self::keeper::{Keeper, Keeping};
use self::place::Place;
pub(crate) use self::place::doubts_about;
use self::reader::Reader;
use self::room::{Room, Rooms};
use self::schema::Role;
pub(crate) use self::schema::marks;
use self::sql::Db;
use self::steps::Step;
use self::syncer::{SyncLog, Syncer};
use self::tx::Context;
use self::writer::{Order, Writer};

/// How long closing waits for the threads to finish.
const PATIENCE: Duration = Duration::from_secs(2);

/// The embedded broker.
///
/// Dropping it finishes what was handed to it, within two seconds, and lets go of the worker's lock.
#[derive(Debug)]
pub struct SqliteBroker {
    clock: Arc<dyn Clock>,
    power_safe: bool,
    board: Arc<Board>,
    rooms: Rooms,
    writer: SyncSender<Order>,
    /// `None` while it is dropped.
    reader: Option<Reader>,
    keeping: Arc<Keeping>,
    bell: bells::Stop,
    threads: Vec<JoinHandle<()>>,
    warnings: Vec<String>,
    _alive: Option<Alive>,
}

impl SqliteBroker {
    /// Opens the broker of a data directory, making it where it is missing.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        Self::open_syncing(options, Box::new(std::fs::File::sync_data))
    }

    /// Opens it with something that makes its log safe.
    fn open_syncing(options: SqliteOptions, sync: SyncLog) -> Result<Self, OpenError> {
        let (place, warnings) = Place::prepare(&options.directory)?;
        let db = schema::establish(&place, &options)?;
        let failed = OpenError::directory(place.root());
        let alive = claim(&place, &options)?;
        let threads = Threads::start(&place, &options, db, sync);
        let (threads, parts) = threads.map_err(|error| match error {
            StartError::Open(error) => error,
            StartError::Io(error) => failed(error),
        })?;
        Ok(Self {
            clock: Arc::clone(&options.clock),
            power_safe: options.power_safe,
            board: parts.board,
            rooms: Rooms::default(),
            writer: parts.writer,
            reader: Some(parts.reader),
            keeping: parts.keeping,
            bell: parts.bell,
            threads,
            warnings,
            _alive: alive,
        })
    }

    /// Returns what is doubtful about the data directory, as lines for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes the database of a data directory that nobody uses down to an earlier version of its form; 0 removes all.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be opened or written.
    pub fn migrate_down(directory: &Path, to: usize) -> Result<(), OpenError> {
        let (place, _) = Place::prepare(directory)?;
        schema::migrate_down(&place, to)
    }

    /// Has a step carried out by the writer.
    async fn write<S: Step>(&self, step: S) -> Reply<S::Reply>
    where
        S::Reply: std::fmt::Debug,
    {
        self.write_from(&self.rooms.keeping, step).await
    }

    /// Has a step carried out by the writer, for one of those who wait in `room`.
    async fn write_from<S: Step>(&self, room: &Room, step: S) -> Reply<S::Reply>
    where
        S::Reply: std::fmt::Debug,
    {
        let permit = room.enter().await?;
        self.keeping.ensure_present()?;
        let (call, reply) = Call::new(step, permit);
        let sent = self.writer.try_send(Order::Run(Box::new(call)));
        sent.map_err(|_| closed())?;
        reply.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Looks at the database.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Db) -> Result<T, StepError> + Send + 'static,
    ) -> Reply<T> {
        let permit = self.rooms.looking.enter().await?;
        self.keeping.ensure_present()?;
        let reader = self.reader.as_ref().ok_or_else(closed)?;
        reader.look(permit, look).await
    }
}

impl Drop for SqliteBroker {
    fn drop(&mut self) {
        drop(self.writer.send(Order::Stop));
        self.keeping.stop();
        self.bell.stop();
        self.reader = None;
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(1);
        for thread in std::mem::take(&mut self.threads) {
            while !thread.is_finished() && waited < PATIENCE {
                backoff::rest(step);
                waited += step;
            }
            if thread.is_finished() {
                // A thread that panicked has said so already.
                drop(thread.join());
            }
        }
    }
}

fn closed() -> BrokerError {
    BrokerError::Away("the broker was closed".to_owned())
}

fn ended() -> BrokerError {
    BrokerError::Unavailable("the broker was closed before it answered".to_owned())
}

fn claim(place: &Place, options: &SqliteOptions) -> Result<Option<Alive>, OpenError> {
    let Some(worker) = &options.worker else {
        return Ok(None);
    };
    let locks = place.locks();
    match Alive::claim(&locks, worker) {
        Ok(Some(alive)) => Ok(Some(alive)),
        Ok(None) => Err(OpenError::WorkerInUse(worker.clone())),
        Err(error) => Err(OpenError::directory(&locks)(error)),
    }
}

/// What the threads are reached by.
struct Threads {
    board: Arc<Board>,
    keeping: Arc<Keeping>,
    bell: bells::Stop,
    reader: Reader,
    writer: SyncSender<Order>,
}

enum StartError {
    Open(OpenError),
    Io(std::io::Error),
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl Threads {
    fn start(
        place: &Place,
        options: &SqliteOptions,
        db: Db,
        sync: SyncLog,
    ) -> Result<(Vec<JoinHandle<()>>, Self), StartError> {
        let board = Arc::new(Board::default());
        let keeping = Arc::new(Keeping::default());
        keeping.set_tight(place.is_tight());
        let bell = Bell::hang(&place.bells())?;
        let stop = bell.stop()?;
        let ringer = Ringer::new(&place.bells(), bell.name())?;
        let looking = schema::connect(place, Role::Read)?;
        let (reader, reading) = Reader::spawn(looking, room::OF_EACH_KIND)?;
        let keeper = Keeper {
            db: schema::connect(place, Role::Keep)?,
            place: place.clone(),
            board: Arc::clone(&board),
            keeping: Arc::clone(&keeping),
        };
        let heard = Arc::clone(&keeping);
        let ringing = bells::spawn(bell, Arc::clone(&board), move || heard.look_everywhere())?;
        let mut threads = Vec::new();
        let mut syncer = None;
        if options.power_safe {
            let (started, syncing) = Syncer::spawn(place, room::STEPS, sync)?;
            syncer = Some(started);
            threads.push(syncing);
        }
        let writer = Writer {
            db,
            context: Context {
                boot: options.boot_id.clone(),
                locks: place.locks(),
                worker: options.worker.clone(),
                max_frame: options.max_frame,
            },
            clock: Arc::clone(&options.clock),
            board: Arc::clone(&board),
            ringer,
            syncer,
            keeping: Arc::clone(&keeping),
            busy_bound: options.busy_bound,
            data_version: 0,
            contended: 0,
            relieved: None,
        };
        // One place more than steps may be under way: for the order to stop.
        let (writer, writing) = writer::spawn(writer, room::STEPS + 1)?;
        // The writer ends first, then the syncer that it feeds.
        threads.insert(0, writing);
        threads.extend([keeper.spawn()?, ringing, reading]);
        let parts = Self {
            board,
            keeping,
            bell: stop,
            reader,
            writer,
        };
        Ok((threads, parts))
    }
}
