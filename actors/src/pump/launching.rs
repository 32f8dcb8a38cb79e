//! How a pump starts what waits: as far as there are permits, breakers that are closed, and for suspects a gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::{Pump, Ready};
use crate::breaker::{Admit, probing};
use crate::consumer::GatePass;
use crate::context::AttemptContext;
use crate::dispatch::Way;
use crate::flight::Flight;
use crate::lease::Outcome;
use crate::ports::BrokerError;
use crate::registry::Kind;
use crate::runner::AttemptEnd;

/// Numbers attempts within the process; 0 is nobody.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl Pump {
    /// Starts waiting jobs as far as there are permits.
    pub(super) fn launch(&mut self) {
        self.launch_standby();
        while !self.waiting.is_empty() {
            if self.idle_permits() == 0 && self.seat.acquire(self.waiting.len()) == 0 {
                break;
            }
            let Some(ready) = self.waiting.pop_front() else {
                break;
            };
            if self.wants_a_child(&ready) {
                self.launch_apart(ready);
            } else {
                self.start(ready, None, Way::Usual);
            }
        }
        self.gate_shut = false;
        while !self.suspects.is_empty() {
            let Some(gate) = self.setup.gate.try_enter() else {
                self.gate_shut = true;
                break;
            };
            if self.idle_permits() == 0 && self.seat.acquire(1) == 0 {
                break;
            }
            if let Some(ready) = self.suspects.pop_front() {
                self.start(ready, Some(gate), Way::Suspect);
            }
        }
    }

    pub(super) fn start(&mut self, ready: Ready, gate: Option<GatePass>, way: Way) {
        let Ready { tag, job, kind } = ready;
        let breakers = &self.setup.worker.breakers;
        let (own, named) = match breakers.admit(&job.envelope.task, kind.policy.own_breaker()) {
            Admit::Go => (None, Vec::new()),
            Admit::Try(own, named) => (own, named),
            Admit::Park(delay) => return self.park(tag, delay),
        };
        let limits = kind.policy.limits_for(&job.envelope.overrides);
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        let worker = Arc::clone(&self.setup.worker);
        let now = (worker, Instant::now());
        let context = AttemptContext::new(key, *job, self.setup.queue.clone(), limits, now);
        let body: LocalBoxFuture<'static, AttemptEnd> = match gate {
            None => kind.start(context.clone(), way),
            Some(gate) if kind.isolates_suspects(&self.setup.worker) => {
                // Alone all the same, and without a mark: a worker that dies of something else is no evidence.
                context.enter_gate(gate);
                kind.start(context.clone(), way)
            }
            Some(gate) => {
                context.enter_gate(gate);
                self.marked(tag, context.clone(), Arc::clone(&kind))
            }
        };
        context.slots().carry(named);
        let body = match own {
            Some(candidate) => probing(candidate, context.clone(), body),
            None => body,
        };
        let (setup, table) = (Arc::clone(&self.setup), Arc::clone(&self.line.table));
        self.flights
            .push(Flight::new(tag, (context, kind), body, setup, table));
    }

    /// Gives a task back that needs a breaker which is open; that uses up no attempt.
    fn park(&mut self, tag: u64, delay: Duration) {
        if self.line.table.finish(tag) {
            let outcome = Outcome::Release { frame: None, delay };
            self.line.table.settle(tag, outcome);
        }
    }

    /// Runs a suspect: alone of its kind in the process, and not before its start mark is written.
    fn marked(
        &self,
        tag: u64,
        context: AttemptContext,
        kind: Arc<Kind>,
    ) -> LocalBoxFuture<'static, AttemptEnd> {
        let (link, place) = (self.setup.link.clone(), self.line.table.place(tag));
        Box::pin(async move {
            match link.insist(|| link.broker.mark_started(&place)).await {
                Ok(true) => kind.start(context, Way::Suspect).await,
                Ok(false) | Err(BrokerError::Gone) => AttemptEnd::Lost,
                Err(_) => AttemptEnd::Unavailable,
            }
        })
    }
}
