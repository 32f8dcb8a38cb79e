//! Circuit breakers: what fails again and again is left alone for a while, and the tasks that need it wait unharmed.
//!
//! A breaker is closed (calls pass, and their ends are counted), open (nothing passes until a time), or half-open (one
//! attempt of the whole cluster probes whether all is well again). Each process counts what it sees itself, and keeps a
//! copy of where the breakers stand; changes are made by compare-and-set of one value that all workers of the broker
//! share, the [`Board`]. Between changes nobody asks the broker but the keeper, once a second, so that the way through
//! a closed breaker is a few reads of memory.
//!
//! Invariants: at most one probe holds the breaker at a time, by the broker's word; a probe whose worker dies loses it by
//! time; an end that belongs to an earlier stand of the breaker counts for nothing; a task that is parked uses up no
//! attempt.

mod board;
mod breakers;
mod handle;
pub(crate) mod keeper;
mod local;
mod overrides;
mod policy;
mod record;
mod slots;
#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests;
mod window;

pub use board::{Board, BoardError, MAX_BREAKERS};
pub use breakers::{BreakerView, Breakers};
pub use handle::{BreakerError, BreakerHandle, BreakerOpen, Passage};
pub use overrides::BreakerOverride;
pub use policy::BreakerPolicy;
pub use record::{BreakerRecord, BreakerState};

pub(crate) use breakers::{Admit, Rules};
pub(crate) use handle::park_of;
pub(crate) use slots::{Slots, landed, probing};
