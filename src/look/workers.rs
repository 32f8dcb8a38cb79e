//! The workers of a broker as one sees them from outside: their records, with the detail taken apart.

use std::time::Duration;

use celeriac_actors::ids::TaskId;
use celeriac_actors::ports::{Broker, BrokerError, WorkerRecord};
use celeriac_actors::progress::Progress;
use celeriac_actors::time::Timestamp;

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
}

/// Returns for how many milliseconds a task has waited for a child process, where it does.
pub(crate) fn wait_of(workers: &[Worker], task: TaskId) -> Option<u64> {
    let alive = workers.iter().filter(|worker| worker.record.alive);
    let lanes = alive
        .flat_map(|worker| &worker.detail)
        .flat_map(|it| &it.lanes);
    let mut all = lanes.flat_map(|lane| &lane.waiting);
    all.find(|it| it.id == task).map(|it| it.elapsed_ms)
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
