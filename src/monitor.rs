//! The monitor: reads what is known of the whole, from one process or fifty, and says how it is.
//!
//! What it judges by is in [`celeriac_actors::health`]; here is where the facts come from.

pub mod facts;
mod minutes;
pub mod prometheus;
mod rates;
mod service;

pub use facts::{Seen, SeenWorker, Sources, board};
pub use minutes::{Gap, GapCause, Minutes};
pub use rates::{Rate, Rates};
pub use service::{Monitor, MonitorOptions};

pub(crate) use service::{MonitorSetup, OwnFigures};
