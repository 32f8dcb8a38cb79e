//! The drawing of a tree: a line a child, with what happened to it. Pure.

use std::time::Duration;

use celeriac_actors::activity::{LaneActivity, Running};
use celeriac_actors::breaker::BreakerView;
use celeriac_actors::child::{ChildState, TreeNode};
use celeriac_actors::ports::ChildStatus;
use celeriac_actors::time::Timestamp;

use super::super::output::counted;
use super::super::text::{brief, span, when};
use crate::look::workers::Worker;

/// The most attempts that are listed under a lane.
const MAX_RUNNING: usize = 8;

/// Draws a worker and everything below it.
pub(in crate::cli) fn worker(worker: &Worker, now: Timestamp) -> String {
    let record = &worker.record;
    let up = span(worker.up(now));
    let is = match worker.silent_since() {
        Some(at) => format!("SILENT, last seen {}, was up {up}", when(at, now)),
        None => format!(
            "{}, up {up}, {}/{} running",
            worker.state(),
            worker.running(),
            record.concurrency
        ),
    };
    let version = brief(&record.version, 40);
    let mut lines = vec![format!("{}  {is}, version {version}", record.worker)];
    lines.extend(worker.outages());
    lines.extend(worker.spent_budgets());
    match &worker.detail {
        Some(detail) => {
            // Of one that is silent, all below is as it was then.
            let then = worker.silent_since().unwrap_or(now);
            lines.push(line(&detail.tree, then));
            let pen = Pen {
                lanes: &detail.lanes,
                breakers: &detail.breakers,
                now: then,
            };
            pen.below(&detail.tree, "", &mut lines);
            lines.extend(detail.children.iter().map(process));
            if detail.stuck_threads > 0 {
                let stuck = counted(detail.stuck_threads as u64, "thread");
                lines.push(format!(
                    "{stuck} STUCK in blocking work beyond its hard limit"
                ));
            }
        }
        None => lines.push("what it tells of its tree cannot be read by this version".to_owned()),
    }
    lines.join("\n")
}

/// Draws a child process.
fn process(child: &ChildStatus) -> String {
    let mut parts = vec![match (&child.task, child.id, child.running_ms) {
        (Some(task), Some(id), Some(ms)) => {
            let ran = span(Duration::from_millis(ms));
            format!("{task} {id} for {ran}")
        }
        _ => "idle".to_owned(),
    }];
    parts.push(format!("{} done", counted(child.attempts, "attempt")));
    parts.extend(child.memory.map(|bytes| format!("{} MiB", bytes >> 20)));
    format!("child process {}: {}", child.pid, parts.join(", "))
}

/// What is drawn below a child: its children, and for a lane what is on its threads.
struct Pen<'a> {
    lanes: &'a [LaneActivity],
    breakers: &'a [BreakerView],
    now: Timestamp,
}

impl Pen<'_> {
    fn below(&self, node: &TreeNode, indent: &str, lines: &mut Vec<String>) {
        let threads = self.lanes_of(node);
        let mut notes: Vec<String> = threads.iter().flat_map(|lane| activity(lane)).collect();
        if node.name == "breakers" {
            notes.extend(self.breakers.iter().map(|view| breaker(view, self.now)));
        }
        let total = notes.len() + node.children.len();
        let mut drawn = 0;
        let mut branch = || {
            drawn += 1;
            if drawn == total {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            }
        };
        for note in &notes {
            lines.push(format!("{indent}{}{note}", branch().0));
        }
        for child in &node.children {
            let (fork, below) = branch();
            lines.push(format!("{indent}{fork}{}", line(child, self.now)));
            self.below(child, &format!("{indent}{below}"), lines);
        }
    }

    fn lanes_of(&self, node: &TreeNode) -> Vec<&LaneActivity> {
        let index = node
            .name
            .strip_prefix("lane-")
            .and_then(|at| at.parse::<u16>().ok());
        let is_its = |lane: &&LaneActivity| Some(lane.lane) == index;
        self.lanes.iter().filter(is_its).collect()
    }
}

