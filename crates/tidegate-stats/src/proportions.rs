//! Two proportions by the score test, the p-value and both intervals together.
//!
//! # Promise
//! Closer to its level than Welch's test for proportions near 0 or 1 and for small arms, at a horizon fixed in
//! advance; the interval of the difference never leaves `[-1, 1]`, that of the ratio never goes below zero.
//! Both intervals contain "no effect" exactly if `p >= alpha`, because the three are one family of tests.
//!
//! # Formula
//! Miettinen and Nurminen (1985): a difference `delta` is tested by `z = (p_T - p_C - delta) / sqrt(V)`, `V =
//! (q_T (1 - q_T) / n_T + q_C (1 - q_C) / n_C) N / (N - 1)`, where `(q_T, q_C)` maximise the likelihood under
//! `q_T - q_C = delta`; a ratio `phi` likewise by `p_T - phi p_C` under `q_T = phi q_C` (closed form).
//! At `delta = 0` and `phi = 1` both are the pooled test.
//! The restricted maximum for a difference is found by Newton's step inside a bracket on the derivative of the
//! likelihood, which is monotone, instead of the textbook cubic, which loses digits near the edges.
//!
//! # When it fails
//! With a handful of successes the level is approximate: `small_counts` holds it.

use crate::bisection::bisect;
use crate::comparison::{
    Comparison, Effect, Method, Note, Null, Parameters, Relative, RelativeSet, Tail,
};
use crate::effect::enough_units;
use crate::error::{Side, StatsError, in_range, open_unit};
use crate::fixed::{ln_p_value, multiplier};

/// Successes among the units of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Units with a success.
    pub successes: u64,
    /// All units.
    pub units: u64,
}

impl Count {
    pub(crate) fn check(self, side: Side) -> Result<(), StatsError> {
        enough_units(side, self.units, 1)?;
        if self.successes > self.units {
            return Err(StatsError::CountExceedsTotal {
                count: self.successes,
                total: self.units,
            });
        }
        Ok(())
    }

    pub(crate) fn share(self) -> f64 {
        self.successes as f64 / self.units as f64
    }

    pub(crate) fn failures(self) -> f64 {
        (self.units - self.successes) as f64
    }
}

/// How to compare two proportions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProportionOptions {
    /// Level, strictly between 0 and 1.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
    /// The effect tested against; an absolute one within `(-1, 1)`, a relative one above `-1`.
    pub null: Null,
}

impl Default for ProportionOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tail: Tail::TwoSided,
            null: Null::Zero,
        }
    }
}

/// Steps after which the restricted maximum is taken as found; halving alone needs sixty.
const MAX_STEPS: u32 = 100;

/// Largest logarithm of a ratio searched; beyond, the ratio counts as unbounded.
const FURTHEST: f64 = 700.0;

/// Compares two proportions by their scores.
///
/// # Errors
/// If an arm is empty, has more successes than units, or an option is out of range.
pub fn compare(
    control: Count,
    treatment: Count,
    options: &ProportionOptions,
) -> Result<Comparison, StatsError> {
    let alpha = open_unit("alpha", options.alpha)?;
    control.check(Side::Control)?;
    treatment.check(Side::Treatment)?;
    let pair = Pair { control, treatment };
    let score = pair.score(options.null)?;
    let ln_p = ln_p_value(score, f64::INFINITY, options.tail);
    let q = multiplier(alpha, f64::INFINITY, options.tail);
    Ok(Comparison {
        units_control: control.units,
        units_treatment: treatment.units,
        value_control: control.share(),
        value_treatment: treatment.share(),
        standard_error: pair.standard_error(),
        absolute: pair.absolute(q, options.tail),
        relative: pair.relative(q, options.tail),
        p_value: ln_p.exp(),
        ln_p: ln_p.max(f64::MIN),
        null: options.null,
        method: Method {
            name: "score",
            alpha,
            tail: options.tail,
            multiplier: None,
            parameters: Parameters::Proportions { score: Some(score) },
            promise: "covers the true effect with probability 1 - alpha if looked at once, at a horizon \
                      fixed in advance",
            assumptions: &[
                "units are independent",
                "the horizon was chosen without looking at the effect",
            ],
        },
        notes: pair.notes(),
    })
}

