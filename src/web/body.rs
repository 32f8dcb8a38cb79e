//! Bodies of requests: JSON, bounded in size and in time.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::StreamExt as _;

use super::problem::Problem;

/// How long a whole body may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a body of at most `max` bytes as text; empty where there is none.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    max: usize,
) -> Result<String, Problem> {
    let too_large = || {
        Problem::new(
            413,
            "too-large",
            format!("a body has at most {max} bytes here"),
        )
    };
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let body = tokio::time::timeout(PATIENCE, collect(payload, max)).await;
    let body = body
        .map_err(|_| Problem::new(408, "too-slow", "the body did not come in time"))?
        .map_err(|_| Problem::invalid("the body cannot be read"))?
        .ok_or_else(too_large)?;
    if !body.is_empty() && !is_json(request) {
        let detail = "a body is `application/json`";
        return Err(Problem::new(415, "not-json", detail));
    }
    String::from_utf8(body).map_err(|_| Problem::invalid("the body is no UTF-8"))
}

/// Returns all of it, `None` when it is more than `max`.
async fn collect(
    mut payload: Payload,
    max: usize,
) -> Result<Option<Vec<u8>>, actix_web::error::PayloadError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
