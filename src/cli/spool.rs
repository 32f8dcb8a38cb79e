//! The spool as commands show it.

use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::output::{counted, size};
use super::text::when;
use crate::config::Config;
use crate::spool::{OpenError, SpoolStatus, SqliteSpool};

/// What is seen of the spool that a configuration names.
#[derive(Debug)]
pub(crate) struct Seen {
    path: String,
    pub(crate) status: Result<SpoolStatus, OpenError>,
}

/// Looks at the spool, where one is configured.
pub(crate) fn look(config: &Config) -> Option<Seen> {
    let path = config.spool.as_deref()?;
    let empty = SpoolStatus {
        tasks: 0,
        bytes: 0,
        oldest: None,
        rejected: 0,
    };
    Some(Seen {
        path: path.display().to_string(),
        status: SqliteSpool::examine(path).map(|found| found.unwrap_or(empty)),
    })
}

impl Seen {
    /// Returns it as one line.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let path = &self.path;
        let status = match &self.status {
            Ok(status) => status,
            Err(error) => return error.to_string(),
        };
        let mut text = match status.oldest {
            Some(oldest) => format!(
                "{path}: {} ({}), the oldest came {}",
                waiting(status.tasks),
                size(status.bytes),
                when(oldest, now)
            ),
            None => format!("{path}: empty"),
        };
        if status.rejected > 0 {
            let rejected = counted(status.rejected, "task");
            text.push_str(&format!("; the broker rejected {rejected} for good"));
        }
        text
    }

    /// Returns it for programs.
    pub(crate) fn document(&self) -> Value {
        match &self.status {
            Ok(status) => json!({
                "path": self.path,
                "tasks": status.tasks,
                "bytes": status.bytes,
                "oldest": status.oldest.map(|at| at.to_string()),
                "rejected": status.rejected,
            }),
            Err(error) => json!({ "path": self.path, "error": error.to_string() }),
        }
    }
}

fn waiting(tasks: u64) -> String {
    match tasks {
        1 => "1 task waits".to_owned(),
        tasks => format!("{tasks} tasks wait"),
    }
}
