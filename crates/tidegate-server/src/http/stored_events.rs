//! Stored events over REST: the newest ones, live counts, verification, erasure.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidegate_lake::Committed;
use tidegate_metrics::{Event, PropertyValue};

use super::body;
use crate::access::Principal;
use crate::app::{App, AppError};
use crate::events::care::{self, VerificationState};
use crate::time_text::rfc3339;

/// Events in one answer, unless fewer are asked for.
const MOST_EVENTS: u64 = 1000;
const FEW_EVENTS: u64 = 20;

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TailQuery {
    /// From this ingest sequence on; without it the newest.
    after: Option<u64>,
    /// At most so many.
    limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct EventDocument {
    sequence: u64,
    id: String,
    time: String,
    received: String,
    unit: String,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    flags: Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    quarantined: bool,
}

impl EventDocument {
    fn of(sequence: u64, event: &Event) -> Self {
        let property = |value: &PropertyValue| match value {
            PropertyValue::Bool(value) => json!(value),
            PropertyValue::Number(value) => json!(value),
            PropertyValue::Text(text) => json!(text),
        };
        Self {
            sequence,
            id: event.id.to_string(),
            time: rfc3339(event.time_us),
            received: rfc3339(event.received_us),
            unit: event.unit.to_string(),
            kind: event.kind.as_str(),
            name: event.name.to_string(),
            value: event.value,
            properties: event
                .properties
                .iter()
                .map(|(key, value)| (key.to_string(), property(value)))
                .collect(),
            flags: event
                .flags
                .iter()
                .map(|(flag, variant)| (flag.to_string(), json!(variant)))
                .collect(),
            quarantined: event.is_quarantined,
        }
    }
}

/// `GET /api/v1/projects/{project}/events`: the newest events, or those from a sequence on, as
/// far as the log still holds them.
pub(crate) async fn tail(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(query): Query<TailQuery>,
) -> Result<Response, AppError> {
    let limit = query.limit.unwrap_or(FEW_EVENTS).clamp(1, MOST_EVENTS);
    if !app.events.is_known(&project) {
        return Ok(Json(json!({ "rows": [], "next": 0 })).into_response());
    }
    let intake = app
        .events
        .intake(&project)
        .map_err(|error| AppError::Internal(error.to_string()))?;
    let read = move || {
        let log = intake.log();
        let end = log.next_sequence();
        let from = query.after.unwrap_or_else(|| end.saturating_sub(limit));
        let mut rows = Vec::new();
        log.read_from(from, &mut |stretch: Committed| {
            let sequenced = (stretch.first_sequence..).zip(&stretch.events);
            let wanted = sequenced.filter(|(sequence, _)| *sequence >= from);
            rows.extend(wanted.map(|(sequence, event)| EventDocument::of(sequence, event)));
            (rows.len() as u64) < limit
        })?;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().map_or(from.min(end), |row| row.sequence + 1);
        Ok::<_, tidegate_lake::LogError>((rows, next))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|error| AppError::Internal(error.to_string()))?;
    let (rows, next) = read.map_err(|error| AppError::Internal(error.to_string()))?;
    Ok(Json(json!({ "rows": rows, "next": next })).into_response())
}

/// `GET /api/v1/projects/{project}/flags/{key}/live`: what its variants do, as counted live.
pub(crate) async fn live(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Response, AppError> {
    let phases = match app.events.is_known(&project) {
        true => {
            let intake = app.events.intake(&project);
            let intake = intake.map_err(|error| AppError::Internal(error.to_string()))?;
            intake.live().phase_counts(&key)
        }
        false => Vec::new(),
    };
    Ok(Json(json!({ "flag": key, "phases": phases })).into_response())
}

/// `POST /api/v1/projects/{project}/events/verify`: begins, and is asked after by `GET`.
pub(crate) async fn verify(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Result<Response, AppError> {
    let state = care::verify(&app, &project)?;
    Ok((StatusCode::ACCEPTED, Json(state)).into_response())
}

/// `GET /api/v1/projects/{project}/events/verify`
pub(crate) async fn verification(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Result<Json<VerificationState>, AppError> {
    care::verification(&app, &project).map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EraseRequest {
    unit: String,
}

/// `POST /api/v1/projects/{project}/events/erase`
pub(crate) async fn erase(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let request: EraseRequest = serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let receipt = care::erase(&app, &principal, &project, request.unit).await?;
    Ok(Json(receipt).into_response())
}
