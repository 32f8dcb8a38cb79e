//! The store: dead letters, snapshots and the audit, kept in SQLite or PostgreSQL through Diesel.
//!
//! The store is a record for people. It never decides what runs: when it is away, tasks go on and dead ones wait in the
//! broker. Nothing of Diesel leaves this folder: rows are private and become domain types on their way out, errors
//! become [`StoreError`](celeriac_actors::ports::StoreError). Calls block, so they run on the store's own threads; the facade is async on any runtime.
//!
//! One body of queries serves both backends: `on_either!` compiles it once for each connection type.

mod audit;
mod changes;
mod clusters;
mod connections;
mod facade;
mod fault;
mod letters;
mod lines;
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod schema;
mod snapshots;
mod stats;
mod threads;
mod url;

pub use audit::{AuditEntry, AuditRecord};
pub use facade::{Store, StoreOptions};
pub use lines::{LetterBatch, LetterLine, LineError};
pub use migrations::MigrationStatus;
pub use url::{StoreUrl, StoreUrlError};
