//! What is in the spool, and the steps that change it. Each runs inside a transaction of the caller.
//!
//! A call is *frozen* before it is first sent: from then on its tasks, its channel and its number never change while the
//! broker may know of it. Whoever finds a frozen call sends the same again, so it does not matter at which moment a
//! relaying process died, nor whether two relay at once.

use std::ops::ControlFlow;
use std::path::Path;

use celeriac_actors::ids::{ChannelId, QueueName};
use celeriac_actors::ports::{EnqueueCall, EnqueueKind, NewTask, Sent, SpoolError, When};
use celeriac_actors::time::{Timestamp, millis};
use diesel::result::{Error as DieselError, QueryResult};

use super::courier::Ledger;
use super::options::OpenError;
use crate::sqlite::sql::{Columns, Db, Value, int};

/// "CelS": says that a file is ours.
const APPLICATION: i64 = 0x4365_6C53;
/// The form of the tables.
const VERSION: i64 = 1;
const TABLES: &str = include_str!("../../migrations/sqlite-spool/1_tables.sql");

/// How many bytes a task takes beside its frame, roughly.
pub(super) const OVERHEAD: u64 = 64;

/// How much may be in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) tasks: u64,
    pub(super) bytes: u64,
}

/// How much is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) tasks: u64,
    pub(super) bytes: u64,
}

/// A call that is to be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frozen {
    /// Its number here, for whoever numbers calls.
    pub(crate) id: i64,
    /// Its first task.
    pub(crate) first: i64,
    /// Its last task.
    pub(crate) last: i64,
    pub(crate) call: EnqueueCall,
}

/// How far a new call may go, and under which name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) channel: ChannelId,
    pub(crate) number: u64,
    pub(crate) tasks: usize,
    pub(crate) bytes: usize,
    /// How long, in milliseconds, the broker is to remember it.
    pub(crate) remember: u64,
}

/// The first and the last task of some that stand together in their queue.
type Range = (i64, i64);

/// The spool's database.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) db: Db,
}

const HELD: &str = "SELECT coalesce(sum(tasks), 0), coalesce(sum(bytes), 0) FROM queues";
const HOLDS: &str = "SELECT tasks FROM queues WHERE name = ?1";
const QUEUES: &str = "SELECT name FROM queues WHERE tasks > 0 ORDER BY name";
const OLDEST: &str = "SELECT since FROM tasks ORDER BY seq LIMIT 1";
const ADD: &str = "INSERT INTO tasks (queue, due_kind, due, since, frame) VALUES (?1, ?2, ?3, ?4, ?5) \
    RETURNING seq";
const COUNT: &str = "INSERT INTO queues (name, tasks, bytes) VALUES (?1, ?2, ?3) \
    ON CONFLICT (name) DO UPDATE SET tasks = tasks + ?2, bytes = bytes + ?3";
const UNCOUNT: &str = "UPDATE queues SET tasks = tasks - ?2, bytes = bytes - ?3 WHERE name = ?1";
const FREEZE: &str = "INSERT INTO calls (queue, first, last, channel, number, remember) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id";
const NEXT_CALL: &str = "SELECT id, first, last, channel, number, remember FROM calls \
    WHERE queue = ?1 ORDER BY first LIMIT 1";
const RANGE: &str = "SELECT seq, due_kind, due, frame FROM tasks \
    WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq";
const SIZE: &str = "SELECT count(*), coalesce(sum(length(frame)), 0) FROM tasks \
    WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3";
const DROP_TASKS: &str = "DELETE FROM tasks WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3";
const SAME_CALL: &str = "SELECT 1 FROM calls WHERE id = ?1 AND channel = ?2 AND number = ?3";
const DROP_CALL: &str = "DELETE FROM calls WHERE id = ?1 AND channel = ?2 AND number = ?3";
const RENAME: &str = "UPDATE calls SET channel = ?4, number = ?5, last = ?6 \
    WHERE id = ?1 AND channel = ?2 AND number = ?3";
