//! What a supervisor makes of its attendants' reports: births, recoveries, and above all exits.
//!
//! [`plan::judge`] decides, this applies: goals, slots, logs, facts. Each trouble is logged once, where it begins, and
//! once more when it is over.

use std::sync::Arc;
use std::time::Duration;

use actix::Context;
use slog::{debug, error, info, warn};

use super::Supervisor;
use super::attend::{Fact, Report};
use super::event::SupervisionEvent;
use super::plan::{self, Crashes, Goal, Phase, Verdict};
use crate::child::{ExitReason, LastExit, OnExhausted, OnUnresponsive, StopKind};
use crate::panics;
use crate::reference::Vacancy;

impl Supervisor {
    /// Takes note of what an attendant reports. Answers whether it is to give up on a child that is unresponsive.
    pub(super) fn note(&mut self, report: Report, ctx: &mut Context<Self>) -> bool {
        let Some(index) = self.wards.iter().position(|ward| ward.id == report.child) else {
            return false;
        };
        let current = self.wards[index].incarnation == report.incarnation;
        let mut give_up = false;
        match report.fact {
            Fact::Unblocked => {
                let ward = &mut self.wards[index];
                ward.abandoned = ward.abandoned.saturating_sub(1);
            }
            _ if !current => return false,
            Fact::Born => self.note_born(index),
            Fact::Stable => {
                if self.wards[index].note_stable() {
                    self.note_recovery(index);
                }
            }
            Fact::Unresponsive => give_up = self.note_unresponsive(index),
            Fact::Responsive => {
                self.wards[index].unresponsive = false;
                self.note_recovery(index);
            }
            Fact::Ended { reason, abandoned } => self.note_end(index, reason, abandoned),
        }
        self.drive(ctx);
        give_up
    }

    /// Takes note of a missed ping, the first or a further one, and returns whether to give up on the incarnation.
    fn note_unresponsive(&mut self, index: usize) -> bool {
        let ward = &mut self.wards[index];
        if !std::mem::replace(&mut ward.unresponsive, true) {
            let (path, incarnation) = (Arc::clone(&ward.path), ward.incarnation);
            warn!(self.birth.log, "a child does not answer its ping"; "path" => &*path);
            self.observe(&SupervisionEvent::ChildUnresponsive { path, incarnation });
        }
        let ward = &self.wards[index];
        match ward.spec.pings.map(|pings| pings.on_unresponsive) {
            // Each one costs a thread that never ends: beyond the bound, the blocked one is left where it is.
            Some(OnUnresponsive::Replace { abandoned_at_most }) => {
                ward.abandoned < abandoned_at_most
            }
            Some(OnUnresponsive::Report) | None => false,
        }
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
        // Whatever becomes of it next, what they waited for has happened.
        ward.release_waiters();
        ward.unresponsive = false;
        ward.up_since = None;
        ward.last_exit = Some(LastExit {
            reason: reason.clone(),
            at,
        });
        let ordered = ward.phase == Phase::Stopping;
        ward.spec
            .incubator
            .vacate(ward.incarnation, Vacancy::Awaited);
        if let Some(board) = &ward.board {
            board.forsake();
        }
        if abandoned {
            ward.spec.incubator.forsake(ward.incarnation);
            ward.abandoned = ward.abandoned.saturating_add(1);
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
            .vacate(ward.incarnation, Vacancy::Parked);
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

    /// Logs an exit once: the first of an outage, each crash, but not each try of a parked child.
    fn log_exit(&mut self, index: usize, reason: &ExitReason, verdict: Verdict) {
        let ward = &mut self.wards[index];
        let first_of_outage = !ward.in_outage;
        ward.in_outage = !reason.counts_as_crash();
        let quiet =
            (ward.in_outage && !first_of_outage) || (verdict == Verdict::Park && ward.parked);
        let (log, path) = (&self.birth.log, &*ward.path);
        match reason {
            _ if quiet => debug!(log, "a child still fails"; "path" => path, "reason" => %reason),
            ExitReason::Normal => info!(log, "a child ended"; "path" => path),
            ExitReason::Panic { report } => {
                let backtrace = report.backtrace.as_deref();
                warn!(log, "a child panicked"; "path" => path, "reason" => %reason, "backtrace" => backtrace);
            }
            _ => warn!(log, "a child ended abnormally"; "path" => path, "reason" => %reason),
        };
    }

    /// Tells the observer. Its panic is its own: a supervisor does not die of whoever watches it.
    fn observe(&self, event: &SupervisionEvent) {
        if let Some(observer) = &self.birth.environment.observer
            && let Err(report) = panics::catch_call(|| observer.observe(event))
        {
            error!(self.birth.log, "an observer of supervision panicked"; "reason" => %report);
        }
    }
}
