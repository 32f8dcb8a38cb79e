//! The process group of a command, for as long as its leader was not waited for.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use celeriac_actors::context::AttemptProcess;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// Reaches a group until its leader was waited for: from then on its number may be somebody else's.
#[derive(Debug)]
pub(super) struct Leash(Mutex<Option<Pid>>);

impl Leash {
    pub(super) fn new(group: Option<Pid>) -> Self {
        Self(Mutex::new(group))
    }

    /// Waits for the leader's end, and lets go of the group in the same instant.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(super) async fn wait(&self, leader: &mut Child) -> io::Result<ExitStatus> {
        let mut ended = pin!(leader.wait());
        poll_fn(|cx| {
            let mut group = self.lock();
            let ended = ended.as_mut().poll(cx);
            if ended.is_ready() {
                *group = None;
            }
            ended
        })
        .await
    }

    /// Lets go of the group.
    pub(super) fn let_go(&self) {
        *self.lock() = None;
    }

    fn signal(&self, what: Signal) {
        let group = self.lock();
        signal(*group, what);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        // Replaced whole, so a poisoned one is still right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Sends a signal to all of a group.
pub(super) fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // One that is gone needs none.
        let _gone = kill_process_group(group, signal);
    }
}
