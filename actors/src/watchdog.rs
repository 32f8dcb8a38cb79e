//! The watchdog: keeps the leases of those who work, and ends what must end. It lives on a thread of its own, so nothing
//! a task does can stop it.
//!
//! Four duties, each a loop of its own, so that a slow one delays no other: renew leases, sweep for lost incarnations,
//! patrol this process (limits, blocked threads), and tell the broker what consumers cannot tell it any more. Only the
//! patrol judges, and it waits for nobody.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use futures_util::future::join_all;
use slog::{Logger, info, warn};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::context::{Abort, WorkerContext};
use crate::ids::QueueName;
use crate::lane::Board;
use crate::lease::MAX_BATCH;
use crate::line::Link;
use crate::measure::Meters;
use crate::messages::{Look, LookAt};
use crate::outage::Access;
use crate::permits::Permits;
use crate::reference::Ref;
use crate::registry::Registry;
use crate::table::AttemptTable;

mod debts;
mod last;
mod patrol;
mod pool;

/// How often the broker is asked to forget what is over.
const TIDY: Duration = Duration::from_secs(60);

/// What the watchdog needs.
#[derive(Clone, Debug)]
pub(crate) struct WatchdogSetup {
    pub(crate) link: Link,
    pub(crate) board: Board,
    pub(crate) permits: Permits,
    pub(crate) worker: Arc<WorkerContext>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) meters: Meters,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) consumers: Vec<Ref<Look>>,
    pub(crate) lease: Duration,
    pub(crate) sweep: Duration,
    pub(crate) max_stuck_lanes: usize,
    /// How long a thread may not answer before its lane counts as blocked.
    pub(crate) blocked_after: Duration,
    /// How long a thread may not answer before it counts as stuck for good.
    pub(crate) blocked_deadline: Duration,
    /// Rung by a consumer that started an attempt with a short limit, and by one that ends.
    pub(crate) watch: Arc<Notify>,
    /// The process ends: a thread that does not answer is waited for no more.
    pub(crate) grace_over: Arc<AtomicBool>,
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
        let debts = Rc::new(Notify::new());
        let duty = || Duty {
            setup: Rc::clone(&self.setup),
            debts: Rc::clone(&debts),
            log: self.log.clone(),
        };
        ctx.spawn(duty().renew_leases().into_actor(self));
        ctx.spawn(duty().sweep_queues().into_actor(self));
        ctx.spawn(duty().patrol().into_actor(self));
        ctx.spawn(duty().settle_debts().into_actor(self));
    }
}