const REJECT: &str = "INSERT INTO rejected (seq, queue, due_kind, due, since, frame, reason) \
    SELECT seq, queue, due_kind, due, since, frame, ?4 FROM tasks \
    WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3";

impl Book {
    /// Opens it, and makes it where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let mut book = Self::connect(path)?;
        let failed = |error: DieselError| OpenError::sqlite(path, &error);
        if book.is_ours(path)? {
            return Ok(book);
        }
        let begin = "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;";
        book.db.batch(begin).map_err(failed)?;
        // Another process may have made it meanwhile.
        if book.db.number("PRAGMA user_version").map_err(failed)? == 0 {
            let marks =
                format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
            book.db.batch(TABLES).map_err(failed)?;
            book.db.batch(&marks).map_err(failed)?;
        }
        book.db.batch("COMMIT").map_err(failed)?;
        book.is_ours(path)?;
        Ok(book)
    }

    /// Opens a further connection to it.
    pub(super) fn connect(path: &Path) -> Result<Self, OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::sqlite(path, error);
        let mut db = Db::connect(path.to_str().unwrap_or_default()).map_err(|e| failed(&e))?;
        // What is acknowledged survives a power cut. Room is reused; the file grows to its bound and stays.
        let setup = "PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA cache_size = -2048; \
            PRAGMA temp_store = MEMORY;";
        db.batch(setup).map_err(|error| failed(&error))?;
        Ok(Self { db })
    }

    /// Returns whether its tables are in place.
    ///
    /// # Errors
    /// [`OpenError`] when it is somebody else's, or of a newer version.
    pub(super) fn is_ours(&mut self, path: &Path) -> Result<bool, OpenError> {
        let failed = |error: DieselError| OpenError::sqlite(path, &error);
        let (application, version, tables) = crate::sqlite::marks(&mut self.db).map_err(failed)?;
        let path = path.to_owned();
        if application != APPLICATION && (application != 0 || tables > 0) {
            return Err(OpenError::Foreign { path });
        }
        if version > VERSION {
            let (found, known) = (version, VERSION);
            return Err(OpenError::Newer { path, found, known });
        }
        Ok(version == VERSION)
    }

    /// Returns how much waits.
    pub(super) fn held(&mut self) -> QueryResult<Held> {
        let held = self.db.first(HELD, &[], |row| Held {
            tasks: row.count(0),
            bytes: row.count(1),
        })?;
        Ok(held.unwrap_or_default())
    }

    /// Returns whether tasks of a queue wait.
    pub(super) fn holds(&mut self, queue: &str) -> QueryResult<bool> {
        let found = self
            .db
            .first(HOLDS, &[Value::Text(queue)], |row| row.flag(0))?;
        Ok(found.unwrap_or_default())
    }

    /// Returns the queues of which tasks wait.
    pub(super) fn queues(&mut self) -> QueryResult<Vec<String>> {
        self.db.all(QUEUES, &[], |row| row.text(0))
    }

    /// Returns when the oldest task came.
    pub(super) fn oldest(&mut self) -> QueryResult<Option<Timestamp>> {
        self.db
            .first(OLDEST, &[], |row| Timestamp::from_millis(row.count(0)))
    }

    /// Returns how many tasks the broker rejected for good.
    pub(super) fn rejected(&mut self) -> QueryResult<u64> {
        let count = self.db.number("SELECT count(*) FROM rejected")?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Puts the tasks of a call behind everything of their queue; frozen when it may have been carried out.
    pub(super) fn put(
        &mut self,
        call: &EnqueueCall,
        sent: Sent,
        (bounds, now): (Bounds, Timestamp),
    ) -> QueryResult<Result<(), SpoolError>> {
        let (count, bytes) = (call.tasks.len() as u64, weight(&call.tasks));
        let held = self.held()?;
        if held.tasks + count > bounds.tasks || held.bytes + bytes > bounds.bytes {
            let full = format!(
                "{} tasks of {} bytes wait in it, at most {} of {} may; let the broker take them, or raise `spool_max`",
                held.tasks, held.bytes, bounds.tasks, bounds.bytes
            );
            return Ok(Err(SpoolError::Full(full)));
        }
        let queue = Value::Text(call.queue.as_str());
        let (mut first, mut last) = (None, 0);
        for task in &call.tasks {
            let (kind, due) = split(task.when);
            let values = [
                queue,
                Value::Int(kind),
                int(due),
                int(now.as_millis()),
                Value::Blob(&task.frame),
            ];
            last = self
                .db
                .first(ADD, &values, |row| row.int(0))?
                .unwrap_or_default();
            first.get_or_insert(last);
        }
        self.db.run(COUNT, &[queue, int(count), int(bytes)])?;
        if let (Sent::Perhaps, Some(first)) = (sent, first) {
            self.freeze(call, (first, last))?;
        }
        Ok(Ok(()))
    }

    fn freeze(&mut self, call: &EnqueueCall, (first, last): Range) -> QueryResult<i64> {
        let values = [
            Value::Text(call.queue.as_str()),
            Value::Int(first),
            Value::Int(last),
            Value::Blob(call.channel.as_bytes()),
            int(call.number),
            int(millis(call.remember)),
        ];
        let id = self.db.first(FREEZE, &values, |row| row.int(0))?;
        id.ok_or(DieselError::NotFound)
    }

    /// Returns the next call of a queue: the one that is frozen, else its oldest tasks, which are frozen as `plan` says.
    /// `None` when nothing waits.
    pub(super) fn next(&mut self, queue: &QueueName, plan: &Plan) -> QueryResult<Option<Frozen>> {
        let name = Value::Text(queue.as_str());
        let mut call = EnqueueCall {
            queue: queue.clone(),
            channel: plan.channel,
            number: plan.number,
            tasks: Vec::new(),
            kind: EnqueueKind::New,
            remember: std::time::Duration::from_millis(plan.remember),
        };
        let known = self.db.first(NEXT_CALL, &[name], |row| {
            let range = (row.int(1), row.int(2));
            let channel = ChannelId::from_bytes(row.id(3));
            let remember = std::time::Duration::from_millis(row.count(5));
            (row.int(0), range, (channel, row.count(4), remember))
        })?;
        let before = known.map_or(i64::MAX, |(_, (first, _), _)| first - 1);
        let (tasks, range) = self.range(queue, (0, before), Some(plan))?;
        let (id, (first, last)) = if let Some(range) = range {
            call.tasks = tasks;
            (self.freeze(&call, range)?, range)
        } else {
            let Some((id, range, (channel, number, remember))) = known else {
                return Ok(None);
            };
            (call.channel, call.number, call.remember) = (channel, number, remember);
            call.tasks = self.range(queue, range, None)?.0;
            (id, range)
        };
        Ok(Some(Frozen {
            id,
            first,
            last,
            call,
        }))
    }

    /// Reads tasks of a queue from one to another, at most as many as planned; returns where they really begin and end.
    fn range(
        &mut self,
        queue: &QueueName,
        (first, last): Range,
        plan: Option<&Plan>,
    ) -> QueryResult<(Vec<NewTask>, Option<Range>)> {
        let values = [
            Value::Text(queue.as_str()),
            Value::Int(first),
            Value::Int(last),
        ];
        let (mut tasks, mut found, mut bytes) = (Vec::new(), None, 0);
        self.db.each(RANGE, &values, |row| {
            let (seq, task) = read(row);
            bytes += task.frame.len();
            let full = plan.is_some_and(|plan| tasks.len() >= plan.tasks || bytes > plan.bytes);
            if full && !tasks.is_empty() {
                return ControlFlow::Break(());
            }
            found = Some((found.map_or(seq, |(first, _)| first), seq));
            tasks.push(task);
            ControlFlow::Continue(())
        })?;
        Ok((tasks, found))
    }

    /// Forgets a call and its tasks: the broker has them. Repeatable; without effect when it is another call by now.
    pub(super) fn done(&mut self, frozen: &Frozen) -> QueryResult<()> {
        let call = &frozen.call;
        if self.db.run(DROP_CALL, &identity(frozen))? == 0 {
            return Ok(());
        }
        let range = [
            Value::Text(call.queue.as_str()),
            Value::Int(frozen.first),
            Value::Int(frozen.last),
        ];
        let size = self
            .db
            .first(SIZE, &range, |row| (row.count(0), row.count(1)))?;
        let (count, bytes) = size.unwrap_or_default();
        self.db.run(DROP_TASKS, &range)?;
        let bytes = bytes + count * OVERHEAD;
        self.db
            .run(UNCOUNT, &[range[0], int(count), int(bytes)])
            .map(drop)
    }

    /// Gives a call another name, and of its tasks only the first `tasks`: the broker certainly has none of them.
    pub(super) fn rename(
        &mut self,
        frozen: &Frozen,
        (channel, number): (ChannelId, u64),
        tasks: usize,
    ) -> QueryResult<()> {
        let plan = Plan {
            channel,
            number,
            tasks,
            bytes: usize::MAX,
            remember: 0,
        };
        let range = (frozen.first, frozen.last);
        let (_, kept) = self.range(&frozen.call.queue, range, Some(&plan))?;
        let last = kept.map_or(frozen.last, |(_, last)| last);
        let [id, old, number_before] = identity(frozen);
        let values = [
            id,
            old,
            number_before,
            Value::Blob(channel.as_bytes()),
            int(number),
            Value::Int(last),
        ];
        self.db.run(RENAME, &values).map(drop)
    }

    /// Puts the tasks of a call aside for good: the broker will never take them.
    pub(super) fn reject(&mut self, frozen: &Frozen, reason: &str) -> QueryResult<()> {
        let same = self
            .db
            .first(SAME_CALL, &identity(frozen), |row| row.flag(0))?;
        if same.is_none() {
            return Ok(());
        }
        let values = [
            Value::Text(frozen.call.queue.as_str()),
            Value::Int(frozen.first),
            Value::Int(frozen.last),
            Value::Text(reason),
        ];
        self.db.run(REJECT, &values)?;
        self.done(frozen)
    }
}

