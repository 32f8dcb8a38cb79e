//! A tree of puppets: actors that do what a message tells them, and write down that they started and stopped.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message};
use actix_rt::System;
use slog::{Discard, Logger, o};
use tokio::time::Instant;

use crate::child::{Birth, ChildSpec, Environment, Recipe, StartError};
use crate::reference::{Ref, Slot};
use crate::supervisor::{Observer, SupervisionEvent};
use crate::time::{Clock, Timestamp};

/// Runs `test` in an actix system whose time moves only when everybody waits.
pub(super) fn paused<F: Future>(test: F) -> F::Output {
    system(true).block_on(test)
}

/// Runs `test` in real time, for what needs a second thread.
pub(super) fn unpaused<F: Future>(test: F) -> F::Output {
    system(false).block_on(async {
        tokio::time::timeout(Duration::from_secs(120), test)
            .await
            .expect("the test hangs")
    })
}

fn system(paused: bool) -> actix_rt::SystemRunner {
    System::with_tokio_rt(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(paused)
            .build()
            .unwrap()
    })
}

/// A clock that shows tokio's time.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(self.0.elapsed())
    }

    fn since_boot(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What the puppets and the supervisors did, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    lines: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<SupervisionEvent>>>,
}

impl Journal {
    pub(super) fn write(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    /// Returns and forgets what was written, separated by blanks.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut *self.lines.lock().unwrap()).join(" ")
    }

    /// Waits until `line` is written, by whatever thread.
    pub(super) async fn until(&self, line: &str) {
        while !self
            .lines
            .lock()
            .unwrap()
            .iter()
            .any(|written| written == line)
        {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn events(&self) -> Vec<SupervisionEvent> {
        self.events.lock().unwrap().clone()
    }

    pub(super) fn environment(&self) -> Environment {
        let events = Arc::clone(&self.events);
        Environment {
            log: Logger::root(Discard, o!()),
            clock: Arc::new(TokioClock(Instant::now())),
            seed: 7,
            observer: Some(Observer::new(move |event| {
                events.lock().unwrap().push(event.clone());
                panic!("an observer that panics harms nobody");
            })),
        }
    }
}

/// What a puppet is told to do.
#[derive(Debug)]
pub(super) enum Act {
    Echo(u64),
    Panic,
    Stop,
    Fail,
    Outage,
    /// Takes this long to answer, without blocking the thread.
    Slow(Duration),
    /// Blocks the thread until the other end of this is dropped, then answers.
    Block(std::sync::mpsc::Receiver<()>),
}

impl Message for Act {
    type Result = u64;
}

#[derive(Debug)]
pub(super) struct Puppet {
    birth: Birth,
    journal: Journal,
}

impl Puppet {
    pub(super) fn new(birth: Birth, journal: &Journal) -> Self {
        Self {
            birth,
            journal: journal.clone(),
        }
    }
}

impl Actor for Puppet {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.journal
            .write(format!("+{}{}", self.birth.name, self.birth.incarnation));
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.journal
            .write(format!("-{}{}", self.birth.name, self.birth.incarnation));
    }
}

impl Handler<Act> for Puppet {
    type Result = actix::Response<u64>;

    /// Answers with the incarnation, an echo with its own number.
    fn handle(&mut self, act: Act, ctx: &mut Context<Self>) -> Self::Result {
        let incarnation = self.birth.incarnation;
        match act {
            Act::Echo(number) => return actix::Response::reply(number),
            Act::Panic => panic!("told to panic"),
            Act::Stop => ctx.stop(),
            Act::Fail => {
                self.birth.exit.error("told to fail");
                ctx.stop();
            }
            Act::Outage => {
                self.birth.exit.outage("told that the store is away");
                ctx.stop();
            }
            Act::Slow(wait) => {
                return actix::Response::fut(async move {
                    tokio::time::sleep(wait).await;
                    incarnation
                });
            }
            Act::Block(until) => {
                self.journal
                    .write(format!("!{}{incarnation}", self.birth.name));
                let _unblocked = until.recv();
            }
        }
        actix::Response::reply(incarnation)
    }
}

/// Returns the spec of a puppet, and a reference to it.
pub(super) fn puppet(name: &'static str, journal: &Journal) -> (ChildSpec, Ref<Act>) {
    let slot = Slot::<Puppet>::new(name);
    let journal = journal.clone();
    let recipe = Recipe::new(move |birth| Puppet {
        birth,
        journal: journal.clone(),
    });
    let reference = slot.reference();
    (ChildSpec::new(&slot, recipe), reference)
}

/// Returns the spec of a puppet whose factory fails for as long as `outcome` says so.
pub(super) fn fallible_puppet(
    name: &'static str,
    journal: &Journal,
    outcome: impl Fn(u64) -> Result<(), StartError> + Send + Sync + 'static,
) -> (ChildSpec, Ref<Act>) {
    let slot = Slot::<Puppet>::new(name);
    let journal = journal.clone();
    let recipe = Recipe::starting(move |birth: Birth| {
        let outcome = outcome(birth.incarnation);
        let journal = journal.clone();
        journal.write(format!("?{}", birth.incarnation));
        async move { outcome.map(|()| Puppet { birth, journal }) }
    });
    let reference = slot.reference();
    (ChildSpec::new(&slot, recipe), reference)
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
