//! `celeriac dead purge`: deletes dead letters for good, but never one that is being revived.

use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted};
use super::desk::Desk;
use super::filter::Filters;
use crate::admin::dead::describe;

pub(super) async fn run(desk: &Desk, filters: &Filters, yes: bool) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let target = describe(&filter);
    // As many as there are now: what is buried while somebody thinks about the answer stays.
    let left = desk
        .purgeable(&filter)
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
    let (purged, ended) = desk.purge(&filter, left).await;
    if purged > 0 {
        desk.record("dead.purge", target.clone(), format!("{purged} purged"))
            .await?;
    }
    if desk.session.json {
        output::json(&json!({ "purged": purged, "filter": target }));
    } else {
        output::line(&format!("purged {}", counted(purged, "dead letter")));
    }
    ended?;
    Ok(Exit::Ok)
}
