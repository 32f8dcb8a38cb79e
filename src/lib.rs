//! Celeriac.

#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;
