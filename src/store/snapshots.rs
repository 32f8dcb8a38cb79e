//! Snapshots: minutes as they are written, and the hours and days made of them in the same transaction.

use celeriac_actors::ids::{QueueName, WorkerId};
use celeriac_actors::measure::{Spread, Sum};
use celeriac_actors::ports::{
    Counters, Minute, QueueSnapshot, SnapshotRange, Span, StoreError, TaskSnapshot,
};
use celeriac_actors::time::Timestamp;
use diesel::prelude::*;

use super::connections::{Dialect as _, Live, on_either};
use super::fault::Fault;
use super::rows::{instant, millis};
use super::schema::{queue_snapshots, task_snapshots};

/// The most snapshots of one answer.
const MAX_RANGE: u32 = 10_000;

/// How many rows one statement inserts: SQLite binds at most 32,766 values.
const BATCH: usize = 200;

#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = queue_snapshots, treat_none_as_default_value = false)]
struct QueueRow {
    span: i64,
    at: i64,
    queue: String,
    ready: i64,
    scheduled: i64,
    retrying: i64,
    active: i64,
    dead_outbox: i64,
    consumers: i64,
    oldest_ms: i64,
    paused: bool,
    enqueued: i64,
    succeeded: i64,
    dead: i64,
    cancelled: i64,
    expired: i64,
    retried: i64,
    released: i64,
    rescued: i64,
    revived: i64,
    stale: i64,
    result_dropped: i64,
}

#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_snapshots, treat_none_as_default_value = false)]
struct TaskRow {
    span: i64,
    at: i64,
    queue: String,
    task: String,
    worker: String,
    started: i64,
    succeeded: i64,
    failed: i64,
    retried: i64,
    buried: i64,
    revoked: i64,
    expired: i64,
    released: i64,
    wait_us: i64,
    run_us: i64,
    waits: String,
    runs: String,
}

/// Adds a minute, and makes its hour and its day anew.
pub(super) fn write(live: &mut Live, minute: &Minute) -> Result<(), Fault> {
    let queues: Vec<QueueRow> = minute.queues.iter().map(queue_row).collect();
    let tasks: Vec<TaskRow> = minute.tasks.iter().map(task_row).collect();
    let mut workers: Vec<&str> = tasks.iter().map(|row| row.worker.as_str()).collect();
    workers.sort_unstable();
    workers.dedup();
    on_either!(live, |connection| connection.writing(|connection| {
        // One process at a time: an hour that was made of fewer minutes must not overwrite one made of more.
        connection.one_writer("queue_snapshots")?;
        for rows in queues.chunks(BATCH) {
            diesel::insert_into(queue_snapshots::table)
                .values(rows)
                .on_conflict_do_nothing()
                .execute(connection)?;
        }
        for rows in tasks.chunks(BATCH) {
            diesel::insert_into(task_snapshots::table)
                .values(rows)
                .on_conflict_do_nothing()
                .execute(connection)?;
        }
        for (from, to) in [(Span::Minute, Span::Hour), (Span::Hour, Span::Day)] {
            let begin = to.begin(minute.at);
            let range = (millis(begin), millis(begin.plus(to.length())));
            let of: Vec<QueueRow> = queue_snapshots::table
                .filter(queue_snapshots::span.eq(length(from)))
                .filter(queue_snapshots::at.ge(range.0))
                .filter(queue_snapshots::at.lt(range.1))
                .order((queue_snapshots::queue, queue_snapshots::at))
                .load(connection)?;
            for row in summed_queues(&of, (length(to), range.0)) {
                diesel::delete(queue_snapshots::table.find((row.span, row.at, &row.queue)))
                    .execute(connection)?;
                diesel::insert_into(queue_snapshots::table)
                    .values(&row)
                    .execute(connection)?;
            }
            for worker in &workers {
                let of: Vec<TaskRow> = task_snapshots::table
                    .filter(task_snapshots::span.eq(length(from)))
                    .filter(task_snapshots::at.ge(range.0))
                    .filter(task_snapshots::at.lt(range.1))
                    .filter(task_snapshots::worker.eq(worker))
                    .order((task_snapshots::queue, task_snapshots::task))
                    .load(connection)?;
                for row in summed_tasks(of, (length(to), range.0)) {
                    let key = (row.span, row.at, &row.queue, &row.task, &row.worker);
                    diesel::delete(task_snapshots::table.find(key)).execute(connection)?;
                    diesel::insert_into(task_snapshots::table)
                        .values(&row)
                        .execute(connection)?;
                }
            }
        }
        Ok(())
    }))
}

