//! The tables of the outbox, and every query on them. The same for each backend but for how a step is kept alone.

use diesel::prelude::*;
use diesel::r2d2::R2D2Connection;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;

diesel::table! {
    celeriac_outbox (seq) {
        seq -> BigInt,
        task -> Text,
        args -> Nullable<Text>,
        queue -> Nullable<Text>,
        priority -> Nullable<Integer>,
        due_at -> Nullable<BigInt>,
        expires_at -> Nullable<BigInt>,
        id -> Nullable<Text>,
        headers -> Nullable<Text>,
        frame -> Nullable<Binary>,
        frozen -> Bool,
    }
}

diesel::table! {
    celeriac_outbox_calls (queue) {
        queue -> Text,
        channel -> Binary,
        number -> BigInt,
        remember -> BigInt,
    }
}

diesel::table! {
    celeriac_outbox_rejected (seq) {
        seq -> BigInt,
        task -> Text,
        args -> Nullable<Text>,
        queue -> Nullable<Text>,
        priority -> Nullable<Integer>,
        due_at -> Nullable<BigInt>,
        expires_at -> Nullable<BigInt>,
        id -> Nullable<Text>,
        headers -> Nullable<Text>,
        frame -> Nullable<Binary>,
        reason -> Text,
    }
}

diesel::table! {
    celeriac_outbox_relay (id) {
        id -> Integer,
        holder -> Text,
        until -> BigInt,
    }
}

/// A task as this library writes it.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = celeriac_outbox)]
pub struct NewRow {
    pub(super) task: String,
    pub(super) queue: String,
    pub(super) due_at: Option<i64>,
    pub(super) frame: Vec<u8>,
}

/// A row as anybody may have written it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = celeriac_outbox)]
pub struct PlainRow {
    pub(super) seq: i64,
    pub(super) task: String,
    pub(super) args: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) priority: Option<i32>,
    pub(super) expires_at: Option<i64>,
    pub(super) id: Option<String>,
    pub(super) headers: Option<String>,
}

/// A task that is sent: its number, when it becomes ready, and its frame.
pub(super) type SentRow = (i64, Option<i64>, Option<Vec<u8>>);

/// The call that a queue's frozen tasks are sent under.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = celeriac_outbox_calls)]
pub struct CallRow {
    pub(super) queue: String,
    pub(super) channel: Vec<u8>,
    pub(super) number: i64,
    pub(super) remember: i64,
}

/// What the outbox asks of a connection. Every error is the database's.
pub trait Steps: R2D2Connection + 'static {
    /// What makes the tables.
    const TABLES: &'static str;

    /// Runs a step of the relay in a transaction of its own, which no other step of a relay runs beside. When it fails,
    /// nothing was changed.
    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T>;
    /// Writes tasks.
    fn put(&mut self, rows: &[NewRow]) -> QueryResult<()>;
    /// Returns how many tasks wait and how many were rejected.
    fn counts(&mut self) -> QueryResult<(i64, i64)>;
    /// Returns whether no task waits.
    fn is_empty(&mut self) -> QueryResult<bool>;
    /// Takes, or keeps, the right to relay until the first of two instants; returns whether `holder` has it. One that
    /// ends behind the second was taken by a clock that was wrong, and does not count.
    fn seize(&mut self, holder: &str, now: i64, until: (i64, i64)) -> QueryResult<bool>;
    /// Returns the first rows that have no frame.
    fn plain(&mut self, limit: i64) -> QueryResult<Vec<PlainRow>>;
    /// Gives a row its queue and its frame.
    fn stamp(&mut self, seq: i64, queue: &str, frame: &[u8]) -> QueryResult<()>;
    /// Returns the queues of which tasks wait that have a frame.
    fn queues(&mut self) -> QueryResult<Vec<String>>;
    /// Returns the call of a queue.
    fn call(&mut self, queue: &str) -> QueryResult<Option<CallRow>>;
    /// Returns the first tasks of a queue that may be sent, with the sizes of their frames.
    fn next_sizes(&mut self, queue: &str, limit: i64) -> QueryResult<Vec<(i64, i64)>>;
    /// Freezes tasks under a call.
    fn freeze(&mut self, call: &CallRow, seqs: &[i64]) -> QueryResult<()>;
    /// Returns the frozen tasks of a queue, in order.
    fn frozen(&mut self, queue: &str) -> QueryResult<Vec<SentRow>>;
    /// Removes a call; returns whether it was there.
    fn drop_call(&mut self, call: &CallRow) -> QueryResult<bool>;
    /// Removes tasks.
    fn drop_rows(&mut self, seqs: &[i64]) -> QueryResult<()>;
    /// Lets tasks be sent under another call than the one they were frozen under.
    fn thaw(&mut self, seqs: &[i64]) -> QueryResult<()>;
    /// Moves tasks to those that are never sent.
    fn reject(&mut self, seqs: &[i64], reason: &str) -> QueryResult<()>;
}

