//! Absolute and relative effects with one p-value.
//!
//! # Promise
//! Whatever test statistic multiplier `q` a method uses, the absolute interval, the relative set and the
//! p-value come from the same family of tests, so they never contradict each other: the relative set
//! contains 0 exactly if the absolute interval does, exactly if `p >= alpha`.
//!
//! # Formula
//! A relative effect `theta` claims that `mu_T - mu_C = theta |mu_C|`.
//! The statistic of that claim is linear in the estimates, `D(theta) = d - theta |m_C|` with `d = m_T -
//! m_C`, and its variance is quadratic in theta: `V(theta) = Var d - 2 theta Cov(d, |m_C|) + theta^2 Var
//! m_C`.
//! The confidence set is every theta with `D(theta)^2 <= q^2 V(theta)` (Fieller 1954), the solution of
//! `A theta^2 - 2 B theta + G <= 0` with
//!
//! - `A = m_C^2 - q^2 Var m_C`,
//! - `B = d |m_C| - q^2 Cov(d, |m_C|)`,
//! - `G = d^2 - q^2 Var d`.
//!
//! It is an interval if `A > 0`, that is if the baseline itself differs from zero at this level; else it
//! is the complement of an interval or the whole line, and is reported as such.
//! Written in theta instead of `1 + theta`, with the discriminant expanded and the root of smaller
//! magnitude taken as `G` over the other, nothing cancels where the effect is small or the arms are large.
//!
//! # Assumptions
//! `(m_T, m_C)` are jointly normal to the accuracy the multiplier claims; variances are estimated well.
//! No assumption is made that `m_T / m_C` is normal, which fails under monitoring: when `m_T` is low by
//! chance, the delta-method variance shrinks with it.

use crate::arm::ArmSummary;
use crate::comparison::{Comparison, Effect, Method, Note, Null, Relative, RelativeSet, Tail};
use crate::error::{Side, StatsError, finite, in_range};

/// One arm's estimate of whatever the metric is, with the variance *of the estimate*.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its sampling variance.
    pub variance: f64,
    /// Independent units behind it.
    pub units: u64,
    /// Units with an event.
    pub events: u64,
}

/// Two estimates and the joint variance of their contrast `T - phi C`.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    pub(crate) control: f64,
    pub(crate) treatment: f64,
    pub(crate) difference: f64,
    pub(crate) variance_difference: f64,
    pub(crate) variance_control: f64,
    pub(crate) covariance_difference_control: f64,
    pub(crate) degrees: f64,
    pub(crate) units: [u64; 2],
    pub(crate) events: [u64; 2],
    pub(crate) constant: [bool; 2],
    pub(crate) remarks: Vec<Note>,
}

impl Contrast {
    /// The contrast of two arm means.
    ///
    /// # Errors
    /// If a number is not finite, a variance negative, or an arm has fewer than two units.
    pub fn of_means(control: &ArmSummary, treatment: &ArmSummary) -> Result<Self, StatsError> {
        let estimate = |arm: &ArmSummary, side| {
            arm.check()?;
            enough_units(side, arm.units, 2)?;
            let variance = arm.variance / arm.units as f64;
            Ok(Estimate {
                value: arm.mean,
                variance,
                units: arm.units,
                events: arm.events,
            })
        };
        Self::of_estimates(
            &estimate(control, Side::Control)?,
            &estimate(treatment, Side::Treatment)?,
        )
    }

