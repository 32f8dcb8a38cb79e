//! Ports for the servers that tests start.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// How often a server is started anew, on other ports, before its test fails: another process may take a port between
/// the look at it and the start.
pub(crate) const STARTS: usize = 20;

/// Returns a port that nobody listens on now, and that no other call of this process returns soon.
///
/// Below those that the kernel gives to clients: a client that calls in vain could get the port of the server that it
/// calls for, and keep it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const RANGE: u32 = 16_000;
    let candidate = || {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(577).wrapping_add(next) % RANGE;
        u16::try_from(16_000 + place).unwrap()
    };
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut candidates = (0..RANGE).map(|_| candidate());
    candidates.find(is_free).expect("a port is free")
}
