//! `celeriac dead purge`: deletes dead letters for good, but never one that is being revived.

use celeriac_actors::ports::{DeadFilter, DeadLetters as _, DeadStatus};
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted};
use super::super::session::Session;
use super::desk::Desk;
use super::filter::{Filters, describe};

/// How many letters one call deletes: so much is lost of the count when the store goes away.
const STEP: u64 = 5_000;

pub(super) async fn run(desk: &Desk, filters: &Filters, yes: bool) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let target = describe(&filter);
    // As many as there are now: what is buried while somebody thinks about the answer stays.
    let mut left = purgeable(desk, &filter)
        .await?
        .min(filters.limit.unwrap_or(u64::MAX));
    if left > 0 && !yes {
        let what = format!("{} ({target})", counted(left, "dead letter"));
        match output::confirm(&format!("delete {what} for good?")) {
            Some(true) => {}
            Some(false) => {
                return Err(Failure::new(
                    Exit::TaskFailed,
                    anyhow::anyhow!("nothing was deleted"),
                ));
            }
            None => {
                return Err(Failure::usage(format!(
                    "this deletes {what} for good: say --yes"
                )));
            }
        }
    }
    let (mut purged, mut ended) = (0, Ok(()));
    while left > 0 {
        let step = u32::try_from(left.min(STEP)).unwrap_or(u32::MAX);
        match Session::insist(|| desk.store.purge(&filter, step)).await {
            Ok(0) => break,
            Ok(gone) => {
                purged += gone;
                left -= gone.min(left);
            }
            Err(error) => {
                ended = Err(Failure::from(error));
                break;
            }
        }
    }
    if purged > 0 {
        desk.record("dead.purge", target.clone(), format!("{purged} purged"))
            .await?;
    }
    if desk.session.json {
        output::json(&json!({ "purged": purged, "filter": target }));
    } else {
        output::line(&format!("purged {}", counted(purged, "dead letter")));
    }
    ended.map(|()| Exit::Ok)
}

/// Returns how many letters match that may be deleted.
async fn purgeable(desk: &Desk, filter: &DeadFilter) -> Result<u64, Failure> {
    let stats = desk.stats(filter).await?;
    let reviving = stats.by_status.iter();
    let reviving = reviving.filter(|row| row.key == DeadStatus::Reviving.as_str());
    Ok(stats.total - reviving.map(|row| row.count).sum::<u64>().min(stats.total))
}
