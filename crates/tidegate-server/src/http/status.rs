//! One document that says what is served, since when it is confirmed, and what is wrong.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_lake::LogHealth;

use crate::access::Principal;
use crate::app::App;
use crate::events::slot::Standing;
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
        .map(|project| describe(&app, &project))
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
        "event_logs": event_logs(&app, &principal),
        "clocks": app.operations.clocks(&principal),
        "lakes": lakes(&app, &principal),
        "disk": disk(&app),
        "stop_file": app.stops.file_state(),
        "pending_stops": app.stops.pending().len(),
        "unmarked_stops": app.stops.unmarked(),
        "tokens": app.access.load().len(),
        "projects": projects,
    }))
    .into_response()
}

fn event_logs(app: &App, principal: &Principal) -> Vec<Value> {
    let mut logs = app.events.health();
    logs.sort_by(|(one, _), (other, _)| one.cmp(other));
    logs.into_iter()
        .filter(|(project, _)| principal.belongs_to(project))
        .map(|(project, health)| {
            let (state, reason) = match health {
                LogHealth::Writing => ("writing", None),
                LogHealth::DiskNearlyFull => ("disk_nearly_full", None),
                LogHealth::ReadOnly { cause } => ("read_only", Some(cause)),
            };
            json!({ "project": project, "state": state, "reason": reason })
        })
        .collect()
}

fn lakes(app: &App, principal: &Principal) -> Vec<Standing> {
    let mut lakes = app.events.standings(app.clock.monotonic());
    lakes.retain(|lake| principal.belongs_to(&lake.project));
    lakes
}

/// How full the disk of the events is, and how loudly that is said.
fn disk(app: &App) -> Value {
    match app.events.disk() {
        Ok(disk) => json!({
            "bytes": disk.bytes,
            "available_bytes": disk.available_bytes,
            "used_percent": disk.used_percent(),
            "alert": disk.alert(),
        }),
        Err(error) => json!({ "alert": "unknown", "reason": error.to_string() }),
    }
}

fn describe(app: &App, project: &LiveProject) -> Value {
    let set = project.peek();
    json!({
        "project": set.project,
        "flags": set.ruleset.len(),
        "config_version": set.config_version,
        "epoch": set.epoch,
        "config_tag": set.config_tag,
        "stale_since": set.stale_since_us.map(rfc3339),
        "storage_behind": set.behind(),
        "clients": app.streams.clients.report(&app.live, &set.project),
        "warnings": set.warnings,
        "problems": set.problems,
    })
}
