//! Replies of the scripts as values of the port.

use std::time::Duration;

use celeriac_actors::ids::{BurialId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::{DeadTask, Delivery, Exchanged, FinalRecord};
use celeriac_actors::ports::{BrokerError, Counters, QueueStatus};
use celeriac_actors::state::{DeadReason, TaskState};
use celeriac_actors::time::Timestamp;
use redis::Value;
use uuid::Uuid;

/// A reply that is not of the form its script has: another version's data, or not Redis at all.
pub(super) fn strange(what: &str) -> BrokerError {
    BrokerError::Schema(format!("the server's reply has an unknown form: {what}"))
}

/// Takes a reply apart, value by value.
pub(super) struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    pub(super) fn of(value: Value) -> Result<Self, BrokerError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(strange(&format!("{other:?} is no array"))),
        }
    }

    fn next(&mut self) -> Result<Value, BrokerError> {
        self.0.next().ok_or_else(|| strange("it is too short"))
    }

    pub(super) fn number<N: TryFrom<u64>>(&mut self) -> Result<N, BrokerError> {
        number(self.next()?)
    }

    pub(super) fn optional_number(&mut self) -> Result<Option<u64>, BrokerError> {
        match self.next()? {
            Value::Nil => Ok(None),
            value => number(value).map(Some),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, BrokerError> {
        bytes(self.next()?)
    }

    pub(super) fn text(&mut self) -> Result<String, BrokerError> {
        text(self.next()?)
    }

    pub(super) fn list(&mut self) -> Result<Vec<Value>, BrokerError> {
        match self.next()? {
            Value::Array(values) => Ok(values),
            other => Err(strange(&format!("{other:?} is no array"))),
        }
    }

    pub(super) fn rest(self) -> Vec<Value> {
        self.0.collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

pub(super) fn number<N: TryFrom<u64>>(value: Value) -> Result<N, BrokerError> {
    let number = match &value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number: u64| N::try_from(number).ok())
        .ok_or_else(|| strange(&format!("{value:?} is no number")))
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, BrokerError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        other => Err(strange(&format!("{other:?} is no string"))),
    }
}

pub(super) fn text(value: Value) -> Result<String, BrokerError> {
    String::from_utf8(bytes(value)?).map_err(|_| strange("a text is not UTF-8"))
}

pub(super) fn timestamp(value: Value) -> Result<Timestamp, BrokerError> {
    number(value).map(Timestamp::from_millis)
}

/// Reads the reply of `exchange.lua`.
pub(super) fn exchanged(value: Value, first_tag: u64) -> Result<Exchanged, BrokerError> {
    let mut parts = Parts::of(value)?;
    let now = Timestamp::from_millis(parts.number()?);
    let more = parts.number::<u64>()? == 1;
    let revocations = parts.number()?;
    let stale = parts.list()?.into_iter().map(number);
    let stale = stale.collect::<Result<_, _>>()?;
    let frames = parts.list()?;
    let mut deliveries = Vec::with_capacity(frames.len());
    for (tag, frame) in (first_tag..).zip(frames) {
        if frame != Value::Nil {
            let frame = bytes(frame)?;
            deliveries.push(Delivery { tag, frame });
        }
    }
    Ok(Exchanged {
        stale,
        deliveries,
        more,
        now,
        revocations,
    })
}

/// Reads the bytes of a record: ms to keep it, state, attempts, body.
pub(super) fn record(id: TaskId, stored: &[u8]) -> Result<FinalRecord, BrokerError> {
    let short = || strange("a result is too short");
    let (ttl, rest) = stored.split_first_chunk::<8>().ok_or_else(short)?;
    let (state, rest) = rest.split_first().ok_or_else(short)?;
    let (attempts, body) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (body, progress) = FinalRecord::split_body(body.to_vec());
    Ok(FinalRecord {
        id,
        state: match state {
            b's' => TaskState::Succeeded,
            b'c' => TaskState::Cancelled,
            b'e' => TaskState::Expired,
            b'd' => TaskState::Dead,
            _ => return Err(strange("a result is of an unknown state")),
        },
        body,
        progress,
        attempts: u16::from_be_bytes(*attempts),
        ttl: Duration::from_millis(u64::from_be_bytes(*ttl)),
    })
}

/// Reads members and numbers of a dead outbox.
pub(super) fn dead(queue: &QueueName, value: Value) -> Result<Vec<DeadTask>, BrokerError> {
    let mut parts = Parts::of(value)?;
    let mut dead = Vec::new();
    while !parts.is_empty() {
        let member = parts.bytes()?;
        let number = parts.number()?;
        dead.push(dead_task(queue, &member, number)?);
    }
    Ok(dead)
}

fn dead_task(queue: &QueueName, member: &[u8], number: u64) -> Result<DeadTask, BrokerError> {
    let short = || strange("a dead task is too short");
    let (id, rest) = member.split_first_chunk::<16>().ok_or_else(short)?;
    let (_number, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (ms, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    let (said, frame) = rest.split_at_checked(length).ok_or_else(short)?;
    let said = String::from_utf8_lossy(said);
    let mut said = said.splitn(3, '\n');
    let mut line = || said.next().unwrap_or_default();
    let reason = line();
    let worker = WorkerId::new(line()).or_else(|_| WorkerId::new("unknown"));
    // A newer version may know more reasons: its dead must not hold up all others.
    let (reason, note) = match reason.parse::<DeadReason>() {
        Ok(known) => (known, line().to_owned()),
        Err(_) => (DeadReason::Permanent, format!("{reason}: {}", line())),
    };
    Ok(DeadTask {
        burial: BurialId {
            task: TaskId::from(Uuid::from_bytes(*id)),
            number,
        },
        queue: queue.clone(),
        reason,
        note,
        frame: frame.to_vec(),
        buried_at: Timestamp::from_millis(u64::from_be_bytes(*ms)),
        worker: worker.map_err(|error| strange(&error.to_string()))?,
    })
}

/// Reads the reply of `status.lua`.
pub(super) fn status(queue: QueueName, value: Value) -> Result<QueueStatus, BrokerError> {
    let mut parts = Parts::of(value)?;
    Ok(QueueStatus {
        queue,
        ready: parts.number()?,
        scheduled: parts.number()?,
        retrying: parts.number()?,
        active: parts.number()?,
        dead_outbox: parts.number()?,
        paused: parts.number::<u64>()? == 1,
        consumers: parts.number()?,
        oldest_ready: parts.optional_number()?.map(Timestamp::from_millis),
        counters: counters(parts.list()?)?,
    })
}

fn counters(flat: Vec<Value>) -> Result<Counters, BrokerError> {
    let mut counters = Counters::default();
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        let value = number(value)?;
        match text(name)?.as_str() {
            "enqueued" => counters.enqueued = value,
            "succeeded" => counters.succeeded = value,
            "dead" => counters.dead = value,
            "cancelled" => counters.cancelled = value,
            "expired" => counters.expired = value,
            "retried" => counters.retried = value,
            "released" => counters.released = value,
            "rescued" => counters.rescued = value,
            "revived" => counters.revived = value,
            "stale" => counters.stale = value,
            "result_dropped" => counters.result_dropped = value,
            // Counted by another version.
            _ => {}
        }
    }
    Ok(counters)
}
