//! The table of all routes: the server, the guard and the OpenAPI document are made of it.

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, Route};
use serde_json::Value;

use super::asked::Answer;
use super::params::Param;
use super::problem::Problem;
use super::{
    breakers, dead, dead_changes, events, health, look, openapi, probes, queues, revocations,
    scheduled, tasks,
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: it tells nothing worth hiding.
    Open,
    /// Who may look.
    Read,
    /// Who may change.
    Admin,
}

/// A body that a route takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    /// Its most bytes.
    pub(super) max: usize,
    /// Its schema.
    pub(super) schema: fn() -> Value,
}

/// One route.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// `GET` or `POST`; what answers to `GET` answers to `HEAD` too.
    pub(super) method: &'static str,
    /// Its path, names of parts in braces.
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) doc: &'static str,
    pub(super) params: &'static [Param],
    pub(super) body: Option<Body>,
    /// Makes its service.
    pub(super) route: fn() -> Route,
}

/// Makes a route that shows something.
pub(super) const fn shows(
    path: &'static str,
    doc: &'static str,
    params: &'static [Param],
    route: fn() -> Route,
) -> Endpoint {
    Endpoint {
        method: "GET",
        path,
        access: Access::Read,
        doc,
        params,
        body: None,
        route,
    }
}

/// Makes a route that changes something.
pub(super) const fn changes(
    path: &'static str,
    doc: &'static str,
    body: Option<Body>,
    route: fn() -> Route,
) -> Endpoint {
    Endpoint {
        method: "POST",
        path,
        access: Access::Admin,
        doc,
        params: &[],
        body,
        route,
    }
}

/// The groups, one for each file. A new group is a new line here.
static GROUPS: [&[Endpoint]; 12] = [
    probes::ROUTES,
    health::ROUTES,
    look::ROUTES,
    queues::ROUTES,
    tasks::ROUTES,
    revocations::ROUTES,
    scheduled::ROUTES,
    dead::ROUTES,
    dead_changes::ROUTES,
    breakers::ROUTES,
    events::ROUTES,
    openapi::ROUTES,
];

/// Returns all routes.
pub(super) fn all() -> impl Iterator<Item = &'static Endpoint> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// Finds the route of a method and a path with the names of its parts.
pub(super) fn find(method: &Method, pattern: &str) -> Option<&'static Endpoint> {
    let method = match method.as_str() {
        "HEAD" => "GET",
        other => other,
    };
    all().find(|it| it.method == method && it.path == pattern)
}

/// Puts all routes into a server.
pub(super) fn mount(config: &mut ServiceConfig) {
    let mut paths: Vec<&'static str> = Vec::new();
    for endpoint in all() {
        if paths.contains(&endpoint.path) {
            continue;
        }
        paths.push(endpoint.path);
        let mut resource = web::resource(endpoint.path);
        for one in all().filter(|it| it.path == endpoint.path) {
            resource = resource.route(match one.method {
                "GET" => (one.route)().guard(
                    actix_web::guard::Any(actix_web::guard::Get()).or(actix_web::guard::Head()),
                ),
                _ => (one.route)().guard(actix_web::guard::Post()),
            });
        }
        config.service(resource.default_service(web::to(wrong_method)));
    }
    config.default_service(web::to(nothing));
}

async fn nothing() -> Answer {
    Err(Problem::missing(
        "there is nothing at this address; /api/v1/openapi.json lists what there is",
    ))
}

async fn wrong_method(request: HttpRequest) -> Answer {
    let pattern = request.match_pattern().unwrap_or_default();
    let methods: Vec<&str> = all()
        .filter(|it| it.path == pattern)
        .flat_map(|it| match it.method {
            "GET" => vec!["GET", "HEAD"],
            other => vec![other],
        })
        .collect();
    let methods = methods.join(", ");
    let detail = format!("this address answers to {methods}");
    Err(Problem::new(405, "wrong-method", detail).allowing(methods))
}
