//! The OpenAPI document, made of the table of routes.

use serde_json::{Map, Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::routes::{Access, Endpoint, all, shows};

pub(super) const ROUTES: &[Endpoint] =
    &[shows("/api/v1/openapi.json", "This document.", &[], || {
        serve(show)
    })];

async fn show(_: Asked) -> Answer {
    json(&document())
}

/// Returns the document.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in all() {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.to_ascii_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Celeriac", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": {
                "type": "object",
                "description": "Problem details (RFC 9457); more fields as the problem has them.",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": { "type": "string" },
                    "title": { "type": "string" },
                    "status": { "type": "integer" },
                    "detail": { "type": "string" },
                },
            } },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let parts = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of_path = parts.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let of_query = endpoint.params.iter().map(|param| {
        json!({ "name": param.name, "in": "query", "description": param.doc, "schema": param.schema() })
    });
    let parameters: Vec<Value> = of_path.chain(of_query).collect();
    let kind = match endpoint.path {
        "/api/v1/events" => "text/event-stream",
        super::health::METRICS => "text/plain",
        _ => "application/json",
    };
    let done = match (endpoint.method, endpoint.path) {
        ("POST", "/api/v1/tasks") => "201",
        _ => "200",
    };
    let mut content = Map::new();
    content.insert(kind.to_owned(), json!({}));
    let problem = json!({
        "description": "A problem.",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let mut operation = json!({
        "summary": endpoint.doc,
        "operationId": id(endpoint),
        "parameters": parameters,
        "responses": { done: { "description": "Done.", "content": content }, "default": problem },
        "x-role": match endpoint.access {
            Access::Open => "none",
            Access::Read => "read",
            Access::Admin => "admin",
        },
    });
    operation["security"] = match endpoint.access {
        Access::Open => json!([]),
        Access::Read | Access::Admin => json!([{ "bearer": [] }]),
    };
    if let Some(body) = endpoint.body {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": (body.schema)() } } });
    }
    operation
}

/// Returns a name for an operation: its method and its path in words.
fn id(endpoint: &Endpoint) -> String {
    let path = match endpoint.path.strip_prefix("/api/v1") {
        Some(path) => path.to_owned(),
        None => format!("/root{}", endpoint.path),
    };
    let path = path.replace(".json", "");
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    format!(
        "{}_{}",
        endpoint.method.to_ascii_lowercase(),
        words.join("_")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut ids: Vec<String> = all().map(id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(all().all(|it| it.doc.ends_with('.') || it.doc.ends_with('`')));
    }
}
