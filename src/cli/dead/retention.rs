//! `celeriac dead purge --retention`: deletes at once what the configuration does not keep.

use celeriac_actors::retention::{Removed, RetentionLimits, retain};
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted};
use super::super::session::Session;
use super::desk::Desk;

/// How many letters one call deletes: so much is lost of the count when the store goes away.
const STEP: u32 = 5_000;

pub(super) async fn run(desk: &Desk, yes: bool) -> Result<Exit, Failure> {
    let limits = desk.session.config.dead_letters;
    if limits.keep_everything() {
        return Err(Failure::usage(
            "the configuration keeps every dead letter: set dead_letters.max_age or dead_letters.max_count",
        ));
    }
    let target = describe(&limits);
    if !yes {
        match output::confirm(&format!("delete for good what is beyond {target}?")) {
            Some(true) => {}
            Some(false) => {
                let kept = anyhow::anyhow!("nothing was deleted");
                return Err(Failure::new(Exit::TaskFailed, kept));
            }
            None => {
                return Err(Failure::usage(format!(
                    "this deletes dead letters beyond {target} for good: say --yes"
                )));
            }
        }
    }
    let (mut all, mut ended) = (Removed::default(), Ok(()));
    loop {
        match Session::insist(|| retain(&*desk.store, desk.now, &limits, STEP)).await {
            Ok(removed) => {
                all.by_age += removed.by_age;
                all.by_count += removed.by_count;
                if !removed.more {
                    break;
                }
            }
            Err(error) => {
                ended = Err(Failure::from(error));
                break;
            }
        }
    }
    let Removed {
        by_age, by_count, ..
    } = all;
    let detail = format!(
        "{} purged, {by_age} too old, {by_count} too many",
        all.total()
    );
    if all.total() > 0 {
        desk.record("dead.purge", format!("retention {target}"), detail)
            .await?;
    }
    if desk.session.json {
        output::json(&json!({ "purged": all.total(), "too_old": by_age, "too_many": by_count }));
    } else {
        let what = counted(all.total(), "dead letter");
        output::line(&format!(
            "purged {what}: {by_age} too old, {by_count} too many"
        ));
    }
    ended.map(|()| Exit::Ok)
}

fn describe(limits: &RetentionLimits) -> String {
    let age = limits
        .max_age
        .map(|age| format!("max_age={}", humantime::format_duration(age)));
    let count = limits.max_count.map(|count| format!("max_count={count}"));
    let parts: Vec<String> = age.into_iter().chain(count).collect();
    parts.join(" ")
}
