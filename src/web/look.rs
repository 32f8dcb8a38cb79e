//! Looking at the whole: overview, workers, their trees, the configuration, the audit.

use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::params::{Kind, LIMIT, Param};
use super::routes::{Endpoint, shows};
use crate::admin::overview::Whole;
use crate::look::workers;

const WORKER: Param = Param {
    name: "worker",
    kind: Kind::Text,
    doc: "Only the worker of this name.",
};

const BEFORE: Param = Param {
    name: "before",
    kind: Kind::Count(0, u32::MAX, u32::MAX),
    doc: "Only entries with a lower number: the `next` of the page before.",
};

pub(super) const ROUTES: &[Endpoint] = &[
    shows(
        "/api/v1/overview",
        "Broker, queues, workers, breakers, outages, and whether every task that came in is accounted for.",
        &[],
        || serve(overview),
    ),
    shows(
        "/api/v1/workers",
        "The workers, those alive first.",
        &[WORKER],
        || serve(workers),
    ),
    shows(
        "/api/v1/tree",
        "The workers with their supervision trees.",
        &[WORKER],
        || serve(tree),
    ),
    shows(
        "/api/v1/config",
        "Every configuration key of this daemon with its value and source; secrets are hidden.",
        &[],
        || serve(config),
    ),
    shows(
        "/api/v1/audit",
        "What operators did, newest first.",
        &[LIMIT, BEFORE],
        || serve(audit),
    ),
];

async fn overview(asked: Asked) -> Answer {
    let (work, config) = (asked.work()?, &asked.shared.ground.config);
    let whole = Whole::read(&work.broker, config).await?;
    json(&whole.document(&config.broker.to_string(), asked.now))
}

async fn workers(asked: Asked) -> Answer {
    list(asked, false).await
}

async fn tree(asked: Asked) -> Answer {
    list(asked, true).await
}

async fn list(asked: Asked, with_trees: bool) -> Answer {
    let wanted = asked.params.text("worker");
    let all = workers::read(&*asked.work()?.broker).await?;
    let chosen = all
        .iter()
        .filter(|worker| wanted.is_none_or(|name| worker.record.worker.as_str() == name));
    let documents: Vec<Value> = chosen
        .map(|worker| {
            let mut document = worker.document(asked.now);
            if with_trees {
                document["tree"] = json!(worker.detail.as_ref().map(|detail| &detail.tree));
            }
            document
        })
        .collect();
    json(&json!({ "workers": documents }))
}

async fn config(asked: Asked) -> Answer {
    json(&asked.shared.ground.effective)
}

async fn audit(asked: Asked) -> Answer {
    let limit = asked.params.count("limit");
    let before = asked
        .params
        .text("before")
        .map(|_| i64::from(asked.params.count("before")));
    let records = asked.work()?.store.audit(before, limit).await?;
    let next = records.last().filter(|_| records.len() == limit as usize);
    let next = next.map(|record| record.id);
    let entries: Vec<Value> = records
        .iter()
        .map(|record| {
            let entry = &record.entry;
            json!({
                "id": record.id,
                "at": entry.at.to_string(),
                "actor": entry.actor,
                "action": entry.action,
                "target": entry.target,
                "detail": entry.detail,
            })
        })
        .collect();
    json(&json!({ "entries": entries, "next": next }))
}
