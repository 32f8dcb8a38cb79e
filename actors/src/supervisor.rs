//! Our own supervisor: an actor that makes, watches, restarts and stops other actors.
//!
//! It owns its children's lives and nothing of their work. It keeps its children's specs, turns what their attendants
//! report into goals ([`plan`] decides, this file applies), and publishes the tree after each change. Invariants:
//!
//! - Children start in order and stop one by one in reverse; a stop is bounded, then it is a kill, then abandonment.
//! - Every restart waits for its backoff, so no crash loop spins. Crashes beyond the limit escalate or park; an outage
//!   is no crash.
//! - The supervisor never waits for a child: a blocked thread delays neither its other children nor a look at the tree.
//! - When it ends, in whatever way, all below it end.
//!
//! The parts: [`host`] runs an incarnation where it lives, [`attend`] watches it from here, [`lineage`] ties the two,
//! [`board`] shows them, [`root`] is the handle to a whole tree.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, SpawnHandle};
use actix_rt::{Arbiter, ArbiterHandle, System};
use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::{debug, error, info, o, warn};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::child::{
    Birth, ChildSpec, ExitNote, ExitReason, LastExit, OnExhausted, Placement, Recipe, StopKind,
    SupervisorSpec,
};
use crate::reference::Vacancy;

mod attend;
mod board;
mod event;
mod host;
mod lineage;
mod messages;
mod plan;
mod root;
#[cfg(test)]
mod tests;
mod ward;

pub use event::{Observer, SupervisionEvent};
pub(crate) use host::{Hosted, Incubator};
pub(crate) use lineage::Lineage;
pub use messages::{
    AddChild, AddChildError, Inspect, NoSuchChild, RemoveChild, RestartChild, StopChild,
};
pub use root::Root;

use attend::{Fact, Incarnation, Order, OwnArbiter, Report, attend};
use board::Published;
use host::Cradle;
use plan::{Crashes, Facts, Goal, NextStart, Phase, Verdict};
use ward::Ward;

/// The actor that supervises. Made by [`Root::start`], or as a child by [`ChildSpec::supervisor`].
#[derive(Debug)]
pub struct Supervisor {
    birth: Birth,
    spec: SupervisorSpec,
    wards: Vec<Ward>,
    next_id: u64,
    /// The origin of this supervisor's instants.
    epoch: Instant,
    rng: StdRng,
    /// Set once it is to end, for the references of its children.
    closing: Option<StopKind>,
    /// Whether each child has been tried once, or waits for one that failed.
    first_pass_over: bool,
    /// The timer for the next start that is due, and when that is.
    alarm: Option<(Duration, SpawnHandle)>,
}

impl Supervisor {
    /// Returns how to make supervisors like this, each incarnation from the same spec.
    pub(crate) fn recipe(spec: SupervisorSpec) -> Recipe<Self> {
        // Room for a report of each child at once, beside the requests of others.
        let mailbox = SupervisorSpec::MAX_CHILDREN;
        Recipe::starting(move |birth| {
            let made = Self::new(birth, spec.clone());
            async move { made.map_err(crate::child::StartError::from) }
        })
        .on_stop_kind(|supervisor, kind, ctx| supervisor.close(kind, ctx))
        .ready(|supervisor| supervisor.first_pass_over)
        .mailbox(mailbox)
    }

    fn new(birth: Birth, mut spec: SupervisorSpec) -> Result<Self, AddChildError> {
        let mut hasher = DefaultHasher::new();
        (&birth.path, birth.incarnation, birth.environment.seed).hash(&mut hasher);
        let children = std::mem::take(&mut spec.children);
        let mut supervisor = Self {
            birth,
            spec,
            wards: Vec::with_capacity(children.len()),
            next_id: 0,
            epoch: Instant::now(),
            rng: StdRng::seed_from_u64(hasher.finish()),
            closing: None,
            first_pass_over: false,
            alarm: None,
        };
        for child in children {
            supervisor.adopt(child)?;
        }
        Ok(supervisor)
    }

