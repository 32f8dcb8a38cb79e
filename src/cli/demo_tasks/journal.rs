//! `demo.journal`: tells a file when it starts and when it ends, so that whoever kills workers can see what ran twice.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::time::Duration;

use celeriac_actors::attempt::Attempt;
use celeriac_actors::policy::Policy;
use celeriac_actors::task::{Task, TaskError};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Appends one line of JSON to a file, works for so many milliseconds, and appends another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) ms: u64,
}

impl Task for Journal {
    const NAME: &'static str = "demo.journal";
    type Output = ();

    fn policy() -> Policy {
        super::quick()
    }
}

pub(super) async fn run(attempt: Attempt<Journal>) -> Result<(), TaskError> {
    note(&attempt, "start")?;
    tokio::time::sleep(Duration::from_millis(attempt.args.ms)).await;
    note(&attempt, "end")?;
    Ok(())
}

/// One write for a line: lines of several processes do not mix, and stand in the order in which they were written.
fn note(attempt: &Attempt<Journal>, what: &str) -> io::Result<()> {
    let line = json!({
        "what": what,
        "id": attempt.id().to_string(),
        "attempt": attempt.number(),
        "delivery": attempt.deliveries(),
        // The worker's, of which an isolated attempt is only a child.
        "worker": attempt.worker().as_str(),
    });
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&attempt.args.path)?;
    file.write_all(format!("{line}\n").as_bytes())
}
