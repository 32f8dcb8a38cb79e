//! The workers of a broker as commands see them: their records, with the detail taken apart.

use std::time::Duration;

use celeriac_actors::budget::BudgetStatus;
use celeriac_actors::ids::TaskId;
use celeriac_actors::ports::{Broker, BrokerError, WorkerRecord};
use celeriac_actors::progress::Progress;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::text::{plain, span, when};
use crate::runtime::WorkerDetail;

/// One worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) record: WorkerRecord,
    /// What it told of itself; `None` where that cannot be read here, as from another version.
    pub(crate) detail: Option<WorkerDetail>,
}

impl Worker {
    fn new(record: WorkerRecord) -> Self {
        let detail = serde_json::from_str(&record.detail).ok();
        Self { record, detail }
    }

    /// Returns the word for how it is.
    pub(crate) fn state(&self) -> &'static str {
        match (self.record.alive, self.record.quiet) {
            (false, _) => "silent",
            (true, true) => "quiet",
            (true, false) => "alive",
        }
    }

    /// Returns since when nothing was heard of it, when it counts as dead.
    pub(crate) fn silent_since(&self) -> Option<Timestamp> {
        (!self.record.alive).then_some(self.record.seen_at)
    }

    /// Returns how long it has been up, or was until its last word.
    pub(crate) fn up(&self, now: Timestamp) -> Duration {
        let until = self.silent_since().unwrap_or(now);
        until.since(self.record.started_at)
    }

    /// Returns how many attempts run, by its last word; of one that is silent nobody knows of any.
    pub(crate) fn running(&self) -> usize {
        if !self.record.alive {
            return 0;
        }
        let lanes = self.detail.iter().flat_map(|detail| &detail.lanes);
        lanes.map(|lane| lane.running_total).sum()
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
        let seen = when(self.silent_since()?, now);
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
        })
    }
}

/// Returns the last word about how far a task has come, where an attempt of it runs.
pub(crate) fn progress_of(workers: &[Worker], task: TaskId) -> Option<Progress> {
    let alive = workers.iter().filter(|worker| worker.record.alive);
    let lanes = alive
        .flat_map(|worker| &worker.detail)
        .flat_map(|it| &it.lanes);
    let all = lanes.flat_map(|lane| &lane.progress);
    let its = all.filter(|(id, _)| *id == task);
    its.map(|(_, progress)| progress)
        .max_by_key(|it| it.at)
        .cloned()
}

/// Reads the workers, those alive first, then by name.
pub(crate) async fn read(broker: &dyn Broker) -> Result<Vec<Worker>, BrokerError> {
    let records = broker.workers().await?;
    let mut workers: Vec<Worker> = records.into_iter().map(Worker::new).collect();
    workers.sort_by(|a, b| {
        let key = |w: &Worker| (!w.record.alive, w.record.worker.clone());
        key(a).cmp(&key(b))
    });
    Ok(workers)
}
