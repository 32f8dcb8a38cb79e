//! Celeriac.

pub mod config;
pub mod telemetry;
