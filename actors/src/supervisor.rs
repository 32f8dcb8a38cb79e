//! Our own supervisor: an actor that makes, watches, restarts and stops other actors.
//!
//! It owns its children's lives and nothing of their work. It keeps its children's specs, turns what their attendants
//! report into goals (`plan` decides), and publishes the tree after each change. Invariants:
//!
//! - Children start in order and stop one by one in reverse; a stop is bounded, then it is a kill, then abandonment.
//! - Every restart waits for its backoff, so no crash loop spins. Crashes beyond the limit escalate or park; an outage
//!   is no crash.
//! - The supervisor never waits for a child: a blocked thread delays neither its other children nor a look at the tree.
//! - When it ends, in whatever way, all below it end.
//!
//! The parts: `launch` starts an incarnation, `host` runs it where it lives, `attend` watches it from here, `lineage`
//! ties the two; `exits` takes note, `plan` decides, `board` shows; `root` is the handle to a whole tree.
//!
//! ```
//! use actix::{Actor, Context, Handler, Message};
//! use celeriac_actors::child::{
//!     ChildSpec, Environment, ExitReason, OnExhausted, Placement, Recipe, Strategy, SupervisorSpec,
//! };
//! use celeriac_actors::intensity::Limit;
//! use celeriac_actors::reference::{Ref, Slot};
//! use celeriac_actors::supervisor::Root;
//! # use celeriac_actors::time::{Clock, Timestamp};
//! # use std::{sync::Arc, time::Duration};
//! # #[derive(Debug)]
//! # struct SystemClock;
//! # impl Clock for SystemClock {
//! #     fn now(&self) -> Timestamp { Timestamp::EPOCH }
//! #     fn since_boot(&self) -> Duration { Duration::ZERO }
//! # }
//!
//! struct Double(u32);
//! impl Message for Double {
//!     type Result = u32;
//! }
//!
//! struct Doubler; // a user's actor: knows nothing of supervision
//! impl Actor for Doubler {
//!     type Context = Context<Self>;
//! }
//! impl Handler<Double> for Doubler {
//!     type Result = u32;
//!     fn handle(&mut self, Double(number): Double, _: &mut Context<Self>) -> u32 {
//!         number * 2
//!     }
//! }
//!
//! struct Client {
//!     _doubler: Ref<Double>, // holds the message's type, not the actor's
//! }
//! impl Actor for Client {
//!     type Context = Context<Self>;
//! }
//!
//! actix_rt::System::new().block_on(async {
//!     let lane = actix_rt::Arbiter::new().handle();
//!     let (doubler, client) = (Slot::<Doubler>::new("doubler"), Slot::<Client>::new("client"));
//!     let double = doubler.reference::<Double>();
//!     let for_client = double.clone();
//!     let spec = SupervisorSpec::new(Strategy::RestForOne, Limit::default())
//!         .child(
//!             ChildSpec::new(&doubler, Recipe::new(|_| Doubler))
//!                 .on_exhausted(OnExhausted::park(Limit::default()))
//!                 .placement(Placement::On(lane.clone())),
//!         )
//!         .child(
//!             ChildSpec::new(&client, Recipe::starting(move |birth| {
//!                 let _doubler = for_client.clone();
//!                 slog::info!(birth.log, "starting");
//!                 async move { Ok(Client { _doubler }) } // any error with `?`, or `StartError::outage`
//!             }))
//!             .placement(Placement::On(lane)),
//!         );
//!     let environment = Environment {
//!         log: slog::Logger::root(slog::Discard, slog::o!()),
//!         clock: Arc::new(SystemClock),
//!         seed: 7,
//!         observer: None,
//!     };
//!
//!     let root = Root::start("root", spec, environment);
//!     assert_eq!(double.send(Double(21)).await, Ok(42)); // waits for the start, as it would for a restart
//!     let tree = root.wait_for(|tree| tree.is_complete()).await;
//!     assert_eq!(tree.find("doubler").unwrap().incarnation, 1);
//!     assert_eq!(root.stop().await, ExitReason::Normal);
//! });
//! ```

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, SpawnHandle};
use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::debug;
use tokio::time::Instant;

use crate::child::{Birth, ChildSpec, Recipe, StartError, StopKind, SupervisorSpec};
use crate::reference::Vacancy;

mod attend;
mod board;
mod event;
mod exits;
mod host;
mod launch;
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

use attend::Order;
use board::Published;
use plan::{Facts, Goal, NextStart, Phase};
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
            async move { made.map_err(StartError::from) }
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
            ward.spec.incubator.vacate(ward.incarnation, vacancy);
        }
        self.wards
            .retain(|ward| !(ward.remove && ward.phase == Phase::Ended));
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
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.drive(ctx);
    }
}
