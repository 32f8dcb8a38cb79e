//! A look at a database from outside, for those who want to know whether it is well. Makes nothing, migrates nothing.

use std::path::Path;

use celeriac_actors::time::Timestamp;
use rustix::fs::Access;

use super::SqliteBroker;
use super::options::OpenError;
use super::place;
use super::schema::{self, APPLICATION};
use super::sql::Db;

/// What a look at the database of a data directory tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exam {
    /// The version of its form; 0 when it has no tables yet.
    pub version: i64,
    /// The newest version that this program knows.
    pub known: i64,
    /// What SQLite's quick check found wrong with it; empty when nothing is.
    pub damage: Vec<String>,
    /// The size of the database, in bytes.
    pub size: u64,
    /// The size of its write-ahead log, in bytes.
    pub log_size: u64,
    /// The newest instant in it, by the broker's clock; `None` when there is none or its form is not known.
    pub newest: Option<Timestamp>,
}

const NEWEST: &str = "SELECT max(at) FROM (SELECT max(seen_at) AS at FROM workers \
    UNION ALL SELECT max(reply) FROM channels UNION ALL SELECT max(buried_at) FROM dead_outbox)";

impl SqliteBroker {
    /// Returns what is doubtful about the file system of a directory that is there, as lines for people.
    ///
    /// # Errors
    /// [`OpenError::NetworkFileSystem`] when a broker must not be there.
    pub fn file_system_doubts(directory: &Path) -> Result<Vec<String>, OpenError> {
        place::doubts_about(directory)
    }

    /// Looks at the database of a data directory, without opening a broker; `None` when there is none.
    ///
    /// # Errors
    /// [`OpenError`] when it is there and cannot be read, or is no database of ours.
    pub fn examine(directory: &Path) -> Result<Option<Exam>, OpenError> {
        let path = directory.join("broker.db");
        let size = match std::fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::directory(&path)(error)),
        };
        place::may(&path, Access::READ_OK)?;
        let failed = |error: diesel::result::Error| schema::refused(&path, &error.to_string());
        let told = path.to_str().unwrap_or_default();
        let mut db =
            Db::connect(told).map_err(|error| schema::refused(&path, &error.to_string()))?;
        db.batch("PRAGMA query_only = ON; PRAGMA busy_timeout = 2000;")
            .map_err(failed)?;
        let (application, version, tables) = schema::marks(&mut db).map_err(failed)?;
        if application != APPLICATION && (application != 0 || tables > 0) {
            return Err(OpenError::Foreign { path });
        }
        let check = db.all("PRAGMA quick_check(10)", &[], |row| row.text(0));
        let damage = check.map_err(failed)?;
        let newest = match version == schema::known() {
            true => u64::try_from(db.number(NEWEST).map_err(failed)?).unwrap_or_default(),
            false => 0,
        };
        let log = std::fs::metadata(directory.join("broker.db-wal"));
        Ok(Some(Exam {
            version,
            known: schema::known(),
            damage: damage.into_iter().filter(|line| line != "ok").collect(),
            size,
            log_size: log.map_or(0, |found| found.len()),
            newest: (newest > 0).then(|| Timestamp::from_millis(newest)),
        }))
    }
}
