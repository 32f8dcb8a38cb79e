//! What all attempts of a process share.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use slog::Logger;

use crate::blocking::BlockingPool;
use crate::breaker::Breakers;
use crate::frame::FrameLimits;
use crate::ids::WorkerId;
use crate::policy::ResultLimits;
use crate::ports::Isolation;
use crate::producer::Producer;
use crate::time::Clock;

/// What all attempts of a process share.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// The process.
    pub worker: WorkerId,
    /// Values that the program registered, one per type.
    pub state: AppState,
    /// Where blocking work runs.
    pub blocking: BlockingPool,
    /// The logger whose children attempts get.
    pub log: Logger,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What enqueues follow-up tasks.
    pub producer: Producer,
    /// The bounds of frames.
    pub limits: FrameLimits,
    /// The bounds of results.
    pub results: ResultLimits,
    /// The circuit breakers.
    pub breakers: Breakers,
    /// Runs attempts in processes of their own, where the program offers that.
    pub isolation: Option<Arc<dyn Isolation>>,
}

/// Values shared by all tasks of a program, one per type.
#[derive(Clone, Default)]
pub struct AppState {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl AppState {
    /// Adds a value; a second one of the same type replaces the first.
    pub fn insert<S: Send + Sync + 'static>(&mut self, value: S) {
        self.values.insert(TypeId::of::<S>(), Arc::new(value));
    }

    /// Returns the value of a type.
    #[must_use]
    pub fn get<S: Send + Sync + 'static>(&self) -> Option<&S> {
        self.values.get(&TypeId::of::<S>())?.downcast_ref()
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AppState({} values)", self.values.len())
    }
}

/// No value of this type was registered with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no state of type `{0}` is registered; add it with `App::state`")]
pub struct MissingState(pub(super) &'static str);
