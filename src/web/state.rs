//! What requests work with: what is known from the start, and what is there once the tree is.

use std::sync::{Arc, OnceLock};

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ports::Broker;
use celeriac_actors::registry::Registry;
use celeriac_actors::time::Clock;
use slog::Logger;
use tokio::sync::{Semaphore, watch};

use super::events::Hub;
use super::problem::Problem;
use super::slowdown::Slowdown;
use super::tokens::Tokens;
use crate::admin::keeper::Keeper;
use crate::config::{Config, Effective};
use crate::runtime::Runtime;
use crate::store::Store;

/// How many requests of the API are carried out at once.
const AT_ONCE: usize = 64;

/// What is known before anything runs.
pub(crate) struct Ground {
    /// The configuration.
    pub(crate) config: Config,
    /// The configuration as it is shown: secrets are hidden.
    pub(crate) effective: Effective,
    /// The bounds of frames.
    pub(crate) limits: FrameLimits,
    /// Who keeps results.
    pub(crate) keeper: Keeper,
    /// Where time comes from.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where it logs.
    pub(crate) log: Logger,
}

/// What there is once the tree stands.
pub(crate) struct Work {
    /// The running tree.
    pub(crate) runtime: Arc<Runtime>,
    /// The broker.
    pub(crate) broker: Arc<dyn Broker>,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// The kinds of tasks that the program knows.
    pub(crate) registry: Registry,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) ground: Ground,
    pub(super) hosts: Vec<String>,
    pub(super) tokens: Tokens,
    pub(super) slowdown: Arc<Slowdown>,
    pub(super) hub: Arc<Hub>,
    /// Whether the process ends.
    pub(super) stopping: watch::Sender<bool>,
    pub(super) work: OnceLock<Work>,
    pub(super) permits: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(ground: Ground, hosts: Vec<String>, tokens: Tokens, hub: Arc<Hub>) -> Self {
        Self {
            ground,
            hosts,
            tokens,
            slowdown: Arc::default(),
            hub,
            stopping: watch::Sender::new(false),
            work: OnceLock::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Returns what there is once the tree stands.
    pub(super) fn work(&self) -> Result<&Work, Problem> {
        let starting = || Problem::new(503, "starting", "the daemon waits for its broker");
        self.work.get().ok_or_else(starting)
    }
}