/// Draws a breaker as its worker sees it.
fn breaker(view: &BreakerView, now: Timestamp) -> String {
    let BreakerView {
        record,
        calls,
        failures,
        parked,
        ..
    } = view;
    let mut text = format!("{} {}", record.name, record.state.as_str());
    if record.turn > 0 {
        text.push_str(&format!(" since {}", span(now.since(record.since))));
    }
    text.push_str(&format!(", {failures} of {calls} failed, {parked} parked"));
    text
}

/// Draws one child: name, kind, state, and what is worth knowing of its life.
fn line(node: &TreeNode, now: Timestamp) -> String {
    let mut parts = vec![state(node.state).to_owned()];
    if let (ChildState::Up, Some(since)) = (node.state, node.up_since) {
        parts[0] = format!("up {}", span(now.since(since)));
    }
    if node.incarnation > 1 {
        parts.push(format!("incarnation {}", node.incarnation));
    }
    if node.restarts_total > 0 {
        parts.push(format!(
            "{} ({} in window)",
            counted(node.restarts_total, "restart"),
            node.restarts_in_window
        ));
    }
    if node.backlog > 0 {
        parts.push(format!("backlog {}", node.backlog));
    }
    if node.abandoned > 0 {
        parts.push(format!("{} abandoned", node.abandoned));
    }
    if node.stale {
        parts.push("STALE".to_owned());
    }
    if let Some(exit) = &node.last_exit {
        let reason = brief(&exit.reason.to_string(), 160);
        parts.push(format!("last exit {}: {reason}", when(exit.at, now)));
    }
    let kind = node.strategy.map_or_else(
        || node.kind.clone(),
        |strategy| {
            let name = serde_json::to_value(strategy).unwrap_or_default();
            format!("{}, {}", node.kind, name.as_str().unwrap_or_default())
        },
    );
    format!(
        "{} ({})  {}",
        brief(&node.name, 100),
        brief(&kind, 100),
        parts.join(", ")
    )
}

/// Returns the word for a state; loud where somebody should look.
fn state(state: ChildState) -> &'static str {
    match state {
        ChildState::Waiting => "waiting",
        ChildState::Starting => "starting",
        ChildState::Up => "up",
        ChildState::Unresponsive => "UNRESPONSIVE",
        ChildState::Stopping => "stopping",
        ChildState::Restarting => "RESTARTING",
        ChildState::Parked => "PARKED",
        ChildState::Ended => "ended",
    }
}

/// Draws what is on one thread of a lane.
fn activity(lane: &LaneActivity) -> Vec<String> {
    let holds = lane.running_total + lane.prefetched + lane.waiting_total;
    let is_idle = holds == 0 && lane.blocked_by.is_none();
    if is_idle && !lane.retired {
        return Vec::new();
    }
    let retired = if lane.retired {
        " (replaced, finishes what it holds)"
    } else {
        ""
    };
    let childless = match lane.waiting_total {
        0 => String::new(),
        count => format!(", {count} waiting for a child"),
    };
    let mut lines = vec![format!(
        "* thread {}{retired}: {} running, {} prefetched{childless}",
        lane.generation, lane.running_total, lane.prefetched
    )];
    if let Some(culprit) = &lane.blocked_by {
        lines.push(format!("* BLOCKED by {}", running(culprit)));
    }
    let blocks = |it: &&Running| lane.blocked_by.as_ref().is_none_or(|by| by.id != it.id);
    let others: Vec<&Running> = lane.running.iter().filter(blocks).collect();
    for attempt in others.iter().take(MAX_RUNNING) {
        lines.push(format!("* {}", running(attempt)));
    }
    let shown = others.len().min(MAX_RUNNING) + usize::from(lane.blocked_by.is_some());
    let more = lane.running_total.saturating_sub(shown);
    if more > 0 {
        lines.push(format!("* … and {more} more"));
    }
    lines
}

