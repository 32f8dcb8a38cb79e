//! Calls of the port as the arguments that the scripts take.

use std::time::Duration;

use celeriac_actors::header::PRIORITY_OFFSET;
use celeriac_actors::ids::IncarnationId;
use celeriac_actors::lease::{ExchangeCall, FinalRecord, Outcome};
use celeriac_actors::ports::{EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::millis;
use redis::Cmd;

use super::keys::Keys;
use super::script::{ENQUEUE, EXCHANGE, EXCHANGE_WITH_RESULTS};

/// The longest time that is kept or waited, a hundred years: beyond it the server's arithmetic would break.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// Returns a length of time as the server counts it.
pub(super) fn ms(time: Duration) -> u64 {
    millis(time.min(LONGEST))
}

/// Returns an identity as the keys have it.
pub(super) fn hex(id: IncarnationId) -> String {
    id.as_uuid().simple().to_string()
}

pub(super) fn enqueue(keys: &Keys, call: &EnqueueCall) -> Cmd {
    let mut command = ENQUEUE.call(&keys.root(&call.queue));
    command
        .arg(call.channel.as_uuid().simple().to_string())
        .arg(call.number)
        .arg(call.number.saturating_sub(1))
        .arg(ms(call.remember).max(1))
        .arg(match call.kind {
            EnqueueKind::New => "enqueued",
            EnqueueKind::Revival => "revived",
        });
    command.arg(call.tasks.len());
    // Each run is one push at the server.
    for run in call.tasks.chunk_by(|a, b| level(a) == level(b)) {
        match run.first().and_then(level) {
            Some(level) => {
                command.arg(level).arg(run.len());
                for task in run {
                    command.arg(&task.frame);
                }
            }
            None => {
                command.arg("w").arg(run.len());
                for task in run {
                    waiting(&mut command, task);
                }
            }
        }
    }
    command
}

/// Returns the priority of a task that is ready at once.
fn level(task: &NewTask) -> Option<u8> {
    let ready = task.when == When::Now;
    // A frame without a header was refused before.
    ready.then(|| task.frame.get(PRIORITY_OFFSET).copied().unwrap_or_default())
}

fn waiting(command: &mut Cmd, task: &NewTask) {
    match task.when {
        When::Now => command.arg("+0"),
        When::After(delay) => command.arg(format!("+{}", ms(delay))),
        When::At(at) => command.arg(at.as_millis().min(ms(LONGEST) * 10)),
    };
    command.arg(&task.frame);
}

/// What a call keeps of results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Whether at another server.
    pub(super) elsewhere: bool,
    /// Whether with their bodies, which costs memory.
    pub(super) bodies: bool,
}

/// Returns a numbered call.
pub(super) fn exchange(keys: &Keys, call: &ExchangeCall, kept: Kept) -> Cmd {
    let script = if kept.bodies {
        &EXCHANGE_WITH_RESULTS
    } else {
        &EXCHANGE
    };
    let mut command = script.call(&keys.root(&call.queue));
    command
        .arg(hex(call.incarnation))
        .arg(call.number)
        .arg(call.number.wrapping_sub(1))
        .arg(call.want)
        .arg(call.first_tag)
        .arg(u8::from(kept.elsewhere))
        .arg(if kept.bodies { 0 } else { bodies(call) });
    for run in call
        .settlements
        .chunk_by(|a, b| is_plain(&a.outcome) == is_plain(&b.outcome))
    {
        if run.first().is_some_and(|first| is_plain(&first.outcome)) {
            command.arg("a").arg(run.len());
            for settled in run {
                command.arg(settled.tag);
            }
        } else {
            for settled in run {
                outcome(&mut command, settled.tag, &settled.outcome, kept.bodies);
            }
        }
    }
    command
}

fn is_plain(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Succeed { result: None })
}

/// Adds one outcome: kind, tag, frame, delay, record, reason, note.
pub(super) fn outcome(command: &mut Cmd, tag: u64, outcome: &Outcome, with_body: bool) {
    let none: &[u8] = b"";
    let (kind, frame, delay) = match outcome {
        Outcome::Succeed { .. } => ("s", none, Duration::ZERO),
        Outcome::Cancel { .. } => ("c", none, Duration::ZERO),
        Outcome::Expire { .. } => ("e", none, Duration::ZERO),
        Outcome::Retry { frame, delay } => ("r", frame.as_slice(), *delay),
        Outcome::Release { frame, delay } => ("l", frame.as_deref().unwrap_or(none), *delay),
        Outcome::Bury { frame, .. } => ("b", frame.as_deref().unwrap_or(none), Duration::ZERO),
    };
    let delay = if delay.is_zero() { 0 } else { ms(delay).max(1) };
    command.arg(kind).arg(tag).arg(frame).arg(delay);
    match outcome.record() {
        Some(kept) => command.arg(record(kept, with_body)),
        None => command.arg(none),
    };
    match outcome {
        Outcome::Bury { reason, note, .. } => command.arg(reason.as_str()).arg(note),
        _ => command.arg(none).arg(none),
    };
}

/// The bytes of a record in front of its body: id as hex, ms to keep it, state, attempts.
const RECORD_HEAD: usize = 32 + 8 + 1 + 2;

/// Returns what is kept of a task that ended, as the scripts take it.
fn record(record: &FinalRecord, with_body: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEAD + record.body.len());
    bytes.extend_from_slice(record.id.as_uuid().simple().to_string().as_bytes());
    bytes.extend_from_slice(&ms(record.ttl).max(1).to_be_bytes());
    bytes.push(match record.state {
        TaskState::Succeeded => b's',
        TaskState::Cancelled => b'c',
        TaskState::Expired => b'e',
        _ => b'd',
    });
    bytes.extend_from_slice(&record.attempts.to_be_bytes());
    if with_body {
        bytes.extend_from_slice(&record.stored_body());
    }
    bytes
}

/// Returns how many results of a call have bodies.
pub(super) fn bodies(call: &ExchangeCall) -> usize {
    let records = call.settlements.iter().filter_map(|s| s.outcome.record());
    records
        .filter(|record| !record.body.is_empty() || record.progress.is_some())
        .count()
}
