//! Statistics of dead letters, exact and fast: whole days from the counts that triggers keep, the rest from the rows.
//!
//! `dead_stats` has one row per day, queue, task, reason and status, so a million letters are a few thousand counts.
//! Where `since` or `until` cut into a day, that part of the day is counted from an index that has all it needs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use celeriac_actors::ports::{DeadFilter, DeadStats, StatsRow};
use diesel::dsl::count_star;
use diesel::prelude::*;

use super::connections::{Dialect as _, Live, on_either};
use super::fault::Fault;
use super::letters::{narrowed, of_task};
use super::rows::{instant, millis};
use super::schema::{dead_letters, dead_stats};

/// A day in milliseconds. The triggers divide by the same number.
pub(super) const DAY: i64 = 86_400_000;

/// One group of letters: day, queue, task, reason, status, how many.
type Group = (i64, String, String, String, String, i64);

/// Which parts of a range are counted how.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Whole days, from the counts: from the first to before the second.
    days: (i64, i64),
    /// Pieces of days in milliseconds, from the rows: from the first to before the second.
    pieces: Vec<(i64, i64)>,
}

/// Counts the letters that match.
pub(super) fn stats(live: &mut Live, filter: &DeadFilter) -> Result<DeadStats, Fault> {
    let mut groups = Vec::new();
    if let Some(task) = filter.id {
        for letter in of_task(live, task, filter)? {
            let task = letter
                .task
                .map_or_else(|| "?".to_owned(), |task| task.to_string());
            let (reason, status) = (letter.reason.to_string(), letter.status.to_string());
            let day = millis(letter.buried_at) / DAY;
            groups.push((day, letter.queue.to_string(), task, reason, status, 1));
        }
        return Ok(summed(&groups));
    }
    let parts = parts(filter);
    on_either!(live, |connection: Backend| connection.snapshot(
        |connection| {
            let counts = dead_stats::table
                .filter(dead_stats::day.ge(parts.days.0))
                .into_boxed::<Backend>();
            let mut query = counts
                .filter(dead_stats::day.lt(parts.days.1))
                .filter(dead_stats::count.gt(0));
            if let Some(queue) = &filter.queue {
                query = query.filter(dead_stats::queue.eq(queue.as_str()));
            }
            if let Some(task) = &filter.task {
                query = query.filter(dead_stats::task.eq(task.as_str()));
            }
            if let Some(reason) = filter.reason {
                query = query.filter(dead_stats::reason.eq(reason.as_str()));
            }
            if let Some(status) = filter.status {
                query = query.filter(dead_stats::status.eq(status.as_str()));
            }
            groups.extend(query.load::<Group>(connection)?);
            for (from, to) in &parts.pieces {
                let piece = DeadFilter {
                    since: Some(instant(*from)),
                    until: Some(instant(*to)),
                    ..filter.clone()
                };
                let by = (
                    dead_letters::queue,
                    dead_letters::task,
                    dead_letters::reason,
                    dead_letters::status,
                );
                let counted = dead_letters::table.group_by(by).select((by, count_star()));
                let rows = narrowed!(counted.into_boxed::<Backend>(), piece).load::<(
                    (String, Option<String>, String, String),
                    i64,
                )>(
                    connection
                )?;
                groups.extend(
                    rows.into_iter()
                        .map(|((queue, task, reason, status), count)| {
                            let task = task.unwrap_or_else(|| "?".to_owned());
                            (from / DAY, queue, task, reason, status, count)
                        }),
                );
            }
            Ok(summed(&groups))
        }
    ))
}

/// Splits the range of a filter into whole days and pieces of days.
fn parts(filter: &DeadFilter) -> Parts {
    let since = filter.since.map_or(0, millis);
    // Without an end the last day counts as whole, though the calendar of 63 bits ends within it.
    let until = filter.until.map_or(i64::MAX, millis);
    let first = since / DAY + i64::from(since % DAY != 0);
    let last = match filter.until {
        None => i64::MAX,
        Some(_) => until / DAY,
    };
    let mut pieces = Vec::new();
    if first > last {
        // Begins and ends within one day.
        pieces.push((since, until));
    } else {
        pieces.push((since, first.saturating_mul(DAY)));
        if filter.until.is_some() {
            pieces.push((last * DAY, until));
        }
    }
    pieces.retain(|(from, to)| from < to);
    Parts {
        days: (first, last),
        pieces,
    }
}

/// Adds groups up along each of their sides.
fn summed(groups: &[Group]) -> DeadStats {
    let mut sides: [BTreeMap<&str, u64>; 4] = Default::default();
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    let mut total = 0;
    for (day, queue, task, reason, status, count) in groups {
        let count = u64::try_from(*count).unwrap_or(0);
        total += count;
        *days.entry(*day).or_default() += count;
        for (side, key) in sides.iter_mut().zip([queue, task, reason, status]) {
            *side.entry(key).or_default() += count;
        }
    }
    let [queue, task, reason, status] = sides.map(most_first);
    let by_day = days.into_iter().rev().map(|(day, count)| StatsRow {
        key: date(day),
        count,
    });
    DeadStats {
        total,
        by_queue: queue,
        by_task: task,
        by_reason: reason,
        by_status: status,
        by_day: by_day.collect(),
    }
}

fn most_first(side: BTreeMap<&str, u64>) -> Vec<StatsRow> {
    let mut rows: Vec<StatsRow> = side
        .into_iter()
        .map(|(key, count)| StatsRow {
            key: key.to_owned(),
            count,
        })
        .collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows
}

/// Returns a day as `2026-01-31`.
fn date(day: i64) -> String {
    let text = instant(day.saturating_mul(DAY)).to_string();
    text.split_once('T')
        .map_or_else(|| text.clone(), |(date, _)| date.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(since: Option<i64>, until: Option<i64>) -> Parts {
        parts(&DeadFilter {
            since: since.map(instant),
            until: until.map(instant),
            ..DeadFilter::default()
        })
    }

    #[test]
    fn a_range_is_whole_days_and_at_most_two_pieces() {
        let of = |days: (i64, i64), pieces: &[(i64, i64)]| Parts {
            days,
            pieces: pieces.to_vec(),
        };
        assert_eq!(split(None, None), of((0, i64::MAX), &[]));
        assert_eq!(split(Some(DAY), Some(3 * DAY)), of((1, 3), &[]));
        assert_eq!(split(Some(5), None), of((1, i64::MAX), &[(5, DAY)]));
        assert_eq!(split(None, Some(DAY + 7)), of((0, 1), &[(DAY, DAY + 7)]));
        assert_eq!(split(Some(5), Some(7)), of((1, 0), &[(5, 7)]));
        assert_eq!(split(Some(7), Some(5)), of((1, 0), &[]));
        assert_eq!(split(Some(5), Some(DAY)), of((1, 1), &[(5, DAY)]));
        let both = [(5, DAY), (2 * DAY, 2 * DAY + 1)];
        assert_eq!(split(Some(5), Some(2 * DAY + 1)), of((1, 2), &both));
    }
}
