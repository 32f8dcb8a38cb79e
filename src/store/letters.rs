//! Dead letters in and out: insert, list, show.

use celeriac_actors::ids::{BurialId, TaskId};
use celeriac_actors::ports::{DeadCursor, DeadFilter, DeadLetter, DeadPage, StoreError};
use diesel::connection::DefaultLoadingMode;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool};

use super::connections::{Dialect as _, Live, on_either};
use super::fault::Fault;
use super::rows::{LetterRow, key, keys_of, millis};
use super::schema::dead_letters;

/// How many rows one statement inserts.
const BATCH: usize = 200;
/// The most letters of a page.
const MAX_PAGE: u32 = 1_000;
/// A page ends early when its letters take more than this: frames may have a megabyte each.
const MAX_PAGE_BYTES: usize = 32 << 20;

/// Adds a filter's conditions to a boxed query, except `id`: one task has few letters, see [`of_task`].
///
/// A fingerprint is the most telling of them. Where one is given, the others are hidden from the planner (`|| ''`), so that
/// no other index looks as good as the one that leads to it.
macro_rules! narrowed {
    ($query:expr, $filter:expr) => {{
        use $crate::store::rows::millis;
        use $crate::store::schema::dead_letters;

        let mut query = $query;
        let is_hidden = $filter.fingerprint.is_some();
        macro_rules! equal {
            ($column:ident, $value:expr) => {
                query = match is_hidden {
                    true => query.filter(dead_letters::$column.concat("").eq($value)),
                    false => query.filter(dead_letters::$column.eq($value)),
                }
            };
        }
        if let Some(fingerprint) = $filter.fingerprint {
            query = query.filter(dead_letters::fingerprint.eq(fingerprint.to_string()));
        }
        if let Some(queue) = &$filter.queue {
            equal!(queue, queue.as_str());
        }
        if let Some(task) = &$filter.task {
            equal!(task, task.as_str());
        }
        if let Some(reason) = $filter.reason {
            equal!(reason, reason.as_str());
        }
        if let Some(status) = $filter.status {
            equal!(status, status.as_str());
        }
        if let Some(since) = $filter.since {
            query = query.filter(dead_letters::buried_at.ge(millis(since)));
        }
        if let Some(until) = $filter.until {
            query = query.filter(dead_letters::buried_at.lt(millis(until)));
        }
        query
    }};
}
pub(super) use narrowed;

/// Turns letters into rows, in an order in which batches of several processes cannot lock each other out.
pub(super) fn prepared(letters: &[DeadLetter]) -> Result<Vec<LetterRow>, StoreError> {
    let mut rows = letters
        .iter()
        .map(LetterRow::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| a.counted_by().cmp(&b.counted_by()));
    Ok(rows)
}

/// Inserts rows, all or nothing; returns how many were not there yet.
pub(super) fn insert(live: &mut Live, rows: &[LetterRow]) -> Result<u64, Fault> {
    on_either!(live, |connection| connection.writing(|connection| {
        let mut fresh = 0;
        for batch in rows.chunks(BATCH) {
            fresh += diesel::insert_into(dead_letters::table)
                .values(batch)
                .on_conflict_do_nothing()
                .execute(connection)?;
        }
        Ok(fresh as u64)
    }))
}

