//! Measuring, always on: what happened to each kind of task in this process, and how long it took.
//!
//! Every consumer counts into a meter of its own: only its thread writes there, so that counting is a load and a store, and
//! never a locked instruction or a shared line of the cache. Whoever wants figures adds the meters up. What a consumer
//! counted stays when it ends. The kinds are those the program knows; whatever else is met counts as [`OTHER`], so that
//! nobody can make up labels from outside.

mod histogram;
mod meter;

pub use histogram::{BOUNDS_US, Spread};
pub use meter::{KindFigures, Meters, OTHER, Sum};

pub(crate) use meter::{Fate, Meter};
