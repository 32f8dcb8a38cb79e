//! Tests against servers of their own; each is left out where `redis-server` is not installed.

mod boot;
mod cluster;
mod follow;
mod sentinel;
mod servers;
mod single;
