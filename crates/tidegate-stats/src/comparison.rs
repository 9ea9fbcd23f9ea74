//! The answer of every method: two effects, one p-value, and what they rest on.
//!
//! A comparison explains itself: it carries the estimates of both arms, the absolute and the relative
//! effect with their confidence sets, the p-value (also as a logarithm, for evidence beyond `1e-308`), the
//! method with its parameters, its promise and its assumptions, and notes on anything a reader must
//! know.
//! No field is ever NaN or infinite; an unbounded end is `None`.

use serde::{Deserialize, Serialize};

use crate::error::Side;

/// Which departures count as evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// Both directions.
    #[default]
    TwoSided,
    /// Only a treatment above the null; the confidence set is a lower bound.
    Greater,
    /// Only a treatment below the null; the confidence set is an upper bound.
    Less,
}

/// The effect that the p-value tests against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scale", content = "value", rename_all = "snake_case")]
pub enum Null {
    /// No effect.
    #[default]
    Zero,
    /// A difference of this size, in units of the metric.
    Absolute(f64),
    /// A change of this share of the baseline: `-0.02` is a loss of 2 %.
    Relative(f64),
}

/// An estimate with its confidence set on the absolute scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// Treatment minus control.
    pub estimate: f64,
    /// Lower end; none if unbounded.
    pub lower: Option<f64>,
    /// Upper end; none if unbounded.
    pub upper: Option<f64>,
}

/// The shape of a confidence set for a relative effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelativeSet {
    /// Everything from `lower` to `upper`, where a missing end is unbounded.
    Interval,
    /// Everything up to `lower` and everything from `upper` on: the baseline may be zero, so a large
    /// change of either sign is possible, but not a small one.
    Complement,
    /// Everything: the data do not bound the relative effect at all.
    Line,
}

/// An estimate with its confidence set as a share of the baseline.
///
/// The baseline counts by its magnitude, so an increase is positive also where the baseline is negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Relative {
    /// The relative effect; none if the baseline is zero.
    pub estimate: Option<f64>,
    /// See [`RelativeSet`].
    pub lower: Option<f64>,
    /// See [`RelativeSet`].
    pub upper: Option<f64>,
    /// How to read the two ends.
    pub set: RelativeSet,
}

impl Relative {
    /// A set without any bound.
    pub(crate) fn line(estimate: Option<f64>) -> Self {
        Self {
            estimate,
            lower: None,
            upper: None,
            set: RelativeSet::Line,
        }
    }

    /// The union with another set around the same estimate.
    pub(crate) fn union(self, other: Self) -> Self {
        let estimate = self.estimate;
        match (self.set, other.set) {
            (RelativeSet::Line, _) | (_, RelativeSet::Line) => Self::line(estimate),
            (RelativeSet::Interval, RelativeSet::Interval) => {
                // Both contain the estimate, so nothing lies between them.
                let lower = self
                    .lower
                    .zip(other.lower)
                    .map(|(left, right)| left.min(right));
                let upper = self
                    .upper
                    .zip(other.upper)
                    .map(|(left, right)| left.max(right));
                if lower.is_none() && upper.is_none() {
                    return Self::line(estimate);
                }
                Self {
                    estimate,
                    lower,
                    upper,
                    set: RelativeSet::Interval,
                }
            }
            (RelativeSet::Interval, RelativeSet::Complement) => other.union(self),
            (RelativeSet::Complement, RelativeSet::Interval) => self.with_gap_outside(&other),
            (RelativeSet::Complement, RelativeSet::Complement) => {
                let lower = self
                    .lower
                    .zip(other.lower)
                    .map(|(left, right)| left.max(right));
                let upper = self
                    .upper
                    .zip(other.upper)
                    .map(|(left, right)| left.min(right));
                Self {
                    lower,
                    upper,
                    ..self
                }
                .unless_closed()
            }
        }
    }

    /// A complement whose gap loses what `interval` covers of it from one side.
    fn with_gap_outside(self, interval: &Self) -> Self {
        let (Some(from), Some(to)) = (self.lower, self.upper) else {
            return self;
        };
        let low = interval.lower.unwrap_or(f64::NEG_INFINITY);
        let high = interval.upper.unwrap_or(f64::INFINITY);
        let lower = if low <= from { from.max(high) } else { from };
        let upper = if high >= to { to.min(low) } else { to };
        Self {
            lower: Some(lower),
            upper: Some(upper),
            ..self
        }
        .unless_closed()
    }

    /// The whole line if the gap of a complement has closed.
    fn unless_closed(self) -> Self {
        match (self.lower, self.upper) {
            (Some(lower), Some(upper)) if lower < upper => self,
            _ => Self::line(self.estimate),
        }
    }

    /// Whether the set contains `value`.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        let above_lower = self.lower.is_none_or(|lower| value >= lower);
        let below_upper = self.upper.is_none_or(|upper| value <= upper);
        match self.set {
            RelativeSet::Line => true,
            RelativeSet::Interval => above_lower && below_upper,
            RelativeSet::Complement => {
                self.lower.is_some_and(|lower| value <= lower)
                    || self.upper.is_some_and(|upper| value >= upper)
            }
        }
    }
}

