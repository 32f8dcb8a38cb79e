//! Specifies the children of the tree, and wires them: only this file knows the actors by name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::{Actor, Context};
use slog::{Logger, o};
use tokio::sync::{Notify, watch};

use super::{TreeOptions, TreeParts};
use crate::breaker::keeper::Keeper;
use crate::budget::Budgets;
use crate::child::{
    ChildSpec, OnUnresponsive, Pings, Placement, Recipe, Shutdown, StartError, Strategy,
    SupervisorSpec,
};
use crate::consumer::{Consumer, ConsumerSetup, SuspectGate};
use crate::dead_letter::{DeadLetter, DeadLetterSetup};
use crate::herald::Herald;
use crate::ids::QueueName;
use crate::lane::{Board, LaneSeat};
use crate::line::Link;
use crate::measure::Meters;
use crate::messages::{DeadArrived, Drain, DueChanged, GiveBack, Look};
use crate::outage::Outage;
use crate::permits::Permits;
use crate::ports::DeadLetters;
use crate::reference::{Ref, Slot};
use crate::registry::{Kinds, Registry};
use crate::retry_scheduler::RetryScheduler;
use crate::supervisor::{RestartChild, Supervisor};
use crate::waker::{QueueBells, Waker};
use crate::watchdog::{Watchdog, WatchdogSetup};
use crate::workshop::Runners;

/// The thread of a lane, as a child that can be pinged: when it does not answer, the lane gets a fresh one.
struct LaneThread {
    seat: LaneSeat,
}

impl Actor for LaneThread {
    type Context = Context<Self>;
}

/// What is needed to specify children.
pub(super) struct Builder {
    pub(super) options: TreeOptions,
    pub(super) parts: TreeParts,
    pub(super) registry: Arc<Registry>,
    pub(super) link: Link,
    pub(super) store_outage: Arc<Outage>,
    pub(super) board: Board,
    pub(super) permits: Permits,
    pub(super) budgets: Budgets,
    pub(super) meters: Meters,
    pub(super) gate: SuspectGate,
    pub(super) watch: Arc<Notify>,
    pub(super) recycle: watch::Sender<bool>,
    pub(super) log: Logger,
    /// Set when nothing is to be fetched any more, for consumers that are started later too.
    pub(super) quiet: Arc<AtomicBool>,
    /// Set when what still runs is to be given back and silent threads are waited for no more, because the process ends.
    pub(super) grace_over: Arc<AtomicBool>,
    /// The supervisors by their path below the root.
    pub(super) supervisors: RefCell<BTreeMap<String, Ref<RestartChild>>>,
}

/// One lane, as others reach it.
pub(super) struct LaneRefs {
    pub(super) seat: LaneSeat,
    pub(super) spec: ChildSpec,
    pub(super) consumers: Vec<ConsumerRefs>,
}

/// One consumer, as others reach it.
pub(super) struct ConsumerRefs {
    pub(super) queue: QueueName,
    pub(super) look: Ref<Look>,
    pub(super) drain: Ref<Drain>,
    pub(super) give_back: Ref<GiveBack>,
}

impl Builder {
    pub(super) fn new(options: TreeOptions, parts: TreeParts) -> (Self, watch::Receiver<bool>) {
        let log = parts.environment.log.clone();
        let (recycle, wants_recycling) = watch::channel(false);
        let link = Link {
            broker: Arc::clone(&parts.broker),
            outage: Arc::new(Outage::new("broker", log.clone())),
        };
        let prefetched = options.concurrency * options.prefetch.min(2);
        let builder = Self {
            permits: Permits::new(options.concurrency, prefetched, &options.queues),
            budgets: Budgets::new(&options.retry_budgets, parts.worker.clock.since_boot()),
            registry: Arc::new(parts.registry.clone()),
            link,
            store_outage: Arc::new(Outage::new("store", log.clone())),
            board: Board::default(),
            meters: Meters::new(parts.registry.names().cloned()),
            gate: SuspectGate::new(),
            watch: Arc::new(Notify::new()),
            recycle,
            log,
            quiet: Arc::default(),
            grace_over: Arc::default(),
            supervisors: RefCell::default(),
            options,
            parts,
        };
        (builder, wants_recycling)
    }

