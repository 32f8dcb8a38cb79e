//! Statistics of dead letters, exact and fast: whole days and hours from the counts that triggers keep, the rest from
//! the rows.
//!
//! `dead_stats` has one row per day, queue, task, reason and status, so a million letters are a few thousand counts, and
//! the same per hour. Where `since` or `until` cut into a day, its whole hours are taken; where they cut into an hour,
//! that part of the hour is counted from an index that has all it needs. Those of one fingerprint are counted per day in
//! `dead_clusters`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadStats, StatsRow};
use diesel::dsl::count_star;
use diesel::prelude::*;

use super::connections::{Dialect as _, Live, on_either};
use super::fault::Fault;
use super::letters::{narrowed, of_task};
use super::rows::{instant, millis};
use super::schema::{dead_clusters, dead_letters, dead_stats};

/// A day in milliseconds.
pub(super) const DAY: i64 = 86_400_000;
/// An hour in milliseconds.
const HOUR: i64 = 3_600_000;

/// One group of letters: an instant of its day, queue, task, reason, status, how many.
type Group = (i64, String, String, String, String, i64);

/// Which parts of a range are counted how. All ranges are from the first to before the second.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Whole buckets of a length, by their numbers: from the counts.
    pub(super) buckets: Vec<(i64, (i64, i64))>,
    /// Pieces of hours in milliseconds: from the rows.
    pub(super) pieces: Vec<(i64, i64)>,
}

/// Reads the counts of whole buckets of a span that match a filter, as [`Group`]s.
macro_rules! counted {
    ($table:ident, $backend:ident, $filter:expr, ($span:expr, $range:expr)) => {{
        let (span, (from, to)): (i64, (i64, i64)) = ($span, $range);
        let mut query = $table::table
            .filter($table::span.eq(span))
            .into_boxed::<$backend>()
            .filter($table::bucket.ge(from).and($table::bucket.lt(to)))
            .filter($table::count.gt(0))
            .select((
                $table::bucket * span,
                $table::queue,
                $table::task,
                $table::reason,
                $table::status,
                $table::count,
            ));
        if let Some(queue) = &$filter.queue {
            query = query.filter($table::queue.eq(queue.as_str()));
        }
        if let Some(task) = &$filter.task {
            query = query.filter($table::task.eq(task.as_str()));
        }
        if let Some(reason) = $filter.reason {
            query = query.filter($table::reason.eq(reason.as_str()));
        }
        if let Some(status) = $filter.status {
            query = query.filter($table::status.eq(status.as_str()));
        }
        query
    }};
}

/// Counts the letters that match.
pub(super) fn stats(live: &mut Live, filter: &DeadFilter) -> Result<DeadStats, Fault> {
    if let Some(task) = filter.id {
        let letters = of_task(live, task, filter)?;
        return Ok(summed(&letters.iter().map(group).collect::<Vec<_>>()));
    }
    let mut groups = Vec::new();
    let parts = match filter.fingerprint {
        None => parts(filter, &[DAY, HOUR]),
        Some(_) => parts(filter, &[DAY]),
    };
    on_either!(live, |connection: Backend| connection.snapshot(
        |connection| {
            for (span, range) in &parts.buckets {
                groups.extend(match filter.fingerprint {
                    None => counted!(dead_stats, Backend, filter, (*span, *range))
                        .load::<Group>(connection)?,
                    Some(fingerprint) => counted!(dead_clusters, Backend, filter, (*span, *range))
                        .filter(dead_clusters::fingerprint.eq(fingerprint.to_string()))
                        .load::<Group>(connection)?,
                });
            }
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
                            (*from, queue, task, reason, status, count)
                        }),
                );
            }
            Ok(summed(&groups))
        }
    ))
}

/// Returns a letter as a group of one.
fn group(letter: &DeadLetter) -> Group {
    let task = letter.task.as_ref().map_or("?", |task| task.as_str());
    (
        millis(letter.buried_at),
        letter.queue.to_string(),
        task.to_owned(),
        letter.reason.to_string(),
        letter.status.to_string(),
        1,
    )
}

