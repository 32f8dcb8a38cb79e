//! `celeriac spool`: what waits in the spool and what the broker rejected; and the spool as other commands show it.

mod rejected;

use std::path::Path;

use celeriac_actors::time::Clock as _;
use celeriac_actors::time::Timestamp;
use clap::Subcommand;
use serde_json::{Value, json};

use self::rejected::RejectedCommand;
use super::Global;
use super::exit::{Exit, Failure};
use super::output::{self, counted, size};
use super::session::{Session, spool_failure};
use super::text::when;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::spool::{OpenError, SpoolStatus, SqliteSpool};

/// Looks after the spool.
#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// Show how much waits in it, since when, and how many tasks the broker rejected.
    Status,
    /// List, show, retry and drop the tasks that the broker rejected for good.
    #[command(subcommand)]
    Rejected(RejectedCommand),
}

pub(crate) fn run(command: &SpoolCommand, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    match command {
        SpoolCommand::Status => status(&session),
        SpoolCommand::Rejected(command) => rejected::run(command, &session),
    }
}

fn status(session: &Session) -> Result<Exit, Failure> {
    let seen = look(&session.config).ok_or_else(no_spool)?;
    if session.json {
        output::json(&seen.document());
    } else if seen.status.is_ok() {
        output::line(&seen.text(SystemClock.now()));
    }
    seen.status.map(|_| Exit::Ok).map_err(spool_failure)
}

/// Returns the file that the configuration names.
fn path(session: &Session) -> Result<&Path, Failure> {
    session.config.spool.as_deref().ok_or_else(no_spool)
}

fn no_spool() -> Failure {
    Failure::usage("there is no spool: `spool = \"FILE\"` in the configuration names one")
}

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
            text.push_str(&format!(
                "; the broker rejected {rejected} for good (`celeriac spool rejected list`)"
            ));
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
