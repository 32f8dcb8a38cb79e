//! `celeriac dead clusters`: what dead tasks died of, the most frequent first.

use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ids::TaskName;
use celeriac_actors::ports::{DeadCluster, DeadLetters as _, StatusCounts};
use celeriac_actors::state::DeadReason;
use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::super::session::Session;
use super::super::{output, when};
use super::desk::{Desk, STEP};
use super::filter::Filters;

/// How many clusters are shown to people who do not say how many they want.
const SHOWN: u64 = 20;
/// How much of a message fits beside the rest.
const MESSAGE: usize = 60;

const HEAD: [&str; 8] = [
    "COUNT",
    "NEW",
    "FINGERPRINT",
    "FIRST",
    "LAST",
    "TASK",
    "REASON",
    "MESSAGE",
];

/// A cluster for programs.
#[derive(Debug, Serialize)]
struct View<'a> {
    fingerprint: Fingerprint,
    count: u64,
    by_status: StatusCounts,
    first_buried_at: String,
    last_buried_at: String,
    task: Option<&'a TaskName>,
    reason: DeadReason,
    message: &'a str,
    /// The letter that was buried last.
    sample: String,
}

impl<'a> View<'a> {
    fn of(cluster: &'a DeadCluster) -> Self {
        Self {
            fingerprint: cluster.fingerprint,
            count: cluster.total,
            by_status: cluster.by_status,
            first_buried_at: cluster.first_at.to_string(),
            last_buried_at: cluster.last_at.to_string(),
            task: cluster.task.as_ref(),
            reason: cluster.reason,
            message: &cluster.message,
            sample: cluster.sample.to_string(),
        }
    }
}

pub(super) async fn run(desk: &Desk, filters: &Filters) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let json = desk.session.json;
    let mut left = filters.limit.unwrap_or(if json { u64::MAX } else { SHOWN });
    let (mut after, mut rows, mut has_more) = (None, Vec::new(), true);
    while left > 0 && has_more {
        let limit = u32::try_from(left).map_or(STEP, |left| left.min(STEP));
        let page = Session::insist(|| desk.store.clusters(&filter, after, limit)).await?;
        left -= (page.clusters.len() as u64).min(left);
        if json {
            page.clusters
                .iter()
                .for_each(|cluster| output::json(&View::of(cluster)));
        } else {
            rows.extend(page.clusters.iter().map(row));
        }
        after = page.next;
        has_more = after.is_some();
    }
    if json {
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        output::complain("no dead letters");
        return Ok(Exit::Ok);
    }
    output::line(&output::table(&HEAD, &rows));
    if has_more {
        let shown = rows.len();
        output::complain(&format!("the {shown} largest; --limit N shows more"));
    }
    Ok(Exit::Ok)
}

fn row(cluster: &DeadCluster) -> Vec<String> {
    let task = cluster.task.as_ref();
    vec![
        cluster.total.to_string(),
        cluster.by_status.new.to_string(),
        cluster.fingerprint.to_string(),
        when::to_the_second(cluster.first_at),
        when::to_the_second(cluster.last_at),
        task.map_or_else(|| "?".to_owned(), ToString::to_string),
        cluster.reason.to_string(),
        output::plain(&output::short(&cluster.message, MESSAGE)),
    ]
}
