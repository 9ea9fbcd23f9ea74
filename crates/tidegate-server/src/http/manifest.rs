//! The OpenFeature manifest API, in its own words for refusals.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal as the manifest API words it.
pub(crate) fn failure(status: StatusCode, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "status": status.as_u16() } });
    (status, Json(body)).into_response()
}