    /// The contrast of two independent estimates, with Welch's degrees of freedom
    /// `(v_T + v_C)^2 / (v_T^2 / (n_T - 1) + v_C^2 / (n_C - 1))`.
    ///
    /// # Errors
    /// As for [`Contrast::of_means`].
    pub fn of_estimates(control: &Estimate, treatment: &Estimate) -> Result<Self, StatsError> {
        for (side, estimate) in [(Side::Control, control), (Side::Treatment, treatment)] {
            finite("the estimate", estimate.value)?;
            finite("its variance", estimate.variance)?;
            if estimate.variance < 0.0 {
                return Err(StatsError::NegativeVariance {
                    what: "the variance of an estimate",
                    value: estimate.variance,
                });
            }
            enough_units(side, estimate.units, 2)?;
        }
        let parts = [control.variance, treatment.variance];
        let units = [control.units, treatment.units];
        Ok(Self {
            control: control.value,
            treatment: treatment.value,
            difference: in_range("the difference", treatment.value - control.value)?,
            variance_difference: in_range("the variance of the difference", parts[0] + parts[1])?,
            variance_control: control.variance,
            covariance_difference_control: -control.variance,
            degrees: welch_degrees(parts, units),
            units,
            events: [control.events, treatment.events],
            constant: parts.map(|part| part == 0.0),
            remarks: Vec::new(),
        })
    }

    /// Treatment minus control.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.difference
    }

    /// Sampling variance of the difference.
    #[must_use]
    pub fn variance_difference(&self) -> f64 {
        self.variance_difference
    }

    /// The control estimate.
    #[must_use]
    pub fn control(&self) -> f64 {
        self.control
    }

    /// The treatment estimate.
    #[must_use]
    pub fn treatment(&self) -> f64 {
        self.treatment
    }

    /// Degrees of freedom of the variance of the difference; infinite where it counts as known.
    #[must_use]
    pub fn degrees(&self) -> f64 {
        self.degrees
    }

    /// Sampling variance of the control estimate.
    #[must_use]
    pub fn variance_control(&self) -> f64 {
        self.variance_control
    }

    /// Units in both arms together.
    #[must_use]
    pub fn units_total(&self) -> f64 {
        self.units[0] as f64 + self.units[1] as f64
    }

    /// The standard error of the difference.
    ///
    /// # Errors
    /// If neither arm varies.
    pub fn standard_error(&self) -> Result<f64, StatsError> {
        if self.variance_difference > 0.0 {
            Ok(self.variance_difference.sqrt())
        } else {
            Err(StatsError::ZeroVariance)
        }
    }

    /// The standardised departure of the estimates from a null; positive if treatment is above it.
    ///
    /// # Errors
    /// If neither arm varies or the null is not finite.
    pub fn statistic(&self, null: Null) -> Result<f64, StatsError> {
        let (departure, variance) = match null {
            Null::Zero => (self.difference, self.variance_difference),
            Null::Absolute(shift) => (
                self.difference - finite("the null", shift)?,
                self.variance_difference,
            ),
            Null::Relative(theta) => {
                let theta = finite("the null", theta)?;
                let covariance = self.oriented_covariance();
                let variance = self.variance_difference - 2.0 * theta * covariance
                    + theta * theta * self.variance_control;
                (self.difference - theta * self.control.abs(), variance)
            }
        };
        if variance > 0.0 && variance.is_finite() {
            let statistic = departure / variance.sqrt();
            Ok(statistic.clamp(-f64::MAX, f64::MAX))
        } else if variance > 0.0 {
            Err(StatsError::Overflow {
                what: "the variance under the null",
            })
        } else {
            Err(StatsError::ZeroVariance)
        }
    }

    /// The interval `d ± q se`, one-sided where the tail is.
    pub(crate) fn absolute(&self, multiplier: f64, tail: Tail) -> Result<Effect, StatsError> {
        let half_width = multiplier * self.standard_error()?;
        let lower = bounded(self.difference - half_width).filter(|_| tail != Tail::Less);
        let upper = bounded(self.difference + half_width).filter(|_| tail != Tail::Greater);
        Ok(Effect {
            estimate: self.difference,
            lower,
            upper,
        })
    }

    /// The relative set for the multiplier `q`.
    pub(crate) fn relative(&self, multiplier: f64, tail: Tail) -> Relative {
        let estimate = (self.control != 0.0)
            .then(|| self.difference / self.control.abs())
            .filter(|value| value.is_finite());
        if !multiplier.is_finite() {
            return Relative::line(estimate);
        }
        let quadratic = Quadratic::of(self, multiplier, tail == Tail::Less);
        let solution = if tail == Tail::TwoSided {
            quadratic.two_sided()
        } else {
            quadratic.lower_bound()
        };
        let solution = if tail == Tail::Less {
            solution.mirrored()
        } else {
            solution
        };
        Relative {
            estimate,
            lower: solution.lower,
            upper: solution.upper,
            set: solution.set,
        }
    }

    /// `Cov(d, |m_C|)`.
    fn oriented_covariance(&self) -> f64 {
        if self.control < 0.0 {
            -self.covariance_difference_control
        } else {
            self.covariance_difference_control
        }
    }

    /// What any method should tell about these data.
    pub(crate) fn notes(&self, relative: &Relative) -> Vec<Note> {
        let mut notes = self.remarks.clone();
        if self.control < 0.0 {
            notes.push(Note::BaselineNegative);
        }
        for (constant, side) in self.constant.iter().zip([Side::Control, Side::Treatment]) {
            if *constant {
                notes.push(Note::ConstantArm { side });
            }
        }
        if relative.set != RelativeSet::Interval {
            notes.push(Note::BaselineNearZero);
        }
        notes
    }

    /// Puts the answer together.
    pub(crate) fn comparison(
        &self,
        null: Null,
        ln_p: f64,
        multiplier: f64,
        method: Method,
    ) -> Result<Comparison, StatsError> {
        let relative = self.relative(multiplier, method.tail);
        let ln_p = ln_p.clamp(f64::MIN, 0.0);
        Ok(Comparison {
            units_control: self.units[0],
            units_treatment: self.units[1],
            value_control: self.control,
            value_treatment: self.treatment,
            standard_error: self.standard_error()?,
            absolute: self.absolute(multiplier, method.tail)?,
            relative,
            p_value: ln_p.exp(),
            ln_p,
            null,
            method,
            notes: self.notes(&relative),
        })
    }
}

