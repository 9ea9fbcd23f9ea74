//! Asymptotic evidence for any numeric metric, from counts, means and variances per arm.
//!
//! # Validity
//! The e-value is exact for normal sums and asymptotic otherwise: it is used only above
//! [`MIN_UNITS`] units in each arm, and is not for rare events (use counts) nor for heavy tails that were
//! not winsorised (use [`values`](super::values)).
//!
//! # How it decides
//! Harm is a positive linear contrast `s (mean_t - r0 mean_c)`, `r0` the largest harmless ratio and `s` the
//! sign of the harmful direction, so the same statement covers absolute and relative change and no
//! division by a noisy mean takes place. Phases are combined with weights `n_t n_c / (n_t + n_c)`: a metric
//! that moves in time cannot imitate a difference of arms. With z-score `z` after `N` units, mixing a normal
//! alternative over positive effects gives
//! `E = 2 (1 + N rho^2)^-1/2 exp(z^2 N rho^2 / (2 (1 + N rho^2))) Phi(z sqrt(N rho^2 / (1 + N rho^2)))`
//! (Robbins 1970; one-sided mixture of Howard et al. 2021).

use tidegate_stats::special::normal_ln_sf;

use super::interval::Interval;
use crate::observation::{ArmMoments, Moments};
use crate::spec::Direction;

/// Units each arm needs before asymptotic evidence counts.
pub const MIN_UNITS: u64 = 500;
/// Units at which the mixture is tuned to be tightest.
const TUNED_UNITS: f64 = 5_000.0;

/// `rho^2` that makes the bound tightest near [`TUNED_UNITS`] at level `alpha` (Howard et al. 2021).
fn mixture_variance(alpha: f64) -> f64 {
    let l = -2.0 * (2.0 * alpha.min(0.4)).ln();
    (l + (1.0 + l).ln()) / TUNED_UNITS
}

/// A contrast of means pooled over phases.
struct Contrast {
    /// Means pooled with the same weights.
    treatment: f64,
    control: f64,
    /// Variances of the two pooled means.
    treatment_variance: f64,
    control_variance: f64,
    units: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of units are far below 2^52"
)]
fn pool(phases: &[ArmMoments]) -> Option<Contrast> {
    let variance_of_mean = |m: &Moments| {
        let n = m.count as f64;
        m.sum_of_squares / (n - 1.0) / n
    };
    let enough = |m: &Moments| m.count >= 2;
    let total = |arm: fn(&ArmMoments) -> u64| -> u64 { phases.iter().map(arm).sum() };
    let (treated, controls) = (total(|p| p.treatment.count), total(|p| p.control.count));
    if treated < MIN_UNITS || controls < MIN_UNITS {
        return None;
    }
    let mut sum = Contrast {
        treatment: 0.0,
        control: 0.0,
        treatment_variance: 0.0,
        control_variance: 0.0,
        units: 0.0,
    };
    let mut weights = 0.0;
    for phase in phases
        .iter()
        .filter(|p| enough(&p.treatment) && enough(&p.control))
    {
        let (t, c) = (phase.treatment.count as f64, phase.control.count as f64);
        let weight = t * c / (t + c);
        weights += weight;
        sum.treatment += weight * phase.treatment.mean;
        sum.control += weight * phase.control.mean;
        sum.treatment_variance += weight * weight * variance_of_mean(&phase.treatment);
        sum.control_variance += weight * weight * variance_of_mean(&phase.control);
        sum.units += t + c;
    }
    if weights <= 0.0 {
        return None;
    }
    Some(Contrast {
        treatment: sum.treatment / weights,
        control: sum.control / weights,
        treatment_variance: sum.treatment_variance / (weights * weights),
        control_variance: sum.control_variance / (weights * weights),
        units: sum.units,
    })
}

impl Contrast {
    /// z-score of `treatment - ratio * control`; `None` without variance.
    fn z(&self, ratio: f64) -> Option<f64> {
        let variance = ratio.mul_add(ratio * self.control_variance, self.treatment_variance);
        let z = (self.treatment - ratio * self.control) / variance.sqrt();
        z.is_finite().then_some(z)
    }
}

