//! How many units, how long, and what could be seen.
//!
//! **Fixed horizon.** In all `N = V (z_a + z_b)^2 / D^2` units, `V = s_T^2 / w + s_C^2 / (1 - w)`
//! the variance of the contrast per unit, `w` the treatment's share, `D` the effect to see.
//! Because one p-value serves both scales, a relative target is `D = theta m_C` and nothing more;
//! planners built on the delta method need more, or have no answer for small samples.
//!
//! **Sequential methods** are planned by the exact crossing chance of drifted Brownian motion
//! ([`crate::group_sequential`] at its looks, the always-valid mixture in continuous time), not by
//! a bound at one look. Measured in multiples of the fixed `N` (two-sided .05, power .8):
//! O'Brien-Fleming spending with 14 looks needs 1.0424 at most and .7864 on average, a mixture
//! tuned at `N` and watched at every unit 1.607 for the same power and .952 on average
//! (1.640 and .99 when looked at 200 times per `N`).
//!
//! **Duration** follows a [`Traffic`] model: weekly seasons, falling share of new units.
//!
//! **Many metrics.** [`power_per_metric`] gives the power each of several metrics needs so that
//! all succeed together, under any dependence.
//!
//! **When it fails.** The answer is as good as baseline and effect; the normal approximation wants
//! hundreds of units, and some tens of events, per arm.

mod behaviour;
mod curve;
mod traffic;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bisection::bisect;
use crate::group_sequential::{DesignError, LOOKS_MAX, Sides, Spending};
use behaviour::Behaviour;
use curve::{StoppingCurve, TestPaths, standard_drift};

pub use traffic::Traffic;

/// Beyond this many units no plan is given.
const UNITS_MAX: f64 = 1e15;
/// Effects of the power curve, in multiples of the target.
const CURVE_EFFECTS: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];

/// What the metric looks like without the change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Baseline {
    /// A mean per unit with its standard deviation between units.
    Mean {
        /// Mean per unit.
        mean: f64,
        /// Standard deviation between units.
        sd: f64,
    },
    /// A share of units.
    Proportion {
        /// Between 0 and 1.
        rate: f64,
    },
}

/// The effect to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Difference of means.
    Absolute(f64),
    /// Difference relative to the control's mean (0.05 is +5 %).
    Relative(f64),
    /// Show that the treatment is no worse than `1 - margin` times the control.
    NonInferiority {
        /// Relative margin, positive.
        margin: f64,
        /// The lift assumed true, usually 0.
        lift: f64,
    },
}

/// The method that will decide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanMethod {
    /// One look at the end.
    Fixed,
    /// Planned looks with alpha spending.
    Group {
        /// Spending function.
        spending: Spending,
        /// Equally spaced looks.
        looks: u16,
    },
    /// The always-valid normal mixture.
    Sequential {
        /// Units (both arms) at which it is tightest; `None`: the fixed-horizon number.
        tune_at: Option<f64>,
        /// Equally spaced looks up to the maximum; `None`: watched at every unit.
        looks: Option<u16>,
    },
    /// Wald's sequential probability ratio test, which stops for either hypothesis.
    Sprt,
}

/// A planning question.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Question {
    /// The metric without the change.
    pub baseline: Baseline,
    /// The effect to be seen; its sign does not matter for sample sizes.
    pub target: Target,
    /// Chance of a false finding.
    pub alpha: f64,
    /// Chance of seeing the effect.
    pub power: f64,
    /// One- or two-sided. Non-inferiority is always one-sided.
    pub sides: Sides,
    /// Share of the units in the treatment.
    pub treatment_share: f64,
    /// The deciding method.
    pub method: PlanMethod,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PlanError {
    /// A probability out of range.
    #[error("{name} {value} is out of range; {range}")]
    Range {
        /// Which input.
        name: &'static str,
        /// As given.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// The effect is nothing, so no number of units shows it.
    #[error("the effect to be seen is zero against this baseline; give another target or baseline")]
    NoEffect,
    /// More units than there are.
    #[error("the plan needs more than 1e15 units; ask for a larger effect")]
    TooManyUnits,
    /// The traffic model is no model.
    #[error("traffic: {what}")]
    Traffic {
        /// What is wrong and what is allowed.
        what: &'static str,
    },
    /// The group sequential design is no design.
    #[error(transparent)]
    Design(#[from] DesignError),
}

/// One point of a power curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PowerPoint {
    /// True effect in multiples of the target.
    pub multiple: f64,
    /// Chance of a finding by the maximum.
    pub power: f64,
    /// Mean units at the stop.
    pub mean_units: f64,
}

/// Days of an experiment under a traffic model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Duration {
    /// Days until the maximum; `None`: not within ten years.
    pub days_max: Option<f64>,
    /// Median day of the stop under the target effect.
    pub days_median: Option<f64>,
    /// Day by which 10 % stop.
    pub days_early: Option<f64>,
    /// Day by which 90 % stop (the maximum, if fewer than 90 % stop before it).
    pub days_late: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Absolute difference planned for.
    pub effect: f64,
    /// Units in the control at the maximum.
    pub units_control: f64,
    /// Units in the treatment at the maximum.
    pub units_treatment: f64,
    /// Units in all at the maximum; for the probability ratio test, which has none, the units
    /// by which 99 % of experiments with the target effect have stopped.
    pub units_total: f64,
    /// Units a fixed-horizon test would need.
    pub units_fixed: f64,
    /// `units_total / units_fixed`.
    pub inflation: f64,
    /// Mean units at the stop under the target effect.
    pub mean_units_effect: f64,
    /// Mean units at the stop without an effect.
    pub mean_units_null: f64,
    /// Power and mean stop over true effects.
    pub power_curve: Vec<PowerPoint>,
    /// Days, where a traffic model was given.
    pub duration: Option<Duration>,
}

