//! Clusters of dead letters, the largest first: sizes from the counts that triggers keep, faces from an index.
//!
//! `dead_clusters` has a row per fingerprint, queue, task, reason and status for all time, and the same per day. Where
//! `since` or `until` cut into a day, that part of the day is counted from an index that has all it needs. What a page shows
//! of a cluster besides its size (the first and the last letter) are two descents into the index by fingerprint.

use std::fmt::Write as _;

use celeriac_actors::failure::Failure;
use celeriac_actors::ids::TaskName;
use celeriac_actors::ports::{
    ClusterCursor, ClusterPage, DeadCluster, DeadFilter, StatusCounts, StoreError, message,
};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connections::{Dialect, Live, on_either};
use super::fault::Fault;
use super::letters::{narrowed, of_task};
use super::rows::{burial_id, instant, unreadable};
use super::schema::dead_letters;
use super::stats::{DAY, parts};

/// The most clusters of a page.
const MAX_PAGE: u32 = 1_000;
/// The length of the bucket that holds all time.
const ALL_TIME: i64 = i64::MAX;

/// The size of a cluster.
#[derive(QueryableByName)]
struct Size {
    #[diesel(sql_type = Text)]
    fingerprint: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    is_new: i64,
    #[diesel(sql_type = BigInt)]
    reviving: i64,
    #[diesel(sql_type = BigInt)]
    revived: i64,
    #[diesel(sql_type = BigInt)]
    discarded: i64,
}

/// What a page shows of the last letter of a cluster: id, task, reason, burial, note, failures.
type Face = (Vec<u8>, Option<String>, String, i64, String, String);

/// Where a letter stands in its cluster: its burial and its id.
type Place = (i64, Vec<u8>);

/// Returns a page of clusters.
pub(super) fn clusters(
    live: &mut Live,
    filter: &DeadFilter,
    after: Option<ClusterCursor>,
    limit: u32,
) -> Result<ClusterPage, Fault> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    if let Some(task) = filter.id {
        let letters = of_task(live, task, filter)?;
        return Ok(ClusterPage::of(&letters, after, limit));
    }
    on_either!(live, |connection: Backend| connection.snapshot(
        |connection| {
            let asked = question(filter, after, limit, connection.numbers_parameters());
            let mut query = diesel::sql_query(asked.text).into_boxed::<Backend>();
            for value in asked.values {
                query = match value {
                    Bound::Text(text) => query.bind::<Text, _>(text),
                    Bound::Number(number) => query.bind::<BigInt, _>(number),
                };
            }
            let mut clusters = Vec::new();
            for size in query.load::<Size>(connection)? {
                let own = DeadFilter {
                    fingerprint: Some(size.fingerprint.parse().map_err(|_| odd(&size))?),
                    ..filter.clone()
                };
                // Only what the index has, so that letters which the filter rejects are not read.
                let places = || {
                    let places =
                        dead_letters::table.select((dead_letters::buried_at, dead_letters::id));
                    narrowed!(places.into_boxed::<Backend>(), own)
                };
                let last: Option<Place> = places()
                    .order((dead_letters::buried_at.desc(), dead_letters::id.desc()))
                    .first(connection)
                    .optional()?;
                let first: Option<Place> = places()
                    .order((dead_letters::buried_at.asc(), dead_letters::id.asc()))
                    .first(connection)
                    .optional()?;
                // Counts and rows change together; without the row there is nothing to show.
                let (Some((_, id)), Some((first, _))) = (last, first) else {
                    continue;
                };
                let face = dead_letters::table.find(id.as_slice()).select((
                    dead_letters::id,
                    dead_letters::task,
                    dead_letters::reason,
                    dead_letters::buried_at,
                    dead_letters::note,
                    dead_letters::failures,
                ));
                clusters.push(cluster(&size, face.first(connection)?, first)?);
            }
            Ok(ClusterPage::cut(clusters, limit))
        }
    ))
}

/// Puts a cluster together.
fn cluster(size: &Size, last: Face, first: i64) -> Result<DeadCluster, StoreError> {
    let (id, task, reason, buried_at, note, failures) = last;
    let sample = burial_id(&id).ok_or_else(|| unreadable("?", "id"))?;
    let bad = |column: &str| unreadable(&sample.to_string(), column);
    let failures: Vec<Failure> = serde_json::from_str(&failures).map_err(|_| bad("failures"))?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let task = task.map(TaskName::new).transpose();
    Ok(DeadCluster {
        fingerprint: size.fingerprint.parse().map_err(|_| odd(size))?,
        total: count(size.total),
        by_status: StatusCounts {
            new: count(size.is_new),
            reviving: count(size.reviving),
            revived: count(size.revived),
            discarded: count(size.discarded),
        },
        first_at: instant(first),
        last_at: instant(buried_at),
        sample,
        task: task.map_err(|_| bad("task"))?,
        reason: reason.parse().map_err(|_| bad("reason"))?,
        message: message(&note, &failures).to_owned(),
    })
}