/// `ln e` against "the ratio of means is not beyond `null_ratio` in the harmful direction"; `None` below
/// [`MIN_UNITS`] or without variance.
#[must_use]
pub fn ln_e_value(
    phases: &[ArmMoments],
    direction: Direction,
    null_ratio: f64,
    alpha: f64,
) -> Option<f64> {
    let contrast = pool(phases)?;
    let sign = match direction {
        Direction::Increase => 1.0,
        Direction::Decrease => -1.0,
    };
    let z = sign * contrast.z(null_ratio)?;
    let information = contrast.units * mixture_variance(alpha);
    let shrink = information / (1.0 + information);
    let tail = normal_ln_sf(-z * shrink.sqrt());
    Some(2_f64.ln() - 0.5 * information.ln_1p() + 0.5 * z * z * shrink + tail)
}

/// Ratio of means with an asymptotic anytime-valid interval, by inverting the linear contrast (Fieller).
#[must_use]
pub fn ratio_interval(phases: &[ArmMoments], level: f64) -> Interval {
    let unknown = Interval {
        estimate: None,
        lower: None,
        upper: None,
        level,
    };
    let Some(contrast) = pool(phases) else {
        return unknown;
    };
    let alpha = 1.0 - level;
    let information = contrast.units * mixture_variance(alpha / 2.0);
    let bound_squared = (1.0 + 1.0 / information) * ((1.0 + information).ln() - 2.0 * alpha.ln());
    // (t - r c)^2 <= b (Vt + r^2 Vc), a quadratic in r.
    let a = contrast.control.powi(2) - bound_squared * contrast.control_variance;
    let b = contrast.treatment * contrast.control;
    let c = contrast.treatment.powi(2) - bound_squared * contrast.treatment_variance;
    let discriminant = b * b - a * c;
    let estimate = Some(contrast.treatment / contrast.control).filter(|r| r.is_finite());
    if a <= 0.0 || discriminant < 0.0 {
        return Interval {
            estimate,
            ..unknown
        };
    }
    let root = discriminant.sqrt();
    Interval {
        estimate,
        lower: Some((b - root) / a),
        upper: Some((b + root) / a),
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(treatment_mean: f64, count: u64) -> ArmMoments {
        let moments = |mean: f64| Moments {
            count,
            mean,
            sum_of_squares: 25.0 * (count - 1) as f64,
        };
        ArmMoments {
            treatment: moments(treatment_mean),
            control: moments(10.0),
        }
    }

    #[test]
    fn evidence_grows_with_harm_in_the_right_direction_only() {
        let ln_e =
            |mean, direction| ln_e_value(&[phase(mean, 5_000)], direction, 1.0, 0.01).unwrap();
        assert!(ln_e(10.0, Direction::Increase) < 0.0);
        assert!(ln_e(11.0, Direction::Increase) > 100_f64.ln());
        assert!(ln_e(11.0, Direction::Decrease) < 0.0);
        assert!(ln_e(9.0, Direction::Decrease) > 100_f64.ln());
        assert_eq!(
            ln_e_value(&[phase(99.0, 400)], Direction::Increase, 1.0, 0.01),
            None
        );
    }

    #[test]
    fn a_metric_that_moves_in_time_is_no_harm() {
        // The second phase has a higher level for everyone and a larger treatment share.
        let at = |mean: f64, t: u64, c: u64| {
            let arm = |count: u64| Moments {
                count,
                mean,
                sum_of_squares: (count - 1) as f64,
            };
            ArmMoments {
                treatment: arm(t),
                control: arm(c),
            }
        };
        let phases = [at(1.0, 500, 9_500), at(5.0, 5_000, 5_000)];
        assert!(ln_e_value(&phases, Direction::Increase, 1.0, 0.01).unwrap() < 0.0);
        let interval = ratio_interval(&phases, 0.95);
        assert!((interval.estimate.unwrap() - 1.0).abs() < 1e-12);
        assert!(interval.lower.unwrap() < 1.0 && interval.upper.unwrap() > 1.0);
    }
}
