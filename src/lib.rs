//! Celeriac.

pub mod store;
