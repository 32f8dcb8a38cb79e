//! The tree: names the actors, wires them together, and says who is restarted with whom.
//!
//! ```text
//! celeriac (one_for_one)
//! ├── services (one_for_one)     waker, retry-scheduler, watchdog, dead-letter
//! └── work (one_for_one)
//!     └── lane-N (rest_for_one)  thread, actors (one_for_one: task actors, parked when they crash), consumers
//! ```
//!
//! Task actors have a supervisor of their own below the lane: one that crashes is rebuilt alone, while a lost thread
//! takes everything behind it along. Only this file knows the actors by name.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context};
use slog::{Logger, o};
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::child::{
    ChildSpec, Environment, ExitReason, OnUnresponsive, Pings, Placement, Recipe, Shutdown,
    StartError, Strategy, SupervisorSpec, TreeNode,
};
use crate::consumer::{Consumer, ConsumerSetup, SuspectGate};
use crate::context::WorkerContext;
use crate::dead_letter::{DeadLetter, DeadLetterSetup};
use crate::events::Observer;
use crate::ids::QueueName;
use crate::intensity::Limit;
use crate::lane::{Board, LaneSeat};
use crate::line::Link;
use crate::messages::{DeadArrived, Drain, DueChanged, GiveBack, Look};
use crate::outage::Outage;
use crate::permits::{Permits, QueueShare};
use crate::ports::{Broker, DeadLetters};
use crate::reference::{Ref, Slot};
use crate::registry::Registry;
use crate::retry_scheduler::RetryScheduler;
use crate::supervisor::{Root, Supervisor};
use crate::waker::{QueueBells, Waker};
use crate::watchdog::{Watchdog, WatchdogSetup};
use crate::workshop::Runners;

/// How the tree is shaped and how its actors behave.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// The queues to drain, each with its share of the permits.
    pub queues: Vec<(QueueName, QueueShare)>,
    /// How many lanes (threads) there are; at least one. Two or more keep a blocked one from stopping the rest.
    pub lanes: u16,
    /// How many attempts run at once in the process.
    pub concurrency: usize,
    /// How many deliveries may wait for a permit, as a multiple of `concurrency`: 0 to 2.
    pub prefetch: usize,
    /// How long an incarnation may stay silent. Default 12 s, at least 1 s.
    pub lease: Duration,
    /// How often lost incarnations are looked for; at most a quarter of the lease. Default 2 s.
    pub sweep: Duration,
    /// How long tasks of an unknown kind are given back before they are buried. Default 10 min.
    pub unknown_grace: Duration,
    /// How long a lane's thread may not answer before the lane gets a fresh one. Default 5 s.
    pub blocked_deadline: Duration,
    /// How many blocked threads a lane may leave behind before the process asks to be replaced. Default 1.
    pub max_stuck_lanes: usize,
    /// How many crashes of our own actors are accepted before the process gives up.
    pub limit: Limit,
    /// The waits between restarts.
    pub backoff: Backoff,
    /// How long an actor must serve for its earlier crashes to be forgotten.
    pub stable_after: Duration,
}

impl TreeOptions {
    /// Creates options with the defaults for `queues`: two lanes, 32 attempts at once.
    #[must_use]
    pub fn new(queues: impl IntoIterator<Item = QueueName>) -> Self {
        Self {
            queues: queues
                .into_iter()
                .map(|queue| (queue, QueueShare::default()))
                .collect(),
            lanes: 2,
            concurrency: 32,
            prefetch: 2,
            lease: Duration::from_secs(12),
            sweep: Duration::from_secs(2),
            unknown_grace: Duration::from_secs(600),
            blocked_deadline: Duration::from_secs(5),
            max_stuck_lanes: 1,
            limit: Limit::default(),
            backoff: Backoff::default(),
            stable_after: Duration::from_secs(30),
        }
    }
}

/// What the tree works with.
#[derive(Clone)]
pub struct TreeParts {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Where dead letters are kept; `None` leaves them in the broker's outbox.
    pub store: Option<Arc<dyn DeadLetters>>,
    /// The kinds of tasks.
    pub registry: Registry,
    /// What all attempts share.
    pub worker: Arc<WorkerContext>,
    /// Who is told what happens to tasks.
    pub observer: Option<Arc<dyn Observer>>,
    /// What all children share.
    pub environment: Environment,
}

/// A running tree. Dropping it cuts the tree off; see [`Tree::stop`].
#[derive(Debug)]
pub struct Tree {
    root: Root,
    board: Board,
    permits: Permits,
    drains: Vec<Ref<Drain>>,
    give_backs: Vec<Ref<GiveBack>>,
    broker: Arc<Outage>,
    store: Arc<Outage>,
    recycle: watch::Receiver<bool>,
}

