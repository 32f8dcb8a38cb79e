//! Pages of stored tasks.
//!
//! A cursor names a place within the order of its state (`ready:KEY:INDEX`, `waiting:DUE:SERIAL`, `active:LIFE:TAG`), so
//! that a page costs the same wherever it is.

use std::ops::ControlFlow;

use celeriac_actors::ids::{IncarnationId, WorkerId};
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::{Cursor, ScanPage, ScanRequest, StoredTask};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::errors::StepError;
use super::lives::{Batch, CLOSED};
use super::pack::Frames;
use super::queue::keys_of;
use super::reads::invalid;
use super::sql::{Db, Value};

const QUEUE: &str = "SELECT id, scheduled, retrying FROM queues WHERE name = ?1";
const READY: &str = "SELECT key, pack FROM ready WHERE key BETWEEN ?1 AND ?2 ORDER BY key";
const WAITING: &str = "SELECT due, serial, frame FROM waiting \
    WHERE queue = ?1 AND retrying = ?2 AND (due, serial) > (?3, ?4) ORDER BY due, serial LIMIT ?5";
const LIVES: &str = "SELECT id, identity, worker FROM incarnations \
    WHERE queue = ?1 AND state <> ?2 AND id >= ?3 ORDER BY id";
const BATCHES: &str = "SELECT first_tag, tags, held, started, pack FROM batches \
    WHERE incarnation = ?1 AND first_tag + tags > ?2 ORDER BY first_tag";

/// A place in a scan: two numbers, whose meaning is that of the state.
type At = (i64, i64);

/// Reads a page.
pub(super) fn page(db: &mut Db, request: &ScanRequest) -> Result<ScanPage, StepError> {
    let after = position(request)?;
    if request.limit == 0 || request.limit > MAX_BATCH {
        return Err(invalid(format!("a page of {} tasks", request.limit)));
    }
    let name = Value::Text(request.queue.as_str());
    let queue = db.first(QUEUE, &[name], |row| {
        (row.int(0), row.count(1), row.count(2))
    })?;
    let Some((queue, scheduled, retrying)) = queue else {
        return Ok(ScanPage::default());
    };
    // One more than asked for tells whether there is a next page.
    let want = request.limit as usize + 1;
    let mut found = match request.state {
        TaskState::Ready => ready(db, queue, after, want)?,
        TaskState::Active => active(db, queue, after, want)?,
        // Both kinds lie among each other: where there is none of one, the other is not searched for it.
        TaskState::Scheduled if scheduled == 0 => Vec::new(),
        TaskState::Retrying if retrying == 0 => Vec::new(),
        state => waiting(db, (queue, state), after, want)?,
    };
    let more = found.len() >= want;
    found.truncate(request.limit as usize);
    let last = found.last().filter(|_| more);
    let next = last.map(|((a, b), _)| Cursor(format!("{}:{a}:{b}", request.state)));
    let tasks = found.into_iter().map(|(_, task)| task).collect();
    Ok(ScanPage { tasks, next })
}

fn position(request: &ScanRequest) -> Result<Option<At>, StepError> {
    let state = request.state;
    if state.is_final() {
        return Err(invalid(format!("{state} tasks are not stored")));
    }
    let Some(Cursor(cursor)) = &request.after else {
        return Ok(None);
    };
    let parse = || {
        let (of, rest) = cursor.split_once(':')?;
        let (a, b) = rest.split_once(':')?;
        let at = (a.parse().ok()?, b.parse().ok()?);
        (of == state.as_str()).then_some(at)
    };
    let at = parse().ok_or_else(|| invalid(format!("{cursor:?} is no place in a scan of {state}")));
    at.map(Some)
}

fn stored(frame: &[u8], state: TaskState) -> StoredTask {
    StoredTask {
        frame: frame.to_vec(),
        state,
        due: None,
        holder: None,
    }
}

type Found = Vec<(At, StoredTask)>;

fn ready(db: &mut Db, queue: i64, after: Option<At>, want: usize) -> QueryResult<Found> {
    let (low, high) = keys_of(queue);
    let from = after.map_or(low, |(key, _)| key.clamp(low, high));
    let mut found = Vec::new();
    db.each(READY, &[Value::Int(from), Value::Int(high)], |row| {
        let key = row.int(0);
        row.with_blob(1, |pack| {
            for (index, frame) in (0..).zip(Frames::new(pack)) {
                if after.is_none_or(|after| (key, index) > after) && found.len() < want {
                    found.push(((key, index), stored(frame, TaskState::Ready)));
                }
            }
        });
        if found.len() < want {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(found)
}

fn waiting(
    db: &mut Db,
    (queue, state): (i64, TaskState),
    after: Option<At>,
    want: usize,
) -> QueryResult<Found> {
    let (due, serial) = after.unwrap_or((-1, -1));
    let values = [
        Value::Int(queue),
        Value::Int(i64::from(state == TaskState::Retrying)),
        Value::Int(due),
        Value::Int(serial),
        Value::Int(i64::try_from(want).unwrap_or(i64::MAX)),
    ];
    db.all(WAITING, &values, |row| {
        let task = StoredTask {
            due: Some(Timestamp::from_millis(row.count(0))),
            ..row.with_blob(2, |frame| stored(frame, state))
        };
        ((row.int(0), row.int(1)), task)
    })
}

fn active(db: &mut Db, queue: i64, after: Option<At>, want: usize) -> QueryResult<Found> {
    let from = after.map_or(0, |(life, _)| life);
    let values = [Value::Int(queue), Value::Int(CLOSED), Value::Int(from)];
    let lives = db.all(LIVES, &values, |row| {
        let identity = IncarnationId::from_bytes(row.id(1));
        (row.int(0), row.text(2).parse::<WorkerId>().ok(), identity)
    })?;
    let mut found = Vec::new();
    for (life, worker, identity) in lives {
        let tag = after
            .filter(|(of, _)| *of == life)
            .map_or(-1, |(_, tag)| tag);
        let values = [Value::Int(life), Value::Int(tag.saturating_add(1))];
        for mut batch in db.all(BATCHES, &values, Batch::read)? {
            for held in batch.held() {
                let at = (life, i64::try_from(held).unwrap_or(i64::MAX));
                if at.1 <= tag {
                    continue;
                }
                let task = StoredTask {
                    holder: worker.clone().map(|worker| (worker, identity)),
                    ..stored(batch.frame(db, held)?, TaskState::Active)
                };
                found.push((at, task));
            }
            if found.len() >= want {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
