//! The domain of Celeriac: tasks, leases, retries, and the supervised actors that run them.
//!
//! This crate knows actix. It knows no Redis, no SQL, no HTTP, no environment and no command line: those are the
//! adapters of the crate `celeriac`.

pub mod attempt;
pub mod backoff;
pub mod blocking;
pub mod child;
pub mod context;
pub mod envelope;
pub mod execution;
pub mod failure;
mod flight;
pub mod frame;
pub mod header;
pub mod ids;
pub mod intensity;
pub mod lane;
pub mod lease;
pub mod outage;
pub mod panics;
pub mod permits;
pub mod policy;
pub mod ports;
pub mod producer;
pub mod reference;
pub mod route;
mod runner;
pub mod state;
pub mod supervisor;
mod table;
pub mod task;
pub mod time;
