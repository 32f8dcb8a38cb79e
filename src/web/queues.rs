//! Queues: what they hold, pausing them, and ending what waits in them.

use celeriac_actors::ports::QueueStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::routes::{Body, Endpoint, changes, shows};
use super::tasks::SMALL;
use crate::admin::purge::{Purge, parts};
use crate::admin::queues::{self, Audit};
use crate::look::Patience;

/// How many tasks one request ends.
const PURGED: u64 = 10_000;

pub(super) const ROUTES: &[Endpoint] = &[
    shows(
        "/api/v1/queues",
        "Every queue with what it holds and has counted.",
        &[],
        || serve(list),
    ),
    changes(
        "/api/v1/queues/{queue}/pause",
        "Have a queue hand out nothing; what runs goes on.",
        None,
        || serve(|asked| pause(asked, true)),
    ),
    changes(
        "/api/v1/queues/{queue}/resume",
        "Have a paused queue hand out its tasks again.",
        None,
        || serve(|asked| pause(asked, false)),
    ),
    changes(
        "/api/v1/queues/{queue}/purge",
        "End the tasks that are ready in a queue, for good: they count as cancelled. At most 10,000 a request; `left` says \
         how many of those there were at its start are left.",
        Some(Body {
            max: SMALL,
            schema: purge_schema,
        }),
        || serve(purge),
    ),
];

async fn list(asked: Asked) -> Answer {
    let all = queues::read(&*asked.work()?.broker, &asked.shared.ground.config).await?;
    let documents: Vec<Value> = all.iter().map(queues::document).collect();
    json(&json!({ "queues": documents, "audit": Audit::of(&all).document() }))
}

async fn pause(asked: Asked, paused: bool) -> Answer {
    let broker = &asked.work()?.broker;
    let config = &asked.shared.ground.config;
    let queue = queues::find((&**broker, Patience::NONE), config, asked.segment("queue")).await?;
    asked.recordable().await?;
    broker.pause(&queue, paused).await?;
    let action = if paused {
        "queue.pause"
    } else {
        "queue.resume"
    };
    asked
        .record(action, queue.to_string(), String::new())
        .await?;
    json(&json!({ "queue": queue, "paused": paused }))
}

/// What is purged beside tasks that are ready.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    #[serde(default)]
    scheduled: bool,
    #[serde(default)]
    retrying: bool,
}

async fn purge(asked: Asked) -> Answer {
    let What {
        scheduled,
        retrying,
    } = asked.body()?;
    let broker = &*asked.work()?.broker;
    let config = &asked.shared.ground.config;
    let queue = queues::find((broker, Patience::NONE), config, asked.segment("queue")).await?;
    asked.recordable().await?;
    let is_it = |status: &&QueueStatus| status.queue == queue;
    let all = broker.queues().await?;
    let parts = parts(all.iter().find(is_it), (scheduled, retrying));
    let mut work = Purge::new(broker, &queue, Patience::NONE);
    let ended = work.all(&parts, PURGED).await;
    let (purged, is_unsure) = (work.purged, work.is_unsure());
    if purged > 0 || is_unsure {
        let target = queue.to_string();
        asked
            .record("queue.purge", target, work.audited(&parts))
            .await?;
    }
    ended?;
    let found: u64 = parts.iter().map(|(_, count)| count).sum();
    let left = if purged < PURGED {
        0
    } else {
        found - purged.min(found)
    };
    json(&json!({ "queue": queue, "purged": purged, "at_least": is_unsure, "left": left }))
}

fn purge_schema() -> Value {
    let also = |doc: &str| json!({ "type": "boolean", "default": false, "description": doc });
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "scheduled": also("Also tasks that wait for their time."),
        "retrying": also("Also tasks that wait for their next attempt."),
    } })
}
