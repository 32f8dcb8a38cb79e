//! Where facts come from: the broker's queues, worker records and breakers, and the machine's disks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::breaker::{Board, BoardError, BreakerRecord, BreakerState};
use celeriac_actors::child::{ChildState, TreeNode};
use celeriac_actors::health::{
    BlockedLane, Disk, Facts, OpenBreaker, Overdue, QueueFacts, Reach, WorkerFacts,
};
use celeriac_actors::ids::BreakerName;
use celeriac_actors::ports::{Broker, BrokerError, QueueStatus, WorkerRecord};
use celeriac_actors::time::Timestamp;

use super::rates::Rates;
use crate::runtime::WorkerDetail;

/// How many attempts beyond their limit one worker is blamed for.
const MAX_OVERDUE: usize = 20;

/// How long an attempt may be beyond its hard limit: the watchdog ends it within this time where it can.
const OVERDUE_AFTER: Duration = Duration::from_secs(3);

/// One worker, as it described itself last.
#[derive(Clone, Debug)]
pub struct SeenWorker {
    /// Its record.
    pub record: WorkerRecord,
    /// What it told of itself; `None` where that cannot be read here, as from another version.
    pub detail: Option<WorkerDetail>,
}

/// Everything that the broker tells at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The queues it has heard of.
    pub queues: Vec<QueueStatus>,
    /// The workers.
    pub workers: Vec<SeenWorker>,
    /// The breakers that workers use, and those on the board, as far as it was read.
    pub breakers: Vec<BreakerRecord>,
}

impl Seen {
    /// Reads it.
    ///
    /// # Errors
    /// [`BrokerError`]: nothing is known; repeat.
    pub async fn read(broker: &Arc<dyn Broker>) -> Result<Self, BrokerError> {
        let records = broker.workers().await?;
        let workers = records.into_iter().map(|record| SeenWorker {
            detail: serde_json::from_str(&record.detail).ok(),
            record,
        });
        let workers: Vec<SeenWorker> = workers.collect();
        Ok(Self {
            queues: broker.queues().await?,
            breakers: breakers(&workers),
            workers,
        })
    }
}

impl Seen {
    /// Adds what stands on the board of breakers: the later word of each counts.
    #[must_use]
    pub fn with_board(mut self, board: &[BreakerRecord]) -> Self {
        for record in board {
            match self.breakers.iter_mut().find(|it| it.name == record.name) {
                Some(known) if known.turn >= record.turn => {}
                Some(known) => known.clone_from(record),
                None => self.breakers.push(record.clone()),
            }
        }
        self
    }
}

/// Reads the board of breakers.
///
/// # Errors
/// [`BrokerError`]: nothing is known; repeat.
pub async fn board(broker: &Arc<dyn Broker>) -> Result<Vec<BreakerRecord>, BrokerError> {
    match Board::of(Arc::clone(broker)).read().await {
        Err(BoardError::Broker(error)) => Err(error),
        // One that cannot be read here, as from another version, hides nothing else.
        board => Ok(board.unwrap_or_default().into_values().collect()),
    }
}

/// Returns the breakers as the living workers know them, each by the latest word.
fn breakers(workers: &[SeenWorker]) -> Vec<BreakerRecord> {
    let mut latest: BTreeMap<&BreakerName, &BreakerRecord> = BTreeMap::new();
    let alive = workers.iter().filter(|worker| worker.record.alive);
    for view in alive.flat_map(|it| &it.detail).flat_map(|it| &it.breakers) {
        let record = &view.record;
        let known = latest.entry(&record.name).or_insert(record);
        if known.turn < record.turn {
            *known = record;
        }
    }
    latest.into_values().cloned().collect()
}

/// What facts are made of beside what the broker tells.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Directories on the file systems that data lies on.
    pub directories: Vec<PathBuf>,
}

