//! Celeriac: a supervised background-task runtime.

#[cfg(feature = "runtime")]
pub mod app;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod clock;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "client")]
pub mod sqlite;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;

#[cfg(feature = "runtime")]
pub use app::App;
#[cfg(feature = "testkit")]
pub use celeriac_actors::testkit;
pub use celeriac_actors::{
    attempt, child, context, events, failure, frame, ids, intensity, permits, policy, ports,
    producer, reference, revival, route, state, supervisor, task, time, tree, workshop,
};
pub use celeriac_actors::{
    attempt::Attempt,
    task::{Task, TaskError},
};
