//! The domain of Celeriac: tasks, leases, retries, and the supervised actors that run them.
//!
//! This crate knows actix. It knows no Redis, no SQL, no HTTP, no environment and no command line: those are the
//! adapters of the crate `celeriac`.

pub mod activity;
pub mod attempt;
pub mod backoff;
pub mod blocking;
pub mod child;
mod consumer;
pub mod context;
pub mod copy;
mod dead_letter;
mod dispatch;
pub mod envelope;
pub mod events;
pub mod execution;
pub mod failure;
pub mod fence;
mod flight;
pub mod foreign;
pub mod frame;
pub mod header;
pub mod herald;
pub mod ids;
pub mod intensity;
pub mod isolated;
pub mod lane;
pub mod lease;
pub mod letters;
mod line;
pub mod messages;
pub mod mode;
pub mod outage;
pub mod panics;
pub mod permits;
pub mod policy;
pub mod ports;
pub mod producer;
mod pump;
pub mod reference;
pub mod registry;
mod retry_scheduler;
pub mod revival;
pub mod route;
mod runner;
pub mod state;
pub mod supervisor;
mod table;
pub mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod tree;
mod waker;
mod watchdog;
pub mod workshop;
