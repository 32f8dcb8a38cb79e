//! The tree: names the actors, wires them together, and says who is restarted with whom.
//!
//! ```text
//! celeriac (one_for_one)
//! ├── services (one_for_one)     waker, retry-scheduler, watchdog, dead-letter, breakers
//! └── work (one_for_one)
//!     └── lane-N (rest_for_one)  thread, actors (one_for_one: task actors, parked when they crash), consumers
//! ```
//!
//! Task actors have a supervisor of their own below the lane: one that crashes is rebuilt alone, while a lost thread
//! takes everything behind it along. When `services` or `work` gives up, the whole tree does at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::breaker::{BreakerView, Breakers};
use crate::budget::{BudgetStatus, Budgets, RetryBudget};
use crate::child::{ChildSpec, Environment, ExitReason, Strategy, SupervisorSpec, TreeNode};
use crate::context::WorkerContext;
use crate::events::Observer;
use crate::herald::Describe;
use crate::ids::QueueName;
use crate::intensity::Limit;
use crate::lane::Board;
use crate::lane::LaneSeat;
use crate::measure::{KindFigures, Meters};
use crate::messages::{Drain, GiveBack};
use crate::outage::Outage;
use crate::permits::{Permits, QueueShare};
use crate::ports::{Broker, DeadLetters};
use crate::reference::Ref;
use crate::registry::Registry;
use crate::supervisor::{RestartChild, Root};
use crate::time::Clock;
use crate::watchdog::{Duty, WatchdogSetup};

mod build;
#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests;

use build::{Builder, LaneRefs};

/// How often the end of a tree looks whether a thread answers.
const LOOK: Duration = Duration::from_millis(10);

/// How long [`Tree::stop`] tells the broker what is left.
const LET_GO: Duration = Duration::from_secs(2);

/// How the tree is shaped and how its actors behave.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// The queues to drain, each with its share of the permits.
    pub queues: Vec<(QueueName, QueueShare)>,
    /// What retries of some queues may cost; those of others cost nothing.
    pub retry_budgets: Vec<(QueueName, RetryBudget)>,
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
    /// How many crashes of our own actors are accepted before their supervisor gives up: one more of a service ends the
    /// process; one more below a lane gives that lane a fresh start, which is accepted as often in turn.
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
            retry_budgets: Vec::new(),
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