/// Returns a page, newest burial first.
pub(super) fn list(
    live: &mut Live,
    filter: &DeadFilter,
    after: Option<DeadCursor>,
    limit: u32,
) -> Result<DeadPage, Fault> {
    let limit = limit.clamp(1, MAX_PAGE);
    if let Some(task) = filter.id {
        let letters = of_task(live, task, filter)?;
        return page(
            letters.into_iter().filter(|l| is_behind(l, after)).map(Ok),
            limit,
        );
    }
    on_either!(live, |connection: Backend| {
        let all = dead_letters::table.select(LetterRow::as_select());
        let mut query = narrowed!(all.into_boxed::<Backend>(), filter);
        if let Some(cursor) = after {
            // A row value: one descent into the index, wherever the page starts.
            query = query.filter(
                sql::<Bool>("(dead_letters.buried_at, dead_letters.id) < (")
                    .bind::<BigInt, _>(millis(cursor.buried_at))
                    .sql(", ")
                    .bind::<Binary, _>(key(cursor.id).to_vec())
                    .sql(")"),
            );
        }
        let rows = query
            .order((dead_letters::buried_at.desc(), dead_letters::id.desc()))
            .limit(i64::from(limit) + 1)
            .load_iter::<LetterRow, DefaultLoadingMode>(connection)?;
        page(rows.map(|row| Ok(DeadLetter::try_from(row?)?)), limit)
    })
}

/// Returns one letter.
pub(super) fn show(live: &mut Live, id: BurialId) -> Result<DeadLetter, Fault> {
    let row: Option<LetterRow> = on_either!(live, |connection| {
        dead_letters::table
            .find(key(id).as_slice())
            .select(LetterRow::as_select())
            .first(connection)
            .optional()?
    });
    match row {
        Some(row) => Ok(row.try_into()?),
        None => Err(StoreError::Missing(id).into()),
    }
}

/// Returns the letters of one task that match, newest burial first: by its key, whatever else the filter says.
pub(super) fn of_task(
    live: &mut Live,
    task: TaskId,
    filter: &DeadFilter,
) -> Result<Vec<DeadLetter>, Fault> {
    let (first, last) = keys_of(task);
    let rows: Vec<LetterRow> = on_either!(live, |connection| {
        dead_letters::table
            .filter(dead_letters::id.between(first.as_slice(), last.as_slice()))
            .select(LetterRow::as_select())
            .load(connection)?
    });
    let meant = filter
        .fingerprint
        .map(|fingerprint| fingerprint.to_string());
    let mut letters = rows
        .into_iter()
        .filter(|row| meant.as_ref().is_none_or(|meant| row.fingerprint == *meant))
        .map(DeadLetter::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    letters.retain(|letter| matches(letter, filter));
    letters.sort_by_key(|letter| std::cmp::Reverse((letter.buried_at, letter.id)));
    Ok(letters)
}

/// Returns whether a letter is meant by a filter, whose fingerprint was looked at.
fn matches(letter: &DeadLetter, filter: &DeadFilter) -> bool {
    filter
        .queue
        .as_ref()
        .is_none_or(|queue| letter.queue == *queue)
        && filter
            .task
            .as_ref()
            .is_none_or(|task| letter.task.as_ref() == Some(task))
        && filter.id.is_none_or(|id| letter.id.task == id)
        && filter.reason.is_none_or(|reason| letter.reason == reason)
        && filter.status.is_none_or(|status| letter.status == status)
        && filter.since.is_none_or(|since| letter.buried_at >= since)
        && filter.until.is_none_or(|until| letter.buried_at < until)
}

fn is_behind(letter: &DeadLetter, cursor: Option<DeadCursor>) -> bool {
    cursor.is_none_or(|cursor| (letter.buried_at, letter.id) < (cursor.buried_at, cursor.id))
}

/// Takes a page from the front of `letters`, which may have one more than `limit`.
fn page(
    letters: impl Iterator<Item = Result<DeadLetter, Fault>>,
    limit: u32,
) -> Result<DeadPage, Fault> {
    let mut page = DeadPage::default();
    let mut bytes = 0;
    for letter in letters {
        let letter = letter?;
        let is_full = page.letters.len() >= limit as usize || bytes > MAX_PAGE_BYTES;
        if is_full {
            page.next = page.letters.last().map(|last| DeadCursor {
                buried_at: last.buried_at,
                id: last.id,
            });
            break;
        }
        let edited = letter.edited.as_ref().map_or(0, Vec::len);
        bytes += letter.frame.len() + edited + letter.args.as_ref().map_or(0, String::len);
        page.letters.push(letter);
    }
    Ok(page)
}
