//! `POST /api/v1/events`: a JSON array or NDJSON, plain, gzip or zstd.
//!
//! The body limit holds for what travels, and again for what comes out of decompression
//! ([`crate::bodies`]). Long bodies are read beside the tasks that serve flags, not among them.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidegate_metrics::{Arrival, ParsedBatch};

use super::problem::Problem;
use super::sent_at::{arrival, source_of};
use crate::access::Principal;
use crate::app::{App, AppError};
use crate::bodies::BodyError;
use crate::bodies::receive::{Packed, receive};
use crate::bodies::unpack::{Packing, unpack};
use crate::events::Ingested;

/// The largest batch, as it travels and after decompression.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// A plain body up to this length is read where it arrives: it takes no longer than handing it on.
const SHORT_BODY_BYTES: usize = 8 * 1024;

/// Takes a batch of events.
pub(crate) async fn ingest(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, AppError> {
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let packing = packing_of(headers)?;
    let project = principal.default_project();
    let held = app.events.room.hold(project);
    let packed = match receive(held, headers, body, MAX_BATCH_BYTES).await {
        Ok(packed) => packed,
        Err(error) => return refused(error),
    };
    let arrival = arrival(headers, app.clock.now_us());
    let parsed = match parsed(&app, packing, packed, arrival).await? {
        Ok(parsed) => parsed,
        Err(error) => return refused(error),
    };
    let ingested = app.events.take(project, parsed).await?;
    app.operations.note_clock(
        &principal,
        source_of(headers),
        arrival,
        ingested.batch.newest_us,
    );
    Ok(answer(&ingested))
}

fn packing_of(headers: &HeaderMap) -> Result<Packing, AppError> {
    let name = headers
        .get(CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"));
    Packing::named(name).ok_or_else(|| {
        let name = name.unwrap_or_default();
        AppError::invalid(
            "",
            "unknown-encoding",
            format!("Content-Encoding {name:?} is not understood; use gzip, zstd or none"),
        )
    })
}

/// Unpacks and reads a batch, within a turn unless it is short.
async fn parsed(
    app: &App,
    packing: Packing,
    packed: Packed,
    arrival: Arrival,
) -> Result<Result<ParsedBatch, BodyError>, AppError> {
    let is_short = packing == Packing::Plain && packed.bytes.len() <= SHORT_BODY_BYTES;
    if is_short {
        return app.events.parse(&packed.bytes, arrival).map(Ok);
    }
    let _turn = app.events.room.turn().await;
    let app = app.clone();
    let read = move || match unpack(packing, packed, MAX_BATCH_BYTES) {
        Ok(plain) => app.events.parse(&plain.bytes, arrival).map(Ok),
        Err(error) => Ok(Err(error)),
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| AppError::Internal(error.to_string()))?
}

fn refused(error: BodyError) -> Result<Response, AppError> {
    match error {
        BodyError::TooLarge { limit } => Ok(Problem::too_large(limit).into_response()),
        BodyError::Crowded => Err(AppError::RateLimited {
            reason: error.to_string(),
            retry_after_seconds: 1,
        }),
        BodyError::Broken { .. } => {
            Err(AppError::invalid("", "broken-encoding", error.to_string()))
        }
    }
}

/// What became of a batch. If nothing of it could be taken, the same members stand in a problem
/// document.
fn answer(ingested: &Ingested) -> Response {
    let said = json!({
        "accepted": ingested.appended.accepted,
        "duplicates": ingested.appended.duplicates,
        "quarantined": ingested.batch.quarantined,
        "rejected": ingested.batch.rejected,
    });
    let is_refused = ingested.appended.accepted == 0
        && ingested.appended.duplicates == 0
        && ingested.batch.rejected_events > 0;
    if is_refused {
        let detail = format!(
            "none of {} events could be taken; rejected names what is wrong with each",
            ingested.batch.rejected_events
        );
        return Problem::nothing_taken(StatusCode::BAD_REQUEST, detail, said).into_response();
    }
    (StatusCode::ACCEPTED, Json(said)).into_response()
}
