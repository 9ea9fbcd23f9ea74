//! Bayesian comparison with a proper normal prior.
//!
//! # Promise
//! If effects are drawn from the prior and estimates are normal, the credible sets contain the true effect
//! with the stated probability, the chance to win is calibrated, and the expected losses are those of
//! shipping either arm now, at whatever moment one stops.
//! No promise is made about long-run error rates under a fixed null; use `sequential` for that.
//!
//! # Formula
//! Precisions add and means are weighted by precision: with estimate `d`, variance `v`, prior `N(mu0,
//! tau^2)`, the posterior has `1/s^2 = 1/v + 1/tau^2` and `mu = s^2 (d/v + mu0/tau^2)`.
//! Chance to win `Phi(mu/s)`; expected loss of shipping treatment `s pdf(mu/s) - mu Phi(-mu/s)`, of keeping
//! control `s pdf(mu/s) + mu Phi(mu/s)`.
//! A prior on the relative scale is multiplied by `|m_C|`.
//! The control mean is updated along with the difference (their joint posterior is normal too), so the
//! relative credible set again inverts a linear contrast and agrees with the absolute one about zero.
//!
//! # When it fails
//! A prior narrower than effects really are shrinks true wins away; estimate it from past experiments.

use serde::Serialize;

use crate::arm::ArmSummary;
use crate::comparison::{Effect, Method, Note, Null, Parameters, Relative, Tail};
use crate::effect::Contrast;
use crate::error::{StatsError, finite, in_range, open_unit, positive};
use crate::special::{normal_cdf, normal_pdf, normal_upper_quantile_ln};

/// What is believed of the effect before seeing data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Prior {
    /// Normal on the absolute scale.
    Absolute {
        /// Mean.
        mean: f64,
        /// Standard deviation, positive.
        sd: f64,
    },
    /// Normal on the relative scale.
    Relative {
        /// Mean.
        mean: f64,
        /// Standard deviation, positive.
        sd: f64,
    },
}

/// How to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BayesOptions {
    /// One minus the probability of the credible sets.
    pub alpha: f64,
    /// The prior.
    pub prior: Prior,
}

impl Default for BayesOptions {
    /// 95 % sets under a prior that finds relative effects beyond 10 % surprising.
    fn default() -> Self {
        Self {
            alpha: 0.05,
            prior: Prior::Relative {
                mean: 0.0,
                sd: 0.05,
            },
        }
    }
}

/// The posterior, read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BayesComparison {
    /// Units in control.
    pub units_control: u64,
    /// Units in treatment.
    pub units_treatment: u64,
    /// The metric in control, as observed.
    pub value_control: f64,
    /// The metric in treatment, as observed.
    pub value_treatment: f64,
    /// Posterior mean and credible interval of the difference.
    pub absolute: Effect,
    /// The same as a share of the baseline.
    pub relative: Relative,
    /// Posterior standard deviation of the difference.
    pub posterior_sd: f64,
    /// Probability that treatment is above control.
    pub chance_to_win: f64,
    /// Expected loss of shipping treatment, in units of the metric.
    pub loss_if_shipped: f64,
    /// Expected loss of keeping control, in units of the metric.
    pub loss_if_kept: f64,
    /// How it was computed.
    pub method: Method,
    /// What else to know.
    pub notes: Vec<Note>,
}

/// Compares two arm means.
///
/// # Errors
/// For arms or options that allow no answer; see [`StatsError`].
pub fn compare(
    control: &ArmSummary,
    treatment: &ArmSummary,
    options: &BayesOptions,
) -> Result<BayesComparison, StatsError> {
    compare_contrast(&Contrast::of_means(control, treatment)?, options)
}

/// Compares any two estimates.
///
/// # Errors
/// For estimates or options that allow no answer; see [`StatsError`].
pub fn compare_contrast(
    contrast: &Contrast,
    options: &BayesOptions,
) -> Result<BayesComparison, StatsError> {
    let alpha = open_unit("alpha", options.alpha)?;
    let posterior = Posterior::of(contrast, &options.prior)?;
    let multiplier = normal_upper_quantile_ln((0.5 * alpha).ln());
    let relative = posterior.contrast.relative(multiplier, Tail::TwoSided);
    let sd = posterior.contrast.standard_error()?;
    let mean = posterior.contrast.difference;
    let z = mean / sd;
    let [units_control, units_treatment] = contrast.units;
    Ok(BayesComparison {
        units_control,
        units_treatment,
        value_control: contrast.control,
        value_treatment: contrast.treatment,
        absolute: posterior.contrast.absolute(multiplier, Tail::TwoSided)?,
        notes: posterior.contrast.notes(&relative),
        relative,
        posterior_sd: sd,
        chance_to_win: normal_cdf(z),
        loss_if_shipped: expected_excess(-mean, sd),
        loss_if_kept: expected_excess(mean, sd),
        method: Method {
            name: "bayesian",
            alpha,
            tail: Tail::TwoSided,
            multiplier: Some(multiplier),
            parameters: Parameters::Bayesian {
                prior_mean: posterior.prior_mean,
                prior_sd: posterior.prior_sd,
            },
            promise: "contains the effect with probability 1 - alpha if effects are drawn from the \
                      prior",
            assumptions: &[
                "units are independent",
                "estimates are normal with known variance",
                "the prior describes the effects of changes like this one",
            ],
        },
    })
}

/// `E max(X, 0)` for a normal variable.
fn expected_excess(mean: f64, sd: f64) -> f64 {
    let z = mean / sd;
    (sd * normal_pdf(z) + mean * normal_cdf(z)).max(0.0)
}

/// A normal posterior of the difference and the control mean together.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    contrast: Contrast,
    prior_mean: f64,
    prior_sd: f64,
}

impl Posterior {
    /// Updates a prior by a contrast.
    ///
    /// # Errors
    /// If the prior is improper, neither arm varies, or the prior is relative and the baseline zero.
    pub fn of(contrast: &Contrast, prior: &Prior) -> Result<Self, StatsError> {
        let (mean, sd, scale) = match *prior {
            Prior::Absolute { mean, sd } => (mean, sd, 1.0),
            Prior::Relative { mean, sd } => (mean, sd, contrast.control.abs()),
        };
        positive("prior sd", sd)?;
        let prior_mean = in_range("the prior", finite("prior mean", mean)? * scale)?;
        let prior_sd = positive("prior sd on the absolute scale", sd * scale)?;
        let sd = contrast.standard_error()?;
        // The share of the data in the posterior mean, written so that no square overflows.
        let weight = 1.0 / (1.0 + (sd / prior_sd) * (sd / prior_sd));
        let mut updated = contrast.clone();
        let surprise = (prior_mean - contrast.difference) * (1.0 - weight);
        let slope = contrast.covariance_difference_control / contrast.variance_difference;
        updated.difference += surprise;
        updated.control += slope * surprise;
        updated.treatment = updated.control + updated.difference;
        updated.variance_difference = contrast.variance_difference * weight;
        updated.covariance_difference_control = contrast.covariance_difference_control * weight;
        updated.variance_control = contrast.variance_control
            - slope * contrast.covariance_difference_control * (1.0 - weight);
        Ok(Self {
            contrast: updated,
            prior_mean,
            prior_sd,
        })
    }

    /// The probability that the effect lies above the null, or below it.
    ///
    /// # Errors
    /// If the null is not finite.
    pub fn probability_beyond(&self, null: Null, above: bool) -> Result<f64, StatsError> {
        let z = self.contrast.statistic(null)?;
        Ok(if above { normal_cdf(z) } else { normal_cdf(-z) })
    }
}
