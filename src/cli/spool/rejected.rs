//! `celeriac spool rejected list|show|retry|drop`: the tasks that the broker rejected for good, and what becomes of them.

use std::path::Path;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::time::{Clock as _, Timestamp};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted, plain, size};
use super::super::session::{Session, spool_failure};
use super::super::text::{brief, when};
use super::super::values;
use crate::clock::SystemClock;
use crate::look::search;
use crate::spool::{PutBack, Rejected, SqliteSpool};

/// How many are read at a time.
const PAGE: u32 = 100;
/// How many are shown to people who do not say how many they want.
const SHOWN: u64 = 50;
/// How much of a reason fits beside the rest.
const REASON: usize = 80;

const HEAD: [&str; 6] = ["NUMBER", "CAME", "QUEUE", "TASK", "SIZE", "REASON"];

/// Looks after the tasks that the broker rejected for good.
#[derive(Debug, Subcommand)]
pub(crate) enum RejectedCommand {
    /// List them in the order in which they came; the first 50 unless --limit says more, all of them with --json.
    List {
        /// At most so many.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show everything that is known of one.
    Show {
        /// Its number, as `list` tells it.
        #[arg(value_name = "NUMBER")]
        number: i64,
    },
    /// Put them back into the spool, behind everything of their queues, to be sent once more.
    Retry(Choice),
    /// Drop them for good.
    Drop {
        #[command(flatten)]
        choice: Choice,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which ones.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// Their numbers, as `list` tells them.
    #[arg(
        value_name = "NUMBER",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    numbers: Vec<i64>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(command: &RejectedCommand, session: &Session) -> Result<Exit, Failure> {
    let path = super::path(session)?;
    match command {
        RejectedCommand::List { limit } => list(session, path, *limit),
        RejectedCommand::Show { number } => show(session, path, *number),
        RejectedCommand::Retry(choice) => retry(session, path, choice),
        RejectedCommand::Drop { choice, yes } => drop_them(session, path, choice, *yes),
    }
}

fn list(session: &Session, path: &Path, limit: Option<u64>) -> Result<Exit, Failure> {
    let most = limit.unwrap_or(if session.json { u64::MAX } else { SHOWN });
    let (mut after, mut shown, mut rows) = (0, 0, Vec::new());
    let has_more = 'all: loop {
        let page = SqliteSpool::rejected(path, after, PAGE).map_err(spool_failure)?;
        let Some(last) = page.last() else {
            break false;
        };
        after = last.number;
        for task in &page {
            if shown == most {
                break 'all true;
            }
            shown += 1;
            match session.json {
                true => output::json(&document(task, &limits(session, task))),
                false => rows.push(row(task, &limits(session, task))),
            }
        }
    };
    if !session.json && rows.is_empty() {
        output::complain("no rejected tasks");
    } else if !session.json {
        output::line(&output::table(&HEAD, &rows));
        if has_more {
            output::complain(&format!("the first {shown}; --limit N shows more"));
        }
    }
    Ok(Exit::Ok)
}

fn show(session: &Session, path: &Path, number: i64) -> Result<Exit, Failure> {
    let found = SqliteSpool::rejected_one(path, number).map_err(spool_failure)?;
    let task = found.ok_or_else(|| missing(number))?;
    let document = document(&task, &limits(session, &task));
    if session.json {
        output::json(&document);
        return Ok(Exit::Ok);
    }
    for (key, value) in document.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => plain(text),
            other => plain(&other.to_string()),
        };
        output::line(&format!("{key:<14}{text}"));
    }
    Ok(Exit::Ok)
}

