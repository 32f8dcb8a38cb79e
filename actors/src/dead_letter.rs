//! The dead-letter actor: copies what the broker buried to the store, then removes it from the broker.
//!
//! Invariant: a dead task is in the outbox, in the store, or in both, never in neither: the copy is committed before the
//! removal, and both may be repeated. It also finishes revivals that a crash left half done. A store that is away is
//! waited for; meanwhile the outbox grows and nothing is trimmed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use slog::{Logger, info, warn};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::copy::{CopyError, copy_dead};
use crate::frame::FrameLimits;
use crate::line::Link;
use crate::messages::DeadArrived;
use crate::outage::{Access, Outage};
use crate::ports::{DeadFilter, DeadLetters, DeadStatus};
use crate::revival::{ReviveError, finish};

/// How many letters are copied in one step.
const STEP: u32 = 200;

/// How long it waits for a bell before it looks by itself.
const NET: Duration = Duration::from_secs(5);

/// How often it looks for revivals that somebody left half done.
const REVIVALS: Duration = Duration::from_secs(60);

/// Copies dead tasks to the store. See the file's header.
#[derive(Clone)]
pub(crate) struct DeadLetter {
    link: Link,
    store: Arc<dyn DeadLetters>,
    outage: Arc<Outage>,
    limits: FrameLimits,
    log: Logger,
    nudge: Rc<Notify>,
}

/// What a dead-letter actor needs.
#[derive(Clone)]
pub(crate) struct DeadLetterSetup {
    pub(crate) link: Link,
    pub(crate) store: Arc<dyn DeadLetters>,
    pub(crate) outage: Arc<Outage>,
    pub(crate) limits: FrameLimits,
}

impl DeadLetter {
    pub(crate) fn new(setup: DeadLetterSetup, log: Logger) -> Self {
        let DeadLetterSetup {
            link,
            store,
            outage,
            limits,
        } = setup;
        Self {
            link,
            store,
            outage,
            limits,
            log,
            nudge: Rc::new(Notify::new()),
        }
    }

    async fn keep_copying(self) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let mut failures = 0;
        let mut swept = None::<Instant>;
        loop {
            if swept.is_none_or(|at| at.elapsed() >= REVIVALS) && self.finish_revivals().await {
                swept = Some(Instant::now());
            }
            let began = Instant::now();
            let (broker, store) = (&*self.link.broker, &*self.store);
            match copy_dead(broker, store, &self.limits, STEP).await {
                Ok(copied) => {
                    let proved = if copied > 0 {
                        Access::Write
                    } else {
                        Access::Read
                    };
                    self.link.answered(began, proved);
                    // Where nothing is left of what it did not take here, it took that from another process.
                    if copied > 0 || self.outage.needs_a_write() {
                        self.outage.answered(began, Access::Write);
                    }
                    failures = 0;
                    if copied < STEP as usize {
                        let _either = timeout(NET, self.nudge.notified()).await;
                    }
                }
                Err(error) => {
                    match &error {
                        CopyError::Broker(error) => {
                            self.link.outage.failed(began, Access::Write, error);
                        }
                        CopyError::Store(error) => {
                            self.outage.failed(began, Access::Write, error);
                        }
                    }
                    failures += 1;
                    let delay = backoff.delay(failures, &mut rand::rng());
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Finishes what a crash left between the decision to revive and its enqueue. Returns whether the store was there
    /// to tell.
    async fn finish_revivals(&self) -> bool {
        let filter = DeadFilter {
            status: Some(DeadStatus::Reviving),
            ..DeadFilter::default()
        };
        let began = Instant::now();
        let page = match self.store.list(&filter, None, STEP).await {
            Ok(page) => page,
            Err(error) => {
                self.outage.failed(began, Access::Read, &error);
                return false;
            }
        };
        self.outage.answered(began, Access::Read);
        for letter in page.letters {
            match finish(&letter, &*self.store, &self.link.broker).await {
                Ok(_) => info!(self.log, "finished a revival"; "dead_letter" => %letter.id),
                Err(ReviveError::Broker(error)) if error.is_outage() => break,
                Err(ReviveError::Store(error)) if error.is_outage() => break,
                Err(error) => warn!(self.log, "cannot finish a revival";
                    "dead_letter" => %letter.id, "error" => %error),
            }
        }
        true
    }
}

impl Actor for DeadLetter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(self.clone().keep_copying().into_actor(self));
    }
}

impl Handler<DeadArrived> for DeadLetter {
    type Result = ();

    fn handle(&mut self, _: DeadArrived, _: &mut Context<Self>) {
        self.nudge.notify_one();
    }
}