/// The standardised distance of the observed proportions from `T - C = shift` or `T = phi C`.
pub(crate) fn score(control: Count, treatment: Count, null: Null) -> Result<f64, StatsError> {
    Pair { control, treatment }.score(null)
}

/// Two observed counts.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) control: Count,
    pub(crate) treatment: Count,
}

impl Pair {
    pub(crate) fn difference(&self) -> f64 {
        self.treatment.share() - self.control.share()
    }

    /// Of the difference, both arms at the pooled rate.
    pub(crate) fn standard_error(&self) -> f64 {
        self.variance(self.restricted_to_difference(0.0)).sqrt()
    }

    fn score(&self, null: Null) -> Result<f64, StatsError> {
        match null {
            Null::Zero => Ok(self.score_of_difference(0.0)),
            Null::Absolute(shift) if shift > -1.0 && shift < 1.0 => {
                Ok(self.score_of_difference(shift))
            }
            Null::Relative(theta) if theta > -1.0 && theta.is_finite() => {
                Ok(self.score_of_ratio(in_range("the null", 1.0 + theta)?))
            }
            Null::Absolute(value) => Err(StatsError::Option {
                name: "null",
                value,
                rule: "between -1 and 1",
            }),
            Null::Relative(value) => Err(StatsError::Option {
                name: "null",
                value,
                rule: "above -1",
            }),
        }
    }

    /// `Var` under restricted proportions `(q_T, q_C)`, control weighted by `phi^2 = 1`.
    fn variance(&self, restricted: (f64, f64)) -> f64 {
        self.weighted_variance(restricted, 1.0)
    }

    fn weighted_variance(&self, (treated, untreated): (f64, f64), phi: f64) -> f64 {
        let (n_treatment, n_control) = (self.treatment.units as f64, self.control.units as f64);
        let total = n_treatment + n_control;
        let spread = treated * (1.0 - treated) / n_treatment
            + phi * phi * untreated * (1.0 - untreated) / n_control;
        spread.max(0.0) * (total / (total - 1.0))
    }

    pub(crate) fn score_of_difference(&self, delta: f64) -> f64 {
        let variance = self.variance(self.restricted_to_difference(delta));
        standardised(self.difference() - delta, variance)
    }

    pub(crate) fn score_of_ratio(&self, phi: f64) -> f64 {
        let restricted = self.restricted_to_ratio(phi);
        let departure = self.treatment.share() - phi * self.control.share();
        standardised(departure, self.weighted_variance(restricted, phi))
    }

    /// The most likely `(q_T, q_C)` with `q_T - q_C = delta`.
    fn restricted_to_difference(&self, delta: f64) -> (f64, f64) {
        let (mut low, mut high) = ((-delta).max(0.0), (1.0 - delta).min(1.0));
        let pooled = (self.control.successes as f64 + self.treatment.successes as f64)
            / (self.control.units as f64 + self.treatment.units as f64);
        let mut untreated = (pooled - 0.5 * delta).clamp(low, high);
        for _ in 0..MAX_STEPS {
            let (slope, curvature) = self.slope_of_likelihood(untreated, delta);
            if slope > 0.0 {
                low = untreated;
            } else {
                high = untreated;
            }
            let newton = untreated - slope / curvature;
            let inside = newton > low && newton < high;
            let next = if inside { newton } else { 0.5 * (low + high) };
            let step = (next - untreated).abs();
            untreated = next;
            if step <= 1e-15 * untreated || high - low <= f64::EPSILON * low {
                break;
            }
        }
        (
            (untreated + delta).clamp(0.0, 1.0),
            untreated.clamp(0.0, 1.0),
        )
    }

