//! Reports: an answer of the lake made into numbers that say what they are.
//!
//! Each row has `n`, `value` and `interval`; each report has its `watermark`, what it was
//! `computed_from`, and the `definition` it rests on, with a digest over everything that decides
//! the numbers. Two reports with the same definition digest and watermark are the same.
//!
//! Nothing is estimated here: sufficient statistics come from the folds, estimates and intervals
//! from `tidegate-stats`.

mod activity;
mod comparing;
mod journey;
mod lifecycle;
mod metric;

#[cfg(test)]
mod tests;

use crate::event::id::EventId;
use crate::event::rfc3339::format_rfc3339;
use crate::query::{Answer, Days, MissingFile, Query};
pub use activity::{AdoptionReport, RetentionReport, adoption_report, retention_report};
pub use comparing::{Comparing, GroupPlan, Interval, ReportMethod, SharesAre};
pub use journey::{JourneyTable, journey_report};
pub use lifecycle::{LifecycleReport, lifecycle_report, stickiness_report};
pub use metric::{MetricReport, metric_report};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use tidegate_stats::StatsError;
use tidegate_stats::group_sequential::DesignError;

const DAY_US: i64 = 86_400_000_000;

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// The arm to compare against was not seen, or cannot be guessed.
    #[error("control arm {control:?} has no units; the variants seen are {}", .variants.join(", "))]
    NoControl {
        /// As asked for; empty if nothing was.
        control: String,
        /// The variants that were seen.
        variants: Vec<String>,
    },
    /// Shares were given for other variants than were seen.
    #[error("shares are given for {}, but the variants seen are {}", .given.join(", "), .variants.join(", "))]
    Shares {
        /// The variants that have a share.
        given: Vec<String>,
        /// The variants that were seen.
        variants: Vec<String>,
    },
    /// An option is out of range, or the numbers allow no answer.
    #[error(transparent)]
    Statistics(#[from] StatsError),
    /// The plan of looks is no plan.
    #[error(transparent)]
    Plan(#[from] DesignError),
    /// The answer is to another question.
    #[error("the answer does not belong to the question")]
    Mismatch,
}

/// What a report is about: a stored object or a question put ad hoc.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subject {
    /// `metric`, `journey`, `usage` or `retention`.
    pub kind: &'static str,
    /// The object's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The object's revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// What decided the numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DefinitionUsed {
    /// What it is.
    #[serde(flatten)]
    pub subject: Subject,
    /// The question in full.
    pub query: Query,
    /// A hash over the question and the options of the report.
    pub digest: String,
}

/// The data a report rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComputedFrom {
    /// Every event below this ingest sequence is covered.
    pub watermark: u64,
    /// Every event below this ingest sequence was acknowledged when the question was put; where
    /// the watermark is lower, the newest events are not in the numbers yet.
    pub acknowledged: u64,
    /// Merges of units, and merges taken back, that the numbers go by: their number so far.
    pub aliases: u64,
    /// Events read.
    pub events: u64,
    /// The first UTC day asked for; `null` for all.
    pub from: Option<String>,
    /// The last UTC day asked for; `null` for all.
    pub to: Option<String>,
    /// The latest event time covered.
    pub data_end: Option<String>,
    /// When the newest event covered was received: days that ended before are over.
    pub received_until: Option<String>,
}

/// What a report's numbers lack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incomplete {
    /// What is the matter, in words.
    pub reason: String,
    /// Events in the missing files, copies included.
    pub rows_missing: u64,
    /// The files of the days asked about that are damaged, and set apart.
    pub files: Vec<MissingFile>,
}

impl Incomplete {
    fn of(missing: &[MissingFile]) -> Option<Self> {
        let first = missing.first()?;
        let rows_missing = missing.iter().map(|file| file.rows).sum();
        let days: BTreeSet<&str> = missing.iter().map(|file| file.day.as_str()).collect();
        let days = match days.len() {
            1 => format!("of {}", first.day),
            count => format!("of {count} days, {} the first", first.day),
        };
        Some(Self {
            reason: format!(
                "{rows_missing} events {days} are in damaged files and in none of these numbers"
            ),
            rows_missing,
            files: missing.to_vec(),
        })
    }
}

/// What every report carries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ground {
    /// Every event below this ingest sequence is covered.
    pub watermark: u64,
    /// The data.
    pub computed_from: ComputedFrom,
    /// The definition.
    pub definition: DefinitionUsed,
    /// What is missing from the numbers; nothing if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Incomplete>,
}

impl Ground {
    fn of(subject: Subject, query: &Query, answer: &Answer, options: &impl Serialize) -> Self {
        let days = match query {
            Query::UnitMetric { days, .. }
            | Query::Journey { days, .. }
            | Query::Usage { days, .. }
            | Query::Adoption { days, .. }
            | Query::Retention { days, .. }
            | Query::Lifecycle { days, .. } => *days,
        };
        let text = |value: serde_json::Result<Value>| value.unwrap_or_default().to_string();
        let parts = [
            text(serde_json::to_value(query)),
            text(serde_json::to_value(options)),
        ];
        let [query_text, options_text] = &parts;
        let digest = EventId::hashed(&[query_text.as_bytes(), options_text.as_bytes()]);
        Self {
            watermark: answer.watermark,
            computed_from: ComputedFrom {
                watermark: answer.watermark,
                acknowledged: answer.acknowledged,
                aliases: answer.aliases,
                events: answer.events,
                from: (days.first > Days::ALL.first).then(|| day_text(days.first)),
                to: (days.last < Days::ALL.last).then(|| day_text(days.last)),
                data_end: answer.data_end_us.map(format_rfc3339),
                received_until: answer.received_until_us.map(format_rfc3339),
            },
            definition: DefinitionUsed {
                subject,
                query: query.clone(),
                digest: format!("{:032x}", digest.0),
            },
            incomplete: Incomplete::of(&answer.missing),
        }
    }
}

/// A UTC day as `2026-06-01`.
fn day_text(day: i64) -> String {
    let time = format_rfc3339(day.saturating_mul(DAY_US));
    time.split('T').next().unwrap_or_default().to_owned()
}

/// Whether everything before a UTC day was over when the newest event covered was received.
fn is_over_before(day: i64, answer: &Answer) -> bool {
    let until = answer.received_until_us;
    until.is_some_and(|until| day.saturating_mul(DAY_US) <= until)
}

/// The text of a segment; `None` for units without the property.
fn segment_text(answer: &Answer, segment: u32) -> Option<String> {
    (segment != 0).then(|| answer.name(segment).to_owned())
}
