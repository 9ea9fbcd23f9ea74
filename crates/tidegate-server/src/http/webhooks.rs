//! `POST /api/v1/projects/{project}/webhooks/{source}`: proof first, then disk, then 202.
//!
//! Nobody has to sign in here; the sender proves itself by a signature over the bytes as they came, or by a shared
//! token where its format has nothing better. Before a byte of the body is read, the project must have a secret of
//! that source and there must be room for what is declared, so strangers cost a header and no memory.
//! What is not let in is told that, and not which of key, time or body was wrong beyond what it sent.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidegate_delivery::webhook::{self, MAX_BODY_BYTES, VerifyError, WebhookSource};

use super::problem::Problem;
use crate::app::{App, AppError};
use crate::delivery::settings::moment;
use crate::delivery::{ReceiveError, Received, Room};
use crate::meters;

/// Seconds until a sender that came at a bad time may come again.
const COME_AGAIN_SECONDS: u32 = 2;

/// Takes a webhook.
pub(crate) async fn receive(
    State(app): State<App>,
    Path((project, source)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(source) = WebhookSource::named(&source) else {
        return AppError::NotFound(format!("webhook source {source:?}")).into_response();
    };
    let secrets = app.delivery.secrets().of(&project, source);
    if secrets.is_empty() {
        return Problem::unproven(VerifyError::NoSecret.to_string()).into_response();
    }
    let (parts, body) = request.into_parts();
    let Some(room) = room_for(&app, &parts.headers) else {
        return turned_away(&app);
    };
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return Problem::too_large(MAX_BODY_BYTES).into_response();
    };
    let headers = texts(&parts.headers);
    let request = webhook::Request {
        headers: &headers,
        body: &body,
        received_at: moment(app.clock.now_us()),
    };
    if let Err(refusal) = webhook::verify(source, &request, &secrets) {
        tracing::debug!(project, source = source.name(), %refusal, "a webhook was not let in");
        meters::add(&app.delivery.meters().unproven, 1);
        return Problem::unproven(refusal.to_string()).into_response();
    }
    if let Some(name) = webhook::missing_header(source, &request) {
        let reason = format!(
            "the header {name} is missing; {} sends it with every delivery, so something on the way took it out",
            source.name()
        );
        return AppError::invalid("", "missing-header", reason).into_response();
    }
    let received = Received::new(&project, source, &request);
    match app.delivery.receive(received, room).await {
        Ok(()) => {
            meters::add(&app.delivery.meters().stored, 1);
            (StatusCode::ACCEPTED, Json(json!({ "stored": true }))).into_response()
        }
        Err(ReceiveError::Busy) => turned_away(&app),
        Err(error @ ReceiveError::Disk(_)) => {
            tracing::error!(%error, "a webhook was turned away");
            meters::add(&app.delivery.meters().turned_away, 1);
            AppError::Unavailable {
                reason: "webhooks cannot be stored at the moment; send it again".to_owned(),
                retry_after_seconds: COME_AGAIN_SECONDS,
            }
            .into_response()
        }
    }
}

/// Room for what is declared, or for the most that is taken.
fn room_for(app: &App, headers: &HeaderMap) -> Option<Room> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    app.delivery.room(declared.unwrap_or(MAX_BODY_BYTES))
}

fn turned_away(app: &App) -> Response {
    meters::add(&app.delivery.meters().turned_away, 1);
    AppError::Unavailable {
        reason: "too many webhooks are waiting; send it again".to_owned(),
        retry_after_seconds: COME_AGAIN_SECONDS,
    }
    .into_response()
}

/// Headers that are text; others prove and say nothing.
fn texts(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect()
}

/// What became of the latest webhooks, newest first: `GET /api/v1/projects/{project}/delivery/received`.
pub(crate) async fn received(State(app): State<App>, Path(project): Path<String>) -> Response {
    Json(json!({ "rows": app.delivery.outcomes(&project) })).into_response()
}