/// Returns how long to wait for the next renewal. Chance, from 0 to 1, spreads repeats.
fn until_renewal(lease: Duration, all_renewed: bool, chance: f64) -> Duration {
    if all_renewed {
        lease / 3
    } else {
        (lease / 24).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// What each loop holds.
pub(crate) struct Duty {
    setup: Rc<WatchdogSetup>,
    /// Rung by the patrol when the broker has to be told something.
    debts: Rc<Notify>,
    log: Logger,
}

impl Duty {
    /// Renews the leases of all incarnations of this process, each third of a lease; soon again when that failed, so that
    /// a broker that is there for a moment between two outages is enough.
    async fn renew_leases(self) {
        let clock = &self.setup.worker.clock;
        let mut all_renewed = true;
        loop {
            let before = clock.since_boot();
            sleep(until_renewal(self.setup.lease, all_renewed, rand::random())).await;
            let gap = clock.since_boot().saturating_sub(before);
            if gap > self.setup.lease {
                // Suspended or starved beyond the lease: others may run what we hold.
                warn!(self.log, "was away longer than the lease; giving back what runs here";
                    "away_ms" => crate::time::millis(gap));
                self.abort_everything();
            }
            // All queues at once: one answer that is late must not cost the others their lease.
            let renewed = join_all(self.setup.queues.iter().map(|queue| self.renew(queue))).await;
            all_renewed = renewed.iter().all(|renewed| *renewed);
        }
    }

    /// Renews the leases of one queue. Returns whether the broker answered.
    async fn renew(&self, queue: &QueueName) -> bool {
        // One whose opening is not confirmed yet is not there to be renewed, and not lost either.
        let is_alive = |t: &Arc<AttemptTable>| t.queue == *queue && t.is_opened() && !t.is_gone();
        let tables: Vec<_> = self.tables().into_iter().filter(is_alive).collect();
        if tables.is_empty() {
            return true;
        }
        let ids: Vec<_> = tables.iter().map(|table| table.incarnation).collect();
        let WatchdogSetup { link, lease, .. } = &*self.setup;
        let began = Instant::now();
        let gone = match timeout(*lease / 4, link.broker.renew(queue, &ids)).await {
            Ok(Ok(gone)) => {
                if gone.len() < ids.len() {
                    link.answered(began, Access::Write);
                }
                gone
            }
            Ok(Err(error)) => {
                link.outage.failed(began, Access::Write, &error);
                return false;
            }
            Err(_) => {
                let why = "no answer to a renewal in time";
                link.outage.failed(began, Access::Write, why);
                return false;
            }
        };
        for table in tables.iter().filter(|t| gone.contains(&t.incarnation)) {
            if table.set_gone() {
                warn!(self.log, "lost a lease; dropping what ran under it"; "queue" => %queue,
                    "incarnation" => %table.incarnation);
                for (_, context) in table.running() {
                    context.abort(Abort::Released);
                }
                self.have_all_look();
            }
        }
        true
    }

    /// Has every consumer look for itself.
    fn have_all_look(&self) {
        for look in &self.setup.consumers {
            let _shed = look.try_send(Look { at: LookAt::Ready });
        }
    }

    fn abort_everything(&self) {
        for (_, context) in self.tables().iter().flat_map(|table| table.running()) {
            context.abort(Abort::Released);
        }
    }

    /// Closes lost incarnations and brings their tasks back, each sweep interval.
    async fn sweep_queues(self) {
        let mut tidied = Instant::now();
        loop {
            // All queues at once: a slow one must not hold the rescue of the others back.
            join_all(self.setup.queues.iter().map(|queue| self.sweep(queue))).await;
            if tidied.elapsed() >= TIDY {
                tidied = Instant::now();
                self.forget_what_is_over().await;
            }
            sleep(self.setup.sweep).await;
        }
    }

    /// Has the broker forget results, channels and identities whose time is over, a bounded step at a time.
    async fn forget_what_is_over(&self) {
        loop {
            let began = Instant::now();
            match self.setup.link.broker.housekeep(MAX_BATCH).await {
                Ok(0) => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return self.setup.link.outage.failed(began, Access::Write, &error),
            }
        }
    }

    async fn sweep(&self, queue: &QueueName) {
        loop {
            let began = Instant::now();
            let swept = match self.setup.link.broker.sweep(queue, MAX_BATCH).await {
                Ok(swept) => swept,
                Err(error) => return self.setup.link.outage.failed(began, Access::Write, &error),
            };
            for closed in &swept.closed {
                warn!(self.log, "closed a lost incarnation"; "queue" => %queue,
                    "incarnation" => %closed.id, "lost_worker" => %closed.worker,
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

    fn tables(&self) -> Vec<Arc<AttemptTable>> {
        self.setup
            .board
            .gauges()
            .iter()
            .flat_map(|gauge| gauge.tables())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_failed_is_repeated_many_times_within_the_lease() {
        let lease = Duration::from_secs(12);
        assert_eq!(until_renewal(lease, true, 0.3), Duration::from_secs(4));
        assert_eq!(until_renewal(lease, false, 0.0), Duration::from_millis(250));
        assert_eq!(until_renewal(lease, false, 1.0), Duration::from_millis(500));
    }
}