/// The thread of a lane, as a child that can be pinged: when it does not answer, the lane gets a fresh one.
struct LaneThread {
    seat: LaneSeat,
}

impl Actor for LaneThread {
    type Context = Context<Self>;
}

/// What is needed to specify children.
struct Builder {
    options: TreeOptions,
    parts: TreeParts,
    registry: Arc<Registry>,
    link: Link,
    store_outage: Arc<Outage>,
    board: Board,
    permits: Permits,
    gate: SuspectGate,
    watch: Arc<Notify>,
    recycle: watch::Sender<bool>,
    log: Logger,
}

/// The consumers of one lane, as others reach them.
struct LaneRefs {
    seat: LaneSeat,
    spec: ChildSpec,
    looks: Vec<(QueueName, Ref<Look>)>,
    drains: Vec<Ref<Drain>>,
    give_backs: Vec<Ref<GiveBack>>,
}

impl Tree {
    /// Starts the tree. Call it inside an actix system, on the arbiter where supervisors shall live.
    #[must_use]
    pub fn start(options: TreeOptions, parts: TreeParts) -> Self {
        let environment = parts.environment.clone();
        let (builder, recycle) = Builder::new(options, parts);
        let lanes: Vec<LaneRefs> = (0..builder.options.lanes.max(1))
            .map(|i| builder.lane(i))
            .collect();
        let services = builder.services(&lanes);
        let work = lanes
            .iter()
            .fold(builder.supervisor(Strategy::OneForOne), |work, lane| {
                work.child(lane.spec.clone())
            });
        let root = builder
            .supervisor(Strategy::OneForOne)
            .child(builder.nested("services", services))
            .child(builder.nested("work", work));
        Self {
            root: Root::start("celeriac", root, environment),
            board: builder.board,
            permits: builder.permits,
            drains: lanes.iter().flat_map(|lane| lane.drains.clone()).collect(),
            give_backs: lanes
                .iter()
                .flat_map(|lane| lane.give_backs.clone())
                .collect(),
            broker: builder.link.outage,
            store: builder.store_outage,
            recycle,
        }
    }

    /// Returns the whole tree as it is now. Never waits for a blocked child.
    #[must_use]
    pub fn inspect(&self) -> TreeNode {
        self.root.tree()
    }

    /// Completes when the topmost supervisor has ended, with why.
    pub async fn exited(&self) -> ExitReason {
        self.root.exited().await
    }

