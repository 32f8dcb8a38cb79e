//! The domain of Celeriac: tasks, leases, retries, and the supervised actors that run them.
//!
//! This crate knows actix. It knows no Redis, no SQL, no HTTP, no environment and no command line: those are the
//! adapters of the crate `celeriac`.

pub mod envelope;
pub mod failure;
pub mod frame;
pub mod header;
pub mod ids;
pub mod lease;
pub mod letters;
pub mod ports;
pub mod state;
pub mod time;
