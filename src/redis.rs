//! The Redis broker.

mod fault;
mod link;
