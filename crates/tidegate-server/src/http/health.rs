//! Alive, and ready: two questions with two answers.
//!
//! Alive means that the process answers. Ready means that it has flags that decode; it is not
//! withdrawn when storage goes, because evaluation goes on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;

/// `GET /healthz`
pub(crate) async fn healthz() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

/// `GET /readyz`
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let projects = app.live.keys();
    if projects.is_empty() {
        let body = json!({ "status": "starting", "reason": "no flag set has been loaded yet" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let is_stale = projects
        .iter()
        .filter_map(|key| app.live.project(key))
        .any(|project| project.peek().stale_since_us.is_some());
    let is_behind = projects
        .iter()
        .filter_map(|key| app.live.project(key))
        .any(|project| project.peek().storage_behind.is_some());
    let storage = if is_behind {
        "older than what is served; see /status"
    } else if app.storage.get().is_none() {
        "not open"
    } else {
        "open"
    };
    Json(json!({ "status": "ready", "stale": is_stale, "storage": storage })).into_response()
}