/// Refuses an arm with fewer than `needed` units.
pub(crate) fn enough_units(side: Side, units: u64, needed: u64) -> Result<(), StatsError> {
    if units < needed {
        Err(StatsError::TooFewUnits {
            side,
            units,
            needed,
        })
    } else {
        Ok(())
    }
}

/// Welch's degrees of freedom from the variances of two independent parts.
pub(crate) fn welch_degrees(parts: [f64; 2], units: [u64; 2]) -> f64 {
    let total = parts[0] + parts[1];
    if total <= 0.0 {
        return f64::INFINITY;
    }
    let share = |index: usize| {
        let share = parts[index] / total;
        share * share / (units[index].max(2) - 1) as f64
    };
    1.0 / (share(0) + share(1))
}

/// A finite end, or none.
fn bounded(end: f64) -> Option<f64> {
    end.is_finite().then_some(end)
}

/// A solved set.
struct Solution {
    lower: Option<f64>,
    upper: Option<f64>,
    set: RelativeSet,
}

impl Solution {
    fn interval(lower: Option<f64>, upper: Option<f64>) -> Self {
        let lower = lower.and_then(bounded);
        let upper = upper.and_then(bounded);
        if lower.is_none() && upper.is_none() {
            return Self::line();
        }
        Self {
            lower,
            upper,
            set: RelativeSet::Interval,
        }
    }

    fn complement(lower: f64, upper: f64) -> Self {
        match (bounded(lower), bounded(upper)) {
            (None, None) => Self::line(),
            // Where one ray lies beyond every double, what is left is the other.
            (None, lower) => Self::interval(lower, None),
            (upper, None) => Self::interval(None, upper),
            (lower, upper) => Self {
                lower,
                upper,
                set: RelativeSet::Complement,
            },
        }
    }

