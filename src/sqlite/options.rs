//! What an embedded broker is opened with, and why opening fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::ids::WorkerId;
use celeriac_actors::time::Clock;

use crate::clock::{SystemClock, boot_id};

/// How an embedded broker is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The data directory; made where it is missing, for its owner only.
    pub directory: PathBuf,
    /// The process, when it is a worker: it proves its life with a lock file, and its death by losing it. `None` for
    /// a client.
    pub worker: Option<WorkerId>,
    /// Whether an acknowledged task survives a power cut, as opposed to the crash of processes only. Default yes.
    pub power_safe: bool,
    /// The largest frame that is taken, in bytes. Default 1 MiB.
    pub max_frame: usize,
    /// How long a step tries to get at a database that another process has locked. Default 2 s.
    pub busy_bound: Duration,
    /// The most pages the database may have; 0 leaves it to the disk. A page has 4 KiB.
    pub max_pages: u32,
    /// Where time comes from. Default the system.
    pub clock: Arc<dyn Clock>,
    /// Which boot the clock's time since boot belongs to. Default the machine's current one.
    pub boot_id: String,
}

impl SqliteOptions {
    /// Opens `directory` with every default.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            worker: None,
            power_safe: true,
            max_frame: 1 << 20,
            busy_bound: Duration::from_secs(2),
            max_pages: 0,
            clock: Arc::new(SystemClock),
            boot_id: boot_id(),
        }
    }

    /// Says which worker this process is.
    #[must_use]
    pub fn worker(mut self, worker: WorkerId) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Says whether acknowledged tasks survive a power cut.
    #[must_use]
    pub const fn power_safe(mut self, power_safe: bool) -> Self {
        self.power_safe = power_safe;
        self
    }

    /// Lives by `clock`, of the boot `boot_id`.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>, boot_id: impl Into<String>) -> Self {
        self.clock = clock;
        self.boot_id = boot_id.into();
        self
    }
}

/// Why an embedded broker could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be made, read or written.
    #[error("the data directory {path} cannot be used: {cause}")]
    Directory {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The data directory is on a network file system, where SQLite's locks do not hold.
    #[error(
        "the data directory {path} is on {kind}, where locks do not hold: put it on a local disk, or use Redis"
    )]
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// The file is a database of something else.
    #[error("{path} is the database of another program: choose another data directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The data was written by a newer version.
    #[error(
        "{path} has data version {found}, this program knows up to {known}: run the newer version, or migrate down with it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// The file is no database, or a damaged one.
    #[error("{path} is damaged or no database ({detail}): restore it or move it away")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// Another process, or another broker of this one, lives under the same worker id.
    #[error("worker {0} is alive already")]
    WorkerInUse(WorkerId),
    /// SQLite failed in another way.
    #[error("{path} cannot be opened: {detail}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
}

impl OpenError {
    /// Dresses an error of the system.
    pub(super) fn directory(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Directory { path, cause }
    }
}
