//! The pool of connections to whichever backend there is, and what the two have not in common.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::StoreError;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{
    ConnectionManager, CustomizeConnection, Error, NopErrorHandler, Pool, PooledConnection,
    R2D2Connection,
};

use super::StoreOptions;
use super::fault::{Fault, no_connection};
use super::url::Place;

/// The pool.
pub(super) enum Connections {
    Sqlite(Files),
    #[cfg(feature = "postgres")]
    Postgres {
        pool: Pool<ConnectionManager<PgConnection>>,
        secrets: super::postgres::Secrets,
    },
}

/// Connections to a file, all of one and the same: they end with it when it is removed or replaced.
pub(super) struct Files {
    path: PathBuf,
    /// The path as SQLite takes it.
    plain: String,
    options: StoreOptions,
    current: Mutex<Current>,
}

/// What is connected to now.
struct Current {
    pool: Pool<ConnectionManager<SqliteConnection>>,
    /// The file its connections opened; `None` before the first.
    file: Option<FileId>,
}

/// Which file a path led to: its device and its number there.
pub(super) type FileId = (u64, u64);

/// One connection of the pool.
pub(super) enum Live {
    Sqlite(PooledConnection<ConnectionManager<SqliteConnection>>),
    #[cfg(feature = "postgres")]
    Postgres(PooledConnection<ConnectionManager<PgConnection>>),
}

/// Runs one body on whichever connection there is; inside it the second name is the backend's type.
macro_rules! on_either {
    ($live:expr, |$connection:ident| $body:expr) => {
        match $live {
            $crate::store::connections::Live::Sqlite($connection) => $body,
            #[cfg(feature = "postgres")]
            $crate::store::connections::Live::Postgres($connection) => $body,
        }
    };
    ($live:expr, |$connection:ident: $backend:ident| $body:expr) => {
        match $live {
            $crate::store::connections::Live::Sqlite($connection) => {
                type $backend = diesel::sqlite::Sqlite;
                $body
            }
            #[cfg(feature = "postgres")]
            $crate::store::connections::Live::Postgres($connection) => {
                type $backend = diesel::pg::Pg;
                $body
            }
        }
    };
}
pub(super) use on_either;

/// What the backends do differently around the same queries.
pub(super) trait Dialect: Connection {
    /// Runs `step` in a transaction that will write.
    fn writing<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault>;

    /// Runs `step` in a transaction whose queries see one and the same state.
    fn snapshot<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>)
    -> Result<T, Fault>;

    /// Runs `step` in a transaction that at most one process is in.
    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault>;

    /// Keeps other processes from writing to a table for the rest of the transaction.
    fn one_writer(&mut self, table: &'static str) -> Result<(), Fault>;

    /// Finds out whether the store takes writes, and writes nothing.
    fn probe(&mut self) -> Result<(), Fault>;

    /// Returns whether parameters of a query in text are `$1`, `$2`, … instead of `?`.
    fn numbers_parameters(&self) -> bool;

    /// Returns whether a table exists.
    fn has_table(&mut self, name: &str) -> QueryResult<bool>;
}

impl Connections {
    /// Prepares a pool without connecting.
    pub(super) fn new(place: &Place, options: &StoreOptions) -> Result<Self, StoreError> {
        match place {
            Place::Sqlite(path) => {
                let Some(text) = path.to_str() else {
                    return Err(StoreError::Refused(format!(
                        "the path {} is not UTF-8",
                        path.display()
                    )));
                };
                // SQLite takes what starts with `file:` for a URI of its own.
                let plain = if path.is_absolute() {
                    text.to_owned()
                } else {
                    format!("./{text}")
                };
                Ok(Self::Sqlite(Files::new(path.clone(), plain, *options)))
            }
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => {
                let manager =
                    ConnectionManager::new(super::postgres::with_timeouts(url, options.timeout));
                let session = super::postgres::Session {
                    timeout: options.timeout,
                };
                Ok(Self::Postgres {
                    pool: pool(manager, Box::new(session), options),
                    secrets: super::postgres::Secrets::of(url),
                })
            }
            #[cfg(not(feature = "postgres"))]
            Place::Postgres(_) => Err(StoreError::Schema(
                "this program was built without PostgreSQL: build it with `--features postgres`"
                    .to_owned(),
            )),
        }
    }

