//! Tasks: those that are stored, one of them, and adding one.

use actix_web::HttpResponse;
use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::ports::{Cursor, ScanRequest};
use celeriac_actors::producer::EnqueueError;
use celeriac_actors::state::TaskState;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::cursor;
use super::params::{AFTER, Kind, LIMIT, Param};
use super::problem::Problem;
use super::routes::{Body, Endpoint, changes, shows};
use crate::admin::enqueue::order::{Desk, Order};
use crate::admin::queues;
use crate::admin::task_view::{self, read_id};
use crate::admin::tasks::Row;
use crate::look::Patience;
use crate::look::hunt::Hunt;
use crate::look::revoked::Revoked;

/// The most bytes of a small body.
pub(super) const SMALL: usize = 64 << 10;
/// The most bytes of a task to enqueue.
const TASK: usize = 4 << 20;
/// How many stored tasks a page looks at.
const LOOKED: u64 = 2_000;

const QUEUE: Param = Param {
    name: "queue",
    kind: Kind::Text,
    doc: "Only this queue.",
};

pub(super) const ROUTES: &[Endpoint] = &[
    shows(
        "/api/v1/tasks",
        "The stored tasks in one state, queue by queue, in the order in which they would run. A page may be short or empty \
         and still name a next one, for it looks at a bounded number of tasks.",
        &[
            Param {
                name: "state",
                kind: Kind::Word(&["active", "ready", "scheduled", "retrying"]),
                doc: "The state; `active` when left out.",
            },
            QUEUE,
            Param {
                name: "task",
                kind: Kind::Text,
                doc: "Only this kind; `*` and `?` stand for any text and any character.",
            },
            LIMIT,
            AFTER,
        ],
        || serve(list),
    ),
    Endpoint {
        params: &[Param {
            name: "any_task",
            kind: Kind::Switch,
            doc: "Take a task that this program does not know, too.",
        }],
        ..changes(
            "/api/v1/tasks",
            "Add a task to its queue.",
            Some(Body {
                max: TASK,
                schema: order_schema,
            }),
            || serve(enqueue),
        )
    },
    shows(
        "/api/v1/tasks/{id}",
        "Everything that is known of one task, wherever it is.",
        &[QUEUE],
        || serve(show),
    ),
];

async fn list(asked: Asked) -> Answer {
    let (work, ground) = (asked.work()?, &asked.shared.ground);
    let state: TaskState = asked
        .params
        .text("state")
        .unwrap_or("active")
        .parse()
        .map_err(|_| Problem::invalid("`state` is none"))?;
    let mut names: Vec<QueueName> = match asked.params.text("queue") {
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
    names.sort();
    let mut place: Option<(QueueName, Option<Cursor>)> =
        asked.params.text("after").map(cursor::read).transpose()?;
    let (limit, pattern) = (asked.params.count("limit"), asked.params.text("task"));
    let (mut rows, mut looked): (Vec<Row>, u64) = (Vec::new(), 0);
    let mut next = None;
    if let Some((from, _)) = &place {
        names.retain(|name| name >= from);
    }
    'queues: for (at, queue) in names.iter().enumerate() {
        let mut after = place
            .take()
            .filter(|(from, _)| from == queue)
            .and_then(|(_, cursor)| cursor);
        loop {
            let room = limit - u32::try_from(rows.len()).unwrap_or(limit).min(limit);
            if room == 0 || looked >= LOOKED {
                next = Some((queue.clone(), after));
                break 'queues;
            }
            let request = ScanRequest {
                queue: queue.clone(),
                state,
                after: after.take(),
                limit: room,
            };
            let page = work.broker.scan(&request).await?;
            looked += page.tasks.len() as u64;
            let found = page
                .tasks
                .into_iter()
                .map(|task| Row::of(queue, task, &ground.limits));
            rows.extend(found.filter(|row| row.is_of(pattern)));
            match page.next {
                Some(cursor) => after = Some(cursor),
                None if rows.len() >= limit as usize && at + 1 < names.len() => {
                    next = Some((names[at + 1].clone(), None));
                    break 'queues;
                }
                None => break,
            }
        }
    }
    let of = rows.iter().map(|row| row.queue.clone()).collect();
    let revoked = Revoked::read(&*work.broker, of, Patience::NONE).await?;
    rows.iter_mut().for_each(|row| row.judge(&revoked));
    let rows: Vec<Value> = rows.iter().map(Row::document).collect();
    json(&json!({ "tasks": rows, "searched": looked, "next": next.as_ref().map(cursor::write) }))
}