/// Power that each of `metrics` needs so that all succeed with chance `power` under any
/// dependence: `1 - (1 - power) / metrics`.
#[must_use]
pub fn power_per_metric(power: f64, metrics: u32) -> f64 {
    1.0 - (1.0 - power) / f64::from(metrics.max(1))
}

/// Units, stop and duration for a target effect.
///
/// # Errors
/// When the question has no answer; see [`PlanError`].
pub fn plan(question: &Question, traffic: Option<&Traffic>) -> Result<Plan, PlanError> {
    if let Some(traffic) = traffic {
        traffic.validate()?;
    }
    let contrast = Contrast::of(question)?;
    let drift = standard_drift(question.alpha, contrast.sides, question.power);
    let units_fixed = contrast.variance * (drift / contrast.effect).powi(2);
    let behaviour = Behaviour::of(question, &contrast, drift, units_fixed)?;
    let units_total = (units_fixed * behaviour.maximum).ceil();
    if !(units_total.is_finite() && units_total <= UNITS_MAX) {
        return Err(PlanError::TooManyUnits);
    }
    let units_treatment = (units_total * question.treatment_share).ceil();
    let at_target = behaviour.curve(drift)?;
    let mean = |drift: f64| Ok::<f64, PlanError>(units_fixed * behaviour.mean_stop(drift)?);
    let mut power_curve = Vec::with_capacity(CURVE_EFFECTS.len());
    for multiple in CURVE_EFFECTS {
        power_curve.push(PowerPoint {
            multiple,
            power: behaviour.power(multiple * drift)?,
            mean_units: mean(multiple * drift)?,
        });
    }
    Ok(Plan {
        effect: contrast.signed_effect,
        units_control: units_total - units_treatment,
        units_treatment,
        units_total,
        units_fixed,
        inflation: behaviour.maximum,
        mean_units_effect: mean(drift)?,
        mean_units_null: mean(0.0)?,
        power_curve,
        duration: traffic.map(|model| duration(model, &at_target, &behaviour, units_fixed)),
    })
}

/// The smallest effect that `units` in all would show, as an absolute difference.
///
/// Proportions use the baseline's variance in both arms.
///
/// # Errors
/// When the question has no answer.
pub fn minimum_detectable_effect(question: &Question, units: f64) -> Result<f64, PlanError> {
    let in_range = units.is_finite() && (2.0..=UNITS_MAX).contains(&units);
    if !in_range {
        return Err(PlanError::Range {
            name: "units",
            value: units,
            range: "give 2 to 1e15",
        });
    }
    let contrast = Contrast::of(&Question {
        target: null_target(question.target),
        ..*question
    })?;
    let drift = standard_drift(question.alpha, contrast.sides, question.power);
    let scale = (contrast.variance / units).sqrt();
    let factor = match question.method {
        PlanMethod::Sequential { tune_at, looks } => {
            let tuned_at = tune_at.unwrap_or(units) / units;
            let level = (question.alpha, contrast.sides);
            let paths = match looks {
                Some(looks) => TestPaths::of_mixture_at_looks(1.0, tuned_at, level, looks),
                None => TestPaths::of_mixture(1.0, tuned_at, level.0, level.1),
            };
            drift_with_power(&paths, question.power)
        }
        _ => {
            drift
                * Behaviour::of(question, &contrast, drift, units)?
                    .maximum
                    .sqrt()
        }
    };
    let effect = factor * scale;
    Ok(match question.target {
        Target::NonInferiority { margin, .. } => effect - margin * mean_of(question.baseline),
        _ => effect,
    })
}

fn drift_with_power(paths: &TestPaths, power: f64) -> f64 {
    bisect(0.0, 100.0, 1e-12, |drift| paths.power(drift) < power).middle()
}

fn null_target(target: Target) -> Target {
    match target {
        Target::NonInferiority { margin, .. } => Target::NonInferiority { margin, lift: 0.0 },
        Target::Absolute(_) | Target::Relative(_) => Target::Absolute(f64::MIN_POSITIVE),
    }
}

