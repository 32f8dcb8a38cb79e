//! Isolated attempts: child processes of the running program, spawned ahead and reused, one attempt at a time each.
//!
//! A child runs the same program with the same tasks. It is given an attempt over a socket and answers with its end; what
//! it writes becomes log lines of the attempt. What kills it harms nothing else: its death is the end of that attempt,
//! told with exit status, peak memory and last lines. A child dies with its worker, however that ends (on Linux at once,
//! elsewhere when it next looks).
//!
//! A program gets there through [`enter`] at the top of its `main`; [`cli::main`](crate::cli::main) does so by itself.

mod adding;
mod child;
mod connection;
mod entry;
mod hatch;
mod keeper;
mod loan;
mod mail;
mod nestling;
mod nursery;
mod output;
mod serve;
mod wire;

use std::io;
use std::num::NonZero;
use std::sync::Arc;

use celeriac_actors::ids::TaskName;
use celeriac_actors::mode::Mode;
use celeriac_actors::ports::Isolation;
use celeriac_actors::registry::Registry;
use slog::{Drain as _, Level};

use crate::runtime::{RuntimeOptions, host_name};

pub use self::entry::{enter, is_entered};
pub use self::nursery::Nursery;

pub(crate) use self::nestling::memory;
#[cfg(feature = "daemon")]
pub(crate) use self::{entry::Newborn, hatch::own_program};

/// How attempts are isolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationOptions {
    /// How many children there are at most, and so how many isolated attempts run at once. Default one for each core, at
    /// least two.
    pub children: usize,
    /// How many attempts a child runs before a fresh one takes its place; `None` is no bound. Default none.
    pub max_tasks_per_child: Option<u64>,
    /// How much memory a child may have after an attempt, in bytes; one that has more is replaced. Default no bound.
    pub max_memory_per_child: Option<u64>,
    /// How much address space a child may have at any time, in bytes: what it asks for beyond that it does not get, of
    /// which most programs die. Default no bound.
    pub memory_limit: Option<u64>,
    /// By how much the priority of children is lower than the worker's, 0 to 19. Default 10.
    pub nice: u8,
    /// Whether children know the demo tasks too.
    pub demo: bool,
}

impl Default for IsolationOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self {
            children: cores.max(2),
            max_tasks_per_child: None,
            max_memory_per_child: None,
            memory_limit: None,
            nice: 10,
            demo: false,
        }
    }
}

/// Opens the children of a runtime, in a program that offers them; they are started ahead where a task needs them.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn open(
    options: &RuntimeOptions,
    registry: &Registry,
) -> io::Result<Option<Arc<dyn Isolation>>> {
    if !is_entered() {
        return Ok(None);
    }
    let levels = [
        Level::Critical,
        Level::Error,
        Level::Warning,
        Level::Info,
        Level::Debug,
        Level::Trace,
    ];
    let is_logged = |level: &&Level| options.log.is_enabled(**level);
    let level = levels.iter().rfind(is_logged);
    let (frames, results) = (options.limits, options.results);
    let hello = wire::Hello {
        worker: options.worker.clone(),
        frames: (frames.max_frame, frames.max_body, frames.max_depth),
        results: (celeriac_actors::time::millis(results.ttl), results.max_size),
        routes: options
            .routes
            .iter()
            .map(|route| (route.task.clone(), route.queue.clone()))
            .collect(),
        blocking_threads: options.blocking_threads,
        level: level.copied().unwrap_or(Level::Critical).as_usize(),
        nice: options.isolation.nice,
        memory_limit: options.isolation.memory_limit,
        demo: options.isolation.demo,
    };
    let isolated = |task: &TaskName| registry.mode_of(task) == Some(Mode::Isolated);
    let ahead = registry.names().any(isolated);
    let place = (host_name(), options.log.clone());
    let nursery = Nursery::open(options.isolation.clone(), hello, place, ahead)?;
    Ok(Some(Arc::new(nursery)))
}
