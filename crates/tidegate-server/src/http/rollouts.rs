//! Rollouts over REST: start one, and read how it stands.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::access::Principal;
use crate::app::{App, AppError};
use crate::rollouts;

/// `POST /api/v1/projects/{project}/rollouts/{key}/start`
pub(crate) async fn start(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Response, AppError> {
    rollouts::start(&app, &principal, &project, &key).await?;
    Ok(Json(json!({ "key": key, "lifecycle": "running" })).into_response())
}

/// `GET /api/v1/projects/{project}/rollouts/{key}/report`
pub(crate) async fn report(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Response, AppError> {
    let standing = app
        .rollouts
        .standing(&project, &key)
        .ok_or_else(|| AppError::NotFound(format!("a report of rollout {key:?}")))?;
    Ok(Json(standing).into_response())
}