impl Effect {
    /// Whether the interval contains `value`.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.lower.is_none_or(|lower| value >= lower)
            && self.upper.is_none_or(|upper| value <= upper)
    }
}

/// The parameters a method decided with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameters {
    /// Of a single look.
    Fixed {
        /// Degrees of freedom; none for a normal reference.
        degrees: Option<f64>,
    },
    /// Of an asymptotic confidence sequence.
    Sequential {
        /// Units in both arms at which the sequence is tightest.
        tune_at: f64,
        /// Mixture variance; `units * rho_squared` is the information `x` of the boundary.
        rho_squared: f64,
        /// Logarithm of the evidence against the null, an e-value.
        ln_e: f64,
        /// Events each arm must have before anything is said.
        burn_in_events: u64,
    },
    /// Of one look of a group sequential plan.
    GroupSequential {
        /// The look, from 1.
        look: usize,
        /// Share of the maximal information.
        fraction: f64,
        /// Error spent so far.
        alpha_spent: f64,
    },
    /// Of a sequence of order statistics.
    OrderStatistics {
        /// The quantile, between 0 and 1.
        nu: f64,
        /// Units in both arms at which the sequence is tightest.
        tune_at: f64,
        /// Logarithm of the evidence against equal quantiles, an e-value.
        ln_e: f64,
        /// Variance of the share of observations below the quantile, control and treatment, over that of
        /// independent observations.
        design_effects: [f64; 2],
    },
    /// Of an exact count e-process.
    Count {
        /// Events at which the process is most powerful.
        tune_at_events: f64,
        /// Logarithm of the e-value.
        ln_e: f64,
    },
    /// Of a score test of two proportions.
    Proportions {
        /// Standardised difference under the restricted estimate, where the method has one.
        score: Option<f64>,
    },
    /// Of an exact comparison of two small counts.
    SmallCounts {
        /// Tables of outcomes that were weighed.
        tables: u64,
        /// Chance that the nuisance rate lies outside the range searched; part of every p-value.
        unsearched: f64,
    },
    /// Of a normal posterior.
    Bayesian {
        /// Prior mean of the effect on the absolute scale.
        prior_mean: f64,
        /// Prior standard deviation on the absolute scale.
        prior_sd: f64,
    },
}

/// Which method spoke, with what promise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Method {
    /// Short name.
    pub name: &'static str,
    /// Level: the confidence sets hold with probability `1 - alpha`.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
    /// Half-width of the absolute interval in standard errors; none where the method has no such number.
    pub multiplier: Option<f64>,
    /// What else it decided with.
    pub parameters: Parameters,
    /// What is promised.
    pub promise: &'static str,
    /// What the promise rests on.
    pub assumptions: &'static [&'static str],
}

/// Something a reader of the answer must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    /// Too few events for an asymptotic statement; nothing is claimed yet.
    BurnIn {
        /// The arm with the fewest events.
        side: Side,
        /// Its events.
        events: u64,
        /// Events needed.
        needed: u64,
    },
    /// The baseline cannot be told from zero, so the relative set is not a bounded interval.
    BaselineNearZero,
    /// The baseline is negative; relative effects are shares of its magnitude.
    BaselineNegative,
    /// Adjustment by history removed this share of the variance of the difference (negative: added).
    VarianceReduction {
        /// The share.
        share: f64,
    },
    /// Strata too thin for a variance of their own were pooled into one.
    PooledStrata {
        /// How many.
        strata: usize,
    },
    /// One arm does not vary at all.
    ConstantArm {
        /// That arm.
        side: Side,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BurnIn {
                side,
                events,
                needed,
            } => write!(
                formatter,
                "too early: the {side} arm has {events} events, {needed} are needed before \
                 anything is claimed"
            ),
            Self::BaselineNearZero => formatter.write_str(
                "the baseline cannot be told from zero, so the relative effect is not bounded",
            ),
            Self::BaselineNegative => formatter
                .write_str("the baseline is negative; relative effects are shares of its size"),
            Self::ConstantArm { side } => write!(formatter, "the {side} arm does not vary"),
            Self::PooledStrata { strata } => write!(
                formatter,
                "{strata} strata were too thin for a variance and were pooled"
            ),
            Self::VarianceReduction { share } => write!(
                formatter,
                "history removed {:+.3} % of the variance",
                100.0 * share
            ),
        }
    }
}

/// The answer; see the module documentation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Units in control.
    pub units_control: u64,
    /// Units in treatment.
    pub units_treatment: u64,
    /// The metric in control: a mean, ratio or quantile, adjusted if the method adjusts.
    pub value_control: f64,
    /// The metric in treatment.
    pub value_treatment: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// The difference.
    pub absolute: Effect,
    /// The difference as a share of the baseline, under the same p-value.
    pub relative: Relative,
    /// The one p-value of both scales.
    pub p_value: f64,
    /// Its natural logarithm.
    pub ln_p: f64,
    /// What it tests against.
    pub null: Null,
    /// How it was computed.
    pub method: Method,
    /// What else to know.
    pub notes: Vec<Note>,
}

impl Comparison {
    /// Whether the null is refuted at the method's level.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.p_value < self.method.alpha
    }
}