fn odd(size: &Size) -> StoreError {
    StoreError::Schema(format!(
        "{:?} is no fingerprint that this version can read: run the version that wrote it",
        size.fingerprint
    ))
}

/// A query with the values of its parameters.
struct Asked {
    text: String,
    values: Vec<Bound>,
    /// Whether parameters are `$1`, `$2`, … instead of `?`.
    numbered: bool,
}

enum Bound {
    Text(String),
    Number(i64),
}

impl Asked {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a parameter.
    fn bind(&mut self, value: Bound) {
        self.values.push(value);
        if self.numbered {
            // Writing to a string cannot fail.
            let _written = write!(self.text, "${}", self.values.len());
        } else {
            self.text.push('?');
        }
    }

    /// Adds `condition` followed by a parameter.
    fn and(&mut self, condition: &str, value: Bound) {
        self.push(condition);
        self.bind(value);
    }

    /// Adds the conditions that counts and rows have in common.
    fn narrow(&mut self, filter: &DeadFilter) {
        let text = |value: &dyn ToString| Bound::Text(value.to_string());
        if let Some(fingerprint) = &filter.fingerprint {
            self.and(" AND fingerprint = ", text(fingerprint));
        }
        if let Some(queue) = &filter.queue {
            self.and(" AND queue = ", text(queue));
        }
        if let Some(task) = &filter.task {
            self.and(" AND task = ", text(task));
        }
        if let Some(reason) = &filter.reason {
            self.and(" AND reason = ", text(reason));
        }
        if let Some(status) = &filter.status {
            self.and(" AND status = ", text(status));
        }
    }
}

/// Returns the query for the sizes of one page and one cluster more.
fn question(
    filter: &DeadFilter,
    after: Option<ClusterCursor>,
    limit: usize,
    numbered: bool,
) -> Asked {
    let mut asked = Asked {
        text: String::new(),
        values: Vec::new(),
        numbered,
    };
    let of = |status: &str| {
        format!("CAST(SUM(CASE WHEN status = '{status}' THEN n ELSE 0 END) AS BIGINT)")
    };
    asked.push(&format!(
        "SELECT * FROM (SELECT fingerprint, CAST(SUM(n) AS BIGINT) AS total, {} AS is_new, {} AS reviving, \
         {} AS revived, {} AS discarded FROM (",
        of("new"),
        of("reviving"),
        of("revived"),
        of("discarded")
    ));
    sources(&mut asked, filter);
    asked.push(") AS counts GROUP BY fingerprint) AS sizes WHERE total > 0");
    if let Some(after) = after {
        let total = i64::try_from(after.total).unwrap_or(i64::MAX);
        asked.and(" AND (total < ", Bound::Number(total));
        asked.and(" OR (total = ", Bound::Number(total));
        asked.and(
            " AND fingerprint > ",
            Bound::Text(after.fingerprint.to_string()),
        );
        asked.push("))");
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX - 1);
    asked.and(
        " ORDER BY total DESC, fingerprint LIMIT ",
        Bound::Number(limit + 1),
    );
    asked
}

/// Adds where the counts come from: whole buckets, and the letters of pieces of days.
fn sources(asked: &mut Asked, filter: &DeadFilter) {
    let parts = parts(filter, &[DAY]);
    let is_ever = filter.since.is_none() && filter.until.is_none();
    let buckets = match is_ever {
        true => vec![(ALL_TIME, (0, 1))],
        false => parts.buckets,
    };
    let mut glue = "";
    for (span, (from, to)) in buckets {
        asked.push(glue);
        asked.and(
            "SELECT fingerprint, status, count AS n FROM dead_clusters WHERE span = ",
            Bound::Number(span),
        );
        asked.and(" AND bucket >= ", Bound::Number(from));
        asked.and(" AND bucket < ", Bound::Number(to));
        asked.narrow(filter);
        glue = " UNION ALL ";
    }
    for (from, to) in parts.pieces {
        asked.push(glue);
        asked.and(
            "SELECT fingerprint, status, 1 AS n FROM dead_letters WHERE buried_at >= ",
            Bound::Number(from),
        );
        asked.and(" AND buried_at < ", Bound::Number(to));
        asked.narrow(filter);
        glue = " UNION ALL ";
    }
    if glue.is_empty() {
        // A range without a moment in it.
        asked.push("SELECT fingerprint, status, count AS n FROM dead_clusters WHERE span < 0");
    }
}
