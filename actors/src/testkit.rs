//! What tests of Celeriac, of its brokers and of tasks are made of: a strict broker and a store in memory, clocks, the
//! suite that every broker passes, and the rig, which runs the whole tree on all of that.
//!
//! Behind the feature `testkit`; nothing in production code imports it.

pub mod conformance;
mod manual_clock;
mod memory;
mod probe;
mod rig;
mod running_clock;
mod store;
mod trial;

pub use manual_clock::ManualClock;
pub use memory::{Fault, MemoryBroker, Method};
pub use probe::{End, Event, PATIENCE, Probe};
pub use rig::{Rig, RigBuilder, failure, output};
pub use running_clock::RunningClock;
pub use store::MemoryStore;
pub use trial::{Enqueued, EnqueuedTask, Trial, Tried};

use memory::label;
