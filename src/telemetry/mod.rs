//! Telemetry: the root logger. Lines go to standard error, as JSON or for people.
//!
//! A log call never waits: lines pass a bounded channel to a thread of their own, and what does not fit is dropped and
//! counted. A reader that has stalled blocks that thread alone; not even the end of the process waits for it longer
//! than it says. Control characters are escaped, so no name can forge a line. Payloads are never logged.
//!
//! ```no_run
//! # fn clock() -> std::sync::Arc<dyn celeriac_actors::time::Clock> { std::sync::Arc::new(celeriac::clock::SystemClock) }
//! # let config = celeriac::config::load(&celeriac::config::Sources::empty(std::num::NonZeroUsize::MIN));
//! # let config = config.into_result().unwrap();
//! use celeriac::telemetry::{keys, start};
//! use slog::{info, o};
//!
//! let (root, guard) = start(&config.log, clock())?;
//! let log = root.new(o!(keys::WORKER => "w-9f3a01c2"));
//! info!(log, "attempt started"; keys::QUEUE => "billing", keys::ATTEMPT => 1);
//! let written = guard.finish(std::time::Duration::from_secs(1));
//! # Ok::<(), std::io::Error>(())
//! ```

mod back;
pub(crate) mod escape;
mod format;
mod front;
pub mod keys;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use celeriac_actors::time::Clock;
use slog::{Drain, LevelFilter, Logger, o};
use slog_async::{AsyncCore, AsyncGuard};

use crate::config::{Color, LogConfig, LogFormat};
use back::Back;
use format::Line;
use front::Front;

/// How long dropping a [`LogGuard`] waits for lines that are not written yet.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Starts logging to standard error.
///
/// The logger writes until the guard is finished or dropped; keep the guard in `main`.
///
/// # Errors
/// The system's error when standard error cannot be duplicated.
///
/// # Panics
/// When the system refuses the log's thread.
pub fn start(config: &LogConfig, clock: Arc<dyn Clock>) -> io::Result<(Logger, LogGuard)> {
    let stderr = io::stderr();
    let color = match config.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => stderr.is_terminal(),
    };
    // A descriptor of our own: while our thread waits in a write, it must not hold the lock that every `eprintln!` and
    // every panic message of this process takes.
    let out = File::from(stderr.as_fd().try_clone_to_owned()?);
    Ok(start_to(out, color, config, clock))
}

/// Starts logging to any writer, in colour when `color` is set and the format is for people.
///
/// The writer is used by one thread and gets one call a line.
///
/// # Panics
/// When the system refuses the log's thread.
pub fn start_to<W: Write + Send + 'static>(
    out: W,
    color: bool,
    config: &LogConfig,
    clock: Arc<dyn Clock>,
) -> (Logger, LogGuard) {
    let dropped = Arc::new(AtomicU64::new(0));
    let line = Line::default();
    let format = match config.format {
        LogFormat::Json => format::json(&line),
        LogFormat::Term => format::term(&line, color),
    };
    let (core, guard) = AsyncCore::custom(Back::new(format, line, out, Arc::clone(&dropped)))
        .chan_size(config.buffer)
        .thread_name("celeriac-log".into())
        .build_with_guard();
    let front = Arc::new(Front::new(core, clock, dropped));
    let filtered = LevelFilter::new(Arc::clone(&front), config.level);
    let guard = LogGuard {
        front,
        guard: Some(guard),
    };
    (Logger::root(filtered.fuse(), o!()), guard)
}

/// Keeps the log's thread. Lines logged after its end are dropped.
pub struct LogGuard {
    front: Arc<Front>,
    guard: Option<AsyncGuard>,
}

impl LogGuard {
    /// Returns how many lines were lost so far: those that did not fit, and those that could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.front.dropped()
    }

    /// Writes what waits and ends the log; tells whether that was done within `limit`.
    ///
    /// After `false` the log's thread is left behind in its write, for the end of the process to take away.
    #[must_use = "lines may be lost when this is false"]
    pub fn finish(mut self, limit: Duration) -> bool {
        self.end(limit)
    }

    fn end(&mut self, limit: Duration) -> bool {
        let Some(guard) = self.guard.take() else {
            return true;
        };
        self.front.report();
        // Dropping the guard sends the last message and joins, both without a limit: a thread that may be left behind
        // does it. If it cannot be started, the guard must not be dropped here either.
        let guard = ManuallyDrop::new(guard);
        let (done, wait) = mpsc::sync_channel(1);
        let helper = thread::Builder::new().name("celeriac-log-end".into());
        let spawned = helper.spawn(move || {
            drop(ManuallyDrop::into_inner(guard));
            let _ = done.send(());
        });
        spawned.is_ok() && wait.recv_timeout(limit).is_ok()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.end(FLUSH_LIMIT);
    }
}
