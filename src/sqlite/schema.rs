//! The database's form: its marks, its versions, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use super::backoff::Backoff;
use super::errors::{Trouble, is_busy, trouble};
use super::options::{OpenError, SqliteOptions};
use super::place::Place;
use super::sql::Db;

/// "Celr": says that a file is ours.
pub(super) const APPLICATION: i64 = 0x4365_6C72;

/// One step of the database's form, up and down.
struct Migration {
    up: &'static str,
    down: &'static str,
}

/// Every version, oldest first; `user_version` counts those that are in place. Only ever appended to.
const MIGRATIONS: [Migration; 2] = [
    Migration {
        up: include_str!("../../migrations/sqlite-broker/1_tables.up.sql"),
        down: include_str!("../../migrations/sqlite-broker/1_tables.down.sql"),
    },
    Migration {
        up: include_str!("../../migrations/sqlite-broker/2_held_back.up.sql"),
        down: include_str!("../../migrations/sqlite-broker/2_held_back.down.sql"),
    },
];

/// Returns the newest version that is known here.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// For the connection that writes: its pages stay in memory, it never checkpoints by itself.
const WRITING: &str = "PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;";
/// For connections that read now and then.
const READING: &str = "PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that writes.
    Write,
    /// Looking only.
    Read,
    /// Moving the log into the database.
    Keep,
}

/// Opens a further connection to a database that is in place.
pub(super) fn connect(place: &Place, role: Role) -> Result<Db, OpenError> {
    let path = place.database();
    let told = path.to_str().unwrap_or_default();
    let mut db = Db::connect(told).map_err(|error| refused(&path, &error.to_string()))?;
    let setup = match role {
        Role::Write => WRITING,
        Role::Read | Role::Keep => READING,
    };
    // Setting up reads the database, which another process may be making at this moment. Afterwards steps wait their
    // own way.
    let mut text = String::from(
        "PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL;",
    );
    text.push_str(setup);
    if role == Role::Read {
        text.push_str("PRAGMA query_only = ON;");
    }
    text.push_str("PRAGMA busy_timeout = 0;");
    db.batch(&text)
        .map_err(|error| refused(&path, &error.to_string()))?;
    Ok(db)
}

/// Opens the connection that writes, checks whose database it is, and brings it up to this version.
pub(super) fn establish(place: &Place, options: &SqliteOptions) -> Result<Db, OpenError> {
    let path = place.database();
    let failed = |error: diesel::result::Error| refused(&path, &error.to_string());
    let mut db = connect(place, Role::Write)?;
    let mut backoff = Backoff::new(options.busy_bound.max(Duration::from_secs(10)));
    loop {
        match prepare(&mut db, &path) {
            Ok(()) => break,
            Err(Attempt::Open(error)) => return Err(error),
            Err(Attempt::Sql(error)) if is_busy(&error) && backoff.pause() => {
                drop(db.batch("ROLLBACK"));
            }
            Err(Attempt::Sql(error)) => return Err(failed(error)),
        }
    }
    if options.max_pages > 0 {
        db.batch(&format!("PRAGMA max_page_count = {}", options.max_pages))
            .map_err(failed)?;
    }
    Ok(db)
}

enum Attempt {
    Open(OpenError),
    Sql(diesel::result::Error),
}

impl From<diesel::result::Error> for Attempt {
    fn from(error: diesel::result::Error) -> Self {
        Self::Sql(error)
    }
}

/// Returns whose database it is, its version, and how many things are in it.
///
/// All of one moment: another process may be making it, and half of that would look like somebody else's.
pub(crate) fn marks(db: &mut Db) -> diesel::QueryResult<(i64, i64, i64)> {
    db.batch("BEGIN")?;
    let application = db.number("PRAGMA application_id")?;
    let version = db.number("PRAGMA user_version")?;
    let tables = db.number("SELECT count(*) FROM sqlite_schema")?;
    db.batch("COMMIT")?;
    Ok((application, version, tables))
}

fn prepare(db: &mut Db, path: &Path) -> Result<(), Attempt> {
    let known = known();
    let (application, version, tables) = marks(db)?;
    let path = path.to_owned();
    if application != APPLICATION && (application != 0 || tables > 0) {
        return Err(Attempt::Open(OpenError::Foreign { path }));
    }
    if version > known {
        let found = version;
        return Err(Attempt::Open(OpenError::Newer { path, found, known }));
    }
    if version == known && application == APPLICATION {
        return Ok(());
    }
    db.batch("PRAGMA journal_mode = WAL")?;
    db.batch("BEGIN IMMEDIATE")?;
    // Another process may have migrated between the look above and the lock.
    let version = db.number("PRAGMA user_version")?;
    let pending = usize::try_from(version).unwrap_or_default();
    for migration in MIGRATIONS.iter().skip(pending) {
        db.batch(migration.up)?;
    }
    db.batch(&format!(
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {known}; COMMIT"
    ))?;
    Ok(())
}

/// Takes the database in `place` down to an earlier version; 0 removes every table.
///
/// # Errors
/// [`OpenError`] when it cannot be opened or another process uses it.
pub(super) fn migrate_down(place: &Place, to: usize) -> Result<(), OpenError> {
    let path = place.database();
    let failed = |error: diesel::result::Error| refused(&path, &error.to_string());
    let mut db = connect(place, Role::Write)?;
    let version = db.number("PRAGMA user_version").map_err(failed)?;
    let version = usize::try_from(version).unwrap_or_default();
    db.batch("BEGIN IMMEDIATE").map_err(failed)?;
    for migration in MIGRATIONS[..version.min(MIGRATIONS.len())]
        .iter()
        .skip(to)
        .rev()
    {
        db.batch(migration.down).map_err(failed)?;
    }
    db.batch(&format!("PRAGMA user_version = {to}; COMMIT"))
        .map_err(failed)
}

/// Dresses what SQLite said.
pub(super) fn refused(path: &Path, message: &str) -> OpenError {
    let (path, detail) = (path.to_owned(), message.to_owned());
    match trouble(message) {
        Trouble::Damaged => OpenError::Damaged { path, detail },
        Trouble::Unwritable if message.contains("I/O") || message.contains("full") => {
            let detail = format!("{detail}{}", room(path.parent().unwrap_or(&path)));
            OpenError::Sqlite { path, detail }
        }
        _ => OpenError::Sqlite { path, detail },
    }
}

/// Says how much room there is in a directory: SQLite calls a disk that is full while it opens a file an I/O error.
fn room(directory: &Path) -> String {
    match rustix::fs::statvfs(directory) {
        Ok(disk) => format!(
            "; is the disk full? {} MiB are free in {}",
            (disk.f_bavail.saturating_mul(disk.f_frsize)) >> 20,
            directory.display()
        ),
        Err(_) => "; is the disk full?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_may_be_full_is_said_with_its_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.db");
        for message in ["disk I/O error", "database or disk is full"] {
            let said = refused(&path, message).to_string();
            for part in [message, "is the disk full?", "MiB are free in", "broker.db"] {
                assert!(said.contains(part), "{said}");
            }
        }
        let said = refused(&path, "database is locked").to_string();
        assert!(!said.contains("full"), "{said}");
    }
}
