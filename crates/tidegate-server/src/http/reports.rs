//! Reports over REST: metrics, journeys, usage and retention, as documents.
//!
//! A report reads as much as it needs and computes on threads of its own, which give way to events
//! and flags; only so many run at a time. One that takes longer than the server allows, or whose
//! asker has gone, is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use tidegate_lake::background::{self, GivesWay};
use tidegate_store::ObjectKind;
use tokio::sync::{Semaphore, oneshot};

use super::query::{Parameters, Query, Sent};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError};
use crate::reports::{self, ReportParameters, Served, Source, StoredDefinition};

/// Reports computed at a time; each uses every core.
static AT_A_TIME: Semaphore = Semaphore::const_new(2);

impl Parameters for ReportParameters {
    fn read(sent: &mut Sent) -> Self {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let read = Self {
            flag: sent.text("flag"),
            segment: sent.text("segment"),
            from: sent.text("from"),
            to: sent.text("to"),
            control: sent.text("control"),
            method: sent.read("method", "sequential, fixed, group or bayesian", |text| {
                serde_json::from_value(Value::from(text)).ok()
            }),
            alpha: sent.read("alpha", "a number", number),
            tune_at: sent.read("tune_at", "a number", number),
            prior_sd: sent.read("prior_sd", "a number", number),
            n_max: sent.read("n_max", "a number", number),
            looks: sent.read("looks", "a whole number", |text| text.parse().ok()),
            spending: sent.text("spending"),
            last_look: sent.read("last_look", "true or false", |text| text.parse().ok()),
            shares: sent.text("shares"),
            events: sent.text("events"),
            period: sent.text("period"),
            show: sent.read("show", "cohorts, lifecycle or stickiness", |text| {
                serde_json::from_value(Value::from(text)).ok()
            }),
            malformed: Vec::new(),
        };
        Self {
            malformed: sent.wrong_so_far(),
            ..read
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
    let served = served(&app, &project, &asked).await?;
    compute(&app, project, move |source| {
        let source = Source {
            served: &served,
            ..source
        };
        reports::metric(source, &stored, &asked)
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
    compute(&app, project, move |source| {
        reports::journey(source, &stored, &asked)
    })
    .await
}

/// `GET /api/v1/projects/{project}/reports/usage`
pub(crate) async fn usage(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    compute(&app, project, move |source| reports::usage(source, &asked)).await
}

/// `GET /api/v1/projects/{project}/reports/retention`
pub(crate) async fn retention(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(asked): Query<ReportParameters>,
) -> Result<Json<Value>, AppError> {
    compute(&app, project, move |source| {
        reports::retention(source, &asked)
    })
    .await
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

/// The shares a flag has served in the days asked about; unknown where there is no such flag.
async fn served(app: &App, project: &str, asked: &ReportParameters) -> Result<Served, AppError> {
    let flag = asked.flag.as_deref().unwrap_or_default();
    let Ok(place) = Place::parse(project, ObjectKind::Flag, flag) else {
        return Ok(Served::Unknown);
    };
    let history = match objects::history(app, &place, reports::REVISIONS).await {
        Err(AppError::NotFound(_)) => return Ok(Served::Unknown),
        history => history?,
    };
    Ok(asked.served(&history))
}

/// Tells a computation that nobody waits for it any more.
struct GivesUp(Arc<AtomicBool>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn compute(
    app: &App,
    project: String,
    ask: impl FnOnce(Source<'_>) -> Result<Value, AppError> + Send + 'static,
) -> Result<Json<Value>, AppError> {
    let limit = app.events.report_limit();
    let computed = tokio::time::timeout(limit, computed(app, project, ask)).await;
    computed.unwrap_or_else(|_| Err(too_long(limit)))
}

fn too_long(limit: Duration) -> AppError {
    AppError::Unavailable {
        reason: format!(
            "the report was not ready after {} s and was given up; ask about fewer days (from, to), \
             or let reports take longer (report_seconds in the configuration, \
             TIDEGATE_REPORT_SECONDS)",
            limit.as_secs()
        ),
        retry_after_seconds: 60,
    }
}

async fn computed(
    app: &App,
    project: String,
    ask: impl FnOnce(Source<'_>) -> Result<Value, AppError> + Send + 'static,
) -> Result<Json<Value>, AppError> {
    let turn = AT_A_TIME
        .acquire()
        .await
        .map_err(|error| AppError::Internal(error.to_string()))?;
    let (app, given_up) = (app.clone(), Arc::new(AtomicBool::new(false)));
    // Dropped with this future: at the limit, or when the asker hangs up.
    let _gives_up = GivesUp(Arc::clone(&given_up));
    let (events, of) = (app.clone(), project.clone());
    let ready = move || {
        let lake = events.events.lake_soon(&of)?;
        let covered = reports::flush(&lake)?;
        Ok::<_, AppError>((lake, covered))
    };
    let ready = tokio::task::spawn_blocking(ready).await;
    let (lake, covered) = ready.map_err(|error| AppError::Internal(error.to_string()))??;
    let work = move || {
        // Held until the work ends, whoever still waits for it.
        let _turn = turn;
        let damage = app.events.damage(&project);
        let report = ask(Source {
            given_up: &given_up,
            ..Source::flushed(&lake, covered)
        });
        report.map(|report| marked(report, &damage))
    };
    let (answers, answered) = oneshot::channel();
    let answering = move || {
        // Whoever asked may have gone.
        let _ = answers.send(work());
    };
    background::spawn("tidegate-report", GivesWay::Somewhat, answering)
        .map_err(|error| AppError::Internal(format!("a report cannot be begun: {error}")))?;
    answered
        .await
        .map_err(|_| AppError::Internal("a report broke off".to_owned()))?
        .map(Json)
}

/// The report, marked as incomplete if what it was computed from is damaged beyond the files that
/// were set apart, of which it tells itself.
fn marked(mut report: Value, damage: &[String]) -> Value {
    if damage.is_empty() {
        return report;
    }
    if report["incomplete"].is_null() {
        let reason = "stored events are damaged, so these numbers may lack some or be wrong";
        report["incomplete"] = json!({ "reason": reason });
    }
    report["incomplete"]["damage"] = json!(damage);
    report
}
