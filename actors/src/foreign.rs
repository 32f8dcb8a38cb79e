//! Tasks that are no Rust types, registered by name with [`Registry::foreign`](crate::registry::Registry::foreign).

pub use crate::runner::{ForeignAttempt, ForeignError};
