//! The monitor: reads what is known of the whole, from one process or fifty, and says how it is.
//!
//! What it judges by is in [`celeriac_actors::health`]; here is where the facts come from.

pub mod facts;
mod rates;

pub use facts::{Seen, Sources};
pub use rates::Rates;
