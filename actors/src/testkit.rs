//! What tests of Celeriac, of its brokers and of tasks are made of: a strict broker in memory and a clock turned by hand.
//!
//! Behind the feature `testkit`; nothing in production code imports it.

mod manual_clock;
mod memory;

pub use manual_clock::ManualClock;
pub use memory::{Fault, MemoryBroker, Method};
