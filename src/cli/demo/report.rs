//! What the demo prints at its end: the tree, the queues, the dead letters, the audit.

use std::collections::BTreeMap;

use celeriac_actors::child::{ChildState, Strategy, TreeNode};
use celeriac_actors::failure::cut;
use celeriac_actors::ids::TaskName;
use celeriac_actors::ports::{DeadLetter, DeadStats, QueueStatus};
use serde::Serialize;

use super::audit::Audit;
use crate::cli::output;

/// How much of a failure's message is shown, in bytes.
const SAID: usize = 90;

/// Everything that is known at the end.
#[derive(Serialize)]
pub(super) struct Report {
    /// Of one worker.
    pub(super) tree: TreeNode,
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
        let mut lines = Vec::new();
        draw(&self.tree, "", "", &mut lines);
        lines.iter().for_each(|line| output::line(line));
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

    /// Letters that tell the same story share a line.
    fn dead_table(&self) -> String {
        let mut stories: BTreeMap<[String; 4], (usize, String)> = BTreeMap::new();
        for letter in &self.letters {
            let task = letter.task.as_ref().map_or("?", TaskName::as_str);
            let last = letter.failures.last();
            let said = last.map_or(letter.note.as_str(), |failure| failure.message.as_str());
            let story = [
                task.to_owned(),
                letter.reason.to_string(),
                letter.status.to_string(),
                letter.attempts.to_string(),
            ];
            let told = stories.entry(story);
            told.or_insert_with(|| (0, cut(said.to_owned(), SAID))).0 += 1;
        }
        let rows = stories.into_iter().map(|(story, (count, said))| {
            let count = count.to_string();
            [count].into_iter().chain(story).chain([said]).collect()
        });
        let head = [
            "COUNT",
            "TASK",
            "REASON",
            "STATUS",
            "ATTEMPTS",
            "LAST FAILURE",
        ];
        output::table(&head, &rows.collect::<Vec<_>>())
    }
}

/// Draws a node and what is below it.
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