    /// Completes when the process should be replaced: too many threads are blocked for good.
    pub async fn wants_recycling(&self) {
        let mut recycle = self.recycle.clone();
        if recycle.wait_for(|wanted| *wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the permits of the process.
    #[must_use]
    pub fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Returns how long the broker has been away and what it said, if it is.
    #[must_use]
    pub fn broker_outage(&self) -> Option<(Duration, String)> {
        self.broker.state()
    }

    /// Returns how long the store has been away and what it said, if it is.
    #[must_use]
    pub fn store_outage(&self) -> Option<(Duration, String)> {
        self.store.state()
    }

    /// Returns what runs, by lane.
    #[must_use]
    pub fn activity(&self) -> Vec<crate::activity::LaneActivity> {
        crate::activity::of(&self.board)
    }

    /// Stops fetching, gives back what is not started, and waits until everything that runs has ended.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the consumers draining.
    pub async fn drain(&self) {
        let drains = self.drains.iter().map(|drain| drain.send(Drain));
        futures_util::future::join_all(drains).await;
    }

    /// Drops what still runs and gives it back, uncounted, for at most `limit`.
    pub async fn give_back(&self, limit: Duration) {
        let all = self
            .give_backs
            .iter()
            .map(|give_back| give_back.send(GiveBack));
        let all = futures_util::future::join_all(all);
        // A consumer on a blocked thread cannot answer; rescue finds what it holds.
        let _in_time = tokio::time::timeout(limit, all).await;
    }

    /// Stops the whole tree in reverse order of its start.
    pub async fn stop(self) -> ExitReason {
        self.root.stop().await
    }
}

impl Builder {
    fn new(options: TreeOptions, parts: TreeParts) -> (Self, watch::Receiver<bool>) {
        let log = parts.environment.log.clone();
        let (recycle, wants_recycling) = watch::channel(false);
        let link = Link {
            broker: Arc::clone(&parts.broker),
            outage: Arc::new(Outage::new("broker", log.clone())),
        };
        let prefetched = options.concurrency * options.prefetch.min(2);
        let builder = Self {
            permits: Permits::new(options.concurrency, prefetched, &options.queues),
            registry: Arc::new(parts.registry.clone()),
            link,
            store_outage: Arc::new(Outage::new("store", log.clone())),
            board: Board::default(),
            gate: SuspectGate::new(),
            watch: Arc::new(Notify::new()),
            recycle,
            log,
            options,
            parts,
        };
        (builder, wants_recycling)
    }

    fn supervisor(&self, strategy: Strategy) -> SupervisorSpec {
        SupervisorSpec::new(strategy, self.options.limit)
    }

    fn nested(&self, name: &str, spec: SupervisorSpec) -> ChildSpec {
        self.own(ChildSpec::supervisor(&Slot::<Supervisor>::new(name), spec))
    }

    /// Treats a child as one of ours: it escalates.
    fn own(&self, spec: ChildSpec) -> ChildSpec {
        spec.backoff(self.options.backoff)
            .stable_after(self.options.stable_after)
    }

    fn queues(&self) -> Vec<QueueName> {
        self.options
            .queues
            .iter()
            .map(|(queue, _)| queue.clone())
            .collect()
    }

    fn services(&self, lanes: &[LaneRefs]) -> SupervisorSpec {
        let quick = Shutdown::within(Duration::from_millis(500));
        let scheduler = Slot::<RetryScheduler>::new("retry-scheduler");
        let watchdog = Slot::<Watchdog>::new("watchdog");
        let (link, queues) = (self.link.clone(), self.queues());
        let recipe = Recipe::new(move |_| RetryScheduler::new(link.clone(), queues.clone()));
        let mut services = self
            .supervisor(Strategy::OneForOne)
            .child(self.own(ChildSpec::new(&scheduler, recipe).shutdown(quick)));
        let setup = self.watchdog(lanes);
        let recipe = Recipe::new(move |birth| Watchdog::new(setup.clone(), birth.log));
        let watchdog = ChildSpec::new(&watchdog, recipe)
            .placement(Placement::Fresh)
            .shutdown(quick);
        services = services.child(self.own(watchdog));
        let dead_letter = self
            .parts
            .store
            .clone()
            .map(|store| self.dead_letter(store));
        let bells = self.waker(
            lanes,
            &scheduler,
            dead_letter.as_ref().map(|(slot, _)| slot),
        );
        if let Some((_, spec)) = dead_letter {
            services = services.child(spec.shutdown(quick));
        }
        let recipe = Recipe::new(move |_| bells.clone());
        let waker = ChildSpec::new(&Slot::<Waker>::new("waker"), recipe)
            .shutdown(quick)
            .pings(None);
        services.child(self.own(waker))
    }

    fn watchdog(&self, lanes: &[LaneRefs]) -> WatchdogSetup {
        WatchdogSetup {
            link: self.link.clone(),
            board: self.board.clone(),
            worker: Arc::clone(&self.parts.worker),
            registry: Arc::clone(&self.registry),
            queues: self.queues(),
            consumers: lanes
                .iter()
                .flat_map(|lane| lane.looks.iter().map(|l| l.1.clone()))
                .collect(),
            lease: self.options.lease,
            sweep: self.options.sweep.min(self.options.lease / 4),
            max_stuck_lanes: self.options.max_stuck_lanes,
            blocked_deadline: self.options.blocked_deadline,
            watch: Arc::clone(&self.watch),
            recycle: self.recycle.clone(),
        }
    }

    fn dead_letter(&self, store: Arc<dyn DeadLetters>) -> (Ref<DeadArrived>, ChildSpec) {
        let slot = Slot::<DeadLetter>::new("dead-letter");
        let setup = DeadLetterSetup {
            link: self.link.clone(),
            store,
            outage: Arc::clone(&self.store_outage),
            limits: self.parts.worker.limits,
        };
        let recipe = Recipe::new(move |birth| DeadLetter::new(setup.clone(), birth.log));
        (slot.reference(), self.own(ChildSpec::new(&slot, recipe)))
    }

    fn waker(
        &self,
        lanes: &[LaneRefs],
        scheduler: &Slot<RetryScheduler>,
        dead_letter: Option<&Ref<DeadArrived>>,
    ) -> Waker {
        let bell = |queue: QueueName| {
            let of_lane = |lane: &LaneRefs| {
                let look = lane.looks.iter().find(|(name, _)| *name == queue);
                look.map(|(_, look)| (lane.seat.clone(), look.clone()))
            };
            QueueBells {
                consumers: lanes.iter().filter_map(of_lane).collect(),
                queue,
            }
        };
        Waker {
            link: self.link.clone(),
            bells: self.queues().into_iter().map(bell).collect(),
            scheduler: scheduler.reference::<DueChanged>(),
            dead_letter: dead_letter.cloned(),
        }
    }

    fn lane(&self, index: u16) -> LaneRefs {
        let clock = Arc::clone(&self.parts.worker.clock);
        let seat = LaneSeat::new(index, self.board.clone(), clock);
        let mut lane = self
            .supervisor(Strategy::RestForOne)
            .child(self.thread(&seat));
        let mut actors = self.supervisor(Strategy::OneForOne);
        let mut runners = Runners::new();
        for kind in &self.registry.actors {
            let equipment = kind.equip(&self.parts.worker, &seat);
            actors.children.extend(equipment.specs);
            runners.extend(equipment.runners);
        }
        if !actors.children.is_empty() {
            lane = lane.child(self.nested("actors", actors));
        }
        let runners = Arc::new(runners);
        let mut refs = LaneRefs {
            spec: self.nested("placeholder", self.supervisor(Strategy::OneForOne)),
            seat,
            looks: Vec::new(),
            drains: Vec::new(),
            give_backs: Vec::new(),
        };
        for queue in self.queues() {
            let slot = Slot::<Consumer>::new(format!("consumer-{queue}"));
            lane = lane.child(self.consumer(&slot, &queue, &refs.seat, &runners));
            refs.looks.push((queue, slot.reference()));
            refs.drains
                .push(slot.reference::<Drain>().with_patience(Duration::ZERO));
            refs.give_backs
                .push(slot.reference::<GiveBack>().with_patience(Duration::ZERO));
        }
        refs.spec = self.nested(&format!("lane-{index}"), lane);
        refs
    }

    fn thread(&self, seat: &LaneSeat) -> ChildSpec {
        let (maker, holder) = (seat.clone(), seat.clone());
        let recipe = Recipe::new(move |_| LaneThread {
            seat: holder.clone(),
        })
        .on_stop(|thread: &mut LaneThread, ctx| {
            actix::ActorContext::stop(ctx);
            thread.seat.retire();
        });
        let pings = Pings {
            deadline: self.options.blocked_deadline,
            on_unresponsive: OnUnresponsive::Replace {
                abandoned_at_most: u32::try_from(self.options.max_stuck_lanes).unwrap_or(u32::MAX),
            },
            ..Pings::default()
        };
        let spec = ChildSpec::new(&Slot::<LaneThread>::new("thread"), recipe)
            .placement(Placement::chosen(move |_| maker.fresh()))
            .pings(Some(pings))
            .shutdown(Shutdown::within(Duration::from_millis(250)));
        self.own(spec)
    }

    fn consumer(
        &self,
        slot: &Slot<Consumer>,
        queue: &QueueName,
        seat: &LaneSeat,
        runners: &Arc<Runners>,
    ) -> ChildSpec {
        let (link, worker, gate, permits) = (
            self.link.clone(),
            Arc::clone(&self.parts.worker),
            self.gate.clone(),
            self.permits.clone(),
        );
        let (registry, runners, watch) = (
            Arc::clone(&self.registry),
            Arc::clone(runners),
            Arc::clone(&self.watch),
        );
        let (queue, seat, observer) = (queue.clone(), seat.clone(), self.parts.observer.clone());
        let (lease, unknown_grace) = (self.options.lease, self.options.unknown_grace);
        let log = self
            .log
            .new(o!("lane" => seat.lane(), "queue" => queue.to_string()));
        let place = seat.clone();
        let recipe = Recipe::starting(move |birth| {
            let setup = seat.gauge().map(|gauge| ConsumerSetup {
                queue: queue.clone(),
                lane: seat.lane(),
                lease,
                unknown_grace,
                link: link.clone(),
                worker: Arc::clone(&worker),
                registry: Arc::clone(&registry),
                runners: Arc::clone(&runners),
                permits: permits.clone(),
                gate: gate.clone(),
                gauge,
                observer: observer.clone(),
                watch: Arc::clone(&watch),
                log: log.clone(),
            });
            let missing = || StartError::Failed("the lane has no thread".to_owned());
            async move { Ok(Consumer::new(setup.ok_or_else(missing)?, birth.exit)) }
        });
        let spec = ChildSpec::new(slot, recipe.on_stop(Consumer::stop))
            .placement(Placement::chosen(move |_| place.current()))
            .pings(None)
            .shutdown(Shutdown::within(Duration::from_millis(300)));
        self.own(spec)
    }
}