/// Returns snapshots of queues, oldest first.
pub(super) fn queues(live: &mut Live, range: &SnapshotRange) -> Result<Vec<QueueSnapshot>, Fault> {
    let rows: Vec<QueueRow> = on_either!(live, |connection: Backend| {
        let mut query = queue_snapshots::table
            .filter(queue_snapshots::span.eq(length(range.span)))
            .filter(queue_snapshots::at.ge(millis(range.since)))
            .filter(queue_snapshots::at.lt(millis(range.until)))
            .order((queue_snapshots::at, queue_snapshots::queue))
            .limit(range.limit.clamp(1, MAX_RANGE).into())
            .into_boxed::<Backend>();
        if let Some(queue) = &range.queue {
            query = query.filter(queue_snapshots::queue.eq(queue.as_str()));
        }
        query.load(connection)?
    });
    rows.into_iter().map(queue_of).collect()
}

/// Returns snapshots of kinds of tasks, oldest first.
pub(super) fn tasks(live: &mut Live, range: &SnapshotRange) -> Result<Vec<TaskSnapshot>, Fault> {
    let rows: Vec<TaskRow> = on_either!(live, |connection: Backend| {
        let mut query = task_snapshots::table
            .filter(task_snapshots::span.eq(length(range.span)))
            .filter(task_snapshots::at.ge(millis(range.since)))
            .filter(task_snapshots::at.lt(millis(range.until)))
            .order((
                task_snapshots::at,
                task_snapshots::queue,
                task_snapshots::task,
                task_snapshots::worker,
            ))
            .limit(range.limit.clamp(1, MAX_RANGE).into())
            .into_boxed::<Backend>();
        if let Some(queue) = &range.queue {
            query = query.filter(task_snapshots::queue.eq(queue.as_str()));
        }
        query.load(connection)?
    });
    rows.into_iter().map(task_of).collect()
}

/// Deletes snapshots that begin before an instant, whole instants at a time, about `limit` of each table.
pub(super) fn prune(
    live: &mut Live,
    span: Span,
    before: Timestamp,
    limit: u32,
) -> Result<u64, Fault> {
    let (span, before, limit) = (length(span), millis(before), i64::from(limit.max(1)));
    let gone = on_either!(live, |connection| connection.writing(|connection| {
        let mut gone = 0;
        let last: Option<i64> = queue_snapshots::table
            .filter(
                queue_snapshots::span
                    .eq(span)
                    .and(queue_snapshots::at.lt(before)),
            )
            .order(queue_snapshots::at)
            .limit(limit)
            .select(queue_snapshots::at)
            .load(connection)?
            .into_iter()
            .max();
        if let Some(last) = last {
            let those = queue_snapshots::span
                .eq(span)
                .and(queue_snapshots::at.le(last));
            gone += diesel::delete(queue_snapshots::table.filter(those)).execute(connection)?;
        }
        let last: Option<i64> = task_snapshots::table
            .filter(
                task_snapshots::span
                    .eq(span)
                    .and(task_snapshots::at.lt(before)),
            )
            .order(task_snapshots::at)
            .limit(limit)
            .select(task_snapshots::at)
            .load(connection)?
            .into_iter()
            .max();
        if let Some(last) = last {
            let those = task_snapshots::span
                .eq(span)
                .and(task_snapshots::at.le(last));
            gone += diesel::delete(task_snapshots::table.filter(those)).execute(connection)?;
        }
        Ok(gone)
    }))?;
    Ok(gone as u64)
}

/// Makes one row a queue of rows that are sorted by queue, then by time.
fn summed_queues(rows: &[QueueRow], (span, at): (i64, i64)) -> Vec<QueueRow> {
    let mut sums: Vec<QueueRow> = Vec::new();
    for row in rows {
        match sums.last_mut().filter(|sum| sum.queue == row.queue) {
            None => sums.push(QueueRow {
                span,
                at,
                ..row.clone()
            }),
            Some(sum) => {
                *sum = QueueRow {
                    span,
                    at,
                    ready: sum.ready.max(row.ready),
                    scheduled: sum.scheduled.max(row.scheduled),
                    retrying: sum.retrying.max(row.retrying),
                    active: sum.active.max(row.active),
                    dead_outbox: sum.dead_outbox.max(row.dead_outbox),
                    consumers: sum.consumers.max(row.consumers),
                    oldest_ms: sum.oldest_ms.max(row.oldest_ms),
                    paused: sum.paused || row.paused,
                    // Counters: the last ones.
                    ..row.clone()
                }
            }
        }
    }
    sums
}