fn running(running: &Running) -> String {
    format!(
        "{} {} (queue {}, attempt {}, for {})",
        running.task,
        running.id,
        running.queue,
        running.attempt,
        span(Duration::from_millis(running.elapsed_ms))
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::WorkerDetail;
    use celeriac_actors::child::{ExitReason, LastExit, Strategy};
    use celeriac_actors::ids::{QueueName, TaskId, TaskName, WorkerId};
    use celeriac_actors::ports::WorkerRecord;

    const NOW: Timestamp = Timestamp::from_millis(100_000);

    fn node(name: &str, kind: &str, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            name: name.to_owned(),
            kind: kind.to_owned(),
            state: ChildState::Up,
            incarnation: 1,
            restarts_in_window: 0,
            restarts_total: 0,
            last_exit: None,
            up_since: Some(Timestamp::from_millis(40_000)),
            backlog: 0,
            abandoned: 0,
            stale: false,
            strategy: (!children.is_empty()).then_some(Strategy::OneForOne),
            children,
        }
    }

    fn spin() -> Running {
        Running {
            id: TaskId::from_bytes([7; 16]),
            task: TaskName::new("demo.spin").unwrap(),
            queue: QueueName::new("default").unwrap(),
            attempt: 1,
            elapsed_ms: 7_000,
            limit_ms: 1_800_000,
        }
    }

    fn detail() -> WorkerDetail {
        let mut crashed = node("dead-letter", "DeadLetter", Vec::new());
        crashed.state = ChildState::Parked;
        crashed.incarnation = 3;
        crashed.restarts_total = 2;
        crashed.restarts_in_window = 1;
        crashed.backlog = 4;
        crashed.last_exit = Some(LastExit {
            reason: ExitReason::error("no\nway"),
            at: Timestamp::from_millis(98_000),
        });
        let lane = node(
            "lane-0",
            "Supervisor",
            vec![node("thread", "LaneThread", Vec::new())],
        );
        let work = node("work", "Supervisor", vec![lane]);
        WorkerDetail {
            breakers: Vec::new(),
            tree: node("celeriac", "Supervisor", vec![crashed, work]),
            lanes: vec![LaneActivity {
                lane: 0,
                generation: 1,
                retired: false,
                prefetched: 2,
                running: vec![spin()],
                running_total: 1,
                waiting: Vec::new(),
                waiting_total: 3,
                progress: Vec::new(),
                blocked_by: Some(spin()),
            }],
            children: Vec::new(),
            stuck_threads: 0,
            broker_away: Some((5_000, "no route".to_owned())),
            store_away: None,
            retry_budgets: Vec::new(),
            http: None,
            figures: Vec::new(),
            told_at: None,
            tasks: None,
            queue_caps: Vec::new(),
        }
    }

    /// A worker that has told of a tree with a crashed child and a blocked thread.
    pub(in super::super) fn worker(name: &str) -> Worker {
        Worker {
            record: WorkerRecord {
                worker: WorkerId::new(name).unwrap(),
                host: "web".to_owned(),
                pid: 7,
                version: "1.0".to_owned(),
                queues: Vec::new(),
                concurrency: 4,
                started_at: Timestamp::from_millis(30_000),
                quiet: false,
                detail: String::new(),
                beat: Duration::from_secs(1),
                seen_at: Timestamp::from_millis(99_000),
                alive: true,
            },
            detail: Some(detail()),
        }
    }

    #[test]
    fn everything_worth_knowing_is_drawn() {
        let drawn = super::worker(&worker("web:7:aa"), NOW);
        let expected = "\
web:7:aa  alive, up 1m 10s, 1/4 running, version 1.0
web:7:aa: the broker has been away for 5.0s: no route
celeriac (Supervisor, one_for_one)  up 1m 0s
├── dead-letter (DeadLetter)  PARKED, incarnation 3, 2 restarts (1 in window), backlog 4, last exit 2.0s ago: error: no\\nway
└── work (Supervisor, one_for_one)  up 1m 0s
    └── lane-0 (Supervisor, one_for_one)  up 1m 0s
        ├── * thread 1: 1 running, 2 prefetched, 3 waiting for a child
        ├── * BLOCKED by demo.spin 07070707-0707-0707-0707-070707070707 (queue default, attempt 1, for 7.0s)
        └── thread (LaneThread)  up 1m 0s";
        assert_eq!(drawn, expected);
    }

    #[test]
    fn what_is_silent_or_cannot_be_read_says_so() {
        let mut silent = worker("web:7:aa");
        silent.record.alive = false;
        silent.detail = None;
        let drawn = super::worker(&silent, NOW);
        assert!(drawn.contains("SILENT, last seen 1.0s ago"), "{drawn}");
        assert!(drawn.contains("cannot be read by this version"), "{drawn}");
    }
}
