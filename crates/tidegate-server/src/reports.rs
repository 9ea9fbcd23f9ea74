//! Reports: a stored definition or an ad-hoc question, asked of a project's lake.
//!
//! Everything here blocks and takes as long as the lake does; the HTTP edge calls it on a thread
//! for that, the command line with a stopped server's lake. What comes out is the same document
//! either way.

mod parameters;
mod served;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;
use tidegate_lake::{Covered, Lake, QueryError};
use tidegate_metrics::report::{
    ReportError, Subject, adoption_report, journey_report, lifecycle_report, metric_report,
    retention_report, stickiness_report,
};
use tidegate_metrics::{
    Answer, DefinitionProblem, EventFilter, EventKind, Grouping, JourneyDefinition,
    MetricDefinition, Query,
};
use tidegate_stats::StatsError;

use crate::app::{AppError, Violation};
use parameters::Violations;
pub use parameters::{ReportParameters, RetentionView};
pub use served::{REVISIONS, Served};

/// How long a report may take unless something else is set.
pub const USUAL_LIMIT: Duration = Duration::from_secs(600);
/// The longest that may be set; whoever asks over HTTP waits a little longer than that.
pub const LONGEST_LIMIT: Duration = Duration::from_secs(3600);

/// Of reports nobody gives up.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The events.
    pub lake: &'a Lake,
    /// The shares the flag in question has served.
    pub served: &'a Served,
    /// What is in the lake's files.
    pub covered: Covered,
    /// Whether whoever asked has given up.
    pub given_up: &'a AtomicBool,
}

impl<'a> Source<'a> {
    /// A lake by itself, of which everything acknowledged is brought into files first.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn of(lake: &'a Lake) -> Result<Self, AppError> {
        flush(lake).map(|covered| Self::flushed(lake, covered))
    }

    /// A lake by itself, of which so much is in files.
    #[must_use]
    pub fn flushed(lake: &'a Lake, covered: Covered) -> Self {
        Self {
            lake,
            served: &Served::Unknown,
            covered,
            given_up: &NEVER,
        }
    }
}

/// Brings what is acknowledged into files, so that a report covers it; returns up to where. For
/// threads that do not give way: others wait for whoever flushes.
///
/// # Errors
/// Files that cannot be written.
pub(crate) fn flush(lake: &Lake) -> Result<Covered, AppError> {
    lake.flush_acknowledged()
        .map_err(|error| unreadable(&error))
}

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
    source: Source<'_>,
    stored: &StoredDefinition,
    asked: &ReportParameters,
) -> Result<Value, AppError> {
    let mut wrong = Violations::of_question(asked);
    let metric = wrong.of(MetricDefinition::from_json(&stored.spec).map_err(refused));
    wrong.of(asked.only(&COMPARING, &["shares"]));
    let needed = || {
        let cure = "name the flag whose variants are compared";
        AppError::invalid("/query/flag", "flag-needed", cure)
    };
    let by = grouping(asked).and_then(|by| by.ok_or_else(needed));
    let (by, days) = (wrong.of(by), wrong.of(asked.days()));
    let comparing = wrong.of(asked.comparing(source.served));
    let (metric, by, days, comparing) = wrong.none(metric.zip(by).zip(days).zip(comparing))?;
    let query = Query::UnitMetric { metric, by, days };
    let answer = answer(source, &query)?;
    let report = metric_report(stored.subject("metric"), &query, &answer, &comparing);
    document(report.map_err(|error| unreportable(&error))?)
}

/// A journey of everyone, or by the variants of a flag.
///
/// # Errors
/// As [`metric`].
pub fn journey(
    source: Source<'_>,
    stored: &StoredDefinition,
    asked: &ReportParameters,
) -> Result<Value, AppError> {
    let mut wrong = Violations::of_question(asked);
    let journey = wrong.of(JourneyDefinition::from_json(&stored.spec).map_err(refused));
    wrong.of(asked.only(&COMPARING, &[]));
    let (by, days) = (wrong.of(grouping(asked)), wrong.of(asked.days()));
    let comparing = wrong.of(asked.comparing(&Served::Unknown));
    let (journey, by, days, comparing) = wrong.none(journey.zip(by).zip(days).zip(comparing))?;
    let query = Query::Journey { journey, by, days };
    let answer = answer(source, &query)?;
    let report = journey_report(stored.subject("journey"), &query, &answer, &comparing);
    document(report.map_err(|error| unreportable(&error))?)
}

