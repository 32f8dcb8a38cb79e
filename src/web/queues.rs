//! Queues: what they hold, and pausing them.

use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::routes::{Endpoint, changes, shows};
use crate::admin::queues::{self, Audit};
use crate::look::Patience;

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
