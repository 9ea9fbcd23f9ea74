//! The OpenAPI document, written from the same declarations the routes are built from.
//!
//! A route that exists is in the document, with its permission and its limit; one that does not
//! exist cannot be.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::routes::{Access, RouteRow, Verb};
use crate::app::App;

/// `GET /api/v1/openapi.json`
pub(crate) async fn document(State(app): State<App>) -> Response {
    let (_, rows) = super::router(&app);
    Json(of(&rows)).into_response()
}

/// The document for `rows`.
#[must_use]
pub(crate) fn of(rows: &[RouteRow]) -> Value {
    let mut paths = Map::new();
    for row in rows {
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(verb(row.verb).to_owned(), operation(row));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
            "schemas": { "Problem": problem_schema() },
        },
    })
}

const fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Put => "put",
        Verb::Delete => "delete",
    }
}

fn operation(row: &RouteRow) -> Value {
    let mut operation = json!({
        "summary": row.summary,
        "parameters": parameters(row.path),
        "responses": {
            "2XX": { "description": "Done" },
            "default": {
                "description": "Refused, with the reason",
                "content": {
                    "application/problem+json": {
                        "schema": { "$ref": "#/components/schemas/Problem" }
                    }
                },
            },
        },
    });
    if let Some(fields) = operation.as_object_mut() {
        if let Access::Needs(permission) = row.access {
            fields.insert(
                "security".to_owned(),
                json!([{ "bearer": [] }, { "apiKey": [] }]),
            );
            fields.insert("x-permission".to_owned(), json!(permission));
        }
        if row.body_limit > 0 {
            fields.insert("x-body-limit-bytes".to_owned(), json!(row.body_limit));
            fields.insert(
                "requestBody".to_owned(),
                json!({ "content": { "application/json": { "schema": {} } } }),
            );
        }
    }
    operation
}

fn parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect()
}

fn problem_schema() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": text,
            "title": text,
            "status": { "type": "integer" },
            "detail": text,
            "current_revision": { "type": "integer" },
            "violations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "code", "message"],
                    "properties": {
                        "pointer": text,
                        "code": text,
                        "message": text,
                        "line": { "type": "integer" },
                        "column": { "type": "integer" },
                    },
                },
            },
        },
    })
}
