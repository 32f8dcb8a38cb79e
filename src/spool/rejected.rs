//! What the broker rejected for good: seen, put back to be relayed once more, or dropped. Nothing here relays.

use std::path::Path;

use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::SqliteSpool;
use super::book::{Book, Held, OVERHEAD};
use super::options::{OpenError, SpoolOptions};
use crate::sqlite::sql::{Value, int};

/// A task that the broker rejected for good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Its number within the spool.
    pub number: i64,
    /// The queue it was to go to.
    pub queue: String,
    /// When it came to the spool.
    pub since: Timestamp,
    /// The stored bytes.
    pub frame: Vec<u8>,
    /// What the broker said.
    pub reason: String,
}

/// What became of rejected tasks that were to be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// So many wait again, behind everything of their queues. Those that were not there are not counted.
    Done(u64),
    /// The spool has no room for them: nothing was changed.
    Full,
}

const LIST: &str =
    "SELECT seq, queue, since, frame, reason FROM rejected WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const ONE: &str = "SELECT seq, queue, since, frame, reason FROM rejected WHERE seq = ?1";
const SIZE: &str = "SELECT length(frame), queue FROM rejected WHERE seq = ?1";
const BACK: &str = "INSERT INTO tasks (queue, due_kind, due, since, frame) \
    SELECT queue, due_kind, due, since, frame FROM rejected WHERE seq = ?1";
const COUNT: &str = "UPDATE queues SET tasks = tasks + 1, bytes = bytes + ?2 WHERE name = ?1";
const DROP: &str = "DELETE FROM rejected WHERE seq = ?1";

impl SqliteSpool {
    /// Returns at most `limit` of the rejected tasks of the spool at `path`, those behind the number `after`, in the order
    /// in which they came. Makes and relays nothing; empty where there is no spool.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn rejected(path: &Path, after: i64, limit: u32) -> Result<Vec<Rejected>, OpenError> {
        let values = [Value::Int(after), int(u64::from(limit))];
        let found = look(path, |book| book.db.all(LIST, &values, read))?;
        Ok(found.unwrap_or_default())
    }

    /// Returns one rejected task of the spool at `path`, if it is there.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub fn rejected_one(path: &Path, number: i64) -> Result<Option<Rejected>, OpenError> {
        let found = look(path, |book| book.db.first(ONE, &[Value::Int(number)], read))?;
        Ok(found.flatten())
    }

    /// Puts rejected tasks back into the spool, all or none: whoever relays it sends them once more.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it; nothing was changed.
    pub fn put_back(options: &SpoolOptions, numbers: &[i64]) -> Result<PutBack, OpenError> {
        let bounds = options.bounds();
        let step = |book: &mut Book| {
            let mut done = 0;
            for number in numbers {
                let key = [Value::Int(*number)];
                let found = book
                    .db
                    .first(SIZE, &key, |row| (row.count(0), row.text(1)))?;
                let Some((bytes, queue)) = found else {
                    continue;
                };
                let bytes = bytes + OVERHEAD;
                let Held { tasks, bytes: held } = book.held()?;
                if tasks + 1 > bounds.tasks || held + bytes > bounds.bytes {
                    return Ok(None);
                }
                book.db.run(BACK, &key)?;
                book.db.run(DROP, &key)?;
                book.db.run(COUNT, &[Value::Text(&queue), int(bytes)])?;
                done += 1;
            }
            Ok(Some(PutBack::Done(done)))
        };
        let done = change(&options.path, step)?;
        Ok(done.unwrap_or(PutBack::Full))
    }

    /// Drops rejected tasks for good; returns how many were there.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it; nothing was changed.
    pub fn drop_rejected(path: &Path, numbers: &[i64]) -> Result<u64, OpenError> {
        let step = |book: &mut Book| {
            let mut gone = 0;
            for number in numbers {
                gone += book.db.run(DROP, &[Value::Int(*number)])? as u64;
            }
            Ok(Some(gone))
        };
        Ok(change(path, step)?.unwrap_or_default())
    }
}

fn read(row: &crate::sqlite::sql::Columns<'_, '_>) -> Rejected {
    Rejected {
        number: row.int(0),
        queue: row.text(1),
        since: Timestamp::from_millis(row.count(2)),
        frame: row.blob(3),
        reason: row.text(4),
    }
}

/// Reads from the spool at `path`; `None` where there is none.
fn look<T>(
    path: &Path,
    read: impl FnOnce(&mut Book) -> QueryResult<T>,
) -> Result<Option<T>, OpenError> {
    if !path.try_exists().map_err(OpenError::file(path))? {
        return Ok(None);
    }
    let mut book = Book::connect(path)?;
    if !book.is_ours(path)? {
        return Ok(None);
    }
    let found = read(&mut book).map_err(|error| OpenError::sqlite(path, &error))?;
    Ok(Some(found))
}

/// Changes the spool at `path` in one transaction, which is undone when the step says `None` or fails.
fn change<T>(
    path: &Path,
    step: impl FnOnce(&mut Book) -> QueryResult<Option<T>>,
) -> Result<Option<T>, OpenError> {
    let changed = look(path, |book| {
        book.db.batch("BEGIN IMMEDIATE")?;
        let stepped = step(book);
        let end = match stepped {
            Ok(Some(_)) => "COMMIT",
            _ => "ROLLBACK",
        };
        book.db.batch(end)?;
        stepped
    })?;
    Ok(changed.flatten())
}
