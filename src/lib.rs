//! Celeriac.

pub mod clock;
pub mod sqlite;
