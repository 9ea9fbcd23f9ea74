//! Reports over REST: metrics, journeys, usage and retention, as documents.
//!
//! A report reads as much as it needs and computes on threads of its own; only so many run at a
//! time, so that questions never crowd out events and flags.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use tidegate_lake::Lake;
use tidegate_store::ObjectKind;
use tokio::sync::Semaphore;

use super::query::{Parameters, Query, Sent};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError};
use crate::reports::{self, ReportParameters, StoredDefinition};

/// Reports computed at a time; each uses every core.
static AT_A_TIME: Semaphore = Semaphore::const_new(2);

impl Parameters for ReportParameters {
    fn read(sent: &mut Sent) -> Self {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        Self {
            flag: sent.text("flag"),
            segment: sent.text("segment"),
            from: sent.text("from"),
            to: sent.text("to"),
            control: sent.text("control"),
            method: sent.read("method", "sequential, fixed or bayesian", |text| {
                serde_json::from_value(Value::from(text)).ok()
            }),
            alpha: sent.read("alpha", "a number", number),
            tune_at: sent.read("tune_at", "a number", number),
            prior_sd: sent.read("prior_sd", "a number", number),
            shares: sent.text("shares"),
            events: sent.text("events"),
            period: sent.text("period"),
        }
    }
}

/// `GET /api/v1/projects/{project}/metrics/{key}/report`
pub(crate) async fn metric(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    let stored = definition(&app, &project, ObjectKind::Metric, &key).await?;
    compute(&app, project, move |lake| {
        reports::metric(lake, &stored, &asked)
    })
    .await
}

/// `GET /api/v1/projects/{project}/journeys/{key}/report`
pub(crate) async fn journey(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    let stored = definition(&app, &project, ObjectKind::Journey, &key).await?;
    compute(&app, project, move |lake| {
        reports::journey(lake, &stored, &asked)
    })
    .await
}

/// `GET /api/v1/projects/{project}/reports/usage`
pub(crate) async fn usage(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    compute(&app, project, move |lake| reports::usage(lake, &asked)).await
}

/// `GET /api/v1/projects/{project}/reports/retention`
pub(crate) async fn retention(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    compute(&app, project, move |lake| reports::retention(lake, &asked)).await
}

async fn definition(
    app: &App,
    project: &str,
    kind: ObjectKind,
    key: &str,
) -> Result<StoredDefinition, AppError> {
    let object = objects::read(app, &Place::parse(project, kind, key)?).await?;
    Ok(StoredDefinition {
        key: key.to_owned(),
        revision: Some(object.revision),
        spec: object.spec,
    })
}

async fn compute(
    app: &App,
    project: String,
    ask: impl FnOnce(&Lake) -> Result<Value, AppError> + Send + 'static,
) -> Result<Json<Value>, AppError> {
    let _turn = AT_A_TIME
        .acquire()
        .await
        .map_err(|error| AppError::Internal(error.to_string()))?;
    let app = app.clone();
    let work = move || {
        let lake = app.events.lake_soon(&project)?;
        let damage = app.events.damage(&project);
        ask(&lake).map(|report| marked(report, &damage))
    };
    let answered = tokio::task::spawn_blocking(work).await;
    answered
        .map_err(|error| AppError::Internal(error.to_string()))?
        .map(Json)
}

/// The report, marked as incomplete if what it was computed from is damaged.
fn marked(mut report: Value, damage: &[String]) -> Value {
    if let Some(members) = report.as_object_mut()
        && !damage.is_empty()
    {
        let mark = json!({
            "reason": "stored events are damaged, so these numbers may lack some or be wrong",
            "damage": damage,
        });
        members.insert("incomplete".to_owned(), mark);
    }
    report
}
