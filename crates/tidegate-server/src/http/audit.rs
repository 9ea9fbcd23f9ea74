//! The audit trail over REST, oldest first from a sequence on.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_store::audit::AuditNote;
use tidegate_store::{AuditEntry, AuditQuery, ProjectKey};

use super::query::{Parameters, Query, Sent};
use crate::access::Principal;
use crate::app::objects::refusal;
use crate::app::{App, AppError};
use crate::time_text::rfc3339;

#[derive(Debug)]
pub(crate) struct Page {
    after: Option<u64>,
    limit: Option<u32>,
}

impl Parameters for Page {
    fn read(sent: &mut Sent) -> Self {
        Self {
            after: sent.number("after"),
            limit: sent.number("limit"),
        }
    }
}

/// `GET /api/v1/projects/{project}/audit`; whoever manages everyone also sees what concerns no
/// project, such as changes of people.
pub(crate) async fn list(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    Query(page): Query<Page>,
) -> Result<Response, AppError> {
    let project = ProjectKey::parse(&project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))?;
    let query = AuditQuery {
        project: Some(project),
        with_whole_store: principal.manages_everyone(),
        after: page.after.unwrap_or(0),
        limit: page.limit.unwrap_or(100),
        ..AuditQuery::default()
    };
    let found = async { app.store()?.audit_list(&query).await }
        .await
        .map_err(|error| refusal(&error, "the audit trail"))?;
    let rows: Vec<_> = found.iter().map(describe).collect();
    Ok(Json(json!({ "rows": rows })).into_response())
}

/// `GET /api/v1/audit/public-key`; it names no project and helps whoever verifies an export.
pub(crate) async fn public_key(State(app): State<App>) -> Result<Response, AppError> {
    let signer = app.operations.signer.as_ref();
    let key =
        signer.ok_or_else(|| AppError::NotFound("a key that signs checkpoints".to_owned()))?;
    let key = key.public_key();
    let answer = json!({
        "algorithm": "ed25519",
        "id": key.id(),
        "public_key": key.to_string(),
    });
    Ok(Json(answer).into_response())
}

fn describe(entry: &AuditEntry) -> Value {
    let object = entry
        .object
        .as_ref()
        .map(|object| format!("{} {}", object.kind, object.key));
    json!({
        "sequence": entry.sequence,
        "at": rfc3339(entry.at_us),
        "actor": entry.actor.to_string(),
        "action": entry.action,
        "object": object,
        "revision": entry.revision,
        "reason": entry.reason(),
        "changes": entry.note.as_ref().map(AuditNote::field_changes),
        "hash": entry.hash.to_string(),
        "previous_hash": entry.previous_hash.to_string(),
    })
}