impl TreeOptions {
    /// Returns how long a thread may not answer before its lane counts as blocked: a fifth of what it takes to give up
    /// on it, at most a second.
    pub(crate) fn blocked_after(&self) -> Duration {
        (self.blocked_deadline / 5).min(Duration::from_secs(1))
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
    /// Describes this process to the broker once a second; `None` tells nobody.
    pub describe: Option<Describe>,
    /// Further services: children of their own beside the runtime's.
    pub services: Vec<ChildSpec>,
    /// What all children share.
    pub environment: Environment,
}

/// A running tree. Dropping it cuts the tree off; see [`Tree::stop`].
#[derive(Debug)]
pub struct Tree {
    root: Root,
    board: Board,
    permits: Permits,
    budgets: Budgets,
    meters: Meters,
    clock: Arc<dyn Clock>,
    drains: Vec<Ref<Drain>>,
    give_backs: Vec<(LaneSeat, Ref<GiveBack>)>,
    /// What gives back the last needs: as much as the watchdog.
    last: WatchdogSetup,
    broker: Arc<Outage>,
    store: Arc<Outage>,
    recycle: watch::Receiver<bool>,
    quiet: Arc<AtomicBool>,
    grace_over: Arc<AtomicBool>,
    watch: Arc<Notify>,
    breakers: Breakers,
    supervisors: BTreeMap<String, Ref<RestartChild>>,
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
        let last = builder.watchdog(&lanes);
        let services = builder.services(&lanes, &last);
        let work = lanes
            .iter()
            .fold(builder.supervisor(Strategy::OneForOne), |work, lane| {
                work.child(lane.spec.clone())
            });
        // One of its two has crashed as often as is accepted by then: beginning anew below would only multiply that.
        let at_once = Limit::new(0, builder.options.limit.within);
        let root = SupervisorSpec::new(Strategy::OneForOne, at_once)
            .child(builder.nested("services", services))
            .child(builder.nested("work", work));
        let consumers = || lanes.iter().flat_map(|lane| lane.consumers.iter());
        let give_backs = lanes.iter().flat_map(|lane| {
            let of_lane = lane.consumers.iter();
            of_lane.map(|consumer| (lane.seat.clone(), consumer.give_back.clone()))
        });
        Self {
            root: Root::start("celeriac", root, environment),
            board: builder.board,
            permits: builder.permits,
            budgets: builder.budgets,
            meters: builder.meters,
            clock: Arc::clone(&builder.parts.worker.clock),
            drains: consumers().map(|c| c.drain.clone()).collect(),
            give_backs: give_backs.collect(),
            last,
            broker: builder.link.outage,
            store: builder.store_outage,
            recycle,
            quiet: builder.quiet,
            grace_over: builder.grace_over,
            watch: builder.watch,
            breakers: builder.parts.worker.breakers.clone(),
            supervisors: builder.supervisors.into_inner(),
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

    /// Returns how the retry budgets stand, by queue; those of queues without one are missing.
    #[must_use]
    pub fn retry_budgets(&self) -> Vec<BudgetStatus> {
        self.budgets.status(self.clock.since_boot())
    }

    /// Returns what was counted of each kind of task in each queue since the process started.
    #[must_use]
    pub fn figures(&self) -> Vec<KindFigures> {
        self.meters.figures()
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

    /// Returns how many deliveries the broker may still have in the name of this process: those that run or wait for
    /// that, and those that have ended without its word that it knows. An upper bound.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.board.unsettled()
    }

    /// Returns the circuit breakers of the process.
    #[must_use]
    pub fn breakers(&self) -> Vec<BreakerView> {
        self.breakers.views()
    }

    /// Stops fetching, gives back what is not started, and waits until everything that runs has ended.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the consumers draining.
    pub async fn drain(&self) {
        self.quiet.store(true, Ordering::Release);
        let drains = self.drains.iter().map(|drain| drain.send(Drain));
        futures_util::future::join_all(drains).await;
        // A thread that was given up on finishes what it has, if it can.
        while self.board.is_busy_behind() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Says that the process ends: drops what still runs and gives it back, uncounted, for at most `limit`. A thread that
    /// does not answer is not waited for. What no one can drop (blocking work, and all that is on such a thread) runs on and
    /// is kept until [`Tree::let_go`].
    pub async fn give_back(&self, limit: Duration) {
        self.end_grace();
        let all = self.give_backs.iter().map(|(seat, give_back)| async move {
            tokio::select! {
                _ended = give_back.send(GiveBack) => {}
                () = self.silence(seat) => {}
            }
        });
        // What is not back by then is given back last.
        let _in_time = tokio::time::timeout(limit, futures_util::future::join_all(all)).await;
    }

    fn end_grace(&self) {
        self.quiet.store(true, Ordering::Release);
        self.grace_over.store(true, Ordering::Release);
        self.watch.notify_one();
    }

    /// Completes when a lane's thread is found not to answer.
    async fn silence(&self, seat: &LaneSeat) {
        while seat.answers() {
            // Who finds that out looks as often as it is rung.
            self.watch.notify_one();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Restarts a child, named by its path below the root, such as `work/lane-0/consumer-default`. Not a crash: counts
    /// nothing. Returns whether there is such a child.
    pub async fn restart(&self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let supervisor = match self.supervisors.get(parent) {
            Some(supervisor) => supervisor.clone(),
            None if parent.is_empty() => self.root.reference(),
            None => return false,
        };
        matches!(supervisor.send(RestartChild(name.into())).await, Ok(Ok(())))
    }

    /// Ends all actors in reverse order of their start; what still runs is given back, but for what only [`Tree::let_go`]
    /// can give back. Those on a thread that does not answer are abandoned at once.
    pub async fn end(&self) -> ExitReason {
        self.end_grace();
        self.root.stop().await
    }

    /// Gives back all that is still held, whatever runs: blocking work, and what is on threads that never answered. Nothing
    /// that happens here afterwards reaches the broker. The last step of a process: until it is gone, such code runs beside
    /// whoever gets its task next.
    ///
    /// Takes at most `limit`. What a broker that is away cannot be told, it finds out by itself when the lease is over.
    pub async fn let_go(&self, limit: Duration) {
        Duty::let_go(&self.last, limit).await;
    }

    /// Stops the whole tree: ends its actors and lets go of what is left.
    pub async fn stop(&self) -> ExitReason {
        let reason = self.end().await;
        self.let_go(LET_GO).await;
        reason
    }
}
