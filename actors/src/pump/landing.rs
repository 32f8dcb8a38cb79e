//! What a pump makes of the end of an attempt: a settlement, or patience while its blocking work still runs.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use slog::{debug, error, info, warn};

use super::Pump;
use crate::consumer::ConsumerSetup;
use crate::context::{Abort, AttemptContext, Phase};
use crate::execution::{Conclusion, Ended, conclude};
use crate::flight::Landed;
use crate::lease::Outcome;
use crate::registry::Kind;
use crate::retries::charge;
use crate::runner::AttemptEnd;
use crate::said::Said;
use crate::time::millis;

impl Pump {
    /// Takes in an attempt that ended.
    pub(super) fn land(&mut self, landed: Landed) {
        if self.lingers(&landed) {
            self.lingering.push(linger(landed));
            return;
        }
        self.landed_since_call += 1;
        self.landed_in_all = self.landed_in_all.wrapping_add(1);
        let Landed {
            tag,
            context,
            kind,
            end,
            table,
        } = landed;
        let ours = table.finish(tag) && Arc::ptr_eq(&table, &self.line.table);
        if !ours {
            return;
        }
        if let Some(outcome) = self.conclude(end, &context, &kind) {
            self.line.table.settle(tag, outcome);
        }
    }

    /// Returns whether an attempt that was undone still does blocking work, which nothing can stop: were it given back
    /// now, it would run beside itself.
    fn lingers(&self, landed: &Landed) -> bool {
        let Landed { context, table, .. } = landed;
        matches!(landed.end, AttemptEnd::Aborted)
            && context.aborted() == Some(Abort::Released)
            && context.is_blocking()
            && !context.remaining().is_zero()
            && Arc::ptr_eq(table, &self.line.table)
            && !table.is_gone()
    }

    fn conclude(
        &mut self,
        end: AttemptEnd,
        context: &AttemptContext,
        kind: &Kind,
    ) -> Option<Outcome> {
        let setup = Arc::clone(&self.setup);
        // A suspect whose start mark could not be written was never started, whatever its limit says.
        let unstarted = context.phase() == Phase::Unstarted;
        let overstayed = context.is_blocking() && context.remaining().is_zero();
        let aborted = context.aborted().map(|why| match why {
            _ if unstarted => Abort::Released,
            // Undone or not, its blocking work went on until it had no time left.
            Abort::Released if overstayed => Abort::HardLimit,
            why => why,
        });
        // What ends a worker often ends its processes too: that says nothing about the task.
        let dying = || matches!(end, AttemptEnd::Died(_)) && setup.is_leaving();
        let aborted = aborted.or_else(|| dying().then_some(Abort::Released));
        crate::breaker::landed(context, &kind.policy, &end, aborted);
        let now = setup.worker.clock.now();
        let ended = Ended {
            job: context.job(),
            limits: context.limits(),
            policy: &kind.policy,
            has_output: kind.has_output,
            aborted,
            revoked: context.is_revoked(),
            worker: setup.worker.worker.as_str(),
            now,
            broker_now: self.broker_clock.at(now),
            elapsed: context.elapsed(),
            frame_limits: &setup.worker.limits,
            results: &setup.worker.results,
        };
        let mut conclusion = conclude(end, &ended, &mut self.rng)?;
        if let Some(budget) = &setup.budget {
            let since_boot = setup.worker.clock.since_boot();
            charge(budget, &ended, &mut conclusion.outcome, since_boot);
        }
        log_end(&setup, context, &conclusion);
        setup.ended(context, kind, &conclusion, ended.elapsed);
        Some(conclusion.outcome.with_progress(context.report().get()))
    }
}

/// Waits until the blocking work of an undone attempt has ended, or its time is over. Its delivery stays in the table,
/// so its lease is kept.
fn linger(landed: Landed) -> LocalBoxFuture<'static, Landed> {
    Box::pin(async move {
        let deadline = landed.context.deadline();
        // Either way it lands again.
        let _either = tokio::time::timeout_at(deadline, landed.context.unblocked()).await;
        landed
    })
}

/// Logs how an attempt ended: what needs nobody at debug level, what is tried again as a warning, what died as an error.
fn log_end(setup: &ConsumerSetup, context: &AttemptContext, end: &Conclusion) {
    let log = &setup.log;
    let (id, task, attempt) = (context.id(), context.task(), context.number());
    let ms = millis(context.elapsed());
    let (why, place) = (end.error.as_deref(), end.place.as_deref());
    match &end.outcome {
        Outcome::Succeed { .. } => {
            debug!(log, "task succeeded"; "elapsed_ms" => ms, "attempt" => attempt, "id" => %id, "task" => %task);
        }
        Outcome::Retry { delay, .. } => {
            warn!(log, "attempt failed; it is tried again"; Said("error", why), Said("place", place), "retry_in_ms" => millis(*delay),
                "elapsed_ms" => ms, "attempt" => attempt, "id" => %id, "task" => %task);
        }
        Outcome::Bury { reason, .. } => {
            error!(log, "task died"; "reason" => %reason, Said("error", why), Said("place", place),
                "elapsed_ms" => ms, "attempt" => attempt, "id" => %id, "task" => %task);
        }
        Outcome::Cancel { .. } => {
            info!(log, "task was cancelled"; Said("reason", why), "elapsed_ms" => ms, "attempt" => attempt,
                "id" => %id, "task" => %task);
        }
        Outcome::Release { .. } | Outcome::Expire { .. } => {
            info!(log, "attempt was undone"; "elapsed_ms" => ms, "attempt" => attempt,
                "id" => %id, "task" => %task);
        }
    }
}
