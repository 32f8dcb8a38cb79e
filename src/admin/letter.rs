//! Dead letters as JSON for programs: names in full, instants in RFC 3339, arguments as JSON.

use std::collections::BTreeMap;

use celeriac_actors::failure::Failure;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{BurialId, QueueName, TaskId, TaskName};
use celeriac_actors::letters::edited_args;
use celeriac_actors::ports::{DeadLetter, DeadStatus};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::millis;
use serde::Serialize;
use serde_json::Value;

/// How many bytes of an undecodable task are shown.
pub(crate) const HEX_HEAD: usize = 256;

/// One line of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Brief<'a> {
    id: String,
    task_id: TaskId,
    buried_at: String,
    enqueued_at: Option<String>,
    queue: &'a QueueName,
    task: Option<&'a TaskName>,
    reason: DeadReason,
    status: DeadStatus,
    attempts: u16,
    deliveries: u8,
    revivals: u32,
    worker: &'a str,
    message: &'a str,
    args: Option<Value>,
}

impl<'a> Brief<'a> {
    pub(crate) fn of(letter: &'a DeadLetter) -> Self {
        let BurialId { task: task_id, .. } = letter.id;
        Self {
            id: letter.id.to_string(),
            task_id,
            buried_at: letter.buried_at.to_string(),
            enqueued_at: letter.enqueued_at.map(|at| at.to_string()),
            queue: &letter.queue,
            task: letter.task.as_ref(),
            reason: letter.reason,
            status: letter.status,
            attempts: letter.attempts,
            deliveries: letter.deliveries,
            revivals: letter.revivals,
            worker: &letter.worker,
            message: letter.message(),
            args: args(letter),
        }
    }
}

/// Everything that is known of one.
#[derive(Debug, Serialize)]
pub(crate) struct Full<'a> {
    #[serde(flatten)]
    brief: Brief<'a>,
    note: &'a str,
    headers: &'a BTreeMap<String, String>,
    failures: Vec<Attempt<'a>>,
    /// What its revival sends instead of its own arguments, where somebody edited them.
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_args: Option<Value>,
    frame_bytes: usize,
    /// The start of the stored bytes in hexadecimal, where they do not decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_head: Option<String>,
}

/// One failed attempt.
#[derive(Debug, Serialize)]
struct Attempt<'a> {
    attempt: u16,
    at: String,
    worker: &'a str,
    elapsed_ms: u64,
    kind: &'static str,
    message: &'a str,
    causes: &'a [String],
    location: Option<&'a str>,
    backtrace: Option<&'a str>,
}

impl<'a> Full<'a> {
    pub(crate) fn of(letter: &'a DeadLetter, limits: &FrameLimits) -> Self {
        Self {
            brief: Brief::of(letter),
            note: &letter.note,
            headers: &letter.headers,
            failures: letter.failures.iter().map(Attempt::of).collect(),
            edited_args: edited_args(letter, limits).map(|text| parsed(&text)),
            frame_bytes: letter.frame.len(),
            frame_head: letter.args.is_none().then(|| hex(&letter.frame)),
        }
    }
}

impl<'a> Attempt<'a> {
    fn of(failure: &'a Failure) -> Self {
        Self {
            attempt: failure.attempt,
            at: failure.at.to_string(),
            worker: &failure.worker,
            elapsed_ms: millis(failure.elapsed),
            kind: failure.kind.as_str(),
            message: &failure.message,
            causes: &failure.causes,
            location: failure.location.as_deref(),
            backtrace: failure.backtrace.as_deref(),
        }
    }
}

/// Returns the arguments, where they decode.
pub(crate) fn args(letter: &DeadLetter) -> Option<Value> {
    letter.args.as_deref().map(parsed)
}

/// Returns JSON as a value. What the store holds is JSON; a hand that changed it is shown as what it wrote.
pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Returns the first bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes
        .iter()
        .take(HEX_HEAD)
        .map(|byte| format!("{byte:02x}"));
    digits.collect()
}
