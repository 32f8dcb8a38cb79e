//! What tests of Celeriac, of its brokers and of tasks are made of: a strict broker in memory, a clock turned by hand,
//! and the suite that every broker passes.
//!
//! Behind the feature `testkit`; nothing in production code imports it.

pub mod conformance;
mod manual_clock;
mod memory;

pub use manual_clock::ManualClock;
pub use memory::{Fault, MemoryBroker, Method};

use memory::label;
