//! Celeriac.

pub mod config;
