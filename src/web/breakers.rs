//! Circuit breakers, and opening and closing them by hand.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::breaker::{Board, BreakerRecord};
use celeriac_actors::ids::BreakerName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::problem::Problem;
use super::routes::{Body, Endpoint, changes, shows};
use super::tasks::SMALL;
use crate::admin::breakers::{Breaker, Overview, audited, checked_length};
use crate::admin::enqueue::when::delay;
use crate::admin::fault::Fault;
use crate::look::Patience;

pub(super) const ROUTES: &[Endpoint] = &[
    shows(
        "/api/v1/breakers",
        "The circuit breakers that workers use or that stand open.",
        &[],
        || serve(list),
    ),
    shows(
        "/api/v1/breakers/{name}",
        "One circuit breaker, with what each worker counts.",
        &[],
        || serve(show),
    ),
    changes(
        "/api/v1/breakers/{name}/open",
        "Open a breaker: the tasks that need it are parked, which uses up none of their attempts.",
        Some(Body {
            max: SMALL,
            schema: open_schema,
        }),
        || serve(open),
    ),
    changes(
        "/api/v1/breakers/{name}/close",
        "Close a breaker: tasks that need it run again.",
        None,
        || serve(close),
    ),
];

async fn read(asked: &Asked) -> Result<Overview, Problem> {
    let read = Overview::read(&asked.work()?.broker).await;
    read.map_err(|error| Fault::from(error).into())
}

async fn list(asked: Asked) -> Answer {
    json(&json!({ "breakers": read(&asked).await?.document() }))
}

async fn show(asked: Asked) -> Answer {
    let name: BreakerName = asked.id("name")?;
    let overview = read(&asked).await?;
    match overview.find(&name) {
        Some(breaker) => json(&breaker.document()),
        None => Err(overview.unknown(&name).into()),
    }
}

/// How a breaker is opened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    #[serde(rename = "for")]
    length: Option<String>,
}

async fn open(asked: Asked) -> Answer {
    let Opening { length } = asked.body()?;
    let length = length.map(|text| delay("for", &text)).transpose();
    let length: Option<Duration> = length.map_err(Problem::invalid)?;
    let length = length.map(checked_length).transpose();
    let length = length.map_err(Problem::invalid)?;
    let (who, now) = (asked.actor.clone(), asked.now);
    let step = move |record: &BreakerRecord| Some(record.opened_by(&who, length, now));
    change(asked, "breaker.open", step).await
}

async fn close(asked: Asked) -> Answer {
    let name: BreakerName = asked.id("name")?;
    let known = read(&asked).await?;
    if known.find(&name).is_none() {
        return Err(known.unknown(&name).into());
    }
    let (who, now) = (asked.actor.clone(), asked.now);
    let step = move |record: &BreakerRecord| record.closed_by(&who, now);
    change(asked, "breaker.close", step).await
}

async fn change(
    asked: Asked,
    action: &str,
    step: impl Fn(&BreakerRecord) -> Option<BreakerRecord> + Send + Sync,
) -> Answer {
    let name: BreakerName = asked.id("name")?;
    asked.recordable().await?;
    let work = asked.work()?;
    let board = Board::of(Arc::clone(&work.broker));
    let changed = Patience::NONE
        .insist(|| board.change(&name, asked.now, &step))
        .await;
    let (record, changed) = changed.map_err(|error| Problem::from(Fault::from(error)))?;
    if changed {
        let entry = audited(action, &record);
        asked.record(action, entry.target, entry.detail).await?;
    }
    let mut document = Breaker::new(record).document();
    document["changed"] = changed.into();
    json(&document)
}

fn open_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "for": { "type": "string",
            "description": "How long, such as `10m`; then a single task tries. Without it: until it is closed by hand." },
    } })
}
