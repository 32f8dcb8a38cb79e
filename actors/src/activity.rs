//! What runs in this process, as data for people: which attempts, on which lane, and which of them blocks its thread.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::AttemptContext;
use crate::ids::{QueueName, TaskId, TaskName};
use crate::lane::{Board, LaneGauge};
use crate::progress::Progress;
use crate::table::AttemptTable;
use crate::time::millis;

/// One running attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The task.
    pub id: TaskId,
    /// Its kind.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Which attempt, 1-based.
    pub attempt: u16,
    /// How long it has been running, in milliseconds.
    pub elapsed_ms: u64,
    /// Its hard limit, in milliseconds; 0 where a worker of an earlier version does not tell.
    #[serde(default)]
    pub limit_ms: u64,
}

/// One thread of a lane and what is on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneActivity {
    /// The lane, from 0.
    pub lane: u16,
    /// 1 for the lane's first thread, one more for each replacement.
    pub generation: u64,
    /// Whether a fresh thread has taken its place; it only finishes what it holds.
    pub retired: bool,
    /// Deliveries it holds that have not started.
    pub prefetched: usize,
    /// Attempts that run, longest first; at most [`MAX_SHOWN`].
    pub running: Vec<Running>,
    /// How many attempts run.
    pub running_total: usize,
    /// Attempts that wait for a child process, longest first, with how long they have waited; at most [`MAX_SHOWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Running>,
    /// How many attempts wait for a child process; those are neither prefetched nor do they run.
    #[serde(default)]
    pub waiting_total: usize,
    /// How far attempts have come that say so, newest word first; at most [`MAX_PROGRESS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<(TaskId, Progress)>,
    /// The attempt whose code has not given the thread back since the last look, where the thread does not answer.
    pub blocked_by: Option<Running>,
}

/// The most attempts shown of one lane.
pub const MAX_SHOWN: usize = 64;

/// The most attempts of one lane whose progress is told.
pub const MAX_PROGRESS: usize = 256;

fn running(context: &AttemptContext) -> Running {
    Running {
        id: context.id(),
        task: context.task().clone(),
        queue: context.queue().clone(),
        attempt: context.number(),
        elapsed_ms: millis(context.elapsed()),
        limit_ms: millis(context.limits().hard),
    }
}

/// Returns what waits for a child process without having started.
fn waiting(tables: &[Arc<AttemptTable>]) -> Vec<Running> {
    let mut waiting = Vec::new();
    for table in tables {
        waiting.extend(table.waiters().into_iter().map(|waiter| Running {
            id: waiter.id,
            task: waiter.task,
            queue: table.queue.clone(),
            attempt: waiter.attempt,
            elapsed_ms: millis(waiter.since.elapsed()),
            limit_ms: 0,
        }));
    }
    waiting
}

fn lane(gauge: &LaneGauge) -> LaneActivity {
    let tables = gauge.tables();
    let (mut all, mut progress) = (Vec::new(), Vec::new());
    let mut waiting = waiting(&tables);
    let prefetched: usize = tables.iter().map(|table| table.counts().0).sum();
    let prefetched = prefetched.saturating_sub(waiting.len());
    for (_, context) in tables.iter().flat_map(|table| table.running()) {
        if context.waits_for_a_child() {
            waiting.push(Running {
                elapsed_ms: millis(context.age()),
                ..running(&context)
            });
            continue;
        }
        all.push(running(&context));
        progress.extend(context.report().get().map(|report| (context.id(), report)));
    }
    progress.sort_by_key(|(_, report)| std::cmp::Reverse(report.at));
    progress.truncate(MAX_PROGRESS);
    all.sort_by_key(|running| std::cmp::Reverse(running.elapsed_ms));
    let running_total = all.len();
    all.truncate(MAX_SHOWN);
    waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.elapsed_ms));
    let waiting_total = waiting.len();
    waiting.truncate(MAX_SHOWN);
    LaneActivity {
        lane: gauge.lane,
        generation: gauge.generation,
        retired: gauge.is_retired(),
        prefetched,
        running: all,
        running_total,
        waiting,
        waiting_total,
        progress,
        blocked_by: if gauge.is_blocked() {
            gauge.culprit().as_ref().map(running)
        } else {
            None
        },
    }
}

/// Returns what runs, lane by lane.
#[must_use]
pub fn of(board: &Board) -> Vec<LaneActivity> {
    let mut lanes: Vec<LaneActivity> = board.gauges().iter().map(|gauge| lane(gauge)).collect();
    lanes.sort_by_key(|lane| (lane.lane, lane.generation));
    lanes
}
