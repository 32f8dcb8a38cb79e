//! Scheduled tasks, the next due first, over all queues or one.

use std::collections::BTreeMap;

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Cursor, ScanRequest, StoredTask};
use celeriac_actors::state::TaskState;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::cursor;
use super::params::{AFTER, Kind, LIMIT, Param};
use super::problem::Problem;
use super::routes::{Endpoint, shows};
use super::state::Work;
use crate::admin::queues;
use crate::admin::tasks::Row;
use crate::look::Patience;

pub(super) const ROUTES: &[Endpoint] = &[shows(
    "/api/v1/scheduled",
    "The tasks that wait for their time, the next due first.",
    &[
        Param {
            name: "state",
            kind: Kind::Word(&["scheduled", "retrying"]),
            doc: "Those that were scheduled, or those that wait for their next attempt; `scheduled` when left out.",
        },
        Param {
            name: "queue",
            kind: Kind::Text,
            doc: "Only this queue.",
        },
        LIMIT,
        AFTER,
    ],
    || serve(list),
)];

/// Where each queue goes on: behind a place, from its start (`None`), or not at all where it is missing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Places(BTreeMap<QueueName, Option<Cursor>>);

async fn list(asked: Asked) -> Answer {
    let (work, ground) = (asked.work()?, &asked.shared.ground);
    let state = match asked.params.text("state") {
        Some("retrying") => TaskState::Retrying,
        _ => TaskState::Scheduled,
    };
    let places = match asked.params.text("after") {
        Some(text) => cursor::read(text)?,
        None => {
            let names: Vec<QueueName> = match asked.params.text("queue") {
                Some(name) => {
                    vec![queues::find((&*work.broker, Patience::NONE), &ground.config, name).await?]
                }
                None => work
                    .broker
                    .queues()
                    .await?
                    .into_iter()
                    .map(|it| it.queue)
                    .collect(),
            };
            Places(names.into_iter().map(|name| (name, None)).collect())
        }
    };
    let limit = asked.params.count("limit");
    let mut found: Vec<(QueueName, StoredTask)> = Vec::new();
    for (queue, after) in &places.0 {
        let page = scan(work, (queue, state), after.clone(), limit).await?;
        found.extend(page.0.into_iter().map(|task| (queue.clone(), task)));
    }
    // Stable: the tasks of a queue keep the order in which it would make them ready.
    found.sort_by_key(|(_, task)| task.due);
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = places_behind(work, (state, limit), places, &found, more).await?;
    let rows: Vec<Value> = found
        .into_iter()
        .map(|(queue, task)| Row::of(&queue, task, &ground.limits).document())
        .collect();
    json(&json!({ "tasks": rows, "next": next.as_ref().map(cursor::write) }))
}

async fn scan(
    work: &Work,
    (queue, state): (&QueueName, TaskState),
    after: Option<Cursor>,
    limit: u32,
) -> Result<(Vec<StoredTask>, Option<Cursor>), Problem> {
    let request = ScanRequest {
        queue: queue.clone(),
        state,
        after,
        limit,
    };
    let page = work.broker.scan(&request).await?;
    Ok((page.tasks, page.next))
}

/// Finds where each queue goes on behind what was taken of it: a page of just so many ends there.
async fn places_behind(
    work: &Work,
    (state, limit): (TaskState, u32),
    places: Places,
    taken: &[(QueueName, StoredTask)],
    more: bool,
) -> Result<Option<Places>, Problem> {
    let mut next = Places::default();
    for (queue, after) in places.0 {
        let count = taken.iter().filter(|(of, _)| *of == queue).count();
        let count = u32::try_from(count).unwrap_or(limit);
        if count == 0 {
            if more {
                next.0.insert(queue, after);
            }
            continue;
        }
        let (_, behind) = scan(work, (&queue, state), after, count).await?;
        if let Some(behind) = behind {
            next.0.insert(queue, Some(behind));
        }
    }
    Ok((!next.0.is_empty()).then_some(next))
}
