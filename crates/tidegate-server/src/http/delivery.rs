//! Delivery over REST: questions about the log, and what people set for it.
//!
//! Every question is a `GET` whose query string is the question's fields; `Accept: text/plain` answers in lines for
//! people, anything else in JSON. What writes rows is in [`super::delivery_rows`] and [`super::webhooks`].

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_delivery::question::{
    AlertsQuestion, FlowQuestion, ForecastQuestion, Form, IncidentsQuestion, MetricsQuestion,
    PipelineQuestion, PostmortemQuestion, Question, QuestionError, SummaryQuestion,
    TargetsQuestion,
};
use tidegate_delivery::target::ServiceTargets;
use tidegate_delivery::webhook::{MAX_BODY_BYTES, WebhookSource};

use super::routes::{Access, Routes, Verb};
use super::{NO_BODY, SMALL, body, delivery_rows, row, webhooks};
use crate::access::{Permission as P, Principal};
use crate::app::{App, AppError};
use crate::delivery::secrets::Wanted;
use crate::delivery::settings::{self, moment};

/// All routes of delivery.
pub(crate) fn routes(routes: Routes) -> Routes {
    const WEBHOOK: &str = "/api/v1/projects/{project}/webhooks/{source}";
    const TARGETS: &str = "/api/v1/projects/{project}/delivery/targets";
    const SECRETS: &str = "/api/v1/projects/{project}/delivery/secrets";
    const SECRET: &str = "/api/v1/projects/{project}/delivery/secrets/{id}";
    let manage = |verb, path, limit, summary| {
        row(verb, path, Access::Needs(P::AccessManage), limit, summary)
    };
    let taking = row(
        Verb::Post,
        WEBHOOK,
        Access::Public,
        MAX_BODY_BYTES,
        "Take a webhook that proves its sender",
    );
    let setting = row(
        Verb::Put,
        TARGETS,
        Access::Needs(P::ConfigWrite),
        SMALL,
        "Set what services aim at",
    );
    delivery_rows::routes(questions(routes))
        .add(taking, webhooks::receive)
        .add(setting, set_targets)
        .add(
            manage(Verb::Get, SECRETS, NO_BODY, "List webhook secrets"),
            list_secrets,
        )
        .add(
            manage(
                Verb::Post,
                SECRETS,
                SMALL,
                "Make a webhook secret, shown once",
            ),
            create_secret,
        )
        .add(
            manage(
                Verb::Delete,
                SECRET,
                NO_BODY,
                "End a webhook secret at once",
            ),
            revoke_secret,
        )
}

fn questions(routes: Routes) -> Routes {
    let read = |path, summary| {
        row(
            Verb::Get,
            path,
            Access::Needs(P::ConfigRead),
            NO_BODY,
            summary,
        )
    };
    routes
        .add(
            read(
                "/api/v1/projects/{project}/delivery/metrics",
                "Delivery metrics by a named definition",
            ),
            ask::<MetricsQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/pipeline",
                "How versions pass through the environments",
            ),
            ask::<PipelineQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/flow",
                "Work in progress, age, throughput and cycle time",
            ),
            ask::<FlowQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/forecast",
                "When will these be done, or how many by then",
            ),
            ask::<ForecastQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/summary",
                "A period in plain sentences",
            ),
            ask::<SummaryQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/incidents",
                "Incidents, searchable",
            ),
            ask::<IncidentsQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/postmortem",
                "A postmortem of an incident to fill in",
            ),
            ask::<PostmortemQuestion>,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/targets",
                "How services stand to their targets",
            ),
            targets,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/alerts",
                "Targets certainly missed, and limits passed",
            ),
            alerts,
        )
        .add(
            read(
                "/api/v1/projects/{project}/delivery/received",
                "What became of the latest webhooks",
            ),
            webhooks::received,
        )
}

/// The fields of a query string.
pub(crate) fn fields<T: DeserializeOwned>(uri: &Uri) -> Result<T, AppError> {
    Query::<T>::try_from_uri(uri)
        .map(|Query(fields)| fields)
        .map_err(|rejection| AppError::invalid("", "bad-query", rejection.body_text()))
}