impl Sources {
    /// Makes facts of what was seen, or of that nothing could be.
    #[must_use]
    pub fn facts(
        &self,
        seen: Result<&Seen, Reach>,
        rates: &Rates,
        (store, disks, now): (Reach, Vec<Disk>, Timestamp),
    ) -> Facts {
        let mut facts = Facts {
            broker: Reach::Here,
            store,
            durability: Some(self.broker.durability()),
            evicts: self.broker.evicts(),
            disks,
            ..Facts::default()
        };
        match seen {
            Err(reach) => facts.broker = reach,
            Ok(seen) => {
                let queue = |status: &QueueStatus| queue_facts(status, rates, now);
                facts.queues = seen.queues.iter().map(queue).collect();
                facts.workers = seen.workers.iter().map(worker_facts).collect();
                facts.breakers = seen.breakers.iter().filter_map(open_breaker).collect();
            }
        }
        facts
    }

    /// Returns the file systems, each once. What cannot be looked at is left out: others say so. May block for as long as
    /// a file system does.
    #[must_use]
    pub fn disks(&self) -> Vec<Disk> {
        let mut disks: Vec<(u64, Disk)> = Vec::new();
        for directory in &self.directories {
            let Ok(found) = rustix::fs::statvfs(directory.as_path()) else {
                continue;
            };
            if found.f_blocks > 0 && disks.iter().all(|(id, _)| *id != found.f_fsid) {
                let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
                let disk = Disk {
                    path: directory.display().to_string(),
                    free: bytes(found.f_bavail),
                    total: bytes(found.f_blocks),
                };
                disks.push((found.f_fsid, disk));
            }
        }
        disks.into_iter().map(|(_, disk)| disk).collect()
    }
}

fn queue_facts(status: &QueueStatus, rates: &Rates, now: Timestamp) -> QueueFacts {
    let rate = rates.of(&status.queue);
    QueueFacts {
        queue: status.queue.clone(),
        ready: status.ready,
        active: status.active,
        paused: status.paused,
        dead_outbox: status.dead_outbox,
        oldest_ready: status
            .oldest_ready
            .filter(|_| status.ready > 0)
            .map(|at| now.since(at)),
        dead_per_minute: rate.dead_per_minute,
        attempts: rate.attempts,
        failed: rate.failed,
    }
}

fn open_breaker(record: &BreakerRecord) -> Option<OpenBreaker> {
    (record.state != BreakerState::Closed).then(|| OpenBreaker {
        name: record.name.clone(),
        since: record.since,
        cause: record.cause.clone(),
    })
}

fn worker_facts(seen: &SeenWorker) -> WorkerFacts {
    let record = &seen.record;
    let mut facts = WorkerFacts::well(record.worker.clone(), record.queues.clone());
    (facts.alive, facts.quiet) = (record.alive, record.quiet);
    let Some(detail) = &seen.detail else {
        return facts;
    };
    let away = |away: &Option<(u64, String)>| {
        let (millis, error) = away.as_ref()?;
        Some((Duration::from_millis(*millis), error.clone()))
    };
    facts.broker_away = away(&detail.broker_away);
    facts.store_away = away(&detail.store_away);
    facts.stuck_threads = detail.stuck_threads;
    let in_place = detail.lanes.iter().filter(|lane| !lane.retired);
    facts.lanes = in_place.count().max(1);
    for lane in &detail.lanes {
        if let Some(running) = &lane.blocked_by {
            facts.blocked.push(BlockedLane {
                lane: lane.lane,
                task: Some(running.task.clone()),
                id: Some(running.id),
            });
        }
        facts.overdue.extend(lane.running.iter().filter_map(|it| {
            let (ran, limit) = (
                Duration::from_millis(it.elapsed_ms),
                Duration::from_millis(it.limit_ms),
            );
            let over = it.limit_ms > 0 && ran > limit.saturating_add(OVERDUE_AFTER);
            over.then(|| Overdue {
                task: it.task.clone(),
                id: it.id,
                ran,
                limit,
            })
        }));
    }
    facts.overdue.truncate(MAX_OVERDUE);
    children(&detail.tree, "", &mut facts);
    facts.skew = detail.told_at.map(|told| {
        let seen = record.seen_at;
        told.since(seen).max(seen.since(told))
    });
    facts
}

