//! The watchdog: keeps the leases of those who work, and ends what must end. It lives on a thread of its own, so nothing
//! a task does can stop it.
//!
//! Three duties, each a loop of its own, so that a slow one delays no other: renew leases, sweep for lost incarnations,
//! patrol this process (limits, blocked threads, orphans).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::{Logger, error, info, warn};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::context::{Abort, AttemptContext, WorkerContext};
use crate::execution::{Ended, conclude_blocked};
use crate::ids::QueueName;
use crate::lane::{Board, LaneGauge};
use crate::lease::MAX_BATCH;
use crate::line::Link;
use crate::messages::{Look, LookAt};
use crate::reference::Ref;
use crate::registry::Registry;
use crate::table::AttemptTable;

/// How often lanes are pinged and limits looked at while something runs.
const PATROL: Duration = Duration::from_millis(250);

/// How long a thread may not answer before its lane counts as blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// How long an attempt has, after its hard limit, to let itself be dropped, before it is taken from its thread.
const TAKE_AFTER: Duration = Duration::from_secs(2);

/// What the watchdog needs.
#[derive(Clone)]
pub(crate) struct WatchdogSetup {
    pub(crate) link: Link,
    pub(crate) board: Board,
    pub(crate) worker: Arc<WorkerContext>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) consumers: Vec<Ref<Look>>,
    pub(crate) lease: Duration,
    pub(crate) sweep: Duration,
    pub(crate) max_stuck_lanes: usize,
    /// How long a thread may not answer before it counts as stuck for good.
    pub(crate) blocked_deadline: Duration,
    /// Rung by a consumer that started an attempt with a short limit.
    pub(crate) watch: Arc<Notify>,
    /// Set when the process should be replaced.
    pub(crate) recycle: watch::Sender<bool>,
}

/// Renews, sweeps, patrols. See the file's header.
pub(crate) struct Watchdog {
    setup: Rc<WatchdogSetup>,
    log: Logger,
}

impl Watchdog {
    pub(crate) fn new(setup: WatchdogSetup, log: Logger) -> Self {
        Self {
            setup: Rc::new(setup),
            log,
        }
    }
}

impl Actor for Watchdog {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let duty = || Duty {
            setup: Rc::clone(&self.setup),
            log: self.log.clone(),
        };
        ctx.spawn(duty().renew_leases().into_actor(self));
        ctx.spawn(duty().sweep_queues().into_actor(self));
        ctx.spawn(duty().patrol().into_actor(self));
    }
}

/// What each loop holds.
struct Duty {
    setup: Rc<WatchdogSetup>,
    log: Logger,
}

impl Duty {
    /// Renews the leases of all incarnations of this process, each third of a lease.
    async fn renew_leases(self) {
        let clock = &self.setup.worker.clock;
        let mut last = clock.since_boot();
        loop {
            sleep(self.setup.lease / 3).await;
            let now = clock.since_boot();
            if now.saturating_sub(last) > self.setup.lease {
                // Suspended or starved beyond the lease: others may run what we hold.
                warn!(self.log, "was away longer than the lease; giving back what runs here";
                    "away_ms" => crate::time::millis(now.saturating_sub(last)));
                self.abort_everything();
            }
            last = now;
            for queue in &self.setup.queues {
                self.renew(queue).await;
            }
        }
    }

    async fn renew(&self, queue: &QueueName) {
        let tables: Vec<Arc<AttemptTable>> = self.tables();
        let tables: Vec<_> = tables
            .into_iter()
            .filter(|t| t.queue == *queue && !t.is_gone())
            .collect();
        if tables.is_empty() {
            return;
        }
        let ids: Vec<_> = tables.iter().map(|table| table.incarnation).collect();
        let broker = &self.setup.link.broker;
        let Ok(answer) = timeout(self.setup.lease / 4, broker.renew(queue, &ids)).await else {
            return self
                .setup
                .link
                .outage
                .failed(&"no answer to a renewal in time");
        };
        let gone = match answer {
            Ok(gone) => gone,
            Err(error) => return self.setup.link.outage.failed(&error),
        };
        for table in tables
            .iter()
            .filter(|table| gone.contains(&table.incarnation))
        {
            if table.is_opened() && table.set_gone() {
                warn!(self.log, "lost a lease; dropping what ran under it"; "queue" => %queue,
                    "incarnation" => %table.incarnation);
                for (_, context) in table.running() {
                    context.abort(Abort::Released);
                }
                for look in &self.setup.consumers {
                    let _shed = look.try_send(Look { at: LookAt::Ready });
                }
            }
        }
    }

