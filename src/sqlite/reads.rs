//! What can be seen of the broker: queues, dead tasks, workers, results, revocations, shared values.

use std::ops::ControlFlow;

use celeriac_actors::fence::BEATS_ALIVE;
use celeriac_actors::header::Header;
use celeriac_actors::ids::{BurialId, QueueName, TaskId};
use celeriac_actors::lease::{DeadTask, FinalRecord};
use celeriac_actors::ports::{BrokerError, QueueStatus, SharedValue, WorkerRecord};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::errors::StepError;
use super::lives::LIVING;
use super::pack::Frames;
use super::queue::{counters, keys_of};
use super::sql::{Columns, Db, Value, int};
use super::steps::dead::revocation_of;

const QUEUES: &str = "SELECT id, name, paused, ready, scheduled, retrying, active, dead_outbox, \
    enqueued, succeeded, dead, cancelled, expired, retried, released, rescued, revived, stale, \
    (SELECT count(*) FROM incarnations i WHERE i.queue = queues.id AND i.state = ?1) \
    FROM queues ORDER BY name";
const FIRST_READY: &str = "SELECT pack FROM ready WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT 1";
const DEAD: &str = "SELECT d.number, d.task, q.name, d.reason, d.note, d.frame, d.buried_at, \
    d.worker FROM dead_outbox d JOIN queues q ON q.id = d.queue ORDER BY d.number LIMIT ?1";
const VERSION: &str = "SELECT id, revocations FROM queues WHERE name = ?1";
const REVOKED: &str = "SELECT task FROM revocations WHERE queue = ?1 AND forget_at > ?2";
const WORKERS: &str = "SELECT record, seen_at FROM workers ORDER BY name";
const RESULT: &str = "SELECT r.state, r.body, r.attempts, r.ttl FROM results r \
    JOIN queues q ON q.id = r.queue WHERE q.name = ?1 AND r.task = ?2 AND r.forget_at > ?3";
const SHARED: &str = "SELECT version, value FROM shared WHERE key = ?1 AND forget_at > ?2";

/// Reads every queue.
pub(super) fn queues(db: &mut Db) -> Result<Vec<QueueStatus>, StepError> {
    let read = |row: &Columns<'_, '_>| {
        let status = QueueStatus {
            queue: row.text(1).parse().ok()?,
            paused: row.flag(2),
            ready: row.count(3),
            scheduled: row.count(4),
            retrying: row.count(5),
            active: row.count(6),
            dead_outbox: row.count(7),
            counters: counters(row, 8),
            consumers: row.count(18),
            oldest_ready: None,
        };
        Some((row.int(0), status))
    };
    let mut found = Vec::new();
    for (id, mut status) in db
        .all(QUEUES, &[Value::Int(LIVING)], read)?
        .into_iter()
        .flatten()
    {
        if status.ready > 0 {
            status.oldest_ready = oldest_ready(db, id)?;
        }
        found.push(status);
    }
    Ok(found)
}

/// Finds the oldest of those that are fetched first in each priority: what was put to a front is older than the rest.
fn oldest_ready(db: &mut Db, queue: i64) -> QueryResult<Option<Timestamp>> {
    let (mut low, high) = keys_of(queue);
    let mut oldest = None;
    for _ in 0..10 {
        let rank_end = low | ((1 << 44) - 1);
        let values = [Value::Int(low), Value::Int(rank_end)];
        let first = db.first(FIRST_READY, &values, |row| {
            row.with_blob(0, |pack| {
                let headers = Frames::new(pack).filter_map(|frame| Header::read(frame).ok());
                headers.map(|header| header.enqueued_at).min()
            })
        })?;
        let found = first.flatten();
        oldest = match (oldest, found) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
        if rank_end >= high {
            break;
        }
        low = rank_end + 1;
    }
    Ok(oldest)
}

/// Reads the oldest dead tasks.
pub(super) fn dead(db: &mut Db, limit: u32) -> Result<Vec<DeadTask>, StepError> {
    let read = |row: &Columns<'_, '_>| {
        Some(DeadTask {
            burial: BurialId {
                number: row.count(0),
                task: TaskId::from_bytes(row.id(1)),
            },
            queue: row.text(2).parse().ok()?,
            reason: row.text(3).parse().ok()?,
            note: row.text(4),
            frame: row.blob(5),
            buried_at: Timestamp::from_millis(row.count(6)),
            worker: row.text(7).parse().ok()?,
        })
    };
    let found = db.all(DEAD, &[Value::Int(i64::from(limit))], read)?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads the revocations of a queue that are still remembered.
pub(super) fn revocations(
    db: &mut Db,
    queue: &QueueName,
    now: Timestamp,
) -> Result<(u64, Vec<Revocation>), StepError> {
    let name = [Value::Text(queue.as_str())];
    let Some((id, version)) = db.first(VERSION, &name, |row| (row.int(0), row.count(1)))? else {
        return Ok((0, Vec::new()));
    };
    let values = [Value::Int(id), int(now.as_millis())];
    let known = db.all(REVOKED, &values, |row| revocation_of(&row.blob(0)))?;
    Ok((version, known.into_iter().flatten().collect()))
}

/// Reads the records of all workers.
pub(super) fn workers(db: &mut Db, now: Timestamp) -> Result<Vec<WorkerRecord>, StepError> {
    let mut found = Vec::new();
    db.each(WORKERS, &[], |row| {
        // A record of another version that cannot be read is nobody we could show.
        if let Ok(mut record) = serde_json::from_str::<WorkerRecord>(&row.text(0)) {
            record.seen_at = Timestamp::from_millis(row.count(1));
            let patience = record.beat.saturating_mul(BEATS_ALIVE);
            record.alive = now.since(record.seen_at) <= patience;
            found.push(record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Reads what is kept of tasks that ended.
pub(super) fn results(
    db: &mut Db,
    queue: &QueueName,
    tasks: &[TaskId],
    now: Timestamp,
) -> Result<Vec<FinalRecord>, StepError> {
    let mut found = Vec::new();
    for task in tasks {
        let values = [
            Value::Text(queue.as_str()),
            Value::Blob(task.as_bytes()),
            int(now.as_millis()),
        ];
        let record = db.first(RESULT, &values, |row| {
            let (body, progress) = FinalRecord::split_body(row.blob(1));
            Some(FinalRecord {
                id: *task,
                state: row.text(0).parse().ok()?,
                body,
                progress,
                attempts: u16::try_from(row.count(2)).unwrap_or(u16::MAX),
                ttl: std::time::Duration::from_millis(row.count(3)),
            })
        })?;
        found.extend(record.flatten());
    }
    Ok(found)
}

/// Reads a shared value.
pub(super) fn shared(
    db: &mut Db,
    key: &str,
    now: Timestamp,
) -> Result<Option<SharedValue>, StepError> {
    let values = [Value::Text(key), int(now.as_millis())];
    let read = |row: &Columns<'_, '_>| SharedValue {
        version: row.count(0),
        value: row.blob(1),
    };
    Ok(db.first(SHARED, &values, read)?)
}

/// Says that a request makes no sense.
pub(super) fn invalid(why: String) -> StepError {
    StepError::Decided(BrokerError::Invalid(why))
}
