//! The process group of a command, for as long as its leader was not waited for.

use std::io;
use std::sync::{Mutex, PoisonError};

use celeriac_actors::context::AttemptProcess;
use rustix::process::Signal;

use super::process::signal;

/// Reaches a group until its leader was waited for: from then on its number may be somebody else's.
#[derive(Debug)]
pub(super) struct Leash(Mutex<Option<u32>>);

impl Leash {
    pub(super) fn new(group: u32) -> Self {
        Self(Mutex::new(Some(group)))
    }

    /// Waits for the leader by `wait`, which must not block for long, and lets go of the group in the same instant.
    pub(super) fn let_go<T>(&self, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        // Replaced whole, so a poisoned one is still right.
        let mut group = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = wait();
        *group = None;
        ended
    }

    pub(super) fn signal(&self, what: Signal) {
        let group = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = *group {
            signal(group, what);
        }
    }
}

impl AttemptProcess for Leash {
    fn ask(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }
}
