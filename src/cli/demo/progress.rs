//! What the demo says while it runs: lines, with a progress bar below them where somebody watches.

use std::time::Duration;

use celeriac_actors::ports::QueueStatus;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::cli::output;

/// How often a line about the progress is written where no bar is drawn.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

const TEMPLATE: &str = "  {bar:30.green/238} {pos}/{len} ended · {msg}";

/// The voice of the demo. Speaks on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    spoke: Instant,
}

impl Progress {
    /// Opens the bar over so many tasks.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self {
            bar,
            spoke: Instant::now(),
        }
    }

    /// Writes a line: what happens, in one or two words, and what there is to know.
    pub(super) fn say(&self, what: &str, more: &str) {
        self.bar
            .suspend(|| output::complain(&format!("  {what:<18}{more}")));
    }

    /// Shows the bar for a stage.
    pub(super) fn open(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// Takes the bar away.
    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Shows how far it is: `ended` of `all`.
    pub(super) fn show(&mut self, ended: u64, all: u64, queues: &[QueueStatus]) {
        let sum = |part: fn(&QueueStatus) -> u64| queues.iter().map(part).sum::<u64>();
        let state = format!(
            "ready {} · active {} · retrying {} · dead {}",
            sum(|q| q.ready),
            sum(|q| q.active),
            sum(|q| q.retrying),
            sum(|q| q.counters.dead),
        );
        if self.bar.is_hidden() {
            if self.spoke.elapsed() >= PLAIN_EVERY {
                self.spoke = Instant::now();
                output::complain(&format!("    {ended}/{all} ended · {state}"));
            }
            return;
        }
        self.bar.set_length(all);
        self.bar.set_position(ended);
        self.bar.set_message(state);
    }
}
