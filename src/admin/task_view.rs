//! How one task is named, and how it is shown as a document. Pure.

use celeriac_actors::context::Job;
use celeriac_actors::failure::Failure;
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::ids::{BurialId, TaskId};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::DeadLetter;
use celeriac_actors::progress::Progress;
use celeriac_actors::redact;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::millis;
use serde_json::{Map, Value, json};

use super::text::brief;
use super::values;
use crate::look::hunt::Found;
use crate::look::search::open;

/// Reads the id of a task; that of a dead letter is another one's argument.
pub(crate) fn read_id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|error| {
        let typed = brief(text, 60);
        match text.trim().parse::<BurialId>() {
            Ok(letter) => format!(
                "`{typed}` is the id of a dead letter: `dead show {letter}` shows it, `task show {}` its task",
                letter.task
            ),
            Err(_) => format!("`{typed}` is no id of a task: {error}"),
        }
    })
}

/// Returns everything as one document.
pub(crate) fn document(id: TaskId, found: &Found, limits: &FrameLimits) -> Value {
    let mut document = json!({ "id": id, "state": state(found) });
    if let Some((queue, end)) = &found.end {
        document["queue"] = json!(queue);
        document["attempts"] = end.attempts.into();
        if end.state == TaskState::Succeeded {
            document["result"] = values::show(&end.body, limits);
        } else {
            document["error"] = error_of(end, limits);
        }
    }
    if let Some(fate) = found.fate {
        document["revoked"] = json!(fate);
    }
    if let Some(why) = &found.unread {
        document["result_unread"] = json!(why);
    }
    if let Some((queue, task)) = &found.stored {
        document["queue"] = json!(queue);
        document["due"] = json!(task.due.map(|due| due.to_string()));
        document["worker"] = json!(task.holder.as_ref().map(|(worker, _)| worker));
        document["bytes"] = task.frame.len().into();
        match open(task.frame.clone(), limits) {
            Ok(job) => envelope(&mut document, &job, limits),
            Err(reason) => document["garbage"] = json!(reason),
        }
    }
    if let Some(progress) = progress(found) {
        document["progress"] = json!({
            "done": progress.done,
            "total": progress.total,
            "percent": progress.percent(),
            "note": progress.note,
            "at": progress.at.to_string(),
        });
    }
    if let Some(millis) = found.waits_ms {
        document["waiting_for_child_ms"] = millis.into();
    }
    let letters: Vec<Value> = found.letters.iter().map(letter).collect();
    document["dead_letters"] = letters.into();
    document
}

/// Returns how far it has come: what its running attempt says, else what was kept with its end.
pub(crate) fn progress(found: &Found) -> Option<&Progress> {
    let of_end = found
        .end
        .as_ref()
        .and_then(|(_, end)| end.progress.as_ref());
    found.progress.as_ref().or(of_end)
}

/// Where the task stands: what lives counts more than how an earlier life ended.
fn state(found: &Found) -> TaskState {
    match (&found.stored, &found.end) {
        (Some((_, task)), _) => task.state,
        (None, Some((_, end))) => end.state,
        (None, None) => TaskState::Dead,
    }
}

fn envelope(document: &mut Value, job: &Job, limits: &FrameLimits) {
    let (header, envelope) = (&job.header, &job.envelope);
    let overrides = &envelope.overrides;
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    set("task", json!(envelope.task));
    set("priority", json!(header.priority));
    set("attempts", json!(header.attempts));
    set("deliveries", json!(header.deliveries));
    set("strikes", json!(header.strikes));
    set("revival", json!(envelope.revival));
    set("snoozes", json!(envelope.snoozes));
    set("enqueued_at", json!(header.enqueued_at.to_string()));
    set(
        "expires_at",
        json!(header.expires_at.map(|at| at.to_string())),
    );
    set("waited_for", json!(header.want_outcome));
    set(
        "unknown_since",
        json!(envelope.unknown_since.map(|at| at.to_string())),
    );
    set("headers", json!(envelope.headers));
    set("max_attempts", json!(overrides.max_attempts));
    set("soft_limit_ms", json!(overrides.soft_limit_ms));
    set("hard_limit_ms", json!(overrides.hard_limit_ms));
    set(
        "retry_until",
        json!(overrides.retry_until.map(|at| at.to_string())),
    );
    set("result_ttl_ms", json!(overrides.result_ttl_ms));
    let mut args = values::show(job.args(), limits);
    redact::value(&mut args, &envelope.sensitive);
    set("args", args);
    set("failures", envelope.history.iter().map(failure).collect());
    fields.retain(|_, value| !value.is_null());
    if let Value::Object(document) = document {
        document.extend(fields);
    }
}

fn failure(failure: &Failure) -> Value {
    json!({
        "attempt": failure.attempt,
        "at": failure.at.to_string(),
        "worker": failure.worker,
        "elapsed_ms": millis(failure.elapsed),
        "kind": failure.kind,
        "message": failure.message,
        "causes": failure.causes,
        "location": failure.location,
        "backtrace": failure.backtrace,
    })
}

fn letter(letter: &DeadLetter) -> Value {
    let args = letter.args.as_ref().map(|text| {
        let parsed = serde_json::from_str(text);
        parsed.unwrap_or_else(|_| Value::String(text.clone()))
    });
    json!({
        "letter": letter.id.to_string(),
        "queue": letter.queue,
        "task": letter.task,
        "reason": letter.reason,
        "note": letter.note,
        "status": letter.status,
        "revivals": letter.revivals,
        "attempts": letter.attempts,
        "deliveries": letter.deliveries,
        "enqueued_at": letter.enqueued_at.map(|at| at.to_string()),
        "buried_at": letter.buried_at.to_string(),
        "worker": letter.worker,
        "headers": letter.headers,
        "args": args,
        "failures": letter.failures.iter().map(failure).collect::<Vec<_>>(),
    })
}

/// Returns why a task did not succeed.
pub(crate) fn error_of(record: &FinalRecord, limits: &FrameLimits) -> Value {
    if let Ok(failure) = decode_value::<Failure>(&record.body, limits) {
        let mut error = json!({ "kind": failure.kind, "message": failure.message });
        if !failure.causes.is_empty() {
            error["causes"] = failure.causes.into();
        }
        if let Some(location) = failure.location {
            error["location"] = location.into();
        }
        return error;
    }
    let message = match record.state {
        TaskState::Cancelled => "it was revoked",
        TaskState::Expired => "it was not started before it expired",
        _ => "its failure was not kept",
    };
    json!({ "kind": record.state, "message": message })
}
