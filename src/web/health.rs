//! The verdict about the whole, and the figures as Prometheus reads them.

use actix_web::HttpResponse;
use celeriac_actors::health::{Health, Verdict};
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::routes::{Access, Endpoint, shows};
use crate::monitor::prometheus::{CONTENT_TYPE, Page, render};

pub(super) const ROUTES: &[Endpoint] = &[
    Endpoint {
        access: Access::Open,
        ..shows(
            "/health",
            "The verdict about the whole, with the kinds of its reasons: 200 while it is `healthy` or `degraded`, otherwise \
             503.",
            &[],
            || serve(verdict),
        )
    },
    shows(
        "/api/v1/health",
        "The verdict about the whole, with every reason, its figures and what to do, and what changed of late.",
        &[],
        || serve(health),
    ),
    shows(
        METRICS,
        "The figures as Prometheus reads them, in text format 0.0.4.",
        &[],
        || serve(metrics),
    ),
];

/// Where Prometheus reads.
pub(super) const METRICS: &str = "/metrics";

/// Tells everybody as little as a probe needs: names and texts of reasons are not for everybody.
async fn verdict(asked: Asked) -> Answer {
    let health = match asked.shared.work.get() {
        Some(work) => work.runtime.monitor().health(),
        None => Health {
            verdict: Verdict::Unknown,
            since: None,
            at: None,
            reasons: Vec::new(),
        },
    };
    let brief = |reason: &celeriac_actors::health::Reason| -> Value {
        json!({ "kind": reason.kind, "severity": reason.severity })
    };
    let document = json!({
        "verdict": health.verdict,
        "since": health.since.map(|since| since.to_string()),
        "at": health.at.map(|at| at.to_string()),
        "reasons": health.reasons.iter().map(brief).collect::<Vec<_>>(),
    });
    match health.verdict {
        Verdict::Healthy | Verdict::Degraded => json(&document),
        Verdict::Critical | Verdict::Unknown => {
            Ok(HttpResponse::ServiceUnavailable().json(document))
        }
    }
}

async fn health(asked: Asked) -> Answer {
    let monitor = asked.work()?.runtime.monitor();
    let mut document = json!(monitor.health());
    document["history"] = json!(monitor.history());
    json(&document)
}

async fn metrics(asked: Asked) -> Answer {
    let runtime = &asked.work()?.runtime;
    let (monitor, activity) = (runtime.monitor(), runtime.activity());
    let broker_away = runtime.broker_outage().map(|(since, _)| since);
    let seen = monitor.seen().filter(|_| broker_away.is_none());
    let blocked = |lane: &&celeriac_actors::activity::LaneActivity| {
        !lane.retired && lane.blocked_by.is_some()
    };
    let text = render(&Page {
        health: &monitor.health(),
        queues: seen.as_ref().map_or(&[], |seen| &seen.queues),
        figures: &runtime.figures(),
        tree: &runtime.inspect(),
        running: activity.iter().map(|lane| lane.running_total).sum(),
        prefetched: activity.iter().map(|lane| lane.prefetched).sum(),
        blocked_threads: activity.iter().filter(blocked).count(),
        stuck_threads: runtime.stuck_threads(),
        broker_away,
        snapshots_waiting: monitor.waiting(),
        now: asked.now,
    });
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}
