//! Self-tests of metric sources over REST; the sources themselves are objects like any other.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::body;
use crate::app::{App, AppError};
use crate::rollouts::sources::self_test::{self, Standing};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginRequest {
    variants: [String; 2],
}

/// `GET /api/v1/projects/{project}/sources/{key}/self-test`
pub(crate) async fn standing(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Json<Standing>, AppError> {
    Ok(Json(self_test::standing(&app, &project, &key).await?))
}

/// `POST /api/v1/projects/{project}/sources/{key}/self-test`
pub(crate) async fn begin(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Standing>, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let request: BeginRequest = serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let [one, other] = &request.variants;
    Ok(Json(
        self_test::begin(&app, &project, &key, (one, other)).await?,
    ))
}