    pub(super) fn supervisor(&self, strategy: Strategy) -> SupervisorSpec {
        SupervisorSpec::new(strategy, self.options.limit)
    }

    /// Specifies the supervisor at `path`, the names below the root.
    pub(super) fn nested(&self, path: &str, spec: SupervisorSpec) -> ChildSpec {
        let name = path.rsplit('/').next().unwrap_or(path);
        let slot = Slot::<Supervisor>::new(name);
        self.supervisors
            .borrow_mut()
            .insert(path.to_owned(), slot.reference());
        self.own(ChildSpec::supervisor(&slot, spec))
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

    pub(super) fn services(
        &self,
        lanes: &[LaneRefs],
        watchdog_setup: &WatchdogSetup,
    ) -> SupervisorSpec {
        let quick = Shutdown::within(Duration::from_millis(500));
        let scheduler = Slot::<RetryScheduler>::new("retry-scheduler");
        let watchdog = Slot::<Watchdog>::new("watchdog");
        let (link, queues) = (self.link.clone(), self.queues());
        let recipe = Recipe::new(move |_| RetryScheduler::new(link.clone(), queues.clone()));
        let mut services = self
            .supervisor(Strategy::OneForOne)
            .child(self.own(ChildSpec::new(&scheduler, recipe).shutdown(quick)));
        let setup = watchdog_setup.clone();
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
        if let Some(describe) = self.parts.describe.clone() {
            let link = self.link.clone();
            let recipe = Recipe::new(move |_| Herald::new(link.clone(), Arc::clone(&describe)));
            let slot = Slot::<Herald>::new("herald");
            let herald = ChildSpec::new(&slot, recipe.on_stop(Herald::stop));
            services = services.child(self.own(herald.shutdown(quick)));
        }
        let breakers = self.parts.worker.breakers.clone();
        let recipe = Recipe::new(move |_| Keeper::new(breakers.clone())).on_stop(Keeper::stop);
        let keeper = ChildSpec::new(&Slot::<Keeper>::new("breakers"), recipe);
        services = services.child(self.own(keeper.shutdown(quick)));
        let recipe = Recipe::new(move |_| bells.clone());
        let waker = ChildSpec::new(&Slot::<Waker>::new("waker"), recipe)
            .shutdown(quick)
            .pings(None);
        let services = services.child(self.own(waker));
        let further = self.parts.services.iter().cloned();
        further.fold(services, SupervisorSpec::child)
    }

    pub(super) fn watchdog(&self, lanes: &[LaneRefs]) -> WatchdogSetup {
        WatchdogSetup {
            link: self.link.clone(),
            board: self.board.clone(),
            permits: self.permits.clone(),
            worker: Arc::clone(&self.parts.worker),
            registry: Arc::clone(&self.registry),
            meters: self.meters.clone(),
            queues: self.queues(),
            consumers: lanes
                .iter()
                .flat_map(|lane| lane.consumers.iter().map(|c| c.look.clone()))
                .collect(),
            lease: self.options.lease,
            sweep: self.options.sweep.min(self.options.lease / 4),
            max_stuck_lanes: self.options.max_stuck_lanes,
            blocked_after: self.options.blocked_after(),
            blocked_deadline: self.options.blocked_deadline,
            watch: Arc::clone(&self.watch),
            grace_over: Arc::clone(&self.grace_over),
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
                let consumer = lane.consumers.iter().find(|c| c.queue == queue);
                consumer.map(|consumer| (lane.seat.clone(), consumer.look.clone()))
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
            permits: self.permits.clone(),
            log: self.log.clone(),
        }
    }

    pub(super) fn lane(&self, index: u16) -> LaneRefs {
        let seat = LaneSeat::new(index, self.board.clone());
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
            lane = lane.child(self.nested(&format!("work/lane-{index}/actors"), actors));
        }
        let kinds = Arc::new(self.registry.kinds(&runners));
        let mut consumers = Vec::new();
        for queue in self.queues() {
            let slot = Slot::<Consumer>::new(format!("consumer-{queue}"));
            lane = lane.child(self.consumer(&slot, &queue, &seat, &kinds));
            consumers.push(ConsumerRefs {
                queue,
                look: slot.reference(),
                drain: slot.reference::<Drain>().with_patience(Duration::ZERO),
                give_back: slot.reference::<GiveBack>().with_patience(Duration::ZERO),
            });
        }
        LaneRefs {
            spec: self.nested(&format!("work/lane-{index}"), lane),
            seat,
            consumers,
        }
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
            period: self.options.blocked_after(),
            deadline: self.options.blocked_deadline,
            on_unresponsive: OnUnresponsive::Replace {
                abandoned_at_most: u32::try_from(self.options.max_stuck_lanes).unwrap_or(u32::MAX),
            },
        };
        let spec = ChildSpec::new(&Slot::<LaneThread>::new("thread"), recipe)
            .placement(Placement::chosen(move |_| maker.fresh()))
            .pings(Some(pings))
            .asked_while(answers(seat))
            .shutdown(Shutdown::within(Duration::from_millis(250)));
        self.own(spec)
    }

    fn consumer(
        &self,
        slot: &Slot<Consumer>,
        queue: &QueueName,
        seat_of: &LaneSeat,
        kinds: &Arc<Kinds>,
    ) -> ChildSpec {
        let (link, worker, gate, permits) = (
            self.link.clone(),
            Arc::clone(&self.parts.worker),
            self.gate.clone(),
            self.permits.clone(),
        );
        let (kinds, watch) = (Arc::clone(kinds), Arc::clone(&self.watch));
        let quiet = Arc::clone(&self.quiet);
        let (queue, seat, observer) = (queue.clone(), seat_of.clone(), self.parts.observer.clone());
        let (lease, unknown_grace) = (self.options.lease, self.options.unknown_grace);
        let log = self
            .log
            .new(o!("lane" => seat.lane(), "queue" => queue.to_string()));
        let (place, board) = (seat.clone(), self.board.clone());
        let budget = self.budgets.of(&queue);
        let meters = self.meters.clone();
        let recipe = Recipe::starting(move |birth| {
            let setup = seat.gauge().map(|gauge| ConsumerSetup {
                queue: queue.clone(),
                lane: seat.lane(),
                lease,
                unknown_grace,
                link: link.clone(),
                worker: Arc::clone(&worker),
                kinds: Arc::clone(&kinds),
                permits: permits.clone(),
                budget: budget.clone(),
                gate: gate.clone(),
                gauge,
                board: board.clone(),
                meter: meters.meter(&queue),
                observer: observer.clone(),
                watch: Arc::clone(&watch),
                quiet: Arc::clone(&quiet),
                log: log.clone(),
            });
            let missing = || StartError::Failed("the lane has no thread".to_owned());
            async move { Ok(Consumer::new(setup.ok_or_else(missing)?, birth.exit)) }
        });
        let spec = ChildSpec::new(slot, recipe.on_stop(Consumer::stop))
            .placement(Placement::chosen(move |_| place.current()))
            .pings(None)
            .asked_while(answers(seat_of))
            .shutdown(Shutdown::within(Duration::from_millis(300)));
        self.own(spec)
    }
}

/// Returns what tells whether children on the thread of `seat` can be asked anything.
fn answers(seat: &LaneSeat) -> impl Fn() -> bool + Send + Sync + 'static {
    let seat = seat.clone();
    move || seat.answers()
}