    /// Adds a child after those that are there, to be started when it is its turn.
    fn adopt(&mut self, spec: ChildSpec) -> Result<(), AddChildError> {
        if self.closing.is_some() {
            return Err(AddChildError::Closing);
        }
        if self
            .wards
            .iter()
            .any(|ward| ward.spec.name() == spec.name())
        {
            return Err(AddChildError::NameTaken(spec.name().into()));
        }
        if self.wards.len() >= SupervisorSpec::MAX_CHILDREN {
            return Err(AddChildError::Full);
        }
        self.next_id += 1;
        let now = self.now();
        self.wards
            .push(Ward::new(self.next_id, &self.birth.path, spec, now));
        Ok(())
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn facts(&self) -> Vec<Facts> {
        self.wards.iter().map(Ward::facts).collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.wards.iter().position(|ward| ward.spec.name() == name)
    }

    /// Does what is due, and shows the result. Called after each change; the only place where orders are given.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        while let Some(index) = plan::next_stop(&self.facts()) {
            self.order_stop(index);
        }
        self.settle_ended();
        let due = loop {
            match plan::next_start(self.spec.strategy, &self.facts(), self.now()) {
                NextStart::Now(index) => self.launch(index, ctx),
                NextStart::At(due) => break Some(due),
                NextStart::Nothing => break None,
            }
        };
        self.set_alarm(due, ctx);
        // Whatever could be started has been: nobody is on the way, so nobody holds up the others any more.
        self.first_pass_over |= self.wards.iter().all(|ward| ward.phase != Phase::Starting);
        self.publish();
        if self.closing.is_some() && self.wards.iter().all(|ward| ward.phase == Phase::Ended) {
            ctx.stop();
        }
    }

    /// Arms one timer for `due`, and takes back the one that was armed for another instant.
    fn set_alarm(&mut self, due: Option<Duration>, ctx: &mut Context<Self>) {
        if self.alarm.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.alarm.take() {
            ctx.cancel_future(handle);
        }
        self.alarm = due.map(|at| {
            let wait = at.saturating_sub(self.now());
            let handle = ctx.run_later(wait, |supervisor, ctx| {
                supervisor.alarm = None;
                supervisor.drive(ctx);
            });
            (at, handle)
        });
    }

    fn publish(&self) {
        let published = Published {
            strategy: self.spec.strategy,
            epoch: self.epoch,
            entries: self
                .wards
                .iter()
                .map(|ward| ward.entry(self.spec.limit))
                .collect(),
        };
        self.birth.lineage.board.publish(published);
        self.birth.lineage.beat();
    }

    /// Starts an incarnation. Whatever fails about that is reported like any other exit.
    fn launch(&mut self, index: usize, ctx: &mut Context<Self>) {
        let environment = self.birth.environment.clone();
        let ward = &mut self.wards[index];
        let number = ward.spec.incubator.begin();
        let (lineage, hold) = self.birth.lineage.child();
        let (controls, controls_in) = mpsc::channel(4);
        let (orders, orders_in) = mpsc::channel(1);
        let (born, born_in) = oneshot::channel();
        let (exit, exit_in) = oneshot::channel();
        ward.phase = Phase::Starting;
        ward.tried = true;
        ward.settled = false;
        ward.unresponsive = false;
        ward.incarnation = number;
        ward.orders = Some(orders);
        ward.board = Some(Arc::clone(&lineage.board));
        let name = Arc::clone(ward.spec.incubator.name());
        let keys = o!("child" => name.to_string(), "incarnation" => number);
        let birth = Birth {
            name,
            path: Arc::clone(&ward.path),
            incarnation: number,
            exit: ExitNote::default(),
            log: environment.log.new(keys),
            environment,
            lineage,
        };
        let cradle = Cradle {
            birth,
            controls: controls_in,
            born,
            exit,
        };
        let arbiter = place(&ward.spec, number, cradle);
        let incarnation = Incarnation {
            child: ward.id,
            number,
            controls,
            born: born_in,
            exit: exit_in,
            hold,
            arbiter,
        };
        drop(actix_rt::spawn(attend(
            incarnation,
            ward.spec.clone(),
            orders_in,
            ctx.address(),
        )));
    }

    fn order_stop(&mut self, index: usize) {
        let ward = &mut self.wards[index];
        ward.phase = Phase::Stopping;
        let kind = match ward.goal {
            Goal::Recycle { .. } => StopKind::Restart,
            Goal::Run | Goal::End => self.closing.unwrap_or(StopKind::ForGood),
        };
        let ordered = ward
            .orders
            .as_ref()
            .is_some_and(|orders| orders.try_send(Order::Stop(kind)).is_ok());
        if !ordered {
            // An attendant that takes no order has already reported the end, or is about to.
            debug!(self.birth.log, "a child ended before it was asked to"; "path" => &*ward.path);
        }
    }

    /// Empties the slots of children that have ended, answers who waited for that, forgets who is to be forgotten.
    fn settle_ended(&mut self) {
        let vacancy = match self.closing {
            Some(StopKind::Restart) => Vacancy::Awaited,
            Some(StopKind::ForGood) | None => Vacancy::Ended,
        };
        for ward in self
            .wards
            .iter_mut()
            .filter(|ward| ward.phase == Phase::Ended)
        {
            ward.goal = Goal::End;
            ward.release_waiters();
            if std::mem::replace(&mut ward.settled, true) {
                continue;
            }
            if ward.incarnation == 0 {
                // It never ran under this supervisor: take its slot, so that references learn of the end.
                ward.incarnation = ward.spec.incubator.begin();
            }
            ward.spec.incubator.vacate(ward.incarnation, vacancy, false);
        }
        self.wards
            .retain(|ward| !(ward.remove && ward.phase == Phase::Ended));
    }

    /// Takes note of what an attendant reports.
    fn note(&mut self, report: Report, ctx: &mut Context<Self>) {
        let current =
            |ward: &Ward| ward.id == report.child && ward.incarnation == report.incarnation;
        let Some(index) = self.wards.iter().position(current) else {
            return;
        };
        match report.fact {
            Fact::Born => self.note_born(index),
            Fact::Stable => {
                if self.wards[index].note_stable() {
                    self.note_recovery(index);
                }
            }
            Fact::Unresponsive => {
                let ward = &mut self.wards[index];
                ward.unresponsive = true;
                warn!(self.birth.log, "a child does not answer its ping"; "path" => &*ward.path);
                let path = Arc::clone(&ward.path);
                let incarnation = ward.incarnation;
                self.observe(&SupervisionEvent::ChildUnresponsive { path, incarnation });
            }
            Fact::Responsive => {
                self.wards[index].unresponsive = false;
                self.note_recovery(index);
            }
            Fact::Ended { reason, abandoned } => self.note_end(index, reason, abandoned),
        }
        self.drive(ctx);
    }

    fn note_born(&mut self, index: usize) {
        let ward = &mut self.wards[index];
        if ward.phase == Phase::Starting {
            ward.phase = Phase::Up;
        }
        ward.up_since = Some(self.birth.environment.clock.now());
        debug!(self.birth.log, "a child serves"; "path" => &*ward.path, "incarnation" => ward.incarnation);
        let (path, incarnation) = (Arc::clone(&ward.path), ward.incarnation);
        self.observe(&SupervisionEvent::ChildStarted { path, incarnation });
    }

    fn note_recovery(&self, index: usize) {
        let path = Arc::clone(&self.wards[index].path);
        info!(self.birth.log, "a child has recovered"; "path" => &*path);
        self.observe(&SupervisionEvent::ChildRecovered { path });
    }

    /// Takes note of an end: ordered ones do what was ordered, the others are judged.
    fn note_end(&mut self, index: usize, reason: ExitReason, abandoned: bool) {
        let now = self.now();
        let at = self.birth.environment.clock.now();
        let ward = &mut self.wards[index];
        ward.orders = None;
        ward.unresponsive = false;
        ward.up_since = None;
        ward.last_exit = Some(LastExit {
            reason: reason.clone(),
            at,
        });
        let ordered = ward.phase == Phase::Stopping;
        ward.spec
            .incubator
            .vacate(ward.incarnation, Vacancy::Awaited, abandoned);
        if abandoned {
            warn!(self.birth.log, "a child was abandoned on its thread"; "path" => &*ward.path);
        }
        let restart_in = match ward.goal {
            Goal::End => {
                ward.phase = Phase::Ended;
                None
            }
            Goal::Recycle { not_before } if ordered => {
                ward.goal = Goal::Run;
                ward.phase = Phase::Idle { not_before };
                Some(not_before.saturating_sub(now))
            }
            // It went by itself before its turn to stop came: that is judged like any other exit.
            Goal::Recycle { .. } | Goal::Run => self.judge(index, &reason, now),
        };
        let ward = &self.wards[index];
        let (path, incarnation) = (Arc::clone(&ward.path), ward.incarnation);
        self.observe(&SupervisionEvent::ChildExited {
            path,
            incarnation,
            reason,
            restart_in,
        });
    }

    /// Decides about an exit that nobody ordered, and returns after what time the child is started again.
    fn judge(&mut self, index: usize, reason: &ExitReason, now: Duration) -> Option<Duration> {
        let limit = self.spec.limit;
        let ward = &mut self.wards[index];
        let floor = match ward.goal {
            Goal::Recycle { not_before } => not_before,
            Goal::Run | Goal::End => now,
        };
        ward.goal = Goal::Run;
        if ward.spec.restart.applies_to(reason) {
            ward.note_restart(reason, now, ward.own_limit().unwrap_or(limit));
        }
        let verdict = plan::judge(
            ward.spec.restart,
            reason,
            ward.spec.on_exhausted,
            self.crashes(index, now),
            limit,
        );
        self.log_exit(index, reason, verdict);
        let delay = self.wards[index]
            .spec
            .backoff
            .delay(self.wards[index].streak, &mut self.rng);
        let not_before = floor.max(now.saturating_add(delay));
        match verdict {
            Verdict::End => {
                self.wards[index].phase = Phase::Ended;
                return None;
            }
            Verdict::Park => return Some(self.park(index, reason, now)),
            Verdict::Escalate => {
                self.wards[index].phase = Phase::Ended;
                self.escalate(index, reason);
                return None;
            }
            Verdict::RestartAlone => {}
            Verdict::Restart => {
                let shared =
                    plan::share_restart(self.spec.strategy, index, &self.facts(), not_before);
                for (sibling, goal) in shared {
                    self.wards[sibling].aim(goal);
                }
            }
        }
        self.wards[index].phase = Phase::Idle { not_before };
        Some(not_before.saturating_sub(now))
    }

    fn crashes(&self, index: usize, now: Duration) -> Crashes {
        let ward = &self.wards[index];
        let within = self.spec.limit.within;
        Crashes {
            own: ward
                .crashes
                .count(now, ward.own_limit().unwrap_or(self.spec.limit).within),
            together: self
                .wards
                .iter()
                .filter(|ward| ward.own_limit().is_none())
                .map(|ward| ward.crashes.count(now, within))
                .sum(),
            on_probation: ward.parked,
        }
    }

    /// Parks a child and returns after what time it is tried again.
    fn park(&mut self, index: usize, reason: &ExitReason, now: Duration) -> Duration {
        let ward = &mut self.wards[index];
        let retry = match ward.spec.on_exhausted {
            OnExhausted::Park { retry, .. } => retry,
            OnExhausted::Escalate => ward.spec.backoff,
        };
        ward.park_streak = ward.park_streak.saturating_add(1);
        let delay = retry.delay(ward.park_streak, &mut self.rng);
        ward.phase = Phase::Idle {
            not_before: now.saturating_add(delay),
        };
        ward.spec
            .incubator
            .vacate(ward.incarnation, Vacancy::Parked, false);
        if !std::mem::replace(&mut ward.parked, true) {
            let path = Arc::clone(&ward.path);
            error!(self.birth.log, "a child crashes too often and is parked"; "path" => &*path, "reason" => %reason);
            self.observe(&SupervisionEvent::ChildParked {
                path,
                reason: reason.clone(),
            });
        }
        delay
    }

    /// Gives up: stops all children in reverse and exits with an error.
    fn escalate(&mut self, index: usize, last: &ExitReason) {
        let reason = ExitReason::error(format_args!(
            "restart intensity exceeded by child {}, which ended with {last}",
            self.wards[index].spec.name()
        ));
        error!(self.birth.log, "supervisor gives up"; "path" => &*self.birth.path, "reason" => %reason);
        self.birth.exit.error(match &reason {
            ExitReason::Error { message } => message.as_str(),
            _ => "restart intensity exceeded",
        });
        let path = Arc::clone(&self.birth.path);
        self.observe(&SupervisionEvent::Escalated { path, reason });
        self.begin_close(StopKind::Restart);
    }

    /// Begins to stop all children in reverse; ends when they have. Twice is as good as once.
    fn close(&mut self, kind: StopKind, ctx: &mut Context<Self>) {
        self.begin_close(kind);
        self.drive(ctx);
    }

    fn begin_close(&mut self, kind: StopKind) {
        // For good outranks: a supervisor that gives up while it is stopped for good does not come back.
        if self.closing != Some(StopKind::ForGood) {
            self.closing = Some(kind);
        }
        for ward in &mut self.wards {
            ward.aim(Goal::End);
        }
    }

    /// Logs an exit once: the first of an outage, each crash, but not each try of a parked child.
    fn log_exit(&mut self, index: usize, reason: &ExitReason, verdict: Verdict) {
        let ward = &mut self.wards[index];
        let first_of_outage = !ward.in_outage;
        ward.in_outage = !reason.counts_as_crash();
        let quiet =
            (ward.in_outage && !first_of_outage) || (verdict == Verdict::Park && ward.parked);
        let path = &*ward.path;
        match reason {
            _ if quiet => {
                debug!(self.birth.log, "a child still fails"; "path" => path, "reason" => %reason)
            }
            ExitReason::Normal => info!(self.birth.log, "a child ended"; "path" => path),
            _ => {
                warn!(self.birth.log, "a child ended abnormally"; "path" => path, "reason" => %reason)
            }
        }
    }

    fn observe(&self, event: &SupervisionEvent) {
        if let Some(observer) = &self.birth.environment.observer {
            observer.observe(event);
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.drive(ctx);
    }
}