fn retry(session: &Session, path: &Path, choice: &Choice) -> Result<Exit, Failure> {
    let numbers = chosen(path, choice)?;
    let options = session.spool_options(path);
    let back = match SqliteSpool::put_back(&options, &numbers).map_err(spool_failure)? {
        PutBack::Done(back) => back,
        PutBack::Full => {
            return Err(Failure::unavailable(anyhow::anyhow!(
                "the spool has no room for them: let the broker take what waits, or raise `spool_max`; nothing was changed"
            )));
        }
    };
    if session.json {
        output::json(&json!({ "waiting": back }));
    } else {
        output::line(&format!(
            "put back {}: relayed by the next `celeriac enqueue` or `celeriac run` with this spool that finds the broker",
            counted(back, "task")
        ));
    }
    all_there(back, &numbers, choice)
}

fn drop_them(session: &Session, path: &Path, choice: &Choice, yes: bool) -> Result<Exit, Failure> {
    let numbers = chosen(path, choice)?;
    if !yes && !numbers.is_empty() {
        let what = counted(numbers.len() as u64, "rejected task");
        match output::confirm(&format!("drop {what} for good?")) {
            Some(true) => {}
            Some(false) => {
                let text = anyhow::anyhow!("nothing was dropped");
                return Err(Failure::new(Exit::TaskFailed, text));
            }
            None => {
                return Err(Failure::usage(format!(
                    "this drops {what} for good: say --yes"
                )));
            }
        }
    }
    let gone = SqliteSpool::drop_rejected(path, &numbers).map_err(spool_failure)?;
    if session.json {
        output::json(&json!({ "dropped": gone }));
    } else {
        output::line(&format!("dropped {}", counted(gone, "task")));
    }
    all_there(gone, &numbers, choice)
}

/// Returns the numbers that were chosen, each once.
fn chosen(path: &Path, choice: &Choice) -> Result<Vec<i64>, Failure> {
    let mut numbers = choice.numbers.clone();
    if choice.all {
        let mut after = 0;
        loop {
            let page = SqliteSpool::rejected(path, after, PAGE).map_err(spool_failure)?;
            let Some(last) = page.last() else {
                break;
            };
            after = last.number;
            numbers.extend(page.iter().map(|task| task.number));
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Says so when one that was named was not there.
fn all_there(done: u64, numbers: &[i64], choice: &Choice) -> Result<Exit, Failure> {
    let missing = (numbers.len() as u64).saturating_sub(done);
    if choice.all || missing == 0 {
        return Ok(Exit::Ok);
    }
    let of_them = format!("{missing} of {}", numbers.len());
    Err(Failure::usage(format!(
        "{of_them} numbers are none of a rejected task; `celeriac spool rejected list` has them"
    )))
}

fn missing(number: i64) -> Failure {
    Failure::usage(format!(
        "there is no rejected task {number}; `celeriac spool rejected list` has their numbers"
    ))
}

/// Returns bounds that a task fits in whose size may be what it was rejected for.
fn limits(session: &Session, task: &Rejected) -> FrameLimits {
    let limits = session.limits();
    FrameLimits {
        max_frame: limits.max_frame.max(task.frame.len()),
        ..limits
    }
}

fn document(task: &Rejected, limits: &FrameLimits) -> Value {
    let mut document = json!({
        "number": task.number,
        "queue": task.queue,
        "came": task.since.to_string(),
        "bytes": task.frame.len(),
        "reason": task.reason,
    });
    match search::open(task.frame.clone(), limits) {
        Ok(job) => {
            document["task"] = json!(job.envelope.task);
            document["id"] = json!(job.header.id);
            document["priority"] = json!(job.header.priority);
            document["args"] = values::show(job.args(), limits);
        }
        Err(garbage) => document["garbage"] = json!(garbage),
    }
    document
}

fn row(task: &Rejected, limits: &FrameLimits) -> Vec<String> {
    let now: Timestamp = SystemClock.now();
    let job = search::open(task.frame.clone(), limits);
    vec![
        task.number.to_string(),
        when(task.since, now),
        plain(&task.queue),
        job.map_or_else(|_| "?".to_owned(), |job| job.envelope.task.to_string()),
        size(task.frame.len() as u64),
        brief(&task.reason, REASON),
    ]
}
