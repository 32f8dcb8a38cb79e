//! Who restarts, who stops, and who is next: the decisions of a supervisor as functions over values.
//!
//! Nothing here knows actors, timers or addresses. Invariants: children are stopped one at a time in reverse order of
//! their start; a child is started only when nobody it may depend on is still on its way; no start happens before the
//! child's `not_before`, so that no crash loop spins.

use std::time::Duration;

use crate::child::{ExitReason, OnExhausted, Restart, Strategy};
use crate::intensity::Limit;

/// What a child is doing, as far as planning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not running; may start at this instant.
    Idle { not_before: Duration },
    /// Started, and not serving yet.
    Starting,
    /// Serving.
    Up,
    /// On its way out by our order.
    Stopping,
    /// Not running, and not to be started.
    Ended,
}

/// What a child is meant to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Serve.
    Run,
    /// End, then serve again from this instant on.
    Recycle { not_before: Duration },
    /// End.
    End,
}

/// One child as planning sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) phase: Phase,
    pub(super) goal: Goal,
    pub(super) restart: Restart,
    /// Whether it has been tried at least once since the supervisor started.
    pub(super) tried: bool,
    /// Whether it parks when it crashes too often, and thus never holds up a sibling.
    pub(super) parks: bool,
    /// Whether it is parked right now.
    pub(super) parked: bool,
}

impl Facts {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up | Phase::Stopping)
    }

    fn is_to_stop(&self) -> bool {
        self.is_active() && self.goal != Goal::Run
    }
}

/// What follows from an exit that nobody ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not started again.
    End,
    /// Started again, with those siblings that its strategy names.
    Restart,
    /// Started again, alone.
    RestartAlone,
    /// Tried again at the pace of parked children.
    Park,
    /// The supervisor gives up.
    Escalate,
}

/// How many crashes count against a child at its exit, this one included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crashes {
    /// Its own, within the window of its own limit.
    pub(super) own: usize,
    /// Those of all escalating siblings and itself, within the supervisor's window.
    pub(super) together: usize,
    /// Whether it was parked before this try and has not proved stable since.
    pub(super) on_probation: bool,
}

/// Decides what follows from the exit of a child that was meant to run.
pub(super) fn judge(
    restart: Restart,
    reason: &ExitReason,
    on_exhausted: OnExhausted,
    crashes: Crashes,
    limit: Limit,
) -> Verdict {
    if !restart.applies_to(reason) {
        return Verdict::End;
    }
    let crashed = reason.counts_as_crash();
    match on_exhausted {
        OnExhausted::Park { .. } if crashes.on_probation => Verdict::Park,
        OnExhausted::Park { limit, .. } if crashed && limit.is_exceeded_by(crashes.own) => {
            Verdict::Park
        }
        OnExhausted::Park { .. } => Verdict::RestartAlone,
        OnExhausted::Escalate if crashed && limit.is_exceeded_by(crashes.together) => {
            Verdict::Escalate
        }
        OnExhausted::Escalate => Verdict::Restart,
    }
}

/// Returns the goals of the siblings of `failed` that share its restart at `not_before`.
///
/// Temporary ones are taken down and stay down; what has ended, is parked or is idle already is left as it is, except
/// that nobody starts before `not_before`.
pub(super) fn share_restart(
    strategy: Strategy,
    failed: usize,
    children: &[Facts],
    not_before: Duration,
) -> Vec<(usize, Goal)> {
    children
        .iter()
        .enumerate()
        .filter(|(index, child)| {
            let named = match strategy {
                Strategy::OneForOne => false,
                Strategy::OneForAll => *index != failed,
                Strategy::RestForOne => *index > failed,
            };
            named && !child.parked && child.goal != Goal::End && child.phase != Phase::Ended
        })
        .map(|(index, child)| match child.restart {
            Restart::Temporary => (index, Goal::End),
            Restart::Permanent | Restart::Transient => (index, Goal::Recycle { not_before }),
        })
        .collect()
}

/// Returns the child to ask to stop now: the last of those that are to stop, and only when none is stopping.
pub(super) fn next_stop(children: &[Facts]) -> Option<usize> {
    let last = children.iter().rposition(Facts::is_to_stop)?;
    let stopping = children.iter().any(|child| child.phase == Phase::Stopping);
    (!stopping).then_some(last)
}

/// What to do about starting children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStart {
    /// Start this one.
    Now(usize),
    /// Look again at this instant.
    At(Duration),
    /// Nothing before the next exit or birth.
    Nothing,
}

/// Returns which child to start at `now`, or when the next one is due.
pub(super) fn next_start(strategy: Strategy, children: &[Facts], now: Duration) -> NextStart {
    let mut due: Option<Duration> = None;
    for (index, child) in children.iter().enumerate() {
        let Phase::Idle { not_before } = child.phase else {
            continue;
        };
        if child.goal != Goal::Run || !may_start(strategy, index, children) {
            continue;
        }
        if not_before <= now {
            return NextStart::Now(index);
        }
        due = Some(due.map_or(not_before, |at| at.min(not_before)));
    }
    due.map_or(NextStart::Nothing, NextStart::At)
}

/// Returns whether the siblings let the child at `index` start.
fn may_start(strategy: Strategy, index: usize, children: &[Facts]) -> bool {
    let (earlier, later) = children.split_at(index);
    match strategy {
        // Independent children: only the order of the first start is kept, and only until the first try is over.
        Strategy::OneForOne => {
            let over = |child: &Facts| {
                child.phase == Phase::Ended || (child.tried && !first_try_runs(child))
            };
            children[index].tried || earlier.iter().all(over)
        }
        // Dependent ones: everybody who goes down has gone down, and everybody before has come up.
        Strategy::OneForAll | Strategy::RestForOne => {
            let settled = |child: &Facts| !child.is_to_stop();
            let ready = |child: &Facts| match child.phase {
                Phase::Up | Phase::Ended => true,
                Phase::Idle { .. } => child.parked,
                Phase::Starting => child.parks && child.parked,
                Phase::Stopping => false,
            };
            earlier.iter().all(|child| ready(child) && settled(child)) && later.iter().all(settled)
        }
    }
}

fn first_try_runs(child: &Facts) -> bool {
    child.phase == Phase::Starting && child.goal == Goal::Run
}

#[cfg(test)]
mod tests;
