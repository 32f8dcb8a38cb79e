//! The patrol: pings the lanes, ends attempts past their hard limit, and finds threads that do not answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::{error, info};
use tokio::time::{sleep, timeout};

use super::Duty;
use crate::blocking::Stuck;
use crate::context::{Abort, AttemptContext};
use crate::execution::{Ended, conclude, conclude_blocked};
use crate::lane::LaneGauge;
use crate::lease::Outcome;
use crate::measure::Fate;
use crate::ports::KILL_GRACE;
use crate::runner::AttemptEnd;
use crate::table::AttemptTable;

/// How often lanes are pinged and limits looked at while something runs; half as often while nothing does.
const PATROL: Duration = Duration::from_millis(250);

/// The shortest time between two looks, however often somebody rings.
const BREATH: Duration = Duration::from_millis(5);

/// How long a thread may not answer at the end of the process until nobody waits for it.
const LAST_WORD: Duration = Duration::from_millis(250);

/// How long an attempt has, after its hard limit, to let itself be dropped on a thread that answers.
const TAKE_AFTER: Duration = Duration::from_secs(2);

impl Duty {
    /// Looks at every lane, for ever. Never waits for the broker.
    pub(super) async fn patrol(self) {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let mut stuck = Stuck::default();
        loop {
            let mut pause = 2 * PATROL;
            for gauge in self.setup.board.gauges() {
                self.check_thread(&gauge);
                gauge.ping(self.setup.worker.clock.since_boot());
                for table in gauge.tables() {
                    if let Some(next) = self.check_limits(&gauge, &table, &mut rng) {
                        pause = pause.min(next).min(PATROL);
                    }
                    if table.needs_care() {
                        self.debts.notify_one();
                    }
                }
            }
            self.check_stuck();
            self.check_pool(&mut stuck);
            // Either way it looks again.
            let _either = timeout(pause, self.setup.watch.notified()).await;
            sleep(BREATH).await;
        }
    }

    /// Aborts attempts past their hard limit, and takes those that do not let themselves be dropped. Returns when to
    /// look again, if anything runs.
    fn check_limits(
        &self,
        gauge: &LaneGauge,
        table: &AttemptTable,
        rng: &mut StdRng,
    ) -> Option<Duration> {
        let mut next = None::<Duration>;
        for (tag, context) in table.running() {
            let blocked = gauge.is_blocked();
            let apart = blocked && context.has_process();
            if apart && context.aborted() == Some(Abort::Revoked) {
                self.take(table, tag, &context, rng);
                continue;
            }
            // Where nobody is left to drop it, there is nothing to wait for.
            let left_behind = table.is_orphaned() && context.is_blocking();
            let grace = match (apart, blocked || left_behind) {
                (true, _) => KILL_GRACE,
                (false, true) => Duration::ZERO,
                (false, false) => TAKE_AFTER,
            };
            let mut left = context.remaining();
            if left.is_zero() {
                context.abort(Abort::HardLimit);
                if apart {
                    // Who else would do so does not hear of it.
                    context.ask_process();
                }
                let over = context.elapsed().saturating_sub(context.limits().hard);
                if over >= grace {
                    self.take(table, tag, &context, rng);
                    continue;
                }
                left = grace - over;
            }
            next = Some(next.map_or(left, |next| next.min(left)));
        }
        next
    }

    /// Takes an attempt whose thread does nothing about its end: most often because the attempt blocks it.
    fn take(&self, table: &AttemptTable, tag: u64, context: &AttemptContext, rng: &mut StdRng) {
        let Some(outcome) = self.blocked_outcome(context, rng) else {
            return;
        };
        let apart = context.has_process();
        if !self.take_counted(table, tag, context, outcome) {
            return;
        }
        let what = if apart {
            "attempt was taken from a blocked thread, and its process killed"
        } else {
            "attempt blocked its thread beyond its hard limit and was taken from it"
        };
        error!(self.log, "{what}";
            "task" => %context.task(), "id" => %context.id(), "attempt" => context.number());
    }

    /// Takes an attempt and counts its end, which nobody else will; returns whether it was still there.
    pub(super) fn take_counted(
        &self,
        table: &AttemptTable,
        tag: u64,
        context: &AttemptContext,
        outcome: Outcome,
    ) -> bool {
        let fate = Fate::of(&outcome, true);
        let taken = table.take(tag, outcome);
        if taken {
            let (queue, task) = (context.queue(), context.task());
            self.setup
                .meters
                .taken(queue, task, fate, context.elapsed());
        }
        taken
    }