macro_rules! queries {
    () => {
        fn put(&mut self, rows: &[NewRow]) -> QueryResult<()> {
            let insert = diesel::insert_into(celeriac_outbox::table).values(rows);
            insert.execute(self).map(drop)
        }

        fn counts(&mut self) -> QueryResult<(i64, i64)> {
            let pending = celeriac_outbox::table.count().get_result(self)?;
            let rejected = celeriac_outbox_rejected::table.count().get_result(self)?;
            Ok((pending, rejected))
        }

        fn is_empty(&mut self) -> QueryResult<bool> {
            let first = celeriac_outbox::table.select(celeriac_outbox::seq).limit(1);
            Ok(first.first::<i64>(self).optional()?.is_none())
        }

        fn seize(&mut self, holder: &str, now: i64, until: (i64, i64)) -> QueryResult<bool> {
            use celeriac_outbox_relay::dsl as relay;
            let (until, too_far) = until;
            let free = relay::holder
                .eq(holder)
                .or(relay::until.lt(now))
                .or(relay::until.gt(too_far));
            let seize = diesel::update(relay::celeriac_outbox_relay.filter(free))
                .set((relay::holder.eq(holder), relay::until.eq(until)));
            Ok(seize.execute(self)? == 1)
        }

        fn plain(&mut self, limit: i64) -> QueryResult<Vec<PlainRow>> {
            celeriac_outbox::table
                .filter(celeriac_outbox::frame.is_null())
                .order(celeriac_outbox::seq)
                .limit(limit)
                .select(PlainRow::as_select())
                .load(self)
        }

        fn stamp(&mut self, seq: i64, queue: &str, frame: &[u8]) -> QueryResult<()> {
            use celeriac_outbox::dsl as row;
            diesel::update(row::celeriac_outbox.find(seq))
                .set((row::queue.eq(queue), row::frame.eq(frame)))
                .execute(self)
                .map(drop)
        }

        fn queues(&mut self) -> QueryResult<Vec<String>> {
            let queues = celeriac_outbox::table
                .filter(celeriac_outbox::frame.is_not_null())
                .select(celeriac_outbox::queue.assume_not_null())
                .distinct();
            queues.load(self)
        }

        fn call(&mut self, queue: &str) -> QueryResult<Option<CallRow>> {
            celeriac_outbox_calls::table
                .find(queue)
                .select(CallRow::as_select())
                .first(self)
                .optional()
        }

        fn next_sizes(&mut self, queue: &str, limit: i64) -> QueryResult<Vec<(i64, i64)>> {
            use celeriac_outbox::dsl as row;
            // What has no frame yet is not overtaken.
            let plain = row::celeriac_outbox
                .filter(row::frame.is_null())
                .select(row::seq)
                .order(row::seq)
                .first::<i64>(self)
                .optional()?;
            let size = diesel::dsl::sql::<BigInt>("CAST(length(frame) AS BIGINT)");
            row::celeriac_outbox
                .filter(row::queue.eq(queue))
                .filter(row::frame.is_not_null())
                .filter(row::frozen.eq(false))
                .filter(row::seq.lt(plain.unwrap_or(i64::MAX)))
                .order(row::seq)
                .limit(limit)
                .select((row::seq, size))
                .load(self)
        }

        fn freeze(&mut self, call: &CallRow, seqs: &[i64]) -> QueryResult<()> {
            use celeriac_outbox::dsl as row;
            diesel::insert_into(celeriac_outbox_calls::table)
                .values(call)
                .execute(self)?;
            diesel::update(row::celeriac_outbox.filter(row::seq.eq_any(seqs)))
                .set(row::frozen.eq(true))
                .execute(self)
                .map(drop)
        }

        fn frozen(&mut self, queue: &str) -> QueryResult<Vec<SentRow>> {
            use celeriac_outbox::dsl as row;
            row::celeriac_outbox
                .filter(row::queue.eq(queue))
                .filter(row::frozen.eq(true))
                .order(row::seq)
                .select((row::seq, row::due_at, row::frame))
                .load(self)
        }

        fn drop_call(&mut self, call: &CallRow) -> QueryResult<bool> {
            use celeriac_outbox_calls::dsl as calls;
            let this = calls::celeriac_outbox_calls
                .filter(calls::queue.eq(&call.queue))
                .filter(calls::channel.eq(&call.channel))
                .filter(calls::number.eq(call.number));
            Ok(diesel::delete(this).execute(self)? == 1)
        }

        fn drop_rows(&mut self, seqs: &[i64]) -> QueryResult<()> {
            let rows = celeriac_outbox::table.filter(celeriac_outbox::seq.eq_any(seqs));
            diesel::delete(rows).execute(self).map(drop)
        }

        fn thaw(&mut self, seqs: &[i64]) -> QueryResult<()> {
            let rows = celeriac_outbox::table.filter(celeriac_outbox::seq.eq_any(seqs));
            let thaw = diesel::update(rows).set(celeriac_outbox::frozen.eq(false));
            thaw.execute(self).map(drop)
        }

        fn reject(&mut self, seqs: &[i64], reason: &str) -> QueryResult<()> {
            use celeriac_outbox::dsl as row;
            use celeriac_outbox_rejected::dsl as out;
            let rows = row::celeriac_outbox.filter(row::seq.eq_any(seqs)).select((
                row::seq,
                row::task,
                row::args,
                row::queue,
                row::priority,
                row::due_at,
                row::expires_at,
                row::id,
                row::headers,
                row::frame,
                reason.into_sql::<Text>(),
            ));
            let columns = (
                out::seq,
                out::task,
                out::args,
                out::queue,
                out::priority,
                out::due_at,
                out::expires_at,
                out::id,
                out::headers,
                out::frame,
                out::reason,
            );
            rows.insert_into(out::celeriac_outbox_rejected)
                .into_columns(columns)
                .execute(self)?;
            self.drop_rows(seqs)
        }
    };
}

impl Steps for SqliteConnection {
    const TABLES: &'static str = super::SQLITE;

    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T> {
        self.immediate_transaction(step)
    }

    queries!();
}

#[cfg(feature = "postgres")]
impl Steps for diesel::pg::PgConnection {
    const TABLES: &'static str = super::POSTGRES;

    fn alone<T>(&mut self, step: impl FnOnce(&mut Self) -> QueryResult<T>) -> QueryResult<T> {
        use diesel::connection::SimpleConnection as _;

        self.transaction(|conn| {
            // Held until the end of the transaction. Writers of tasks do not meet it.
            conn.batch_execute("LOCK TABLE celeriac_outbox_calls IN EXCLUSIVE MODE")?;
            step(conn)
        })
    }

    queries!();
}

/// Returns a number as it is stored.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
