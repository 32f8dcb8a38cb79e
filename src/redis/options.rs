//! What a Redis broker is opened with, and why opening fails.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_actors::ids::WorkerId;

use super::url::{RedisUrl, UrlError};

/// How a Redis broker is opened.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Where the servers are, and how to log in.
    pub url: RedisUrl,
    /// The process, when it is a worker. `None` for a client.
    pub worker: Option<WorkerId>,
    /// Where results are kept, if not with the tasks. Workers take them there from the broker's server, where they are
    /// stored in the step that ends the task.
    pub results: Option<RedisUrl>,
    /// Whether a server that loses everything with its process will do. Default no.
    pub allow_volatile: bool,
    /// Whether a server that may throw keys away when its memory is full will do. Default no.
    pub allow_eviction: bool,
    /// The largest frame that is taken, in bytes. Default 1 MiB.
    pub max_frame: usize,
    /// How long one attempt to connect may take, login included. Default as the URL says, else 2 s.
    pub connect_timeout: Duration,
    /// How long a call may wait for a connection, and then again for its answer. Default as the URL says, else 2 s.
    pub timeout: Duration,
    /// Where to log. Default nowhere.
    pub log: slog::Logger,
}

impl RedisOptions {
    /// Opens the servers at `url` with every default.
    ///
    /// # Errors
    /// [`OpenError::Url`] when the text is no Redis URL.
    pub fn new(url: &str) -> Result<Self, OpenError> {
        Ok(Self::at(url.parse()?))
    }

    /// Opens the servers at `url` with every default.
    #[must_use]
    pub fn at(url: RedisUrl) -> Self {
        Self {
            connect_timeout: url.connect_timeout,
            timeout: url.timeout,
            url,
            worker: None,
            results: None,
            allow_volatile: false,
            allow_eviction: false,
            max_frame: 1 << 20,
            log: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }

    /// Keeps everything under another namespace than the URL's.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.url.namespace = namespace.into();
        self
    }

    /// Says which worker this process is.
    #[must_use]
    pub fn worker(mut self, worker: WorkerId) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Says where results are kept, if not with the tasks.
    #[must_use]
    pub fn results(mut self, url: RedisUrl) -> Self {
        self.results = Some(url);
        self
    }

    /// Says whether a server that loses everything with its process will do.
    #[must_use]
    pub const fn allow_volatile(mut self, allow: bool) -> Self {
        self.allow_volatile = allow;
        self
    }

    /// Says whether a server that may throw keys away will do.
    #[must_use]
    pub const fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Logs to `log`.
    #[must_use]
    pub fn log(mut self, log: slog::Logger) -> Self {
        self.log = log;
        self
    }
}

/// Why a Redis broker could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The text is no Redis URL.
    #[error("the broker's URL cannot be used: found {0}")]
    Url(#[from] UrlError),
    /// A file that the URL names cannot be read or used.
    #[error("{path} cannot be used: {detail}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No server answered.
    #[error("the broker is away: {0}")]
    Away(String),
    /// A server refused the login.
    #[error("{0}")]
    Login(String),
    /// The user may not do what a broker has to.
    #[error("{0}")]
    Denied(String),
    /// The server is of another kind than the URL says, such as a replica or a sentinel.
    #[error("{0}")]
    Kind(String),
    /// The server is too old.
    #[error("{node} runs Redis {found}: 7.0 or later is needed")]
    Old {
        /// Which server.
        node: String,
        /// The version found.
        found: String,
    },
    /// The server may throw tasks away.
    #[error(
        "{node} may throw tasks away: maxmemory is set and maxmemory-policy is {policy}; set it to `noeviction`, or allow \
         it with `redis.allow_eviction = true`"
    )]
    Evicts {
        /// Which server.
        node: String,
        /// The policy found.
        policy: String,
    },
    /// The data were written by another version.
    #[error(
        "the data under the namespace {namespace:?} have the form {found}, this version knows 1: run the version that wrote \
         them, or take another `namespace`"
    )]
    Form {
        /// Under which namespace.
        namespace: String,
        /// The form found.
        found: String,
    },
    /// The server loses tasks with its process.
    #[error(
        "{node} keeps tasks in memory only: set `appendonly yes`, or accept that a restart loses them with \
         `redis.allow_volatile = true`"
    )]
    Volatile {
        /// Which server.
        node: String,
    },
    /// The system gave this process no thread or runtime to connect with.
    #[error("nothing can be started to connect with: {0}")]
    Thread(#[from] std::io::Error),
}

impl OpenError {
    /// Returns whether the reason may go away by itself, as opposed to waiting for somebody's decision.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Thread(_))
    }
}