async fn enqueue(asked: Asked) -> Answer {
    let (work, ground) = (asked.work()?, &asked.shared.ground);
    let order = Order::read(asked.text()).map_err(Problem::invalid)?;
    let client = work.runtime.client();
    let mut desk = Desk::new(&ground.config, &work.registry, client.producer(), false);
    desk.strict = !asked.params.switch("any_task") && work.registry.names().next().is_some();
    let parcel = desk.pack(order).map_err(Problem::invalid)?;
    let (handle, task) = (parcel.prepared.handle.clone(), parcel.task.clone());
    asked.recordable().await?;
    let added = client
        .producer()
        .add(vec![parcel.prepared])
        .await
        .map_err(|error| refused(&error))?;
    let detail = format!("{task} to {}", handle.queue);
    asked
        .record("task.enqueue", handle.id.to_string(), detail)
        .await?;
    Ok(HttpResponse::Created().json(json!({
        "id": handle.id,
        "task": task,
        "queue": handle.queue,
        "spooled": added.spooled > 0,
    })))
}

fn refused(error: &EnqueueError) -> Problem {
    let (status, kind) = match error {
        EnqueueError::Unavailable { .. } => (503, "broker-unavailable"),
        EnqueueError::Refused { .. } => (503, "broker-refuses"),
        _ => (400, "invalid-request"),
    };
    let open = error.may_have_been_accepted();
    Problem::new(status, kind, error.to_string()).with("may_have_been_accepted", open)
}

/// Returns how tasks are looked for.
pub(super) fn hunt<'a>(asked: &'a Asked, id: TaskId) -> Result<Hunt<'a>, Problem> {
    let (work, ground) = (asked.work()?, &asked.shared.ground);
    Ok(Hunt {
        id,
        broker: &*work.broker,
        store: Ok(&*work.store),
        kept_at: ground.keeper.server(),
        limits: ground.limits,
        patience: Patience::NONE,
    })
}

async fn show(asked: Asked) -> Answer {
    let id = read_id(asked.segment("id")).map_err(Problem::invalid)?;
    let queue = checked(&asked, asked.params.text("queue")).await?;
    let found = hunt(&asked, id)?.find(queue.as_deref()).await?;
    if found.is_nothing() {
        let (looked, total) = (found.looked, found.total);
        let problem = match found.unread {
            Some(why) => Problem::new(
                503,
                "unavailable",
                format!("whether it has ended cannot be told: {why}"),
            ),
            None => Problem::missing(format!(
                "task {id} was not found; searched {looked} of {total} tasks"
            )),
        };
        return Err(problem.with("searched", looked).with("of", total));
    }
    let mut document = task_view::document(id, &found, &asked.shared.ground.limits);
    if let Some(why) = &found.store_unread {
        document["dead_letters_unread"] = json!(why);
    }
    json(&document)
}

/// Checks the name of a queue where one is given.
pub(super) async fn checked(asked: &Asked, name: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let broker = &asked.work()?.broker;
    let queue = queues::find(
        (&**broker, Patience::NONE),
        &asked.shared.ground.config,
        name,
    )
    .await?;
    Ok(Some(queue.to_string()))
}

fn order_schema() -> Value {
    let text = |doc: &str| json!({ "type": "string", "description": doc });
    json!({ "type": "object", "additionalProperties": false, "required": ["task"], "properties": {
        "task": text("The kind of task, such as `billing.charge`."),
        "args": { "description": "Its arguments, any JSON." },
        "queue": text("The queue; by default the routes choose, then the task's kind."),
        "id": text("A UUID; made when left out."),
        "countdown": text("Run it after this long, such as `5m`."),
        "eta": text("Run it at this instant, in RFC 3339."),
        "priority": { "type": "integer", "minimum": 0, "maximum": 9, "default": 5 },
        "expires": text("Do not start it later than this, a span or an instant."),
        "retry_until": text("Begin no further attempt later than this, a span or an instant."),
        "soft_limit": text("Ask an attempt to stop after this long."),
        "hard_limit": text("End an attempt after this long."),
        "max_attempts": { "type": "integer", "minimum": 1 },
        "mode": { "type": "string", "enum": ["inline", "blocking", "isolated"] },
        "headers": { "type": "object", "additionalProperties": { "type": "string" } },
    } })
}
