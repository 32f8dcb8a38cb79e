//! Celeriac.

#[cfg(feature = "client")]
pub mod clock;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "client")]
pub mod sqlite;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;
