//! The nursery: the children of a worker, at most so many, kept for the next attempt.
//!
//! Invariants: children that were not waited for yet and those being started are never more than there may be; every
//! child is known here from its start until it was waited for, whoever wanted it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::{ChildPlace, ChildStatus};
use rustix::process::Signal;
use slog::Logger;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::IsolationOptions;
use super::hatch::{Ending, own_program, wait_for};
use super::keeper::{self, Keeper, Making};
use super::loan::Loan;
use super::nestling::Nestling;
use super::wire::{Hello, Tag, frame_of};

#[cfg(test)]
mod tests;

/// How long the end of all children may take.
const CLOSING: Duration = Duration::from_secs(2);

/// The children of a worker. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Nursery {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: IsolationOptions,
    pub(super) host: String,
    pub(super) places: Arc<Semaphore>,
    brood: Mutex<Brood>,
    /// Told when a child came, came back or is gone, and when none could be had.
    changed: Notify,
    keeper: Keeper,
    /// Whether children are started before they are needed.
    ahead: bool,
}

/// The children there are.
#[derive(Debug, Default)]
struct Brood {
    idle: Vec<Child>,
    /// Those that were not waited for yet, by process id.
    all: BTreeMap<u32, Arc<Nestling>>,
    /// How many are asked for and not there yet.
    hatching: usize,
    /// How many could not be started, and why the last one could not.
    failed: u64,
    why: String,
    closed: bool,
}

/// How the search for a child went.
enum Found {
    Child(Child),
    /// There is none yet.
    Wait,
    Never(String),
}

/// A child, for whoever may talk to it. Dropping it without giving it back leaves it to its nursery to end.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) nestling: Arc<Nestling>,
    pub(super) socket: UnixStream,
}

impl Child {
    pub(super) fn new(nestling: Arc<Nestling>, socket: UnixStream) -> Self {
        Self { nestling, socket }
    }

    /// Returns whether it is there, as far as can be told without asking it.
    fn is_alive(&self) -> bool {
        use rustix::net::{RecvFlags, recv};

        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0_u8; 1][..], flags) {
            Ok((_, 0)) => false,
            Ok(_) => true,
            Err(error) => error == rustix::io::Errno::AGAIN,
        }
    }
}

impl Nursery {
    /// Opens a nursery; starts its children when they are needed, or as many as there may be when `ahead`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn open(
        options: IsolationOptions,
        hello: Hello,
        (host, log): (String, Logger),
        ahead: bool,
    ) -> io::Result<Self> {
        let making = Making {
            program: own_program()?,
            hello: frame_of(Tag::Hello, &hello),
            log,
        };
        Self::of(options, making, host, ahead)
    }

    fn of(
        options: IsolationOptions,
        making: Making,
        host: String,
        ahead: bool,
    ) -> io::Result<Self> {
        let children = options.children.max(1);
        let shared = Arc::new(Shared {
            places: Arc::new(Semaphore::new(children)),
            keeper: keeper::start(making, children)?,
            options: IsolationOptions {
                children,
                ..options
            },
            host,
            brood: Mutex::default(),
            changed: Notify::new(),
            ahead,
        });
        if ahead {
            shared.hatch_ahead(&mut lock(&shared.brood));
        }
        Ok(Self { shared })
    }

    pub(super) fn statuses(&self) -> Vec<ChildStatus> {
        let all: Vec<_> = lock(&self.shared.brood).all.values().cloned().collect();
        all.iter().map(|nestling| nestling.status()).collect()
    }

    pub(super) async fn close_all(&self) {
        let shared = &self.shared;
        shared.places.close();
        let all: Vec<_> = {
            let mut brood = lock(&shared.brood);
            brood.closed = true;
            brood.idle.clear();
            brood.all.values().cloned().collect()
        };
        shared.changed.notify_waiters();
        for nestling in &all {
            drop(shared.end(nestling));
        }
        let all_gone = async {
            loop {
                let changed = shared.changed.notified();
                let is_empty = {
                    let brood = lock(&shared.brood);
                    brood.all.is_empty() && brood.hatching == 0
                };
                if is_empty {
                    return;
                }
                changed.await;
            }
        };
        // The kernel ends what is left with the process.
        let _in_time = tokio::time::timeout(CLOSING, all_gone).await;
    }
}

impl Shared {
    /// Lends a child, in `place` or once there is a place for it; a new one if that is asked for.
    ///
    /// # Cancel safety
    /// Cancel-safe: a child that was asked for and is not wanted any more is kept for the next attempt.
    pub(super) async fn lend(
        self: &Arc<Self>,
        new: bool,
        place: Option<ChildPlace>,
    ) -> Result<Loan, String> {
        let place = match place {
            Some(place) => place,
            None => {
                let place = Arc::clone(&self.places).acquire_owned().await;
                place.map_err(|_| "the worker ends".to_owned())?
            }
        };
        let failed = lock(&self.brood).failed;
        loop {
            let changed = self.changed.notified();
            match self.find(new, failed) {
                Found::Child(child) => return Ok(Loan::new(child, Arc::clone(self), place)),
                Found::Never(why) => return Err(why),
                Found::Wait => changed.await,
            }
        }
    }

