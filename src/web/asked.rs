//! One request that has passed every check: who asks, with which parameters and which body.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use celeriac_actors::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::warn;
use tokio::sync::OwnedSemaphorePermit;

use super::params::Params;
use super::problem::Problem;
use super::routes::{Access, Endpoint, find};
use super::state::{Shared, Work};
use super::tokens::Role;
use super::{body, guard};
use crate::admin::fault::Fault;
use crate::look::Patience;
use crate::store::AuditEntry;

/// How long a request may take.
const TIME: Duration = Duration::from_secs(30);

/// What a request is answered with.
pub(super) type Answer = Result<HttpResponse, Problem>;

/// One request.
pub(super) struct Asked {
    pub(super) shared: Data<Shared>,
    pub(super) params: Params,
    pub(super) now: Timestamp,
    request: HttpRequest,
    body: String,
    /// Who asks, for the audit.
    pub(super) actor: String,
    _permit: Option<OwnedSemaphorePermit>,
}

impl FromRequest for Asked {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(admit(request, payload))
    }
}

/// Checks a request: where it comes from, who asks, what for, and at last its body.
async fn admit(request: HttpRequest, payload: Payload) -> Result<Asked, Problem> {
    let shared = request.app_data::<Data<Shared>>().cloned();
    let shared = shared.ok_or_else(|| Problem::new(500, "internal", "the server has no state"))?;
    guard::check(&request, &shared.hosts)?;
    let pattern = request.match_pattern().unwrap_or_default();
    let endpoint = find(request.method(), &pattern)
        .ok_or_else(|| Problem::missing("there is nothing at this address"))?;
    let address = request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let who = authorize(&request, &shared, endpoint, address).await?;
    let params = Params::read(request.query_string(), endpoint.params)?;
    let permit = match endpoint.access {
        Access::Open => None,
        Access::Read | Access::Admin => {
            let permit = std::sync::Arc::clone(&shared.permits).try_acquire_owned();
            let busy = |_| Problem::new(503, "busy", "too many requests are under way");
            Some(permit.map_err(busy)?)
        }
    };
    let text = match endpoint.body {
        Some(wanted) => body::read(&request, payload, wanted.max).await?,
        None => String::new(),
    };
    Ok(Asked {
        now: shared.ground.clock.now(),
        params,
        body: text,
        actor: format!("http:{who}@{address}"),
        shared,
        request,
        _permit: permit,
    })
}

/// Finds out what the caller may do, and whether that is enough; returns who it is.
async fn authorize(
    request: &HttpRequest,
    shared: &Shared,
    endpoint: &Endpoint,
    address: IpAddr,
) -> Result<&'static str, Problem> {
    let wanted = match endpoint.access {
        Access::Open => return Ok("anyone"),
        Access::Read => Role::Read,
        Access::Admin => Role::Admin,
    };
    if shared.tokens.is_open() {
        return Ok("anyone");
    }
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (header, another) = (headers.next(), headers.next());
    let Some(header) = header.filter(|_| another.is_none()) else {
        return Err(Problem::new(401, "no-token", "this needs one bearer token"));
    };
    if shared.slowdown.is_full(address) {
        let detail = "too many wrong tokens came from this address";
        return Err(Problem::new(429, "slow-down", detail));
    }
    let text = header.to_str().unwrap_or_default();
    let token = text
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token.trim());
    let Some(role) = shared.tokens.role_of(token) else {
        let waits = shared
            .slowdown
            .failed(address, shared.ground.clock.since_boot());
        warn!(shared.ground.log, "a wrong token was sent to the HTTP API"; "address" => %address);
        tokio::time::sleep(waits.wait).await;
        return Err(Problem::new(401, "wrong-token", "the token is wrong"));
    };
    if role < wanted {
        let detail = "the token may look and not change";
        return Err(Problem::new(403, "not-allowed", detail));
    }
    Ok(match role {
        Role::Read => "read",
        Role::Admin => "admin",
    })
}

impl Asked {
    /// Returns what there is once the tree stands.
    pub(super) fn work(&self) -> Result<&Work, Problem> {
        self.shared.work()
    }

    /// Returns a part of the path.
    pub(super) fn segment(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// Reads a part of the path.
    pub(super) fn id<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Problem> {
        let read = self.segment(name).parse::<T>();
        read.map_err(|error| Problem::invalid(format!("`{name}`: {error}")))
    }

    /// Returns the body as it was sent.
    pub(super) fn text(&self) -> &str {
        &self.body
    }

    /// Reads the body; one that is missing is an object without fields.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let text = match self.body.trim() {
            "" => "{}",
            text => text,
        };
        let read = serde_json::from_str(text);
        read.map_err(|error| Problem::invalid(format!("the body: {error}")))
    }

    /// Checks that a change can be recorded, before anything is changed.
    pub(super) async fn recordable(&self) -> Result<(), Problem> {
        Ok(self.work()?.store.check().await?)
    }

    /// Writes into the audit what was done.
    pub(super) async fn record(
        &self,
        action: &str,
        target: String,
        detail: String,
    ) -> Result<(), Problem> {
        let entry = AuditEntry {
            at: self.now,
            actor: self.actor.clone(),
            action: action.to_owned(),
            target,
            detail,
        };
        let store = &self.work()?.store;
        let written = Patience::ONE_SHOT
            .insist(|| store.record(entry.clone()))
            .await;
        written.map_err(|error| Fault::Unrecorded(error).into())
    }
}

/// Answers with a document.
pub(super) fn json<T: Serialize>(document: &T) -> Answer {
    Ok(HttpResponse::Ok().json(document))
}

/// Makes the service of a route of a function, with a bound on its time.
pub(super) fn serve<F, R>(function: F) -> actix_web::Route
where
    F: Fn(Asked) -> R + Clone + 'static,
    R: Future<Output = Answer> + 'static,
{
    actix_web::web::to(move |asked: Asked| {
        let answer = function(asked);
        async move {
            let late = |_| {
                Problem::new(
                    503,
                    "too-slow",
                    "it took too long; what was to be changed may have been",
                )
            };
            tokio::time::timeout(TIME, answer).await.map_err(late)?
        }
    })
}
