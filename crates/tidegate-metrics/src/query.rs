//! The typed query: every question the lake answers, and the form its answers take.
//!
//! A query is data: it can be stored, hashed and compiled for another engine. It holds no "now";
//! what an answer covers is said by the answer.

use crate::journey::{DefinitionProblem, JourneyDefinition, JourneyReport};
use crate::measure::{MetricDefinition, MetricSummary};
use crate::{Adoption, EventFilter, Lifecycle, Retention, Usage};
use serde::{Deserialize, Serialize};

/// The most events a usage question may name.
pub const MAX_USAGE_EVENTS: usize = 256;

/// A span of event time: whole UTC days since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Days {
    /// The first day.
    pub first: i64,
    /// The last day.
    pub last: i64,
}

impl Days {
    /// Every day there is.
    pub const ALL: Self = Self {
        first: i64::MIN,
        last: i64::MAX,
    };
}

/// How units are grouped: by the variant of a flag, and perhaps by a property of the exposure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grouping {
    /// The flag whose exposures assign the units.
    pub flag: String,
    /// The property of the first exposure by which arms are divided further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// A metric by variant.
    UnitMetric {
        /// The metric.
        metric: MetricDefinition,
        /// The groups.
        by: Grouping,
        /// Exposures and events of these days.
        days: Days,
    },
    /// A journey, of everyone or by variant.
    Journey {
        /// The journey.
        journey: JourneyDefinition,
        /// The groups; without them all units are one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Grouping>,
        /// Chains begin on these days; windows run past the last.
        days: Days,
    },
    /// Events and distinct units per day.
    Usage {
        /// The events, at most [`MAX_USAGE_EVENTS`].
        events: Vec<EventFilter>,
        /// The days.
        days: Days,
    },
    /// Events and distinct units per period, of everyone or by arm.
    Adoption {
        /// The events, at most [`MAX_USAGE_EVENTS`].
        events: Vec<EventFilter>,
        /// The groups; without them all units are one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Grouping>,
        /// Exposures and events of these days; periods are counted from the first.
        days: Days,
        /// Days in a period.
        period_days: u32,
    },
    /// Units by first active period and periods since.
    Retention {
        /// What counts as activity; empty means any event.
        #[serde(default)]
        events: Vec<EventFilter>,
        /// The days; periods are counted from the first.
        days: Days,
        /// Days in a period.
        period_days: u32,
    },
    /// Who is new, stays, comes back and leaves, by period, of everyone or by arm.
    Lifecycle {
        /// What counts as activity; empty means any event.
        #[serde(default)]
        events: Vec<EventFilter>,
        /// The groups; without them all units are one. By arm, units count from their first
        /// exposure, whenever it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Grouping>,
        /// The days shown; periods are counted from the first. Earlier days are read too, for who
        /// was there before.
        days: Days,
        /// Days in a period.
        period_days: u32,
    },
}

/// What a query found. Variants and segments are texts here.
#[derive(Debug, Clone, PartialEq)]
pub enum Findings {
    /// A metric by variant.
    UnitMetric(MetricSummary),
    /// A journey.
    Journey(JourneyReport),
    /// Events and distinct units per day.
    Usage(Usage),
    /// Events and distinct units per period.
    Adoption(Adoption),
    /// Units by period.
    Retention(Retention),
    /// Units by what they are in each period.
    Lifecycle(Lifecycle),
}

/// An answer and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was found; numbers of variants and segments refer to `names`.
    pub findings: Findings,
    /// Texts of the variants and segments by number; number 0 is "none".
    pub names: Vec<String>,
    /// Every event below this ingest sequence is covered.
    pub watermark: u64,
    /// Merges of units, and merges taken back, that the answer goes by: their number so far.
    pub aliases: u64,
    /// Every event below this ingest sequence was acknowledged when the question was put. Where
    /// the watermark is lower, the newest events are missing from the answer.
    pub acknowledged: u64,
    /// The latest event time covered, microseconds since 1970; `None` without events.
    pub data_end_us: Option<i64>,
    /// When the newest of the events covered was received, microseconds since 1970: what ended
    /// before is over, though more may come late. `None` where nobody knows.
    pub received_until_us: Option<i64>,
    /// Events read.
    pub events: u64,
    /// Files of the days asked about that the answer goes without.
    pub missing: Vec<MissingFile>,
}

/// A file of events that answers go without, because it does not hold what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingFile {
    /// Its name.
    pub file: String,
    /// The UTC day of its events, such as `2026-06-01`.
    pub day: String,
    /// Events in it, copies included.
    pub rows: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl Answer {
    /// The text of a variant or segment.
    #[must_use]
    pub fn name(&self, number: u32) -> &str {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.names.get(at).map_or("", String::as_str)
    }
}

impl Query {
    /// Everything that is wrong with the query.
    #[must_use]
    pub fn problems(&self) -> Vec<DefinitionProblem> {
        let problem = |pointer: &str, detail: &str| {
            vec![DefinitionProblem {
                pointer: pointer.to_owned(),
                detail: detail.to_owned(),
            }]
        };
        match self {
            Self::UnitMetric { metric, .. } => metric.problems(),
            Self::Journey { journey, .. } => journey.problems(),
            Self::Usage { events, .. }
            | Self::Adoption { events, .. }
            | Self::Retention { events, .. }
            | Self::Lifecycle { events, .. }
                if events.len() > MAX_USAGE_EVENTS =>
            {
                problem("/events", "ask for at most 256 events at once")
            }
            Self::Usage { events, .. } | Self::Adoption { events, .. } if events.is_empty() => {
                problem("/events", "name at least one event")
            }
            Self::Retention { period_days: 0, .. }
            | Self::Adoption { period_days: 0, .. }
            | Self::Lifecycle { period_days: 0, .. } => {
                problem("/period_days", "a period has at least one day")
            }
            Self::Lifecycle { days, .. } if days.last == i64::MAX => {
                problem("/days/last", "units leave until the last day; name it")
            }
            Self::Retention { days, .. }
            | Self::Adoption { days, .. }
            | Self::Lifecycle { days, .. }
                if days.first == i64::MIN =>
            {
                problem(
                    "/days/first",
                    "periods are counted from the first day; name it",
                )
            }
            Self::Usage { .. }
            | Self::Adoption { .. }
            | Self::Retention { .. }
            | Self::Lifecycle { .. } => Vec::new(),
        }
    }

    /// The events the query asks about; bit `i` of an event's `matched` is filter `i`.
    #[must_use]
    pub fn filters(&self) -> Vec<&EventFilter> {
        match self {
            Self::UnitMetric { metric, .. } => metric.filters().collect(),
            Self::Journey { journey, .. } => journey.filters().collect(),
            Self::Usage { events, .. }
            | Self::Adoption { events, .. }
            | Self::Retention { events, .. }
            | Self::Lifecycle { events, .. } => events.iter().collect(),
        }
    }

    /// How units are grouped, if by a flag.
    #[must_use]
    pub fn grouping(&self) -> Option<&Grouping> {
        match self {
            Self::UnitMetric { by, .. } => Some(by),
            Self::Journey { by, .. } | Self::Adoption { by, .. } | Self::Lifecycle { by, .. } => {
                by.as_ref()
            }
            Self::Usage { .. } | Self::Retention { .. } => None,
        }
    }
}