/// Notes the children that crash, by their paths below the root.
fn children(node: &TreeNode, path: &str, facts: &mut WorkerFacts) {
    for child in &node.children {
        let path = match path {
            "" => child.name.clone(),
            path => format!("{path}/{}", child.name),
        };
        if child.state == ChildState::Parked {
            let why = child.last_exit.as_ref();
            let why = why.map_or_else(String::new, |exit| exit.reason.to_string());
            facts.parked.push((path.clone(), why));
        } else if child.restarts_in_window > 0 {
            facts.looping.push((path.clone(), child.restarts_in_window));
        }
        children(child, &path, facts);
    }
}

#[cfg(test)]
mod tests {
    use celeriac_actors::activity::{LaneActivity, Running};
    use celeriac_actors::ids::{QueueName, TaskId, TaskName, WorkerId};
    use celeriac_actors::testkit::{ManualClock, MemoryBroker};

    use super::*;

    fn record() -> WorkerRecord {
        WorkerRecord {
            worker: WorkerId::new("w").unwrap(),
            host: String::new(),
            pid: 1,
            version: String::new(),
            queues: vec![QueueName::new("billing").unwrap()],
            concurrency: 1,
            started_at: Timestamp::EPOCH,
            quiet: false,
            detail: String::new(),
            beat: Duration::from_secs(1),
            seen_at: Timestamp::from_millis(10_000),
            alive: true,
        }
    }

    fn node(name: &str, state: ChildState, crashes: usize, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: name.to_owned(),
            kind: String::new(),
            state,
            incarnation: 1,
            restarts_in_window: crashes,
            restarts_total: 0,
            last_exit: None,
            up_since: None,
            backlog: 0,
            abandoned: 0,
            stale: false,
            strategy: None,
            children,
        }
    }

    fn running(elapsed_ms: u64) -> Running {
        Running {
            id: TaskId::from_bytes([1; 16]),
            task: TaskName::new("a.b").unwrap(),
            queue: QueueName::new("billing").unwrap(),
            attempt: 1,
            elapsed_ms,
            limit_ms: 1_000,
        }
    }

    #[test]
    fn a_worker_s_word_is_taken_apart() {
        let parked = node("x", ChildState::Parked, 9, Vec::new());
        let loops = node("work", ChildState::Up, 2, vec![parked]);
        let lane = LaneActivity {
            lane: 3,
            generation: 1,
            retired: false,
            prefetched: 0,
            running: vec![running(1_500), running(9_000)],
            running_total: 2,
            waiting: Vec::new(),
            waiting_total: 0,
            progress: Vec::new(),
            blocked_by: Some(running(9_000)),
        };
        let detail = WorkerDetail {
            tree: node("celeriac", ChildState::Up, 0, vec![loops]),
            lanes: vec![lane],
            breakers: Vec::new(),
            children: Vec::new(),
            stuck_threads: 2,
            broker_away: Some((1_500, "no".to_owned())),
            store_away: None,
            retry_budgets: Vec::new(),
            figures: Vec::new(),
            told_at: Some(Timestamp::from_millis(3_000)),
            tasks: None,
            http: None,
            queue_caps: Vec::new(),
        };
        let seen = SeenWorker {
            record: record(),
            detail: Some(detail),
        };
        let facts = worker_facts(&seen);
        assert_eq!(facts.blocked.len(), 1);
        assert_eq!(facts.overdue.len(), 1, "{:?}", facts.overdue);
        assert_eq!(facts.parked, [("work/x".to_owned(), String::new())]);
        assert_eq!(facts.looping, [("work".to_owned(), 2)]);
        assert_eq!(facts.skew, Some(Duration::from_secs(7)));
        assert_eq!(facts.stuck_threads, 2);
        let away = Some((Duration::from_millis(1_500), "no".to_owned()));
        assert_eq!(facts.broker_away, away);
    }

    #[test]
    fn a_disk_is_told_once_and_what_is_not_there_not_at_all() {
        let clock = Arc::new(ManualClock::new());
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            broker: Arc::new(MemoryBroker::new(clock)),
            directories: vec![
                directory.path().to_owned(),
                directory.path().to_owned(),
                directory.path().join("nowhere"),
            ],
        };
        assert_eq!(sources.disks().len(), 1);
    }
}