async fn ask<Q>(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, AppError>
where
    Q: Question + DeserializeOwned + Send + 'static,
{
    answer(&app, &project, &headers, fields::<Q>(&uri)?).await
}

async fn targets(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, AppError> {
    let mut question: TargetsQuestion = fields(&uri)?;
    if question.targets.is_none() {
        question.targets = Some(kept_targets(&app, &project).await?);
    }
    answer(&app, &project, &headers, question).await
}

async fn alerts(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, AppError> {
    let mut question: AlertsQuestion = fields(&uri)?;
    if question.targets.is_none() {
        question.targets = Some(kept_targets(&app, &project).await?);
    }
    answer(&app, &project, &headers, question).await
}

async fn kept_targets(app: &App, project: &str) -> Result<String, AppError> {
    let kept = settings::targets(app, project).await?;
    serde_json::to_string(&kept).map_err(|error| AppError::Internal(error.to_string()))
}

async fn answer<Q>(
    app: &App,
    project: &str,
    headers: &HeaderMap,
    question: Q,
) -> Result<Response, AppError>
where
    Q: Question + Send + 'static,
{
    let form = form_of(headers);
    let now = moment(app.clock.now_us());
    let text = app
        .delivery
        .ask(project, move |timeline| {
            question
                .answer(timeline, now, form)
                .map_err(|error| refused(&error))
        })
        .await?;
    let media = match form {
        Form::Json => "application/json",
        Form::Text => "text/plain; charset=utf-8",
    };
    Ok(([(CONTENT_TYPE, media)], text).into_response())
}

fn form_of(headers: &HeaderMap) -> Form {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    match accepted {
        Some(media) if media.trim_start().starts_with("text/plain") => Form::Text,
        _ => Form::Json,
    }
}

fn refused(error: &QuestionError) -> AppError {
    match error {
        QuestionError::NoSuchIncident { id } => AppError::NotFound(format!("incident {id:?}")),
        QuestionError::Writing(_) => AppError::Internal(error.to_string()),
        QuestionError::Time { field, .. } | QuestionError::Shape { field, .. } => {
            AppError::invalid(&format!("/{field}"), "bad-question", error.to_string())
        }
        _ => AppError::invalid("", "bad-question", error.to_string()),
    }
}

/// `PUT /api/v1/projects/{project}/delivery/targets`
async fn set_targets(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let targets = ServiceTargets::from_json(&document.to_string())
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    settings::set_targets(&app, &principal, &project, &targets).await?;
    Ok(Json(targets).into_response())
}

/// `GET /api/v1/projects/{project}/delivery/secrets`
async fn list_secrets(State(app): State<App>, Path(project): Path<String>) -> Response {
    let now = moment(app.clock.now_us());
    Json(json!({ "rows": app.delivery.secrets().list(&project, now) })).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRequest {
    source: String,
    secret: Option<String>,
    old_valid_hours: Option<u16>,
}

/// `POST /api/v1/projects/{project}/delivery/secrets`
async fn create_secret(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document: Value = body::json(&bytes, &app.flag_limits)?;
    let request: SecretRequest = serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let source = WebhookSource::named(&request.source).ok_or_else(|| {
        let known = "one of github, gitlab, pagerduty, alertmanager, cdevents, generic";
        AppError::invalid("/source", "unknown-source", known)
    })?;
    let now = moment(app.clock.now_us());
    let wanted = Wanted {
        given: request.secret,
        old_until: request
            .old_valid_hours
            .map(|hours| now.plus_hours(i64::from(hours))),
    };
    let made = settings::create_secret(&app, &principal, &project, source, wanted).await?;
    let answer = json!({ "secret": made.shown_once, "record": made.row });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `DELETE /api/v1/projects/{project}/delivery/secrets/{id}`
async fn revoke_secret(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, id)): Path<(String, String)>,
) -> Result<Response, AppError> {
    settings::revoke_secret(&app, &principal, &project, &id).await?;
    Ok(Json(json!({ "id": id, "revoked": true })).into_response())
}
