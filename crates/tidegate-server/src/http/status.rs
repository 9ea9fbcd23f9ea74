//! One document that says what is served, since when it is confirmed, and what is wrong.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::access::Principal;
use crate::app::App;
use crate::live::LiveProject;
use crate::time_text::rfc3339;

/// `GET /status`: the caller's own project, or all of them for a person.
pub(crate) async fn status(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
) -> Response {
    let projects: Vec<Value> = app
        .live
        .keys()
        .into_iter()
        .filter(|key| principal.belongs_to(key))
        .filter_map(|key| app.live.project(&key))
        .map(|project| describe(&project))
        .collect();
    let storage = match async { app.store()?.health().await }.await {
        Ok(health) => json!({
            "writable": health.is_writable,
            "reason": health.reason,
            "epoch": health.epoch,
            "schema_version": health.schema_version,
            "bytes": health.bytes,
            "audit_sequence": health.audit_head.sequence,
        }),
        Err(error) => json!({ "writable": false, "reason": error.to_string() }),
    };
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": rfc3339(app.clock.now_us()),
        "storage": storage,
        "pending_stops": app.stops.pending().len(),
        "tokens": app.access.load().len(),
        "projects": projects,
    }))
    .into_response()
}

fn describe(project: &LiveProject) -> Value {
    let set = project.peek();
    json!({
        "project": set.project,
        "flags": set.ruleset.len(),
        "config_version": set.config_version,
        "epoch": set.epoch,
        "config_tag": set.config_tag,
        "stale_since": set.stale_since_us.map(rfc3339),
        "listeners": project.changes.listeners(),
        "warnings": set.warnings,
        "problems": set.problems,
    })
}
