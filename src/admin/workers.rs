//! How the workers of a broker are shown: as lines for people, and as documents.

use std::time::Duration;

use celeriac_actors::budget::BudgetStatus;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::text::{ago, plain, span};
use crate::look::workers::Worker;
use crate::runtime::WorkerDetail;

/// Returns how many lanes there are; those that were replaced do not count.
pub(crate) fn lanes(detail: &WorkerDetail) -> usize {
    detail.lanes.iter().filter(|lane| !lane.retired).count()
}

/// Returns how many lanes have a thread that is blocked.
pub(crate) fn blocked(detail: &WorkerDetail) -> usize {
    let serving = detail.lanes.iter().filter(|lane| !lane.retired);
    serving.filter(|lane| lane.blocked_by.is_some()).count()
}

impl Worker {
    /// Returns how many attempts wait for one of its child processes.
    pub(crate) fn waiting_for_a_child(&self) -> usize {
        let detail = self.detail.as_ref().filter(|_| self.record.alive);
        let lanes = detail.into_iter().flat_map(|detail| &detail.lanes);
        lanes.map(|lane| lane.waiting_total).sum()
    }

    /// Returns what it cannot reach, as lines for people; what one that is silent could not is over.
    pub(crate) fn outages(&self) -> Vec<String> {
        let Some(detail) = self.detail.as_ref().filter(|_| self.record.alive) else {
            return Vec::new();
        };
        let away = [
            ("broker", &detail.broker_away),
            ("store", &detail.store_away),
        ];
        let line = |(what, away): (&str, &Option<(u64, String)>)| {
            let (millis, error) = away.as_ref()?;
            let since = span(Duration::from_millis(*millis));
            Some(format!(
                "{}: the {what} has been away for {since}: {}",
                self.record.worker,
                plain(error)
            ))
        };
        away.into_iter().filter_map(line).collect()
    }

    /// Returns what has become of it and of its tasks, when nothing is heard of it. `all` are the workers there are.
    pub(crate) fn obituary(&self, all: &[Self], now: Timestamp) -> Option<String> {
        let seen = ago(self.silent_since()?, now);
        let takes = |other: &Self| {
            let is_shared = |queue| self.record.queues.contains(queue);
            other.record.alive && other.record.queues.iter().any(is_shared)
        };
        let rescue = match all.iter().any(takes) {
            true => "what it ran is rescued: the other workers of its queues run it again",
            false => "what it ran is rescued as soon as a worker of its queues runs",
        };
        Some(format!(
            "{}: last seen {seen}: it was killed, or is cut off or frozen; {rescue}",
            self.record.worker
        ))
    }

    /// Returns the retry budgets that are spent, as lines for people; those of one that is silent delay nothing.
    pub(crate) fn spent_budgets(&self) -> Vec<String> {
        let detail = self.detail.as_ref().filter(|_| self.record.alive);
        let budgets = detail.into_iter().flat_map(|d| &d.retry_budgets);
        let spent = budgets.filter(|budget| budget.left < 0);
        let line = |budget: &BudgetStatus| {
            format!(
                "{}: the retry budget of queue {} is spent ({} of first attempts, {} a second): {} retries wait longer, {} did so far",
                self.record.worker,
                budget.queue,
                budget.share,
                budget.floor,
                -budget.left,
                budget.delayed
            )
        };
        spent.map(line).collect()
    }

    /// Returns it as a document.
    pub(crate) fn document(&self, now: Timestamp) -> Value {
        let record = &self.record;
        // What one that is silent said last is not what is.
        let detail = self.detail.as_ref().filter(|_| record.alive);
        let away = |away: Option<&(u64, String)>| {
            away.map(|(millis, error)| json!({ "for_ms": millis, "error": error }))
        };
        json!({
            "worker": record.worker,
            "state": self.state(),
            "alive": record.alive,
            "quiet": record.quiet,
            "host": record.host,
            "pid": record.pid,
            "version": record.version,
            "queues": record.queues,
            "concurrency": record.concurrency,
            "running": self.running(),
            "waiting_for_child": self.waiting_for_a_child(),
            "started_at": record.started_at.to_string(),
            "silent_since": self.silent_since().map(|at| at.to_string()),
            "seen_at": record.seen_at.to_string(),
            "up_ms": celeriac_actors::time::millis(self.up(now)),
            "broker_away": away(detail.and_then(|d| d.broker_away.as_ref())),
            "store_away": away(detail.and_then(|d| d.store_away.as_ref())),
            "breakers": detail.map(|d| &d.breakers),
            "lanes": detail.map(|d| &d.lanes),
            "retry_budgets": detail.map(|d| &d.retry_budgets),
            "children": detail.map(|d| &d.children),
            "stuck_threads": detail.map(|d| d.stuck_threads),
            "http": detail.and_then(|d| d.http),
            "lanes_blocked": detail.map(blocked),
            "tasks": detail.and_then(|d| d.tasks.as_ref()),
            "queue_caps": detail.map(|d| &d.queue_caps),
        })
    }
}