/// Sends `cradle` to the arbiter of the child. Dropping it, when there is none, reports the end; why is in the exit.
fn place(spec: &ChildSpec, incarnation: u64, cradle: Cradle) -> Option<OwnArbiter> {
    let fail = |cradle: Cradle, why: &dyn std::fmt::Display| {
        let _unheard = cradle
            .exit
            .send(ExitReason::error(format_args!("no arbiter: {why}")));
    };
    let (handle, own) = match &spec.placement {
        Placement::Here => {
            spec.incubator.host(cradle);
            return None;
        }
        Placement::On(handle) => (handle.clone(), None),
        Placement::Fresh => match fresh_arbiter() {
            Ok(handle) => (handle.clone(), Some(OwnArbiter(handle))),
            Err(error) => {
                fail(cradle, &error);
                return None;
            }
        },
        Placement::Chosen(choose) => match crate::panics::catch_call(|| choose(incarnation)) {
            Ok(Ok(handle)) => (handle, None),
            Ok(Err(error)) => {
                fail(cradle, &error);
                return None;
            }
            Err(report) => {
                let _unheard = cradle.exit.send(ExitReason::Panic { report });
                return None;
            }
        },
    };
    let incubator = Arc::clone(&spec.incubator);
    // Not accepted: the arbiter is gone and has dropped the cradle, which the attendant takes for a kill.
    let _accepted = handle.spawn_fn(move || incubator.host(cradle));
    own
}

/// Makes an arbiter whose thread ends by itself when it is told to stop.
fn fresh_arbiter() -> io::Result<ArbiterHandle> {
    if System::try_current().is_none() {
        return Err(io::Error::other("no actix system on this thread"));
    }
    Arbiter::try_with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    })
    .map(|arbiter| arbiter.handle())
}
