//! Tokens over REST. The secret is in the answer to its creation and nowhere else.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_store::{TokenKind, TokenRecord};

use super::body;
use crate::access::Principal;
use crate::app::tokens::{self, NewToken};
use crate::app::{App, AppError};
use crate::time_text::rfc3339;

const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateRequest {
    name: String,
    kind: String,
    expires_in_days: Option<u16>,
}

#[derive(Debug, Serialize)]
struct TokenDocument {
    selector: String,
    name: String,
    kind: &'static str,
    created_at: String,
    created_by: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    disabled_at: Option<String>,
}

impl From<TokenRecord> for TokenDocument {
    fn from(record: TokenRecord) -> Self {
        Self {
            selector: record.selector,
            name: record.name,
            kind: record.kind.as_str(),
            created_at: rfc3339(record.created_at),
            created_by: record.created_by.to_string(),
            expires_at: record.expires_at.map(rfc3339),
            last_used_at: record.last_used_at.map(rfc3339),
            disabled_at: record.disabled_at.map(rfc3339),
        }
    }
}

/// `GET /api/v1/projects/{project}/tokens`
pub(crate) async fn list(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Result<Response, AppError> {
    let found = tokens::list(&app, &project).await?;
    let rows: Vec<TokenDocument> = found.into_iter().map(Into::into).collect();
    Ok(Json(json!({ "rows": rows })).into_response())
}

/// `POST /api/v1/projects/{project}/tokens`
pub(crate) async fn create(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let request: CreateRequest = serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let kind: TokenKind = request.kind.parse().map_err(|_| {
        AppError::invalid("/kind", "unknown-kind", "one of admin, server, browser, ci")
    })?;
    if request.expires_in_days == Some(0) {
        return Err(AppError::invalid(
            "/expires_in_days",
            "out-of-range",
            "1 to 65535 days",
        ));
    }
    let now_us = app.clock.now_us();
    let wanted = NewToken {
        name: request.name,
        kind,
        expires_at_us: request
            .expires_in_days
            .map(|days| now_us + i64::from(days) * DAY_US),
    };
    let minted = tokens::create(&app, &principal, &project, wanted).await?;
    let answer = json!({ "token": minted.text, "record": TokenDocument::from(minted.record) });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `DELETE /api/v1/projects/{project}/tokens/{selector}`: disables; the row stays readable.
pub(crate) async fn disable(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, selector)): Path<(String, String)>,
) -> Result<Response, AppError> {
    tokens::disable(&app, &principal, &project, &selector).await?;
    Ok(Json(json!({ "selector": selector, "disabled": true })).into_response())
}
