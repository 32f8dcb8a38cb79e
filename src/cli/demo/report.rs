//! What the demo prints at its end: the tree, the queues, the dead letters, the audit.

use celeriac_actors::child::{ChildState, Strategy, TreeNode};
use celeriac_actors::ports::{DeadLetter, DeadStats, QueueStatus, WorkerRecord};
use serde::Serialize;

use super::audit::Audit;
use crate::cli::output;
use crate::runtime::WorkerDetail;

/// How many dead letters are shown.
const LETTERS: usize = 8;

/// Everything that is known at the end.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) workers: Vec<WorkerRecord>,
    pub(super) queues: Vec<QueueStatus>,
    pub(super) dead: DeadStats,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) audit: Audit,
    /// What did not end as it must.
    pub(super) wrong: Vec<String>,
}

impl Report {
    /// Prints it for people.
    pub(super) fn print(&self) {
        output::line("\nThe tree of one worker");
        if let Some(tree) = self.workers.iter().find_map(tree_of) {
            let mut lines = Vec::new();
            draw(&tree, "", "", &mut lines);
            lines.iter().for_each(|line| output::line(line));
        }
        output::line("\nThe queues");
        output::line(&queues(&self.queues));
        output::line(&format!("\nThe dead letters ({})", self.dead.total));
        output::line(&self.dead_table());
        for wrong in &self.wrong {
            output::line(&format!("\nWRONG: {wrong}"));
        }
        output::line("\nThe audit, from the broker's own counters");
        output::line(&self.audit.to_string());
    }

    fn dead_table(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for letter in self.letters.iter().take(LETTERS) {
            let last = letter.failures.last();
            let said = last.map_or(letter.note.as_str(), |failure| failure.message.as_str());
            rows.push(vec![
                letter.id.to_string().chars().take(13).collect(),
                letter
                    .task
                    .as_ref()
                    .map_or_else(|| "?".to_owned(), ToString::to_string),
                letter.reason.to_string(),
                letter.status.to_string(),
                letter.attempts.to_string(),
                said.chars().take(60).collect(),
            ]);
        }
        let head = ["ID", "TASK", "REASON", "STATUS", "ATTEMPTS", "LAST FAILURE"];
        let mut text = output::table(&head, &rows);
        let counts = |rows: &[celeriac_actors::ports::StatsRow]| {
            let parts = rows.iter().map(|row| format!("{} {}", row.count, row.key));
            parts.collect::<Vec<_>>().join(", ")
        };
        text.push_str(&format!("\nby reason: {}", counts(&self.dead.by_reason)));
        text.push_str(&format!("\nby status: {}", counts(&self.dead.by_status)));
        text
    }
}

fn tree_of(record: &WorkerRecord) -> Option<TreeNode> {
    let detail: WorkerDetail = serde_json::from_str(&record.detail).ok()?;
    Some(detail.tree)
}

/// Draws a node and what is below it; queue consumers of one lane share a line, for there are many.
fn draw(node: &TreeNode, lead: &str, below: &str, lines: &mut Vec<String>) {
    let strategy = node.strategy.map_or("", strategy_name);
    let restarts = match node.restarts_total {
        0 => String::new(),
        1 => "  1 restart".to_owned(),
        many => format!("  {many} restarts"),
    };
    let name = format!("{lead}{}", node.name);
    let state = state_name(node.state);
    let line = format!("{name:<34}{state:<13}{strategy}{restarts}");
    lines.push(line.trim_end().to_owned());
    let last = node.children.len().saturating_sub(1);
    for (at, child) in node.children.iter().enumerate() {
        let (lead, inner) = if at == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        draw(
            child,
            &format!("{below}{lead}"),
            &format!("{below}{inner}"),
            lines,
        );
    }
}

const fn strategy_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
    }
}

const fn state_name(state: ChildState) -> &'static str {
    match state {
        ChildState::Waiting => "waiting",
        ChildState::Starting => "starting",
        ChildState::Up => "up",
        ChildState::Unresponsive => "unresponsive",
        ChildState::Stopping => "stopping",
        ChildState::Restarting => "restarting",
        ChildState::Parked => "parked",
        ChildState::Ended => "ended",
    }
}

fn queues(queues: &[QueueStatus]) -> String {
    let head = [
        "QUEUE",
        "HELD",
        "ENQUEUED",
        "REVIVED",
        "SUCCEEDED",
        "DEAD",
        "RETRIED",
        "RESCUED",
        "RELEASED",
        "STALE",
    ];
    let row = |queue: &QueueStatus| {
        let counted = queue.counters;
        let numbers = [
            queue.held(),
            counted.enqueued,
            counted.revived,
            counted.succeeded,
            counted.dead,
            counted.retried,
            counted.rescued,
            counted.released,
            counted.stale,
        ];
        let numbers = numbers.iter().map(ToString::to_string);
        std::iter::once(queue.queue.to_string())
            .chain(numbers)
            .collect()
    };
    output::table(&head, &queues.iter().map(row).collect::<Vec<_>>())
}