fn mean_of(baseline: Baseline) -> f64 {
    match baseline {
        Baseline::Mean { mean, .. } => mean,
        Baseline::Proportion { rate } => rate,
    }
}

/// The linear contrast under the target: its mean and its variance per unit in all.
struct Contrast {
    signed_effect: f64,
    effect: f64,
    variance: f64,
    sides: Sides,
}

impl Contrast {
    fn of(question: &Question) -> Result<Self, PlanError> {
        check_question(question)?;
        let control_mean = mean_of(question.baseline);
        let (lift_effect, control_factor, sides) = match question.target {
            Target::Absolute(effect) => (effect, 1.0, question.sides),
            Target::Relative(lift) => (lift * control_mean, 1.0, question.sides),
            Target::NonInferiority { margin, lift } => {
                ((lift + margin) * control_mean, 1.0 - margin, Sides::One)
            }
        };
        if lift_effect == 0.0 {
            return Err(PlanError::NoEffect);
        }
        let treatment_mean = control_factor * control_mean + lift_effect;
        let (control, treatment) = variances(question.baseline, treatment_mean)?;
        let share = question.treatment_share;
        let variance =
            treatment / share + control_factor * control_factor * control / (1.0 - share);
        if !(variance.is_finite() && variance > 0.0 && lift_effect.is_finite()) {
            return Err(PlanError::TooManyUnits);
        }
        Ok(Self {
            signed_effect: lift_effect,
            effect: lift_effect.abs(),
            variance,
            sides,
        })
    }
}

fn variances(baseline: Baseline, treatment_mean: f64) -> Result<(f64, f64), PlanError> {
    match baseline {
        Baseline::Mean { sd, .. } => Ok((sd * sd, sd * sd)),
        Baseline::Proportion { rate } => {
            if !(0.0..=1.0).contains(&treatment_mean) {
                return Err(PlanError::Range {
                    name: "the treatment's rate",
                    value: treatment_mean,
                    range: "baseline and effect must give a rate between 0 and 1",
                });
            }
            Ok((rate * (1.0 - rate), treatment_mean * (1.0 - treatment_mean)))
        }
    }
}

fn check_question(question: &Question) -> Result<(), PlanError> {
    let within = |name, value: f64, low: f64, high: f64, range| {
        if value > low && value < high {
            Ok(())
        } else {
            Err(PlanError::Range { name, value, range })
        }
    };
    within(
        "alpha",
        question.alpha,
        1e-12,
        0.5,
        "give a value between 1e-12 and 0.5",
    )?;
    within(
        "power",
        question.power,
        question.alpha,
        1.0,
        "give a value between alpha and 1",
    )?;
    within(
        "the treatment's share",
        question.treatment_share,
        0.0,
        1.0,
        "give a value between 0 and 1",
    )?;
    match question.baseline {
        Baseline::Mean { mean, sd } => {
            within(
                "the baseline mean",
                mean,
                f64::NEG_INFINITY,
                f64::INFINITY,
                "give a number",
            )?;
            within(
                "the standard deviation",
                sd,
                0.0,
                f64::INFINITY,
                "give a positive number",
            )?;
        }
        Baseline::Proportion { rate } => {
            within(
                "the baseline rate",
                rate,
                0.0,
                1.0,
                "give a value between 0 and 1",
            )?;
        }
    }
    match question.target {
        Target::NonInferiority { margin, .. } => {
            within(
                "the margin",
                margin,
                0.0,
                1.0,
                "give a value between 0 and 1",
            )?;
        }
        Target::Absolute(value) | Target::Relative(value) => {
            within(
                "the effect",
                value,
                f64::NEG_INFINITY,
                f64::INFINITY,
                "give a number",
            )?;
        }
    }
    if let PlanMethod::Sequential {
        tune_at: Some(units),
        ..
    } = question.method
    {
        within(
            "tune-at",
            units,
            1.0,
            UNITS_MAX,
            "give a number of units from 2 to 1e15",
        )?;
    }
    if let PlanMethod::Sequential {
        looks: Some(looks), ..
    }
    | PlanMethod::Group { looks, .. } = question.method
        && (looks == 0 || usize::from(looks) > LOOKS_MAX)
    {
        return Err(DesignError::Looks {
            looks: usize::from(looks),
        }
        .into());
    }
    Ok(())
}

fn duration(
    traffic: &Traffic,
    curve: &StoppingCurve,
    behaviour: &Behaviour,
    units_fixed: f64,
) -> Duration {
    let days = |time: f64| traffic.days_until(time * units_fixed);
    let at = |level: f64| {
        days(
            curve
                .quantile(level)
                .unwrap_or(behaviour.maximum)
                .min(behaviour.maximum),
        )
    };
    Duration {
        days_max: days(behaviour.maximum),
        days_median: at(0.5),
        days_early: at(0.1),
        days_late: at(0.9),
    }
}

#[cfg(test)]
mod tests;
