//! What the demo prints at its end: the tree, the queues, the dead letters, the audit.

use std::collections::BTreeMap;

use celeriac_actors::failure::cut;
use celeriac_actors::ids::TaskName;
use celeriac_actors::ports::{DeadLetter, DeadStats, QueueStatus};
use celeriac_actors::time::Clock;
use serde_json::{Value, json};

use super::audit::Audit;
use crate::cli::output;
use crate::cli::queues::counted;
use crate::cli::tree::draw;
use crate::clock::SystemClock;
use crate::look::workers::Worker;

/// How much of a failure's message is shown, in bytes.
const SAID: usize = 90;

/// Everything that is known at the end.
pub(super) struct Report {
    /// One of the workers, its tree complete.
    pub(super) worker: Worker,
    pub(super) queues: Vec<QueueStatus>,
    pub(super) dead: DeadStats,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) audit: Audit,
    /// What did not end as it must.
    pub(super) wrong: Vec<String>,
}

impl Report {
    /// Returns it as one document.
    pub(super) fn document(&self) -> Value {
        let detail = self.worker.detail.as_ref();
        json!({
            "tree": detail.map(|detail| &detail.tree),
            "queues": self.queues,
            "dead": self.dead,
            "audit": self.audit,
            "wrong": self.wrong,
        })
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        output::line("\nThe tree of one worker");
        output::line(&draw::worker(&self.worker, SystemClock.now()));
        output::line("\nThe queues");
        output::line(&counted(&self.queues));
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