/// How many units use what, by period, of everyone or by the variants of a flag.
///
/// # Errors
/// As [`metric`].
pub fn usage(source: Source<'_>, asked: &ReportParameters) -> Result<Value, AppError> {
    let mut wrong = Violations::of_question(asked);
    wrong.of(asked.only(&["flag", "segment", "from", "to"], &["events", "period"]));
    let mut events = wrong.of(asked.events()).unwrap_or_default();
    if let Some(flag) = asked.flag.as_deref().filter(|_| events.is_empty()) {
        // A feature's own adoption: who met it.
        events.push(EventFilter {
            kind: EventKind::Exposure,
            ..EventFilter::named(flag)
        });
    }
    if events.is_empty() {
        let cure = "name events to count, or a flag whose exposures are meant";
        wrong.add("/query/events", "events-needed", cure);
    }
    let days = wrong.of(asked.days_back_from(last_day(source.lake), 28));
    let (by, period_days) = (wrong.of(grouping(asked)), wrong.of(asked.period_days(1)));
    let (events, by, days, period_days) =
        wrong.none(Some(events).zip(by).zip(days).zip(period_days))?;
    let query = Query::Adoption {
        events,
        by,
        days,
        period_days,
    };
    let answer = answer(source, &query)?;
    let report = adoption_report(ad_hoc("usage"), &query, &answer);
    document(report.map_err(|error| unreportable(&error))?)
}

/// In which later periods units that were active once were active again; or who is new, stays,
/// comes back and leaves; or on how many days units are active.
///
/// # Errors
/// As [`metric`].
pub fn retention(source: Source<'_>, asked: &ReportParameters) -> Result<Value, AppError> {
    let mut wrong = Violations::of_question(asked);
    let view = asked.show.unwrap_or_default();
    let dividing: &[&str] = match view {
        RetentionView::Cohorts => &[],
        RetentionView::Lifecycle | RetentionView::Stickiness => &["flag", "segment"],
    };
    let taken = ["from", "to", "events", "period", "alpha", "show"];
    wrong.of(asked.only(&taken, dividing));
    flush(source.lake)?;
    let last_day = last_day(source.lake);
    let days = wrong.of(asked.days_back_from(last_day, 84));
    let period_days = wrong.of(asked.period_days_of_pairs(7, days));
    let comparing = wrong.of(asked.comparing(&Served::Unknown));
    let events = wrong.of(asked.events());
    let by = wrong.of(grouping(asked));
    let ((events, by), days, period_days, comparing) =
        wrong.none(events.zip(by).zip(days).zip(period_days).zip(comparing))?;
    let query = match view {
        RetentionView::Cohorts => Query::Retention {
            events,
            days,
            period_days,
        },
        RetentionView::Lifecycle | RetentionView::Stickiness => Query::Lifecycle {
            events,
            by,
            days,
            period_days,
        },
    };
    let answer = answer(source, &query)?;
    let (subject, alpha) = (ad_hoc("retention"), comparing.alpha);
    let report = match view {
        RetentionView::Cohorts => {
            retention_report(subject, &query, &answer, alpha).map(serde_json::to_value)
        }
        RetentionView::Lifecycle => {
            lifecycle_report(subject, &query, &answer, alpha).map(serde_json::to_value)
        }
        RetentionView::Stickiness => {
            stickiness_report(subject, &query, &answer, alpha).map(serde_json::to_value)
        }
    };
    let report = report.map_err(|error| unreportable(&error))?;
    report.map_err(|error| AppError::Internal(error.to_string()))
}

/// What reports take that compare arms.
const COMPARING: [&str; 13] = [
    "flag",
    "segment",
    "from",
    "to",
    "control",
    "method",
    "alpha",
    "tune_at",
    "prior_sd",
    "n_max",
    "looks",
    "spending",
    "last_look",
];

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

/// The last UTC day with events that count; the first of all where there are none. One that claims to
/// be of the future is in no answer and decides no days.
fn last_day(lake: &Lake) -> i64 {
    let state = lake.columns().state();
    let counting = state
        .files
        .values()
        .filter(|file| file.last_time_us.is_some());
    counting.map(|file| file.day).max().unwrap_or(0)
}

/// Asks the lake about everything that was acknowledged when the report was begun.
fn answer(source: Source<'_>, query: &Query) -> Result<Answer, AppError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let answer = source
        .lake
        .answer_flushed(query, threads, source.covered, source.given_up);
    answer.map_err(|error| match error {
        QueryError::GivenUp => AppError::Unavailable {
            reason: error.to_string(),
            retry_after_seconds: 60,
        },
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
        ReportError::Statistics(StatsError::Option { name, .. }) => {
            return AppError::invalid(&format!("/query/{name}"), "out-of-range", error.to_string());
        }
        ReportError::Statistics(_) | ReportError::Plan(_) | ReportError::Mismatch => "",
    };
    AppError::invalid(pointer, "no-report", error.to_string())
}

fn document(report: impl serde::Serialize) -> Result<Value, AppError> {
    serde_json::to_value(report).map_err(|error| AppError::Internal(error.to_string()))
}