impl Ledger for Book {
    fn next(&mut self, queue: &QueueName, plan: &Plan) -> QueryResult<Option<Frozen>> {
        self.next(queue, plan)
    }

    fn done(&mut self, frozen: &Frozen) -> QueryResult<()> {
        self.done(frozen)
    }

    fn rename(&mut self, frozen: &Frozen, name: (ChannelId, u64), tasks: usize) -> QueryResult<()> {
        self.rename(frozen, name, tasks)
    }

    fn reject(&mut self, frozen: &Frozen, reason: &str) -> QueryResult<()> {
        self.reject(frozen, reason)
    }
}

fn identity(frozen: &Frozen) -> [Value<'_>; 3] {
    let call = &frozen.call;
    [
        Value::Int(frozen.id),
        Value::Blob(call.channel.as_bytes()),
        int(call.number),
    ]
}

fn weight(tasks: &[NewTask]) -> u64 {
    let frames: usize = tasks.iter().map(|task| task.frame.len()).sum();
    frames as u64 + tasks.len() as u64 * OVERHEAD
}

/// Returns when a task becomes ready, as it is stored.
fn split(when: When) -> (i64, u64) {
    match when {
        When::Now => (0, 0),
        When::After(delay) => (1, millis(delay)),
        When::At(at) => (2, at.as_millis()),
    }
}

fn read(row: &Columns<'_, '_>) -> (i64, NewTask) {
    let due = row.count(2);
    let when = match row.int(1) {
        1 => When::After(std::time::Duration::from_millis(due)),
        2 => When::At(Timestamp::from_millis(due)),
        _ => When::Now,
    };
    let frame = row.blob(3);
    (row.int(0), NewTask { frame, when })
}
