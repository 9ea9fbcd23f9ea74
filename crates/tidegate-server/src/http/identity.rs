//! Merging units into persons over REST, and taking it back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::body;
use crate::access::Principal;
use crate::app::{App, AppError};
use crate::events::identity::{self, Changed, Pair};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeRequest {
    merges: Vec<PairRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairRequest {
    unit: Box<str>,
    into: Box<str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnmergeRequest {
    units: Vec<Box<str>>,
}

fn read<T: DeserializeOwned>(app: &App, bytes: &[u8]) -> Result<T, AppError> {
    let document = body::json(bytes, &app.flag_limits)?;
    serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))
}

fn answer(changed: Changed) -> Response {
    let status = match changed.is_refused() {
        true => StatusCode::BAD_REQUEST,
        false => StatusCode::OK,
    };
    (status, Json(changed)).into_response()
}

/// `POST /api/v1/projects/{project}/events/merge`
pub(crate) async fn merge(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: MergeRequest = read(&app, &bytes)?;
    let pairs = request.merges.into_iter().map(|pair| Pair {
        unit: pair.unit,
        into: pair.into,
    });
    let changed = identity::merge(&app, &principal, &project, pairs.collect()).await?;
    Ok(answer(changed))
}

/// `POST /api/v1/projects/{project}/events/unmerge`
pub(crate) async fn unmerge(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: UnmergeRequest = read(&app, &bytes)?;
    let changed = identity::unmerge(&app, &principal, &project, request.units).await?;
    Ok(answer(changed))
}
