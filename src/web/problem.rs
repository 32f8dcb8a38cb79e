//! What went wrong, as problem details (RFC 9457).

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use celeriac_actors::ports::{BrokerError, StoreError};
use serde_json::{Map, Value, json};

use crate::admin::fault::Fault;
use crate::admin::text::brief;

/// How much of what somebody sent is repeated to him.
const MAX_DETAIL: usize = 1_000;

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    status: u16,
    /// What it is, for programs: the end of its `type`.
    kind: &'static str,
    detail: String,
    extra: Map<String, Value>,
    allow: Option<String>,
}

impl Problem {
    pub(super) fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: brief(&detail.into(), MAX_DETAIL),
            extra: Map::new(),
            allow: None,
        }
    }

    /// Something in the request is wrong.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid-request", detail)
    }

    /// Nothing is there.
    pub(super) fn missing(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", detail)
    }

    /// Adds something for programs.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Names the methods that would do.
    pub(super) fn allowing(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut document = json!({
            "type": format!("urn:celeriac:problem:{}", self.kind),
            "title": status.canonical_reason().unwrap_or("Problem"),
            "status": self.status,
            "detail": self.detail,
        });
        if let Some(fields) = document.as_object_mut() {
            fields.extend(self.extra.clone());
        }
        let mut response = HttpResponse::build(status);
        response.content_type("application/problem+json");
        if matches!(self.status, 429 | 503) {
            response.insert_header((RETRY_AFTER, "1"));
        }
        if self.status == 401 {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"celeriac\""));
        }
        if let Some(methods) = &self.allow {
            response.insert_header((ALLOW, methods.as_str()));
        }
        response.body(document.to_string())
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing(text) => Self::missing(text),
            Fault::Conflict(text) => Self::new(409, "conflict", text),
            Fault::Away(text) => Self::new(503, "unavailable", text),
            Fault::Broker(error) => error.into(),
            Fault::Store(error) => error.into(),
            fault @ Fault::Unrecorded(_) => {
                Self::new(500, "not-recorded", fault.to_string()).with("done", true)
            }
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let text = error.to_string();
        match error {
            BrokerError::Invalid(_) => Self::invalid(text),
            error if error.is_outage() => Self::new(503, "broker-unavailable", text),
            _ => Self::new(500, "broker", text),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Missing(_) => Self::missing(text),
            StoreError::Status { .. } => Self::new(409, "conflict", text),
            _ => Self::new(503, "store-unavailable", text),
        }
    }
}
