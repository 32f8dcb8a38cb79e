//! Probes: whether the process lives, and whether it can do its work. They tell nothing else, so everybody may ask.

use actix_web::HttpResponse;
use serde_json::json;

use super::asked::{Answer, Asked, json, serve};
use super::routes::{Access, Endpoint, shows};

pub(super) const ROUTES: &[Endpoint] = &[
    Endpoint {
        access: Access::Open,
        ..shows("/livez", "Whether the process lives.", &[], || serve(live))
    },
    Endpoint {
        access: Access::Open,
        ..shows(
            "/readyz",
            "Whether the tree is complete and the broker answers: 200, otherwise 503 with the reasons.",
            &[],
            || serve(ready),
        )
    },
];

async fn live(_: Asked) -> Answer {
    json(&json!({ "live": true }))
}

async fn ready(asked: Asked) -> Answer {
    let mut reasons = Vec::new();
    if *asked.shared.stopping.borrow() {
        reasons.push("the process ends");
    }
    match asked.shared.work.get() {
        None => reasons.push("the tree is not there yet: the daemon waits for its broker"),
        Some(work) => {
            if !work.runtime.is_ready() {
                reasons.push("a child of the tree does not serve");
            }
            if work.runtime.broker_outage().is_some() {
                reasons.push("the broker is away");
            }
        }
    }
    let document = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    if reasons.is_empty() {
        return json(&document);
    }
    Ok(HttpResponse::ServiceUnavailable().json(document))
}
