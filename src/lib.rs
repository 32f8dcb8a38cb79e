//! Celeriac: a supervised background-task runtime.
//!
//! Tasks are values. A program says what they are and what runs them; the runtime takes them from queues, runs them in
//! supervised actors, retries what fails, rescues what gets stuck, and keeps what dies. Delivery is at least once, so
//! tasks are idempotent.
//!
//! ```
//! # #[cfg(feature = "runtime")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use celeriac::policy::{Policy, minutes, seconds};
//! use celeriac::producer::EnqueueOptions;
//! use celeriac::runtime::{Runtime, RuntimeOptions};
//! use celeriac::{App, Attempt, Task};
//! use serde::{Deserialize, Serialize};
//!
//! // A task: its name is stored, its fields are its arguments.
//! #[derive(Serialize, Deserialize)]
//! struct Greet {
//!     name: String,
//! }
//!
//! impl Task for Greet {
//!     const NAME: &'static str = "hello.greet";
//!     type Output = String;
//!     fn policy() -> Policy {
//!         Policy::default().max_attempts(3).hard_limit(minutes(1))
//!     }
//! }
//!
//! // What runs it: an async function here, an actor with state where it needs some (`App::actor`).
//! let app = App::new()
//!     .task(|greet: Attempt<Greet>| async move { Ok(format!("Hello, {}!", greet.args.name)) });
//!
//! // The runtime on the embedded broker, on threads of its own; any program can hold one.
//! let directory = tempfile::tempdir()?;
//! let runtime = Runtime::start(app, RuntimeOptions::embedded(directory.path())?)?;
//!
//! let client = runtime.client().sync()?;
//! let handle = client.enqueue(&Greet { name: "celery".into() }, EnqueueOptions::default())?;
//! assert_eq!(client.wait::<Greet>(&handle, seconds(10))?, "Hello, celery!");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "runtime"))]
//! # fn main() {}
//! ```
//!
//! Where to look:
//!
//! - [`task`](mod@task), [`attempt`], [`context`], [`policy`]: what tasks are written with.
//! - `app`, `runtime` (feature `runtime`): a program's tasks, and what runs them.
//! - `client` (feature `client`): enqueueing and waiting, without a runtime.
//! - `cli` (feature `daemon`): the daemon and its commands, for a binary of one's own.
//! - `database` (feature `transactions`, which `runtime` includes): transactions of the program's own database, and its outbox.
//! - `sqlite`, `store`: the embedded broker; dead letters.
//! - `spool` (feature `client`): enqueueing while the broker is away.
//! - [`supervisor`], [`child`], [`reference`](mod@reference): supervision, for actors of one's own.
//! - `testkit` (feature `testkit`): a broker in memory, a manual clock, a rig, the conformance suite for brokers.

#[cfg(feature = "daemon")]
mod admin;
#[cfg(feature = "runtime")]
pub mod app;
#[cfg(feature = "daemon")]
mod base64;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod clock;
#[cfg(feature = "runtime")]
pub mod command;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "transactions")]
pub mod database;
#[cfg(feature = "runtime")]
mod exits;
#[cfg(feature = "runtime")]
pub mod isolation;
#[cfg(feature = "client")]
pub mod late;
#[cfg(feature = "daemon")]
mod look;
#[cfg(feature = "runtime")]
pub mod monitor;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "client")]
pub mod spool;
#[cfg(feature = "client")]
pub mod sqlite;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(any(feature = "daemon", feature = "redis"))]
mod suggest;
#[cfg(feature = "daemon")]
pub mod telemetry;
#[cfg(feature = "daemon")]
mod web;

#[cfg(feature = "runtime")]
pub use app::App;
#[cfg(feature = "testkit")]
pub use celeriac_actors::testkit;
pub use celeriac_actors::{
    attempt, backoff, breaker, budget, child, context, events, explain, failure, fingerprint,
    frame, health, hooks, ids, intensity, measure, middleware, misfit, mode, permits, policy,
    ports, producer, redact, reference, registry, retention, revival, revocation, route, state,
    supervisor, task, time, tree, workshop,
};
pub use celeriac_actors::{
    attempt::Attempt,
    task::{Task, TaskError},
};

/// Runs the code of the guide for tests.
#[cfg(all(doctest, feature = "runtime", feature = "testkit"))]
#[doc = include_str!("../docs/testing.md")]
pub struct TestingGuide;