    fn abort_everything(&self) {
        for (_, context) in self.tables().iter().flat_map(|table| table.running()) {
            context.abort(Abort::Released);
        }
    }

    /// Closes lost incarnations and brings their tasks back, each sweep interval.
    async fn sweep_queues(self) {
        loop {
            for queue in &self.setup.queues {
                self.sweep(queue).await;
            }
            sleep(self.setup.sweep).await;
        }
    }

    async fn sweep(&self, queue: &QueueName) {
        loop {
            let swept = match self.setup.link.broker.sweep(queue, MAX_BATCH).await {
                Ok(swept) => swept,
                Err(error) => return self.setup.link.outage.failed(&error),
            };
            for closed in &swept.closed {
                warn!(self.log, "closed a lost incarnation"; "queue" => %queue,
                    "incarnation" => %closed.id, "worker" => %closed.worker,
                    "proven_dead" => closed.proven_dead);
            }
            if swept.rescued + swept.buried > 0 {
                info!(self.log, "rescued tasks of lost incarnations"; "queue" => %queue,
                    "rescued" => swept.rescued, "buried" => swept.buried);
            }
            if !swept.more {
                return;
            }
        }
    }

    /// Pings lanes, ends attempts past their limits, and closes what dead consumers left.
    async fn patrol(self) {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        loop {
            let mut busy = false;
            for gauge in self.setup.board.gauges() {
                let clock = Arc::clone(&self.setup.worker.clock);
                let pinged = Arc::clone(&gauge);
                gauge
                    .arbiter
                    .spawn_fn(move || pinged.answer(clock.since_boot()));
                for table in gauge.tables() {
                    busy |= self.check_limits(&table, &mut rng).await;
                    if table.is_orphaned() || table.is_gone() {
                        self.bury_table(&gauge, &table).await;
                    }
                }
                self.check_thread(&gauge).await;
            }
            self.check_stuck();
            let pause = if busy { PATROL } else { 2 * PATROL };
            // Either way it looks again.
            let _either = timeout(pause, self.setup.watch.notified()).await;
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Aborts attempts past their hard limit, and takes those that do not let themselves be dropped.
    async fn check_limits(&self, table: &AttemptTable, rng: &mut StdRng) -> bool {
        let running = table.running();
        let mut nearest = None::<Duration>;
        for (tag, context) in &running {
            let left = context.remaining();
            nearest = Some(nearest.map_or(left, |nearest| nearest.min(left)));
            if left > Duration::ZERO {
                continue;
            }
            context.abort(Abort::HardLimit);
            let over = context.elapsed().saturating_sub(context.limits().hard);
            if over >= TAKE_AFTER && table.take(*tag) {
                self.take(table, *tag, context, rng).await;
            }
        }
        if let Some(left) = nearest.filter(|left| *left < PATROL) {
            // Its limit comes before the next look: ring for that one.
            let watch = Arc::clone(&self.setup.watch);
            actix_rt::spawn(async move {
                sleep(left).await;
                watch.notify_one();
            });
        }
        !running.is_empty()
    }

    /// Settles an attempt that blocks its thread beyond its hard limit.
    async fn take(
        &self,
        table: &AttemptTable,
        tag: u64,
        context: &AttemptContext,
        rng: &mut StdRng,
    ) {
        let Some(entry) = self.setup.registry.entries.get(context.task()) else {
            return;
        };
        let ended = Ended {
            job: context.job(),
            limits: context.limits(),
            policy: &entry.policy,
            has_output: entry.has_output,
            aborted: Some(Abort::HardLimit),
            worker: self.setup.worker.worker.as_str(),
            now: self.setup.worker.clock.now(),
            elapsed: context.elapsed(),
            frame_limits: &self.setup.worker.limits,
        };
        let outcome = conclude_blocked(&ended, rng);
        let (link, place) = (&self.setup.link, table.place(tag));
        let taken = link
            .insist(|| link.broker.take(&place, outcome.clone()))
            .await;
        error!(self.log, "attempt blocked its thread beyond its hard limit and was taken from it";
            "task" => %context.task(), "id" => %context.id(), "attempt" => context.number(),
            "taken" => taken.unwrap_or(false));
    }

    /// Gives back what a dead consumer left, and renews for blocking work that still runs until it has ended.
    async fn bury_table(&self, gauge: &Arc<LaneGauge>, table: &Arc<AttemptTable>) {
        let running = table.running();
        let link = &self.setup.link;
        if table.is_gone() {
            if table.is_orphaned() {
                gauge.remove_table(table);
            }
            return;
        }
        let (blocking, ended): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|(_, context)| context.is_blocking());
        let mut tags = table.take_prefetched();
        tags.extend(
            ended
                .iter()
                .filter(|(tag, _)| table.take(*tag))
                .map(|(tag, _)| *tag),
        );
        if !blocking.is_empty() {
            if !tags.is_empty() {
                tags.sort_unstable();
                let released = link
                    .broker
                    .release(&table.queue, table.incarnation, &tags)
                    .await;
                released.map_or_else(|error| link.outage.failed(&error), drop);
            }
            return;
        }
        match link.broker.close(&table.queue, table.incarnation).await {
            Ok(released) => {
                gauge.remove_table(table);
                info!(self.log, "gave back what a consumer left"; "queue" => %table.queue,
                    "incarnation" => %table.incarnation, "released" => released);
            }
            Err(error) => link.outage.failed(&error),
        }
    }

    /// Reports a thread that does not answer, once, with the task that has it, and gives back what waits behind it.
    async fn check_thread(&self, gauge: &Arc<LaneGauge>) {
        let silent = gauge.silent_for(self.setup.worker.clock.since_boot());
        let blocked = silent >= BLOCKED_AFTER && !gauge.has_ended();
        let changed = gauge.set_blocked(blocked);
        if !blocked {
            if changed {
                info!(self.log, "thread answers again, or has ended"; "lane" => gauge.lane);
            }
            if gauge.is_retired() && gauge.tables().is_empty() {
                self.setup.board.forget(gauge);
            }
            return;
        }
        if changed {
            let culprit = gauge.culprit();
            let task = culprit
                .as_ref()
                .map_or("?", |context| context.task().as_str());
            let id = culprit.as_ref().map(|context| context.id().to_string());
            error!(self.log, "thread is blocked by a task that does not yield";
                "lane" => gauge.lane, "task" => task, "id" => id,
                "silent_ms" => crate::time::millis(silent));
        }
        for table in gauge.tables() {
            let tags = table.take_prefetched();
            if !tags.is_empty() {
                let link = &self.setup.link;
                let given = link
                    .insist(|| link.broker.release(&table.queue, table.incarnation, &tags))
                    .await;
                info!(self.log, "gave back what waited behind a blocked thread";
                    "queue" => %table.queue, "released" => given.unwrap_or(0));
            }
        }
    }

    /// Asks for a new process when more threads are stuck for good than can be made up for.
    fn check_stuck(&self) {
        let gauges = self.setup.board.gauges();
        let now = self.setup.worker.clock.since_boot();
        let is_stuck = |gauge: &&Arc<LaneGauge>| {
            gauge.is_blocked() && gauge.silent_for(now) > self.setup.blocked_deadline
        };
        let stuck = |lane: u16| {
            gauges
                .iter()
                .filter(is_stuck)
                .filter(|g| g.lane == lane)
                .count()
        };
        let worst = gauges
            .iter()
            .map(|gauge| stuck(gauge.lane))
            .max()
            .unwrap_or(0);
        if worst > self.setup.max_stuck_lanes && !self.setup.recycle.send_replace(true) {
            error!(self.log, "too many threads are blocked for good; asking to be replaced"; "stuck" => worst);
        }
    }

    fn tables(&self) -> Vec<Arc<AttemptTable>> {
        self.setup
            .board
            .gauges()
            .iter()
            .flat_map(|gauge| gauge.tables())
            .collect()
    }
}
