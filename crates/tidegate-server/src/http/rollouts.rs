//! Rollouts over REST: start, hold, approve, end, and read how one stands and why.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_rollout::command::Command;

use super::body;
use crate::access::Principal;
use crate::app::{App, AppError, actor_of};
use crate::rollouts::{self, Standing, StartCheck};

/// Why somebody does something, and to which stage.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    reason: String,
    stage: Option<usize>,
    #[serde(default)]
    redraw_units: bool,
    /// Start although guards are not proven; needs a reason.
    #[serde(default)]
    unproven: bool,
}

/// A start: how the rollout stands, and what its guards are known by.
#[derive(Debug, Serialize)]
pub(crate) struct Started {
    #[serde(flatten)]
    standing: Standing,
    check: StartCheck,
}

/// `POST /api/v1/projects/{project}/rollouts/{key}/start`
pub(crate) async fn start(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Started>, AppError> {
    let wish = wish(&app, &bytes)?;
    let reason = wish.reason.trim();
    if wish.unproven && reason.is_empty() {
        return Err(AppError::invalid(
            "/reason",
            "reason-needed",
            "say why it shall start although its guards are not proven",
        ));
    }
    let unproven = wish.unproven.then_some(reason);
    let (standing, check) = rollouts::start(&app, &principal, (&project, &key), unproven).await?;
    Ok(Json(Started { standing, check }))
}

/// `GET /api/v1/projects/{project}/rollouts/{key}/check`: whether it may start, and what its guards
/// would see.
pub(crate) async fn check(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Json<StartCheck>, AppError> {
    Ok(Json(rollouts::check(&app, &project, &key).await?))
}

/// `POST /api/v1/projects/{project}/rollouts/{key}/{pause|abort|stop}`: lowers or holds exposure.
pub(crate) async fn protect(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key, action)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Json<Standing>, AppError> {
    let command = match action.as_str() {
        "pause" => Command::Pause,
        "abort" => Command::Abort,
        "stop" => Command::EmergencyStop,
        _ => return Err(AppError::NotFound(format!("the action {action:?}"))),
    };
    let wish = wish(&app, &bytes)?;
    if command != Command::Pause && !wish.reason.trim().is_empty() {
        app.rollouts
            .shut(&app, (&project, &key), actor_of(&principal), &wish.reason);
    }
    ask(&app, &principal, (&project, &key), command, &wish).await
}

/// `POST /api/v1/projects/{project}/rollouts/{key}/resume`
pub(crate) async fn resume(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Standing>, AppError> {
    ask(
        &app,
        &principal,
        (&project, &key),
        Command::Resume,
        &wish(&app, &bytes)?,
    )
    .await
}

/// `POST /api/v1/projects/{project}/rollouts/{key}/retry`
pub(crate) async fn retry(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Standing>, AppError> {
    let wish = wish(&app, &bytes)?;
    let command = Command::Retry {
        redraws_units: wish.redraw_units,
    };
    ask(&app, &principal, (&project, &key), command, &wish).await
}

/// `POST /api/v1/projects/{project}/rollouts/{key}/approve`
pub(crate) async fn approve(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Json<Standing>, AppError> {
    let wish = wish(&app, &bytes)?;
    let stage = wish.stage.ok_or_else(|| {
        AppError::invalid("/stage", "stage-needed", "say which stage, counted from 0")
    })?;
    ask(
        &app,
        &principal,
        (&project, &key),
        Command::Approve { stage },
        &wish,
    )
    .await
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

/// `GET /api/v1/projects/{project}/rollouts/{key}/replay`: makes every kept plan again.
pub(crate) async fn replay(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Result<Json<Value>, AppError> {
    let found = rollouts::replay(&app, &project, &key).await?;
    Ok(Json(json!({ "key": key, "replay": found })))
}

fn wish(app: &App, bytes: &[u8]) -> Result<Wish, AppError> {
    if bytes.is_empty() {
        return Ok(Wish::default());
    }
    serde_json::from_value(body::json(bytes, &app.flag_limits)?)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))
}

async fn ask(
    app: &App,
    principal: &Principal,
    name: (&str, &str),
    command: Command,
    wish: &Wish,
) -> Result<Json<Standing>, AppError> {
    let by = (actor_of(principal).to_string(), wish.reason.clone());
    Ok(Json(app.rollouts.ask(name, command, by).await?))
}
