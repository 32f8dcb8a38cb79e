//! How one task is shown: as a document, and as text. Pure.

use celeriac_actors::context::Job;
use celeriac_actors::failure::Failure;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::TaskId;
use celeriac_actors::ports::DeadLetter;
use celeriac_actors::progress::Progress;
use celeriac_actors::redact;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::{Timestamp, millis};
use serde_json::{Map, Value, json};

use super::super::enqueue::error_of;
use super::super::output::plain;
use super::super::text::{span, when};
use super::super::values;
use super::Found;
use crate::look::search::open;

/// Returns everything as one document.
pub(super) fn document(id: TaskId, found: &Found, limits: &FrameLimits) -> Value {
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
fn progress(found: &Found) -> Option<&Progress> {
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

/// Draws everything as text.
pub(super) fn draw(id: TaskId, found: &Found, limits: &FrameLimits, now: Timestamp) -> String {
    let mut document = document(id, found, limits);
    let letters = document["dead_letters"].take();
    if let Some(progress) = progress(found) {
        document["progress"] = progress.to_string().into();
    }
    if let Some(millis) = found.waits_ms {
        drop(document["waiting_for_child_ms"].take());
        let waited = span(std::time::Duration::from_millis(millis));
        document["waits"] = format!("for a child, {waited} so far").into();
    }
    let mut text = String::new();
    fields(&mut text, "", &document);
    if let Some((_, task)) = &found.stored
        && let Some(due) = task.due
    {
        text.push_str(&format!("{:<14}{}\n", "due", when(due, now)));
    }
    for letter in letters.as_array().into_iter().flatten() {
        text.push_str("\ndead letter\n");
        fields(&mut text, "  ", letter);
    }
    text.trim_end().to_owned()
}

/// Writes a line a field, failures one by one; what is empty is left out.
fn fields(text: &mut String, indent: &str, document: &Value) {
    const FIRST: [&str; 6] = ["id", "letter", "task", "state", "revoked", "queue"];
    let Some(fields) = document.as_object() else {
        return;
    };
    let first = FIRST.iter().filter_map(|key| fields.get_key_value(*key));
    let others = fields
        .iter()
        .filter(|(key, _)| !FIRST.contains(&key.as_str()));
    for (key, value) in first.chain(others) {
        let is_empty = match value {
            Value::Null => key != "result" && key != "args",
            Value::String(value) => value.is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty() && key != "args" && key != "result",
            Value::Bool(_) | Value::Number(_) => false,
        };
        if is_empty || key == "due" {
            continue;
        }
        if key == "failures" {
            value
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|it| failed(text, indent, it));
            continue;
        }
        let shown = match value {
            Value::String(value) => plain(value),
            value => plain(&value.to_string()),
        };
        text.push_str(&format!("{indent}{key:<14}{shown}\n"));
    }
}

fn failed(text: &mut String, indent: &str, failure: &Value) {
    let word = |key: &str| plain(failure[key].as_str().unwrap_or_default());
    text.push_str(&format!(
        "{indent}{:<14}{} after {} ms at {} on {}: {}\n",
        format!("attempt {}", failure["attempt"]),
        word("kind"),
        failure["elapsed_ms"],
        word("at"),
        word("worker"),
        word("message"),
    ));
    for cause in failure["causes"].as_array().into_iter().flatten() {
        let cause = plain(cause.as_str().unwrap_or_default());
        text.push_str(&format!("{indent}{:<14}because {cause}\n", ""));
    }
    if failure["location"].is_string() {
        text.push_str(&format!("{indent}{:<14}at {}\n", "", word("location")));
    }
    for line in failure["backtrace"].as_str().unwrap_or_default().lines() {
        text.push_str(&format!("{indent}{:<14}  {}\n", "", plain(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_actors::envelope::Envelope;
    use celeriac_actors::failure::FailureKind;
    use celeriac_actors::frame::{encode, encode_value};
    use celeriac_actors::header::{Header, Priority};
    use celeriac_actors::ids::{QueueName, TaskName};
    use celeriac_actors::ports::StoredTask;
    use std::time::Duration;

    fn found(frame: Vec<u8>) -> Found {
        let task = StoredTask {
            frame,
            state: TaskState::Retrying,
            due: Some(Timestamp::from_millis(9_000)),
            holder: None,
        };
        Found {
            stored: Some((QueueName::new("billing").unwrap(), task)),
            ..Found::default()
        }
    }

    fn frame() -> Vec<u8> {
        let header = Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 1,
            strikes: 0,
            attempts: 1,
            id: TaskId::from_bytes([7; 16]),
            enqueued_at: Timestamp::from_millis(1_000),
            expires_at: None,
        };
        let mut envelope = Envelope::new(TaskName::new("billing.charge").unwrap());
        envelope.history.push(
            Failure::new(FailureKind::Error, "declined\x1b[31m")
                .with_causes(["no money".to_owned()])
                .of(
                    1,
                    "w:1:a",
                    Timestamp::from_millis(2_000),
                    Duration::from_millis(12),
                ),
        );
        let args = encode_value(&json!({ "order": 7 })).unwrap();
        encode(header, &envelope, &args, &FrameLimits::default()).unwrap()
    }

    #[test]
    fn a_stored_task_shows_all_it_has() {
        let id = TaskId::from_bytes([7; 16]);
        let text = draw(
            id,
            &found(frame()),
            &FrameLimits::default(),
            Timestamp::from_millis(4_000),
        );
        for line in [
            "state         retrying",
            "task          billing.charge",
            "args          {\"order\":7}",
            "attempt 1     error after 12 ms at 1970-01-01T00:00:02.000Z on w:1:a: declined\\u{1b}[31m",
            "              because no money",
            "due           in 5.0s",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line:?} is not in\n{text}"
            );
        }
    }

    #[test]
    fn garbage_says_why() {
        let id = TaskId::from_bytes([7; 16]);
        let document = document(id, &found(vec![1, 2]), &FrameLimits::default());
        assert_eq!(
            document["garbage"],
            "a frame has at least 40 bytes, found 2"
        );
        assert_eq!(
            (&document["state"], &document["bytes"]),
            (&json!("retrying"), &json!(2))
        );
    }
}
