//! A child on loan: lent by its nursery for one attempt, given back or ended.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use celeriac_actors::ports::ChildPlace;

use super::hatch::Ending;
use super::nestling::Nestling;
use super::nursery::{Child, Shared};

/// A child on loan, with the place it takes up. Dropping it ends the child.
#[derive(Debug)]
pub(super) struct Loan {
    socket: Option<UnixStream>,
    nestling: Arc<Nestling>,
    /// Whether its nursery has it back, or knows of its end.
    settled: bool,
    shared: Arc<Shared>,
    _place: ChildPlace,
}

impl Loan {
    pub(super) fn new(child: Child, shared: Arc<Shared>, place: ChildPlace) -> Self {
        let Child { nestling, socket } = child;
        Self {
            socket: Some(socket),
            nestling,
            settled: false,
            shared,
            _place: place,
        }
    }

    /// Takes the socket to talk to the child; the child stays on loan.
    pub(super) const fn take_socket(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    pub(super) fn nestling(&self) -> Arc<Nestling> {
        Arc::clone(&self.nestling)
    }

    /// Gives the child back after an attempt, unless it has had enough.
    pub(super) fn give_back(self, socket: io::Result<UnixStream>) {
        let attempts = self.nestling.end();
        let options = &self.shared.options;
        let old = options
            .max_tasks_per_child
            .is_some_and(|max| attempts >= max);
        let large = || {
            let max = options.max_memory_per_child?;
            Some(self.nestling.memory()? > max)
        };
        if !old && !large().unwrap_or(false) {
            self.return_unused(socket);
        }
    }

    /// Gives the child back as it was.
    pub(super) fn return_unused(mut self, socket: io::Result<UnixStream>) {
        if let Ok(socket) = socket {
            let child = Child::new(Arc::clone(&self.nestling), socket);
            self.settled = self.shared.take_back(child);
        }
    }

    /// Kills the child; returns how it ended.
    pub(super) async fn end(mut self) -> Ending {
        self.settled = true;
        let ending = self.shared.end(&self.nestling);
        ending.await.unwrap_or(Ending {
            status: None,
            peak_memory: None,
        })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.settled {
            drop(self.shared.end(&self.nestling));
        }
    }
}
