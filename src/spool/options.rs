//! What a spool is opened with, why opening fails, and what is seen of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use celeriac_actors::time::{Clock, Timestamp};

use super::book::Bounds;
use crate::clock::SystemClock;

/// How a spool is opened.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its file; made where it is missing, with its directory, for their owner only. One file for one broker.
    pub path: PathBuf,
    /// The most bytes that may wait in it, 64 for each task included. Default 1 GiB.
    pub max_bytes: u64,
    /// The most tasks that may wait in it. Default 1,000,000.
    pub max_tasks: u64,
    /// Where time comes from. Default the system.
    pub clock: Arc<dyn Clock>,
    /// Where to log. Default nowhere.
    pub log: slog::Logger,
}

impl SpoolOptions {
    /// Opens the file at `path` with every default.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 1 << 30,
            max_tasks: 1_000_000,
            clock: Arc::new(SystemClock),
            log: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }

    /// Bounds what waits in it to so many bytes.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bounds what waits in it to so many bytes, and to a million tasks for each GiB of them, at least a thousand.
    #[must_use]
    pub fn bounded(self, bytes: u64) -> Self {
        let tasks = u128::from(bytes) * 1_000_000 / (1 << 30);
        let tasks = u64::try_from(tasks).unwrap_or(u64::MAX).max(1_000);
        self.max_bytes(bytes).max_tasks(tasks)
    }

    /// Bounds what waits in it to so many tasks.
    #[must_use]
    pub const fn max_tasks(mut self, tasks: u64) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// Logs to `log`.
    #[must_use]
    pub fn log(mut self, log: slog::Logger) -> Self {
        self.log = log;
        self
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds {
            tasks: self.max_tasks,
            bytes: self.max_bytes,
        }
    }
}

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its file or directory cannot be made, read or written.
    #[error("the spool {path} cannot be used: {cause}")]
    File {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is on a network file system, where locks do not hold.
    #[error("the spool {path} cannot be used: {reason}")]
    FileSystem {
        /// Its file.
        path: PathBuf,
        /// What is wrong with the place.
        reason: String,
    },
    /// The file is somebody else's.
    #[error("{path} is not a spool: name another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was made by a newer version.
    #[error("the spool {path} has version {found}, this program knows {known}: run a newer one")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest one known.
        known: i64,
    },
    /// SQLite cannot use it.
    #[error("the spool {path} cannot be used: {detail}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, cause }
    }

    pub(super) fn sqlite(path: &Path, said: &dyn fmt::Display) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            detail: said.to_string(),
        }
    }
}

/// What is in a spool.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SpoolStatus {
    /// How many tasks wait for the broker.
    pub tasks: u64,
    /// How many bytes they take, against the bound.
    pub bytes: u64,
    /// When the oldest of them came.
    pub oldest: Option<Timestamp>,
    /// How many tasks the broker rejected for good; they are kept in the file's table `rejected`.
    pub rejected: u64,
}