    /// Looks for a child that has nothing to do; asks for one where there may be another, and makes room for a new one
    /// where that is what is wanted. `failed` is how many could not be started before.
    fn find(self: &Arc<Self>, new: bool, failed: u64) -> Found {
        let mut brood = lock(&self.brood);
        if brood.closed {
            return Found::Never("the worker ends".to_owned());
        }
        for index in (0..brood.idle.len()).rev() {
            if !brood.idle[index].is_alive() {
                let child = brood.idle.swap_remove(index);
                drop(self.end(&child.nestling));
            }
        }
        let suits = |child: &Child| child.nestling.is_new() || !new;
        if let Some(index) = brood.idle.iter().rposition(suits) {
            return Found::Child(brood.idle.swap_remove(index));
        }
        if brood.failed != failed {
            return Found::Never(brood.why.clone());
        }
        if self.has_room(&brood) {
            self.ask(&mut brood);
        } else if brood.hatching == 0
            && !brood.all.values().any(|nestling| nestling.is_ending())
            && let Some(child) = brood.idle.pop()
        {
            drop(self.end(&child.nestling));
        }
        // Else one comes, comes back or is gone soon.
        Found::Wait
    }

    fn has_room(&self, brood: &Brood) -> bool {
        brood.all.len() + brood.hatching < self.options.children
    }

    /// Asks for a child.
    fn ask(self: &Arc<Self>, brood: &mut Brood) {
        // The channel has room for as many as there may be; it is closed when the keeper's thread is gone.
        match self.keeper.asks.try_send(Arc::downgrade(self)) {
            Ok(()) => brood.hatching += 1,
            Err(_) => {
                brood.failed += 1;
                "the nursery has ended".clone_into(&mut brood.why);
                self.changed.notify_waiters();
            }
        }
    }

    /// Takes in a child that was asked for, or notes why there is none.
    pub(super) fn hatched(self: &Arc<Self>, child: io::Result<Child>) {
        let mut brood = lock(&self.brood);
        brood.hatching -= 1;
        match child {
            Ok(child) => {
                let nestling = Arc::clone(&child.nestling);
                brood.all.insert(nestling.pid, Arc::clone(&nestling));
                if brood.closed {
                    drop(self.end(&nestling));
                } else {
                    brood.idle.push(child);
                }
            }
            Err(error) => {
                brood.failed += 1;
                brood.why = error.to_string();
            }
        }
        drop(brood);
        self.changed.notify_waiters();
    }

    /// Takes a child back for the next attempt; returns whether it may stay.
    pub(super) fn take_back(&self, child: Child) -> bool {
        let mut brood = lock(&self.brood);
        let stays = !brood.closed;
        if stays {
            brood.idle.push(child);
        }
        drop(brood);
        self.changed.notify_waiters();
        stays
    }

    /// Sees to the end of a child that has died while it had nothing to do.
    pub(super) fn look_after(self: &Arc<Self>, nestling: &Nestling) {
        let mut brood = lock(&self.brood);
        let is_dead = |child: &Child| child.nestling.pid == nestling.pid && !child.is_alive();
        if let Some(index) = brood.idle.iter().position(is_dead) {
            let child = brood.idle.swap_remove(index);
            drop(self.end(&child.nestling));
        }
    }

    /// Has children started for later, as many as there may be.
    fn hatch_ahead(self: &Arc<Self>, brood: &mut Brood) {
        for _ in brood.all.len() + brood.hatching..self.options.children {
            // One that is not started now is started when it is needed.
            self.ask(brood);
        }
    }

    /// Kills a child and has it waited for; says how it ended, the first time.
    pub(super) fn end(self: &Arc<Self>, nestling: &Arc<Nestling>) -> oneshot::Receiver<Ending> {
        let (reply, ending) = oneshot::channel();
        if let Some(process) = nestling.begin_ending() {
            nestling.signal(Signal::KILL);
            let (shared, nestling) = (Arc::clone(self), Arc::clone(nestling));
            // Dropped unrun only when the keeper's thread is gone, and all children with it.
            drop(self.keeper.runtime.spawn_blocking(move || {
                let ended = wait_for(process, nestling.reaped());
                shared.forget(&nestling);
                drop(reply.send(nestling.correct(ended)));
            }));
        }
        ending
    }

    /// Forgets a child that was waited for; starts another in its place where children are started ahead.
    fn forget(self: &Arc<Self>, nestling: &Nestling) {
        let mut brood = lock(&self.brood);
        brood.all.remove(&nestling.pid);
        // Where children die before they have done anything, the next one is not started before it is needed.
        if self.ahead && nestling.has_served() && !brood.closed {
            self.hatch_ahead(&mut brood);
        }
        drop(brood);
        self.changed.notify_waiters();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Guarded values are replaced whole, so a poisoned one is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