    fn line() -> Self {
        Self {
            lower: None,
            upper: None,
            set: RelativeSet::Line,
        }
    }

    fn mirrored(self) -> Self {
        Self {
            lower: self.upper.map(|end| -end),
            upper: self.lower.map(|end| -end),
            set: self.set,
        }
    }
}

/// The inequality `a theta^2 - 2 b theta + g <= 0`, scaled so that nothing overflows.
struct Quadratic {
    a: f64,
    b: f64,
    g: f64,
    /// `b^2 - a g`.
    discriminant: f64,
    difference: f64,
    control: f64,
}

impl Quadratic {
    /// With `mirror`, for the negative of the difference.
    fn of(contrast: &Contrast, q: f64, mirror: bool) -> Self {
        let sd_difference = contrast.variance_difference.max(0.0).sqrt();
        let sd_control = contrast.variance_control.max(0.0).sqrt();
        let scale = contrast
            .control
            .abs()
            .max(contrast.difference.abs())
            .max(sd_difference)
            .max(sd_control)
            .max(f64::MIN_POSITIVE);
        let sign = if mirror { -1.0 } else { 1.0 };
        let control = contrast.control.abs() / scale;
        let difference = sign * contrast.difference / scale;
        let covariance = sign * contrast.oriented_covariance() / scale / scale;
        let (sd_difference, sd_control) = (sd_difference / scale, sd_control / scale);
        let (variance_difference, variance_control) =
            (sd_difference * sd_difference, sd_control * sd_control);
        let within = control * control * variance_difference
            - 2.0 * difference * control * covariance
            + difference * difference * variance_control;
        let determinant = variance_difference * variance_control - covariance * covariance;
        Self {
            a: (control - q * sd_control) * (control + q * sd_control),
            b: difference * control - q * q * covariance,
            g: (difference.abs() - q * sd_difference) * (difference.abs() + q * sd_difference),
            discriminant: q * q * (within - q * q * determinant),
            difference,
            control,
        }
    }

    /// The two roots in ascending order, for `a != 0` and a discriminant that is not negative.
    fn roots(&self) -> (f64, f64) {
        let root = self.discriminant.max(0.0).sqrt();
        let far = if self.b >= 0.0 {
            self.b + root
        } else {
            self.b - root
        };
        if far == 0.0 {
            return (0.0, 0.0);
        }
        let (first, second) = (far / self.a, self.g / far);
        if first <= second {
            (first, second)
        } else {
            (second, first)
        }
    }

    fn two_sided(&self) -> Solution {
        if self.a > 0.0 {
            let (lower, upper) = self.roots();
            Solution::interval(Some(lower), Some(upper))
        } else if self.a < 0.0 {
            if self.discriminant > 0.0 {
                let (lower, upper) = self.roots();
                Solution::complement(lower, upper)
            } else {
                Solution::line()
            }
        } else if self.b > 0.0 {
            Solution::interval(Some(0.5 * self.g / self.b), None)
        } else if self.b < 0.0 {
            Solution::interval(None, Some(0.5 * self.g / self.b))
        } else {
            Solution::line()
        }
    }

    /// The set of every theta that is not refuted as too low.
    fn lower_bound(&self) -> Solution {
        if self.a > 0.0 {
            return Solution::interval(Some(self.roots().0), None);
        }
        if self.a < 0.0 && self.discriminant > 0.0 {
            let (lower, upper) = self.roots();
            // Between the roots the statistic is beyond q in magnitude; only its positive sign refutes.
            let refutes = self.difference - 0.5 * (lower + upper) * self.control > 0.0;
            return if refutes {
                Solution::complement(lower, upper)
            } else {
                Solution::line()
            };
        }
        if self.a == 0.0 && self.b > 0.0 {
            return Solution::interval(Some(0.5 * self.g / self.b), None);
        }
        Solution::line()
    }
}