/// Makes one row a kind of rows that are sorted by queue and kind.
fn summed_tasks(rows: Vec<TaskRow>, (span, at): (i64, i64)) -> Vec<TaskRow> {
    let mut sums: Vec<TaskSnapshot> = Vec::new();
    // What cannot be read was not written by us.
    for row in rows.into_iter().filter_map(|row| task_of(row).ok()) {
        let same = |sum: &&mut TaskSnapshot| sum.queue == row.queue && sum.task == row.task;
        match sums.last_mut().filter(same) {
            Some(sum) => sum.sum.add(&row.sum),
            None => sums.push(row),
        }
    }
    let row = |sum: &TaskSnapshot| TaskRow {
        span,
        at,
        ..task_row(sum)
    };
    sums.iter().map(row).collect()
}

fn length(span: Span) -> i64 {
    number(celeriac_actors::time::millis(span.length()))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn queue_row(snapshot: &QueueSnapshot) -> QueueRow {
    let counters = &snapshot.counters;
    QueueRow {
        span: length(Span::Minute),
        at: millis(snapshot.at),
        queue: snapshot.queue.to_string(),
        ready: number(snapshot.ready),
        scheduled: number(snapshot.scheduled),
        retrying: number(snapshot.retrying),
        active: number(snapshot.active),
        dead_outbox: number(snapshot.dead_outbox),
        consumers: number(snapshot.consumers),
        oldest_ms: number(snapshot.oldest_ms),
        paused: snapshot.paused,
        enqueued: number(counters.enqueued),
        succeeded: number(counters.succeeded),
        dead: number(counters.dead),
        cancelled: number(counters.cancelled),
        expired: number(counters.expired),
        retried: number(counters.retried),
        released: number(counters.released),
        rescued: number(counters.rescued),
        revived: number(counters.revived),
        stale: number(counters.stale),
        result_dropped: number(counters.result_dropped),
    }
}

fn queue_of(row: QueueRow) -> Result<QueueSnapshot, Fault> {
    Ok(QueueSnapshot {
        at: instant(row.at),
        queue: QueueName::new(&row.queue).map_err(|error| garbled(&error))?,
        ready: count(row.ready),
        scheduled: count(row.scheduled),
        retrying: count(row.retrying),
        active: count(row.active),
        dead_outbox: count(row.dead_outbox),
        consumers: count(row.consumers),
        oldest_ms: count(row.oldest_ms),
        paused: row.paused,
        counters: Counters {
            enqueued: count(row.enqueued),
            succeeded: count(row.succeeded),
            dead: count(row.dead),
            cancelled: count(row.cancelled),
            expired: count(row.expired),
            retried: count(row.retried),
            released: count(row.released),
            rescued: count(row.rescued),
            revived: count(row.revived),
            stale: count(row.stale),
            result_dropped: count(row.result_dropped),
        },
    })
}

fn task_row(snapshot: &TaskSnapshot) -> TaskRow {
    let sum = &snapshot.sum;
    let buckets = |spread: &Spread| serde_json::to_string(&spread.buckets).unwrap_or_default();
    TaskRow {
        span: length(Span::Minute),
        at: millis(snapshot.at),
        queue: snapshot.queue.to_string(),
        task: snapshot.task.clone(),
        worker: snapshot.worker.to_string(),
        started: number(sum.started),
        succeeded: number(sum.succeeded),
        failed: number(sum.failed),
        retried: number(sum.retried),
        buried: number(sum.buried),
        revoked: number(sum.revoked),
        expired: number(sum.expired),
        released: number(sum.released),
        wait_us: number(sum.wait.sum_us),
        run_us: number(sum.run.sum_us),
        waits: buckets(&sum.wait),
        runs: buckets(&sum.run),
    }
}

fn task_of(row: TaskRow) -> Result<TaskSnapshot, Fault> {
    let spread = |buckets: &str, sum_us: i64| -> Result<Spread, Fault> {
        Ok(Spread {
            buckets: serde_json::from_str(buckets).map_err(|error| garbled(&error))?,
            sum_us: count(sum_us),
        })
    };
    Ok(TaskSnapshot {
        at: instant(row.at),
        queue: QueueName::new(&row.queue).map_err(|error| garbled(&error))?,
        worker: WorkerId::new(&row.worker).map_err(|error| garbled(&error))?,
        sum: Sum {
            started: count(row.started),
            succeeded: count(row.succeeded),
            failed: count(row.failed),
            retried: count(row.retried),
            buried: count(row.buried),
            revoked: count(row.revoked),
            expired: count(row.expired),
            released: count(row.released),
            wait: spread(&row.waits, row.wait_us)?,
            run: spread(&row.runs, row.run_us)?,
        },
        task: row.task,
    })
}

fn garbled(error: &dyn std::fmt::Display) -> Fault {
    Fault::Store(StoreError::Schema(format!(
        "a snapshot cannot be read: {error}"
    )))
}
