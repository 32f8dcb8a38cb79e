//! The pool of connections to whichever backend there is, and what the two have not in common.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
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
    Sqlite {
        pool: Pool<ConnectionManager<SqliteConnection>>,
        path: PathBuf,
    },
    #[cfg(feature = "postgres")]
    Postgres {
        pool: Pool<ConnectionManager<PgConnection>>,
        secrets: super::postgres::Secrets,
    },
}

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
                let pragmas = Pragmas {
                    busy: options.timeout / 2,
                };
                Ok(Self::Sqlite {
                    pool: pool(ConnectionManager::new(plain), Box::new(pragmas), options),
                    path: path.clone(),
                })
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

    /// Takes a connection, waiting at most the pool's timeout.
    pub(super) fn take(&self) -> Result<Live, StoreError> {
        match self {
            Self::Sqlite { pool, path } => {
                create_private(path).map_err(|error| cannot_create(path, &error))?;
                let connection = pool
                    .get()
                    .map_err(|error| no_connection(error.to_string()))?;
                Ok(Live::Sqlite(connection))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { pool, secrets } => {
                let scrubbed = |error: diesel::r2d2::PoolError| secrets.scrub(&error.to_string());
                let connection = pool.get().map_err(|error| no_connection(scrubbed(error)))?;
                Ok(Live::Postgres(connection))
            }
        }
    }
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
fn create_private(path: &std::path::Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn cannot_create(path: &std::path::Path, error: &io::Error) -> StoreError {
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