    /// Returns what becomes of a task whose attempt blocked its thread for too long, or runs in a process of its own that the
    /// thread would have had to end.
    pub(super) fn blocked_outcome(
        &self,
        context: &AttemptContext,
        rng: &mut StdRng,
    ) -> Option<Outcome> {
        let entry = self.setup.registry.entries.get(context.task())?;
        let revoked = context.aborted().filter(|why| *why == Abort::Revoked);
        let (end, why) = (AttemptEnd::Aborted, revoked.or(Some(Abort::HardLimit)));
        crate::breaker::landed(context, &entry.policy, &end, why);
        let ended = Ended {
            job: context.job(),
            limits: context.limits(),
            policy: &entry.policy,
            has_output: entry.has_output,
            aborted: why,
            revoked: context.is_revoked(),
            worker: self.setup.worker.worker.as_str(),
            now: self.setup.worker.clock.now(),
            // Whoever fetches it next asks the broker's clock.
            broker_now: None,
            elapsed: context.elapsed(),
            frame_limits: &self.setup.worker.limits,
            results: &self.setup.worker.results,
        };
        let outcome = if context.has_process() {
            conclude(end, &ended, rng)?.outcome
        } else {
            conclude_blocked(&ended, rng).outcome
        };
        Some(outcome.with_progress(context.report().get()))
    }

    /// Finds out whether a thread answers. One that does not is reported once, with the task that has it; what waits
    /// behind it is given back, and so are the permits for that.
    fn check_thread(&self, gauge: &Arc<LaneGauge>) {
        let silent = gauge.silent_for(self.setup.worker.clock.since_boot());
        let leaving = self.setup.grace_over.load(Ordering::Acquire);
        let patience = if leaving {
            self.setup.blocked_after.min(LAST_WORD)
        } else {
            self.setup.blocked_after
        };
        let blocked = silent >= patience && !gauge.has_ended();
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
            if leaving {
                info!(self.log, "thread does not answer at the end; it is left behind";
                    "lane" => gauge.lane, "silent_ms" => crate::time::millis(silent));
            } else {
                self.report_blocked(gauge, silent);
            }
            self.setup.permits.step_aside(gauge.group);
            // A bell may have gone to a consumer that cannot hear it.
            self.have_all_look();
        }
        if gauge.is_retired() {
            gauge.accuse();
            self.setup.permits.write_off(gauge.group);
        }
        for table in gauge.tables() {
            table.confiscate();
            let taken = table.take_prefetched();
            if taken > 0 {
                info!(self.log, "giving back what waits behind a blocked thread";
                    "queue" => %table.queue, "count" => taken);
            }
        }
        self.setup.permits.reclaim(gauge.group, |queue| {
            let tables = gauge.tables().into_iter();
            let of_queue = tables.filter(|table| table.queue == *queue);
            of_queue.map(|table| table.counts().1).sum()
        });
    }

    fn report_blocked(&self, gauge: &LaneGauge, silent: Duration) {
        let culprit = gauge.culprit();
        let task = culprit
            .as_ref()
            .map_or("?", |context| context.task().as_str());
        let id = culprit.as_ref().map(|context| context.id().to_string());
        error!(self.log, "thread is blocked by a task that does not yield";
            "lane" => gauge.lane, "queue" => culprit.as_ref().map(|context| context.queue().to_string()),
            "attempt" => culprit.as_ref().map(AttemptContext::number), "id" => id, "task" => task,
            "silent_ms" => crate::time::millis(silent));
    }

    /// Asks for a new process when more threads are stuck for good than can be made up for.
    fn check_stuck(&self) {
        let gauges = self.setup.board.gauges();
        let now = self.setup.worker.clock.since_boot();
        let is_stuck = |gauge: &&Arc<LaneGauge>| {
            gauge.is_blocked() && gauge.silent_for(now) > self.setup.blocked_deadline
        };
        let stuck = |lane: u16| {
            let of_lane = gauges.iter().filter(|gauge| gauge.lane == lane);
            of_lane.filter(is_stuck).count()
        };
        let worst = gauges.iter().map(|gauge| stuck(gauge.lane)).max();
        let worst = worst.unwrap_or(0);
        if worst > self.setup.max_stuck_lanes && !self.setup.recycle.send_replace(true) {
            error!(self.log, "too many threads are blocked for good; asking to be replaced"; "stuck" => worst);
        }
    }
}