    /// Takes a connection, waiting at most the pool's timeout; for a file says also which one it is.
    pub(super) fn take(&self) -> Result<(Live, Option<FileId>), StoreError> {
        match self {
            Self::Sqlite(files) => {
                let (pool, file) = files.current()?;
                let connection = pool
                    .get()
                    .map_err(|error| no_connection(error.to_string()))?;
                Ok((Live::Sqlite(connection), Some(file)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { pool, secrets } => {
                let scrubbed = |error: diesel::r2d2::PoolError| secrets.scrub(&error.to_string());
                let connection = pool.get().map_err(|error| no_connection(scrubbed(error)))?;
                Ok((Live::Postgres(connection), None))
            }
        }
    }

    /// Checks that what a step did on `file` is where its path leads.
    pub(super) fn confirm(&self, file: Option<FileId>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(files) if found(&files.path)? != file => {
                files.renew(&mut files.lock());
                Err(replaced(&files.path))
            }
            _ => Ok(()),
        }
    }
}

impl Files {
    fn new(path: PathBuf, plain: String, options: StoreOptions) -> Self {
        let current = Mutex::new(Current {
            pool: Self::pool(&plain, &options),
            file: None,
        });
        Self {
            path,
            plain,
            options,
            current,
        }
    }

    fn pool(plain: &str, options: &StoreOptions) -> Pool<ConnectionManager<SqliteConnection>> {
        let pragmas = Pragmas {
            busy: options.timeout / 2,
        };
        pool(ConnectionManager::new(plain), Box::new(pragmas), options)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of every connection: the next step opens whatever file the path then leads to.
    fn renew(&self, current: &mut Current) {
        *current = Current {
            pool: Self::pool(&self.plain, &self.options),
            file: None,
        };
    }

    /// Returns the pool of the file that the path leads to, making the file where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], once, when it is not the file any more that was open.
    fn current(&self) -> Result<(Pool<ConnectionManager<SqliteConnection>>, FileId), StoreError> {
        let mut current = self.lock();
        if current.file.is_some() && found(&self.path)? != current.file {
            self.renew(&mut current);
            return Err(replaced(&self.path));
        }
        if current.file.is_none() {
            create_private(&self.path).map_err(|error| cannot_create(&self.path, &error))?;
            current.file = found(&self.path)?;
        }
        let file = current.file.ok_or_else(|| replaced(&self.path))?;
        Ok((current.pool.clone(), file))
    }
}

/// Returns which file is at `path`, if there is one.
fn found(path: &Path) -> Result<Option<FileId>, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(id_of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_create(path, &error)),
    }
}

#[cfg(unix)]
fn id_of(metadata: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere a file that is open can be neither removed nor replaced.
#[cfg(not(unix))]
fn id_of(_: &std::fs::Metadata) -> FileId {
    (0, 0)
}

fn replaced(path: &Path) -> StoreError {
    StoreError::Unavailable(format!(
        "{} was removed or replaced while it was open",
        path.display()
    ))
}

fn pool<C: R2D2Connection + 'static>(
    manager: ConnectionManager<C>,
    customizer: Box<dyn CustomizeConnection<C, Error>>,
    options: &StoreOptions,
) -> Pool<ConnectionManager<C>> {
    Pool::builder()
        .max_size(options.connections.max(1))
        .min_idle(Some(0))
        .idle_timeout(Some(Duration::from_secs(60)))
        .connection_timeout(options.timeout)
        .connection_customizer(customizer)
        // Failures are returned to whoever asked and logged there; r2d2 would write them to the `log` crate.
        .error_handler(Box::new(NopErrorHandler))
        .build_unchecked(manager)
}

/// Makes sure that the file is there and that only its owner may read it: dead letters hold arguments.
fn create_private(path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn cannot_create(path: &Path, error: &io::Error) -> StoreError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};

    let text = format!("{}: {error}", path.display());
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem | StorageFull | QuotaExceeded => {
            StoreError::Refused(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

/// What every connection to SQLite is told. The journal mode is not among it: it belongs to the file and is set by
/// the migrations, so that connecting never writes.
#[derive(Debug)]
struct Pragmas {
    busy: Duration,
}

impl CustomizeConnection<SqliteConnection, Error> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), Error> {
        // FULL: a dead letter leaves the broker when it is here, so a power cut must not take it back.
        let pragmas = format!(
            "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864;",
            self.busy.as_millis()
        );
        connection
            .batch_execute(&pragmas)
            .map_err(Error::QueryError)
    }
}

impl Dialect for SqliteConnection {
    fn writing<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        // Immediate: a transaction that starts by reading cannot wait for the writer any more.
        self.immediate_transaction(step)
    }

    fn snapshot<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.transaction(step)
    }

    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.batch_execute("PRAGMA journal_mode = WAL")?;
        self.exclusive_transaction(step)
    }

    fn one_writer(&mut self, _: &'static str) -> Result<(), Fault> {
        // Whoever writes at all is alone.
        Ok(())
    }

    fn probe(&mut self) -> Result<(), Fault> {
        // Taking the lock of the one writer is the part of a write that fails; nothing is left of it.
        self.immediate_transaction(|_| Ok(()))
    }

    fn numbers_parameters(&self) -> bool {
        false
    }

    fn has_table(&mut self, name: &str) -> QueryResult<bool> {
        use diesel::dsl::sql;
        use diesel::sql_types::{Bool, Text};

        diesel::select(
            sql::<Bool>("EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ")
                .bind::<Text, _>(name)
                .sql(")"),
        )
        .get_result(self)
    }
}
