//! Dead letters: lists, one of them, and counts.

use celeriac_actors::ids::{QueueName, TaskName};
use celeriac_actors::ports::{DeadCursor, DeadFilter, DeadLetters as _, DeadStatus};
use celeriac_actors::state::DeadReason;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::cursor;
use super::params::{AFTER, Kind, LIMIT, Param};
use super::problem::Problem;
use super::routes::{Endpoint, shows};
use crate::admin::dead::{Letters, read};
use crate::admin::letter::{Brief, Full};
use crate::look::Patience;

const fn filter(name: &'static str, kind: Kind, doc: &'static str) -> Param {
    Param { name, kind, doc }
}

const QUEUE: Param = filter("queue", Kind::Text, "Only those that died in this queue.");
const TASK: Param = filter("task", Kind::Text, "Only tasks of this kind.");
const REASON: Param = filter(
    "reason",
    Kind::Text,
    "Only those that died for this reason, such as `exhausted`.",
);
const STATUS: Param = filter(
    "status",
    Kind::Word(&["new", "reviving", "revived", "discarded"]),
    "Only those in this status.",
);
const SINCE: Param = filter(
    "since",
    Kind::Moment,
    "Only those buried then or later: RFC 3339, a day, or an age such as `2h`.",
);
const UNTIL: Param = filter("until", Kind::Moment, "Only those buried before.");

pub(super) const ROUTES: &[Endpoint] = &[
    shows(
        "/api/v1/dead",
        "Dead letters, newest first, without their arguments.",
        &[QUEUE, TASK, REASON, STATUS, SINCE, UNTIL, LIMIT, AFTER],
        || serve(list),
    ),
    shows(
        "/api/v1/dead/stats",
        "How many dead letters there are, by queue, task, reason, status and day.",
        &[QUEUE, TASK, REASON, STATUS, SINCE, UNTIL],
        || serve(stats),
    ),
    shows(
        "/api/v1/dead/letters/{id}",
        "Everything that is known of one dead letter, `TASK_ID-NUMBER`, or of a task that has only one.",
        &[],
        || serve(show),
    ),
];

/// Returns the letters of the store.
pub(super) fn letters(asked: &Asked) -> Result<Letters<'_>, Problem> {
    Ok(Letters {
        store: &asked.work()?.store,
        patience: Patience::NONE,
    })
}

/// A filter as it is written: in a query, or in a body.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) queue: Option<&'a str>,
    pub(super) task: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) status: Option<&'a str>,
}

impl Written<'_> {
    /// Reads it; its instants are added by the caller.
    pub(super) fn read(&self) -> Result<DeadFilter, Problem> {
        let said = |key: &str, why: String| Problem::invalid(format!("`{key}`: {why}"));
        let reasons = || {
            let names: Vec<&str> = DeadReason::ALL
                .into_iter()
                .map(DeadReason::as_str)
                .collect();
            format!("it is one of {}", names.join(", "))
        };
        let statuses = || "it is new, reviving, revived or discarded".to_owned();
        let status = |text| {
            DeadStatus::ALL
                .into_iter()
                .find(|status| status.as_str() == text)
        };
        Ok(DeadFilter {
            queue: match self.queue {
                Some(name) => {
                    Some(QueueName::new(name).map_err(|why| said("queue", why.to_string()))?)
                }
                None => None,
            },
            task: match self.task {
                Some(name) => {
                    Some(TaskName::new(name).map_err(|why| said("task", why.to_string()))?)
                }
                None => None,
            },
            reason: match self.reason {
                Some(name) => Some(
                    name.parse::<DeadReason>()
                        .map_err(|_| said("reason", reasons()))?,
                ),
                None => None,
            },
            status: match self.status {
                Some(name) => Some(status(name).ok_or_else(|| said("status", statuses()))?),
                None => None,
            },
            ..DeadFilter::default()
        })
    }
}

/// Reads the filter of a query.
fn asked_for(asked: &Asked) -> Result<DeadFilter, Problem> {
    let params = &asked.params;
    let written = Written {
        queue: params.text("queue"),
        task: params.text("task"),
        reason: params.text("reason"),
        status: params.text("status"),
    };
    Ok(DeadFilter {
        since: params.moment("since", asked.now),
        until: params.moment("until", asked.now),
        ..written.read()?
    })
}

async fn list(asked: Asked) -> Answer {
    let filter = asked_for(&asked)?;
    let after: Option<DeadCursor> = asked.params.text("after").map(cursor::read).transpose()?;
    let limit = asked.params.count("limit");
    let page = asked.work()?.store.list(&filter, after, limit).await?;
    let rows: Vec<Value> = page
        .letters
        .iter()
        .map(|letter| {
            let mut row = json!(Brief::of(letter));
            // One letter shows them; a page of them would have no bound.
            if let Some(fields) = row.as_object_mut() {
                fields.remove("args");
            }
            row
        })
        .collect();
    json(&json!({ "letters": rows, "next": page.next.as_ref().map(cursor::write) }))
}

async fn stats(asked: Asked) -> Answer {
    let filter = asked_for(&asked)?;
    json(&asked.work()?.store.stats(&filter).await?)
}

async fn show(asked: Asked) -> Answer {
    let wanted = read(asked.segment("id"));
    let wanted = wanted.ok_or_else(|| {
        Problem::invalid("no id of a dead letter; it has the form TASK_ID-NUMBER")
    })?;
    let letter = letters(&asked)?.find(wanted, false).await?;
    json(&Full::of(&letter, &asked.shared.ground.limits))
}
