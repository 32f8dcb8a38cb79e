//! Revoking tasks: one, or all that a rule means.

use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::revocation::{Revocation, Selector};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::problem::Problem;
use super::routes::{Body, Endpoint, changes};
use super::tasks::{SMALL, checked, hunt};
use crate::admin::revoke::{Place, Revoking};
use crate::admin::task_view::read_id;

pub(super) const ROUTES: &[Endpoint] = &[
    changes(
        "/api/v1/tasks/{id}/revoke",
        "Have a task not run, or end.",
        Some(Body {
            max: SMALL,
            schema: one_schema,
        }),
        || serve(revoke_one),
    ),
    changes(
        "/api/v1/revocations",
        "Have all tasks of a kind, or with a header, not run or end, as far as they were enqueued until now.",
        Some(Body {
            max: SMALL,
            schema: rule_schema,
        }),
        || serve(revoke_rule),
    ),
];

/// How one task is revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    queue: Option<String>,
    #[serde(default)]
    terminate: bool,
}

async fn revoke_one(asked: Asked) -> Answer {
    let id = read_id(asked.segment("id")).map_err(Problem::invalid)?;
    let One { queue, terminate } = asked.body()?;
    let queue = checked(&asked, queue.as_deref()).await?;
    asked.recordable().await?;
    let revoking = revoking(&asked, Selector::Id(id), (queue.as_deref(), terminate))?;
    let (found, place, written) = revoking.one().await?;
    let mut document = revoking.document_of(id, (&found, &place, &written));
    document["had_ended"] = matches!(place, Place::Ended(_)).into();
    json(&document)
}

fn revoking<'a>(
    asked: &'a Asked,
    of: Selector,
    (queue, terminate): (Option<&'a str>, bool),
) -> Result<Revoking<'a>, Problem> {
    let id = match &of {
        Selector::Id(id) => *id,
        _ => TaskId::from_bytes([0; 16]),
    };
    Ok(Revoking {
        hunt: hunt(asked, id)?,
        store: Ok(&*asked.work()?.store),
        revocation: Revocation { of, terminate },
        queue,
        now: asked.now,
        actor: asked.actor.clone(),
    })
}

/// Which tasks are revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    task: Option<TaskName>,
    header: Option<Header>,
    queue: Option<String>,
    #[serde(default)]
    terminate: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    value: String,
}

async fn revoke_rule(asked: Asked) -> Answer {
    let rule: Rule = asked.body()?;
    let until = asked.now;
    let of = match (rule.task, rule.header) {
        (Some(name), None) => Selector::Task { name, until },
        (None, Some(Header { key, value })) if !key.is_empty() => {
            Selector::Header { key, value, until }
        }
        _ => {
            return Err(Problem::invalid(
                "name either a `task` or a `header` with its key and value",
            ));
        }
    };
    let queue = checked(&asked, rule.queue.as_deref()).await?;
    asked.recordable().await?;
    let revoking = revoking(&asked, of.clone(), (queue.as_deref(), rule.terminate))?;
    let (census, written) = revoking.all(&of).await?;
    let mut document = revoking.document(&written, (census.looked, census.total));
    document["rule"] = json!(of.to_string());
    document["found"] = census.document();
    json(&document)
}

fn one_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "queue": { "type": "string" },
        "terminate": { "type": "boolean", "default": false,
            "description": "End attempts that run, instead of asking them to stop." },
    } })
}

fn rule_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "task": { "type": "string" },
        "header": { "type": "object", "additionalProperties": false, "required": ["key", "value"],
            "properties": { "key": { "type": "string" }, "value": { "type": "string" } } },
        "queue": { "type": "string" },
        "terminate": { "type": "boolean", "default": false },
    } })
}
