//! What a metric measures, as people write it down.

use crate::EventFilter;
use crate::journey::DefinitionProblem;
use serde::{Deserialize, Serialize};

/// A metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDefinition {
    /// What is measured of a unit.
    pub measure: Measure,
    /// How extreme units are tamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winsorise: Option<Winsorise>,
    /// How long before exposure the same is measured as a covariate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covariate_seconds: Option<u64>,
}

/// What is measured of a unit after its first exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// How many events.
    Count {
        /// The events.
        event: EventFilter,
    },
    /// The sum of their values.
    Sum {
        /// The events.
        event: EventFilter,
    },
    /// The mean value per event: a ratio of the unit's sum and its number of values.
    Mean {
        /// The events.
        event: EventFilter,
    },
    /// Whether the unit had such an event.
    Conversion {
        /// The events.
        event: EventFilter,
        /// The longest time since exposure, inclusive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within_seconds: Option<u64>,
    },
    /// One quantity over another, as a ratio of totals.
    Ratio {
        /// Above the line.
        numerator: UnitQuantity,
        /// Below the line.
        denominator: UnitQuantity,
    },
    /// A quantile of the values of all events; units are the clusters.
    Quantile {
        /// The events.
        event: EventFilter,
        /// Which quantile, between 0 and 1 exclusive.
        q: f64,
    },
    /// Whether the unit came back in a span after exposure.
    Retention {
        /// The events that are "coming back".
        event: EventFilter,
        /// Where the span begins, inclusive.
        from_seconds: u64,
        /// Where it ends, exclusive.
        to_seconds: u64,
    },
    /// Seconds from the first event of one sort to the first strictly later one of another, over
    /// the units that did both.
    TimeBetween {
        /// The first event.
        from: EventFilter,
        /// The later event.
        to: EventFilter,
        /// The longest time that counts, inclusive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within_seconds: Option<u64>,
    },
}

/// A total per unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitQuantity {
    /// The events.
    pub event: EventFilter,
    /// What is totalled.
    pub of: Aggregate,
}

/// What is totalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The number of events.
    Count,
    /// The sum of their values.
    Sum,
}

impl UnitQuantity {
    pub(super) fn pick(&self, count: f64, sum: f64) -> f64 {
        match self.of {
            Aggregate::Count => count,
            Aggregate::Sum => sum,
        }
    }
}

/// How extreme units are tamed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Winsorise {
    /// Totals above a value are lowered to it.
    Above(f64),
    /// Totals above a percentile (a share between 0 and 1) of all units that are not zero, all
    /// variants pooled, are lowered to it.
    Percentile(f64),
}

/// Microseconds of a span, as large as they can be.
pub(super) fn micros(seconds: u64) -> i64 {
    let micros = seconds.checked_mul(1_000_000);
    micros
        .and_then(|micros| i64::try_from(micros).ok())
        .unwrap_or(i64::MAX)
}

impl Measure {
    /// How long after exposure a unit's measurement may still change, where it ends at all.
    #[must_use]
    pub fn window_us(&self) -> Option<i64> {
        match self {
            Self::Conversion { within_seconds, .. } => within_seconds.map(micros),
            Self::Retention { to_seconds, .. } => Some(micros(*to_seconds)),
            _ => None,
        }
    }
}

impl MetricDefinition {
    /// A metric without winsorising and covariate.
    #[must_use]
    pub fn of(measure: Measure) -> Self {
        Self {
            measure,
            winsorise: None,
            covariate_seconds: None,
        }
    }

    /// The events the metric asks about; bit `i` of an event's `matched` is filter `i`.
    pub fn filters(&self) -> impl Iterator<Item = &EventFilter> {
        let (first, second) = match &self.measure {
            Measure::Count { event }
            | Measure::Sum { event }
            | Measure::Mean { event }
            | Measure::Conversion { event, .. }
            | Measure::Quantile { event, .. }
            | Measure::Retention { event, .. } => (event, None),
            Measure::Ratio {
                numerator,
                denominator,
            } => (&numerator.event, Some(&denominator.event)),
            Measure::TimeBetween { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// The columns of the group statistics, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<&'static str> {
        let is_ratio = matches!(
            self.measure,
            Measure::Mean { .. } | Measure::Ratio { .. } | Measure::Quantile { .. }
        );
        let columns: &[&str] = match (is_ratio, self.covariate_us().is_some()) {
            (false, false) => &["value"],
            (false, true) => &["value", "covariate"],
            (true, false) => &["numerator", "denominator"],
            (true, true) => &[
                "numerator",
                "denominator",
                "numerator_covariate",
                "denominator_covariate",
            ],
        };
        columns.to_vec()
    }

    pub(super) fn covariate_us(&self) -> Option<i64> {
        let has_one = !matches!(self.measure, Measure::TimeBetween { .. });
        self.covariate_seconds.filter(|_| has_one).map(micros)
    }

    /// Everything that is wrong with the definition.
    #[must_use]
    pub fn problems(&self) -> Vec<DefinitionProblem> {
        let mut problems = Vec::new();
        let mut refuse = |pointer: &str, detail: &str| {
            problems.push(DefinitionProblem {
                pointer: pointer.to_owned(),
                detail: detail.to_owned(),
            });
        };
        match &self.measure {
            Measure::Quantile { q, .. } if !(*q > 0.0 && *q < 1.0) => {
                refuse("/measure/quantile/q", "a quantile lies between 0 and 1");
            }
            Measure::Retention {
                from_seconds,
                to_seconds,
                ..
            } if from_seconds >= to_seconds => {
                refuse(
                    "/measure/retention/to_seconds",
                    "the span must end after it begins",
                );
            }
            Measure::TimeBetween { .. } if self.covariate_seconds.is_some() => {
                let detail = "the time between two events has no covariate; leave it out";
                refuse("/covariate_seconds", detail);
            }
            _ => {}
        }
        match self.winsorise {
            Some(Winsorise::Above(cap)) if !(cap.is_finite() && cap > 0.0) => {
                refuse("/winsorise/above", "a cap is a positive number");
            }
            Some(Winsorise::Percentile(share)) if !(share > 0.0 && share < 1.0) => {
                refuse(
                    "/winsorise/percentile",
                    "a percentile is a share between 0 and 1",
                );
            }
            _ => {}
        }
        problems
    }
}
