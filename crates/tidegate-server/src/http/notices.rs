//! Webhook endpoints over REST. A secret is in the answer that made its key and nowhere else.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use crate::access::Principal;
use crate::app::{App, AppError};
use crate::notices::endpoint::Wanted;
use crate::notices::manage::{self, Deliveries};

/// How long old and new key sign side by side, where nothing is said.
const OVERLAP_HOURS: u32 = 24;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateRequest {
    overlap_hours: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedeliverRequest {
    number: Option<u64>,
}

/// `GET /api/v1/projects/{project}/webhook-endpoints`
pub(crate) async fn list(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Result<Json<Value>, AppError> {
    let rows = manage::list(&app, &project).await?;
    Ok(Json(json!({ "rows": rows })))
}

/// `POST /api/v1/projects/{project}/webhook-endpoints`
pub(crate) async fn create(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let wanted: Wanted = parsed(&app, &bytes)?;
    let (endpoint, secret) = manage::create(&app, &principal, &project, wanted).await?;
    let answer = json!({ "secret": secret, "endpoint": endpoint });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `DELETE /api/v1/projects/{project}/webhook-endpoints/{key}`
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Json<Value>, AppError> {
    manage::delete(&app, &principal, &project, &key).await?;
    Ok(Json(json!({ "key": key, "deleted": true })))
}

/// `POST /api/v1/projects/{project}/webhook-endpoints/{key}/rotate`
pub(crate) async fn rotate(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Value>, AppError> {
    let request: RotateRequest = parsed_or_default(&app, &bytes)?;
    let wanted = (key.as_str(), request.overlap_hours.unwrap_or(OVERLAP_HOURS));
    let (endpoint, secret) = manage::rotate(&app, &principal, &project, wanted).await?;
    Ok(Json(json!({ "secret": secret, "endpoint": endpoint })))
}

/// `POST /api/v1/projects/{project}/webhook-endpoints/{key}/test`
pub(crate) async fn test(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Response, AppError> {
    let id = manage::test(&app, &principal, &project, &key).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response())
}

/// `GET /api/v1/projects/{project}/webhook-endpoints/{key}/deliveries`
pub(crate) async fn deliveries(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Json<Deliveries>, AppError> {
    Ok(Json(manage::deliveries(&app, &project, &key).await?))
}

/// `POST /api/v1/projects/{project}/webhook-endpoints/{key}/redeliver`
pub(crate) async fn redeliver(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Value>, AppError> {
    let request: RedeliverRequest = parsed_or_default(&app, &bytes)?;
    let redelivered = manage::redeliver(&app, &project, (&key, request.number)).await?;
    Ok(Json(json!({ "redelivered": redelivered })))
}

fn parsed<T: for<'de> Deserialize<'de>>(app: &App, bytes: &[u8]) -> Result<T, AppError> {
    serde_json::from_value(body::json(bytes, &app.flag_limits)?)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))
}

fn parsed_or_default<T>(app: &App, bytes: &[u8]) -> Result<T, AppError>
where
    T: Default + for<'de> Deserialize<'de>,
{
    if bytes.is_empty() {
        return Ok(T::default());
    }
    parsed(app, bytes)
}
