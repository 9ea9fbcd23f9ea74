//! Reports: a stored definition or an ad-hoc question, asked of a project's lake.
//!
//! Everything here blocks and takes as long as the lake does; the HTTP edge calls it on a thread
//! for that, the command line with a stopped server's lake. What comes out is the same document
//! either way.

mod parameters;

use serde_json::Value;
use tidegate_lake::{Lake, QueryError};
use tidegate_metrics::report::{
    ReportError, Subject, adoption_report, journey_report, metric_report, retention_report,
};
use tidegate_metrics::{
    Answer, DefinitionProblem, EventFilter, EventKind, Grouping, JourneyDefinition,
    MetricDefinition, Query,
};

use crate::app::{AppError, Violation};
pub use parameters::ReportParameters;

/// A metric or journey as it is stored.
#[derive(Debug, Clone)]
pub struct StoredDefinition {
    /// Its key.
    pub key: String,
    /// Its revision; none for one that is not stored.
    pub revision: Option<u64>,
    /// Its specification.
    pub spec: Value,
}

impl StoredDefinition {
    fn subject(&self, kind: &'static str) -> Subject {
        Subject {
            kind,
            key: Some(self.key.clone()),
            revision: self.revision,
        }
    }
}

/// Everything that is wrong with a definition, as a refusal.
pub(crate) fn refused(problems: Vec<DefinitionProblem>) -> AppError {
    let violation = |problem: DefinitionProblem| {
        Violation::at(problem.pointer, "definition-invalid", problem.detail)
    };
    AppError::Invalid(problems.into_iter().map(violation).collect())
}

/// A metric by the variants of a flag.
///
/// # Errors
/// What is wrong with the definition or the parameters; a disk that fails.
pub fn metric(
    lake: &Lake,
    stored: &StoredDefinition,
    asked: &ReportParameters,
) -> Result<Value, AppError> {
    let metric = MetricDefinition::from_json(&stored.spec).map_err(refused)?;
    asked.only(&[
        "flag", "segment", "from", "to", "control", "method", "alpha", "tune_at", "prior_sd",
        "shares",
    ])?;
    let by = grouping(asked)?.ok_or_else(|| {
        AppError::invalid(
            "/query/flag",
            "flag-needed",
            "name the flag whose variants are compared",
        )
    })?;
    let query = Query::UnitMetric {
        metric,
        by,
        days: asked.days()?,
    };
    let answer = answer(lake, &query)?;
    let report = metric_report(
        stored.subject("metric"),
        &query,
        &answer,
        &asked.comparing()?,
    );
    document(report.map_err(|error| unreportable(&error))?)
}

/// A journey of everyone, or by the variants of a flag.
///
/// # Errors
/// As [`metric`].
pub fn journey(
    lake: &Lake,
    stored: &StoredDefinition,
    asked: &ReportParameters,
) -> Result<Value, AppError> {
    let journey = JourneyDefinition::from_json(&stored.spec).map_err(refused)?;
    asked.only(&[
        "flag", "segment", "from", "to", "control", "method", "alpha", "tune_at", "prior_sd",
    ])?;
    let query = Query::Journey {
        journey,
        by: grouping(asked)?,
        days: asked.days()?,
    };
    let answer = answer(lake, &query)?;
    let report = journey_report(
        stored.subject("journey"),
        &query,
        &answer,
        &asked.comparing()?,
    );
    document(report.map_err(|error| unreportable(&error))?)
}

/// How many units use what, by period, of everyone or by the variants of a flag.
///
/// # Errors
/// As [`metric`].
pub fn usage(lake: &Lake, asked: &ReportParameters) -> Result<Value, AppError> {
    asked.only(&["flag", "segment", "from", "to", "events", "period"])?;
    let mut events = asked.events()?;
    if let Some(flag) = asked.flag.as_deref().filter(|_| events.is_empty()) {
        // A feature's own adoption: who met it.
        events.push(EventFilter {
            kind: EventKind::Exposure,
            ..EventFilter::named(flag)
        });
    }
    if events.is_empty() {
        let cure = "name events to count, or a flag whose exposures are meant";
        return Err(AppError::invalid("/query/events", "events-needed", cure));
    }
    flush(lake)?;
    let query = Query::Adoption {
        events,
        by: grouping(asked)?,
        days: asked.days_back_from(last_day(lake), 28)?,
        period_days: asked.period_days(1)?,
    };
    let answer = answer(lake, &query)?;
    let report = adoption_report(ad_hoc("usage"), &query, &answer);
    document(report.map_err(|error| unreportable(&error))?)
}

/// In which later periods units that were active once were active again.
///
/// # Errors
/// As [`metric`].
pub fn retention(lake: &Lake, asked: &ReportParameters) -> Result<Value, AppError> {
    asked.only(&["from", "to", "events", "period", "alpha"])?;
    flush(lake)?;
    let query = Query::Retention {
        events: asked.events()?,
        days: asked.days_back_from(last_day(lake), 84)?,
        period_days: asked.period_days(7)?,
    };
    let answer = answer(lake, &query)?;
    let alpha = asked.comparing()?.alpha;
    let report = retention_report(ad_hoc("retention"), &query, &answer, alpha);
    document(report.map_err(|error| unreportable(&error))?)
}

fn ad_hoc(kind: &'static str) -> Subject {
    Subject {
        kind,
        key: None,
        revision: None,
    }
}

fn grouping(asked: &ReportParameters) -> Result<Option<Grouping>, AppError> {
    match (&asked.flag, &asked.segment) {
        (Some(flag), segment) => Ok(Some(Grouping {
            flag: flag.clone(),
            segment: segment.clone(),
        })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(AppError::invalid(
            "/query/segment",
            "segment-without-flag",
            "a segment is a property of a flag's exposures; name the flag too",
        )),
    }
}

/// The last UTC day with events; the first of all where there are none.
fn last_day(lake: &Lake) -> i64 {
    let state = lake.columns().state();
    state.days().into_keys().next_back().unwrap_or(0)
}

fn flush(lake: &Lake) -> Result<(), AppError> {
    lake.flush().map(|_| ()).map_err(|error| unreadable(&error))
}

/// Asks the lake about everything acknowledged so far.
fn answer(lake: &Lake, query: &Query) -> Result<Answer, AppError> {
    flush(lake)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    lake.answer(query, threads).map_err(|error| match error {
        QueryError::Definition(problems) => refused(problems),
        QueryError::Statistics(error) => AppError::invalid(
            "",
            "no-answer",
            format!("the numbers allow no answer: {error}"),
        ),
        QueryError::Columns(error) => unreadable(&error),
    })
}

fn unreadable(error: &dyn std::error::Error) -> AppError {
    tracing::error!(%error, "the lake cannot be read");
    AppError::Unavailable {
        reason: format!("the events cannot be read: {error}"),
        retry_after_seconds: 5,
    }
}

fn unreportable(error: &ReportError) -> AppError {
    let pointer = match error {
        ReportError::NoControl { .. } => "/query/control",
        ReportError::Shares { .. } => "/query/shares",
        ReportError::Statistics(_) | ReportError::Mismatch => "",
    };
    AppError::invalid(pointer, "no-report", error.to_string())
}

fn document(report: impl serde::Serialize) -> Result<Value, AppError> {
    serde_json::to_value(report).map_err(|error| AppError::Internal(error.to_string()))
}
