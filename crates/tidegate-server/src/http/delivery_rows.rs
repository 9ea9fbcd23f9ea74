//! Rows into the delivery log over REST, one at a time: a deployment, an incident, a ruling.
//!
//! Each is on disk when it is answered. A delivery that the log holds already is answered as known, so a pipeline may
//! send again whenever it is not sure. Many rows at once are in [`super::delivery_import`].

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tidegate_delivery::event::{
    Correction, DeploymentSeen, EventBody, EventProblem, IncidentSeen, Intent, Outcome, Ruling,
};
use tidegate_delivery::{DeliveryEvent, Moment, Series, problems_of};

use super::routes::{Access, Routes, Verb};
use super::{EVENTS, NO_BODY, SMALL, body, delivery_import, row};
use crate::access::{Permission as P, Principal};
use crate::app::{App, AppError, Violation, actor_of};
use crate::delivery::settings::moment;

/// Source of rows that came by these routes one at a time.
const SOURCE: &str = "api";

pub(crate) fn routes(routes: Routes) -> Routes {
    let write = |path, limit, summary| {
        row(
            Verb::Post,
            path,
            Access::Needs(P::DeliveryWrite),
            limit,
            summary,
        )
    };
    let known = row(
        Verb::Get,
        "/api/v1/projects/{project}/delivery/commits",
        Access::Needs(P::DeliveryWrite),
        NO_BODY,
        "Ids of the commits that the delivery log holds",
    );
    let ruling = row(
        Verb::Post,
        "/api/v1/projects/{project}/delivery/corrections",
        Access::Needs(P::ConfigWrite),
        SMALL,
        "Rule on one deployment",
    );
    routes
        .add(
            write("/api/v1/deployments", SMALL, "Record a deployment"),
            deploy,
        )
        .add(
            write("/api/v1/incidents", SMALL, "Record an incident, or its end"),
            incident,
        )
        .add(
            write(
                "/api/v1/projects/{project}/delivery/rows",
                EVENTS,
                "Import rows, all of them or none",
            ),
            delivery_import::import,
        )
        .add(known, delivery_import::commits)
        .add(ruling, correct)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentRequest {
    id: Option<String>,
    at: Option<String>,
    service: String,
    environment: Option<String>,
    version: Option<String>,
    commit: Option<String>,
    deployment: Option<String>,
    pipeline: Option<String>,
    #[serde(default)]
    outcome: Outcome,
    started_at: Option<String>,
    intent: Option<Intent>,
}

/// `POST /api/v1/deployments`
async fn deploy(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: DeploymentRequest = read(&app, &bytes)?;
    let at = time("/at", request.at.as_deref())?.unwrap_or_else(|| moment(app.clock.now_us()));
    let seen = DeploymentSeen {
        service: request.service,
        environment: request.environment.unwrap_or("production".to_owned()),
        version: request.version,
        commit: request.commit,
        deployment: request.deployment,
        pipeline: request.pipeline,
        outcome: request.outcome,
        started_at: time("/started_at", request.started_at.as_deref())?,
        intent: request.intent,
    };
    let version = seen.version.as_deref().or(seen.commit.as_deref());
    let content = format!(
        "{}/{}/{}@{}",
        seen.environment,
        seen.service,
        version.unwrap_or("-"),
        at.millis()
    );
    let id = request.id.unwrap_or(content);
    record(&app, &principal, at, id, EventBody::Deployment(seen)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncidentRequest {
    incident: String,
    service: Option<String>,
    environment: Option<String>,
    title: Option<String>,
    severity: Option<String>,
    detected_at: Option<String>,
    resolved_at: Option<String>,
    caused_by: Option<String>,
    fixed_by: Option<String>,
    flag: Option<String>,
    runbook: Option<String>,
    evidence: Option<String>,
}

/// `POST /api/v1/incidents`; the same name again adds to it.
async fn incident(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: IncidentRequest = read(&app, &bytes)?;
    let resolved_at = time("/resolved_at", request.resolved_at.as_deref())?;
    let now = moment(app.clock.now_us());
    let detected_at = match (
        time("/detected_at", request.detected_at.as_deref())?,
        resolved_at,
    ) {
        (None, None) => Some(now),
        (told, _) => told,
    };
    let at = resolved_at.or(detected_at).unwrap_or(now);
    let id = format!("incident/{}@{}", request.incident, at.millis());
    let seen = IncidentSeen {
        incident: request.incident,
        service: request.service,
        environment: request.environment,
        title: request.title,
        severity: request.severity,
        detected_at,
        resolved_at,
        caused_by: request.caused_by,
        fixed_by: request.fixed_by,
        flag: request.flag,
        runbook: request.runbook,
        evidence: request.evidence,
    };
    record(&app, &principal, at, id, EventBody::Incident(seen)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorrectionRequest {
    deployment: String,
    ruling: Ruling,
    reason: String,
    at: Option<String>,
}

/// `POST /api/v1/projects/{project}/delivery/corrections`; the row carries who ruled, and enters no metric by it.
async fn correct(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: CorrectionRequest = read(&app, &bytes)?;
    let at = time("/at", request.at.as_deref())?.unwrap_or_else(|| moment(app.clock.now_us()));
    let wanted = request.deployment.clone();
    let is_known = app
        .delivery
        .ask(&project, move |timeline| {
            let mut attempts = timeline.series().flat_map(Series::attempts);
            Ok(attempts.any(|deployment| deployment.id == wanted))
        })
        .await?;
    if !is_known {
        return Err(AppError::NotFound(format!(
            "deployment {:?}",
            request.deployment
        )));
    }
    let id = format!("correction/{}@{}", request.deployment, at.millis());
    let correction = Correction {
        deployment: request.deployment,
        ruling: request.ruling,
        reason: request.reason,
        by: actor_of(&principal).to_string(),
    };
    let event = event(at, id, EventBody::Correction(correction))?;
    answer(&app, &project, event).await
}

fn read<T: for<'de> Deserialize<'de>>(app: &App, bytes: &Bytes) -> Result<T, AppError> {
    let document = body::json(bytes, &app.flag_limits)?;
    serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))
}

fn time(pointer: &str, text: Option<&str>) -> Result<Option<Moment>, AppError> {
    text.map(Moment::parse)
        .transpose()
        .map_err(|error| AppError::invalid(pointer, "bad-time", error.to_string()))
}

async fn record(
    app: &App,
    principal: &Principal,
    at: Moment,
    id: String,
    body: EventBody,
) -> Result<Response, AppError> {
    answer(app, principal.default_project(), event(at, id, body)?).await
}

async fn answer(app: &App, project: &str, event: DeliveryEvent) -> Result<Response, AppError> {
    let name = format!("{}:{}", event.source, event.id);
    let appending = app.delivery.append(project, vec![event]).await?;
    let status = if appending.recorded == 1 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = json!({
        "id": name,
        "recorded": appending.recorded == 1,
        "conflict": appending.conflicts == 1,
    });
    Ok((status, Json(answer)).into_response())
}

/// A row, or everything that is wrong with it.
fn event(at: Moment, id: String, body: EventBody) -> Result<DeliveryEvent, AppError> {
    let event = DeliveryEvent {
        at,
        source: SOURCE.to_owned(),
        id,
        body,
    };
    let problems = problems_of(&event);
    if problems.is_empty() {
        return Ok(event);
    }
    Err(AppError::Invalid(problems.iter().map(violation).collect()))
}

/// A problem of a row at its place in the request, which is the row's body without its kind.
fn violation(problem: &EventProblem) -> Violation {
    let pointer = problem.pointer();
    let own = pointer
        .strip_prefix("/body/")
        .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]))
        .unwrap_or(pointer);
    let detail = problem.to_string().replacen(pointer, own, 1);
    Violation::at(own, "bad-row", detail)
}
