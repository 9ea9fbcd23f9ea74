//! Many changes in one request: checked together, and all of them committed or none.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{body, objects};
use crate::access::Principal;
use crate::app::changes::{self, Outcome, Wish};
use crate::app::{App, AppError, Violation};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    changes: Vec<Change>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    kind: String,
    key: String,
    revision: Option<u64>,
    spec: Value,
}

/// `POST /api/v1/projects/{project}/changes/check`: says what would be done and what is wrong.
pub(crate) async fn check(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let (wishes, _) = read(&app, &bytes)?;
    let outcomes = changes::check(&app, &principal, &project, wishes).await?;
    Ok(rows(outcomes))
}

/// `POST /api/v1/projects/{project}/changes`: makes all of them true, or none.
pub(crate) async fn apply(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let (wishes, reason) = read(&app, &bytes)?;
    let outcomes = changes::apply(&app, &principal, &project, wishes, reason.as_deref()).await?;
    Ok(rows(outcomes))
}

fn read(app: &App, bytes: &[u8]) -> Result<(Vec<Wish>, Option<String>), AppError> {
    let request: Request = serde_json::from_value(body::json(bytes, &app.flag_limits)?)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let mut wishes = Vec::new();
    let mut violations = Vec::new();
    for (index, change) in request.changes.into_iter().enumerate() {
        let known = objects::COLLECTIONS
            .into_iter()
            .find(|(_, kind)| kind.as_str() == change.kind);
        match known {
            Some((_, kind)) => wishes.push(Wish {
                kind,
                key: change.key,
                revision: change.revision,
                spec: change.spec,
            }),
            None => violations.push(Violation::at(
                format!("/changes/{index}/kind"),
                "unknown-kind",
                format!("{:?} is not a kind that is changed here", change.kind),
            )),
        }
    }
    if violations.is_empty() {
        Ok((wishes, request.reason))
    } else {
        Err(AppError::Invalid(violations))
    }
}

fn rows(outcomes: Vec<Outcome>) -> Response {
    let rows: Vec<Value> = outcomes
        .into_iter()
        .map(|outcome| {
            json!({
                "kind": outcome.kind.as_str(),
                "key": outcome.key,
                "action": outcome.action,
                "revision": outcome.revision,
                "difference": outcome.difference,
                "warnings": outcome.warnings,
            })
        })
        .collect();
    Json(json!({ "rows": rows })).into_response()
}
