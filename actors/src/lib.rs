//! The domain of Celeriac: tasks, leases, retries, and the supervised actors that run them.
//!
//! This crate knows actix. It knows no Redis, no SQL, no HTTP, no environment and no command line: those are the
//! adapters of the crate `celeriac`.

pub mod activity;
pub mod asked;
pub mod attempt;
pub mod backoff;
pub mod blocking;
pub mod breaker;
pub mod budget;
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
pub mod hooks;
pub mod ids;
pub mod intensity;
pub mod isolated;
pub mod lane;
pub mod lease;
pub mod letters;
mod line;
pub mod messages;
pub mod middleware;
pub mod misfit;
pub mod mode;
pub mod outage;
pub mod panics;
pub mod permits;
pub mod policy;
pub mod ports;
pub mod producer;
pub mod progress;
mod pump;
pub mod redact;
pub mod reference;
pub mod registry;
mod retries;
mod retry_scheduler;
pub mod revival;
pub mod revocation;
pub mod route;
mod runner;
pub mod service;
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
