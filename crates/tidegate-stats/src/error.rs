//! Why a question about numbers is refused.
//!
//! One enum for every method, because they share their inputs: an arm, a level, a margin.
//! Each variant names the place and what would cure it; none is raised for an answer that is merely
//! wide, because an unbounded set is an answer.

use serde::{Deserialize, Serialize};

/// Which side of a comparison a problem is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The arm compared against.
    Control,
    /// The arm in question.
    Treatment,
}

impl std::fmt::Display for Side {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Control => "control",
            Self::Treatment => "treatment",
        })
    }
}

/// Why no answer is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// A value is NaN or infinite.
    #[error("use {what}: {value} is not a finite number")]
    NotFinite {
        /// The input.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A value does not fit the range of a double once squared or summed.
    #[error("compute {what}: it exceeds the range of a double; rescale the metric")]
    Overflow {
        /// The quantity.
        what: &'static str,
    },
    /// An arm has too few units for a variance.
    #[error("compare: the {side} arm has {units} units, at least {needed} are needed")]
    TooFewUnits {
        /// The arm.
        side: Side,
        /// Its units.
        units: u64,
        /// The least number that gives an answer.
        needed: u64,
    },
    /// Both arms are constant, so there is no noise to judge the difference by.
    #[error("compare: neither arm varies, so chance cannot be told from effect")]
    ZeroVariance,
    /// A variance is negative, or a sum of squares is smaller than the sum allows.
    #[error("use {what}: {value} is negative, so the sums contradict each other")]
    NegativeVariance {
        /// The input.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// The denominator of a ratio is zero on average.
    #[error("compute a ratio: the denominator of the {side} arm is zero on average")]
    ZeroDenominator {
        /// The arm.
        side: Side,
    },
    /// More successes than units, or more observations than counted.
    #[error("use a count: {count} exceeds its total {total}")]
    CountExceedsTotal {
        /// The count.
        count: u64,
        /// The total it is part of.
        total: u64,
    },
    /// An option lies outside its range.
    #[error("use option {name} = {value}: it must be {rule}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// Two statistics were taken over different numbers of columns, strata or phases.
    #[error("combine {what}: {left} does not match {right}")]
    Mismatch {
        /// What is counted.
        what: &'static str,
        /// On one side.
        left: usize,
        /// On the other.
        right: usize,
    },
    /// The input is larger than the method can answer for.
    #[error("answer for {what}: {size} exceeds the limit of {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

/// `value` if it is finite.
pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StatsError::NotFinite { what, value })
    }
}

/// `value` if a computation that started from finite numbers stayed in range.
pub(crate) fn in_range(what: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StatsError::Overflow { what })
    }
}

/// `value` if it lies strictly between zero and one.
pub(crate) fn open_unit(name: &'static str, value: f64) -> Result<f64, StatsError> {
    if value > 0.0 && value < 1.0 {
        Ok(value)
    } else {
        Err(StatsError::Option {
            name,
            value,
            rule: "strictly between 0 and 1",
        })
    }
}

/// `value` if it is positive and finite.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, StatsError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(StatsError::Option {
            name,
            value,
            rule: "positive and finite",
        })
    }
}