    /// First and second derivative of the log likelihood in `q_C`; the second is negative.
    fn slope_of_likelihood(&self, untreated: f64, delta: f64) -> (f64, f64) {
        let treated = untreated + delta;
        let terms = [
            (self.control.successes as f64, untreated, 1.0),
            (self.control.failures(), 1.0 - untreated, -1.0),
            (self.treatment.successes as f64, treated, 1.0),
            (self.treatment.failures(), 1.0 - treated, -1.0),
        ];
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (count, share, sign) in terms {
            if count > 0.0 {
                slope += sign * count / share;
                curvature -= count / (share * share);
            }
        }
        (slope, curvature)
    }

    /// The most likely `(q_T, q_C)` with `q_T = phi q_C`.
    fn restricted_to_ratio(&self, phi: f64) -> (f64, f64) {
        let (n_treatment, n_control) = (self.treatment.units as f64, self.control.units as f64);
        let (x_treatment, x_control) = (
            self.treatment.successes as f64,
            self.control.successes as f64,
        );
        let a = (n_treatment + n_control) * phi;
        let b = n_treatment * phi + x_treatment + n_control + x_control * phi;
        let c = x_treatment + x_control;
        let root = (b * b - 4.0 * a * c).max(0.0).sqrt();
        // The smaller root, written so that nothing cancels.
        let untreated = (2.0 * c / (b + root)).clamp(0.0, 1.0);
        ((phi * untreated).clamp(0.0, 1.0), untreated)
    }

    fn absolute(&self, q: f64, tail: Tail) -> Effect {
        let estimate = self.difference();
        let lower = bisect(estimate, -1.0, 0.0, |delta| {
            self.score_of_difference(delta) <= q
        });
        let upper = bisect(estimate, 1.0, 0.0, |delta| {
            self.score_of_difference(delta) >= -q
        });
        Effect {
            estimate,
            lower: Some(lower.inside).filter(|_| tail != Tail::Less),
            upper: Some(upper.inside).filter(|_| tail != Tail::Greater),
        }
    }

    fn relative(&self, q: f64, tail: Tail) -> Relative {
        let has_baseline = self.control.successes > 0;
        let estimate = has_baseline.then(|| self.difference() / self.control.share());
        let start = match (self.treatment.successes, has_baseline) {
            (0, _) => -FURTHEST,
            (_, false) => FURTHEST,
            _ => (self.treatment.share() / self.control.share()).ln(),
        };
        let is_above = |ln_phi: f64| self.score_of_ratio(ln_phi.exp()) <= q;
        let is_below = |ln_phi: f64| self.score_of_ratio(ln_phi.exp()) >= -q;
        let lower = if self.treatment.successes == 0 {
            Some(-1.0)
        } else {
            Some(bisect(start, -FURTHEST, 0.0, is_above).inside.exp_m1())
        };
        let upper = has_baseline.then(|| bisect(start, FURTHEST, 0.0, is_below).inside.exp_m1());
        Relative {
            estimate,
            lower: lower.filter(|_| tail != Tail::Less),
            upper: upper.filter(|value| value.is_finite() && tail != Tail::Greater),
            set: RelativeSet::Interval,
        }
    }

    pub(crate) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for (count, side) in [
            (self.control, Side::Control),
            (self.treatment, Side::Treatment),
        ] {
            if count.successes == 0 || count.successes == count.units {
                notes.push(Note::ConstantArm { side });
            }
        }
        if self.control.successes == 0 {
            notes.push(Note::BaselineNearZero);
        }
        notes
    }
}

/// `departure / sqrt(variance)`, where nothing over nothing is no evidence.
fn standardised(departure: f64, variance: f64) -> f64 {
    if departure == 0.0 {
        0.0
    } else {
        (departure / variance.sqrt()).clamp(-f64::MAX, f64::MAX)
    }
}