/// Splits the range of a filter into whole buckets of `spans`, the longest first, and pieces of the shortest.
pub(super) fn parts(filter: &DeadFilter, spans: &[i64]) -> Parts {
    let since = filter.since.map_or(0, millis);
    let mut parts = Parts::default();
    // Without an end there is no last day to cut: stored instants end with a day.
    let mut rest = vec![(since, filter.until.map_or(i64::MAX / DAY * DAY, millis))];
    for span in spans.iter().copied() {
        let mut pieces = Vec::new();
        for (from, to) in rest {
            let (first, last) = (from / span + i64::from(from % span != 0), to / span);
            if first < last {
                parts.buckets.push((span, (first, last)));
            }
            if first <= last {
                pieces.extend([(from, first * span), (last * span, to)]);
            } else {
                // Begins and ends within one bucket.
                pieces.push((from, to));
            }
        }
        pieces.retain(|(from, to)| from < to);
        rest = pieces;
    }
    parts.pieces = rest;
    parts
}

/// Adds groups up along each of their sides.
fn summed(groups: &[Group]) -> DeadStats {
    let mut sides: [BTreeMap<&str, u64>; 4] = Default::default();
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    let mut total = 0;
    for (at, queue, task, reason, status, count) in groups {
        let count = u64::try_from(*count).unwrap_or(0);
        total += count;
        *days.entry(at / DAY).or_default() += count;
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
        parts(
            &DeadFilter {
                since: since.map(instant),
                until: until.map(instant),
                ..DeadFilter::default()
            },
            &[DAY, HOUR],
        )
    }

    #[test]
    fn a_range_is_days_hours_and_at_most_two_pieces() {
        let of = |buckets: &[(i64, (i64, i64))], pieces: &[(i64, i64)]| Parts {
            buckets: buckets.to_vec(),
            pieces: pieces.to_vec(),
        };
        let end = i64::MAX / DAY;
        assert_eq!(split(None, None), of(&[(DAY, (0, end))], &[]));
        assert_eq!(split(Some(DAY), Some(3 * DAY)), of(&[(DAY, (1, 3))], &[]));
        let first_day = [(DAY, (1, end)), (HOUR, (1, 24))];
        assert_eq!(split(Some(5), None), of(&first_day, &[(5, HOUR)]));
        let second_day = [(DAY, (0, 1)), (HOUR, (24, 26))];
        let cut = DAY + 2 * HOUR;
        assert_eq!(
            split(None, Some(cut + 7)),
            of(&second_day, &[(cut, cut + 7)])
        );
        assert_eq!(split(Some(5), Some(7)), of(&[], &[(5, 7)]));
        assert_eq!(split(Some(7), Some(5)), of(&[], &[]));
        assert_eq!(split(Some(HOUR), Some(HOUR)), of(&[], &[]));
        let night = (DAY - HOUR - 1, DAY + HOUR + 1);
        assert_eq!(
            split(Some(night.0), Some(night.1)),
            of(
                &[(HOUR, (23, 24)), (HOUR, (24, 25))],
                &[(night.0, night.0 + 1), (night.1 - 1, night.1)]
            )
        );
    }

    proptest::proptest! {
        #[test]
        fn every_instant_is_counted_once(since in 0..3 * DAY, until in 0..3 * DAY, at in 0..3 * DAY) {
            let parts = split(Some(since), Some(until));
            let within = |(from, to): &(i64, i64)| *from <= at && at < *to;
            let in_bucket = |(span, (from, to)): &(i64, (i64, i64))| within(&(from * span, to * span));
            let times = parts.buckets.iter().filter(|b| in_bucket(b)).count()
                + parts.pieces.iter().filter(|p| within(p)).count();
            proptest::prop_assert_eq!(times, usize::from(since <= at && at < until));
        }
    }
}
