//! What a programme of experiments truly won: effects shrunk towards what such experiments usually find.
//!
//! # Promise
//! Experiments that were picked because they looked good look better than they are.
//! The sum of the shrunken effects of the winners is right on average, the naive sum is given beside it.
//!
//! # Assumptions
//! True effects of the programme's experiments are draws from one normal distribution, unknown in mean and spread;
//! all experiments are given, not the winners alone.
//! Estimates are normal around their true effect with known standard errors.
//!
//! # Formula
//! Empirical Bayes: the spread `tau^2` of true effects solves `sum w_i (d_i - mu)^2 = k - 1` with
//! `w_i = 1 / (s_i^2 + tau^2)` and `mu = sum w_i d_i / sum w_i` (Paule and Mandel 1982), zero where even that is
//! too much.
//! An effect is then `(tau^2 d_i + s_i^2 mu) / (tau^2 + s_i^2)`.
//! A posterior does not depend on why an experiment was picked, so its sum over winners is not biased by the
//! choice; the positive-part estimator of James and Stein is the case of equal standard errors.
//!
//! # When it fails
//! Fewer than [`FEWEST`] experiments tell too little of the spread and are refused.
//! Where most effects are nothing and a few are huge, a normal distribution shrinks the huge ones too much.

use serde::Serialize;

use crate::bisection::bisect;
use crate::comparison::Tail;
use crate::error::{StatsError, finite, in_range, open_unit, positive};
use crate::fixed::multiplier;

/// Fewest experiments a spread can be told from.
pub const FEWEST: usize = 6;

/// Most experiments accepted.
pub const MOST: usize = 1_000_000;

/// The effect an experiment found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Its estimate, on a scale that all experiments share.
    pub estimate: f64,
    /// The standard error of the estimate.
    pub standard_error: f64,
}

/// A programme, shrunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Programme {
    /// Mean of true effects.
    pub mean: f64,
    /// Standard deviation of true effects.
    pub spread: f64,
    /// The effect of each experiment, shrunk, in the order given.
    pub effects: Vec<f64>,
    /// Winners: significantly above zero, each on its own.
    pub winners: Vec<usize>,
    /// Sum of the winners' estimates as found.
    pub sum_naive: f64,
    /// Sum of the winners' effects, shrunk.
    pub sum_shrunken: f64,
    /// Standard error of the latter, mean and spread of true effects taken as known.
    pub sum_standard_error: f64,
}

/// Shrinks the effects of a programme; winners are those above zero at `alpha`, two-sided.
///
/// # Errors
/// With fewer than [`FEWEST`] experiments, more than [`MOST`], or a number out of range.
pub fn shrink(findings: &[Finding], alpha: f64) -> Result<Programme, StatsError> {
    let alpha = open_unit("alpha", alpha)?;
    if findings.len() < FEWEST {
        return Err(StatsError::Option {
            name: "experiments",
            value: findings.len() as f64,
            rule: "at least 6, to tell how far true effects spread",
        });
    }
    if findings.len() > MOST {
        return Err(StatsError::TooLarge {
            what: "experiments",
            size: findings.len() as u64,
            limit: MOST as u64,
        });
    }
    for finding in findings {
        finite("the estimate", finding.estimate)?;
        positive("standard_error", finding.standard_error)?;
    }
    let variance = spread(findings)?;
    let mean = in_range("the mean effect", weighted(findings, variance).0)?;
    let effects: Vec<f64> = findings
        .iter()
        .map(|finding| {
            let noise = finding.standard_error * finding.standard_error;
            let kept = variance / (variance + noise);
            mean + kept * (finding.estimate - mean)
        })
        .collect();
    let limit = multiplier(alpha, f64::INFINITY, Tail::TwoSided);
    let winners: Vec<usize> = (0..findings.len())
        .filter(|index| findings[*index].estimate > limit * findings[*index].standard_error)
        .collect();
    let total =
        |value: &dyn Fn(usize) -> f64| winners.iter().map(|index| value(*index)).sum::<f64>();
    let sum_variance = total(&|index| {
        let noise = findings[index].standard_error * findings[index].standard_error;
        variance * (noise / (variance + noise))
    });
    Ok(Programme {
        mean,
        spread: variance.sqrt(),
        sum_naive: in_range(
            "the sum of effects",
            total(&|index| findings[index].estimate),
        )?,
        sum_shrunken: in_range("the sum of effects", total(&|index| effects[index]))?,
        sum_standard_error: in_range("the variance of a sum", sum_variance)?.sqrt(),
        effects,
        winners,
    })
}

/// The variance of true effects by Paule and Mandel.
fn spread(findings: &[Finding]) -> Result<f64, StatsError> {
    let expected = (findings.len() - 1) as f64;
    let excess = |variance: f64| weighted(findings, variance).1 - expected;
    if excess(0.0) <= 0.0 {
        return Ok(0.0);
    }
    let mut high = findings
        .iter()
        .map(|finding| finding.standard_error * finding.standard_error)
        .fold(f64::MIN_POSITIVE, f64::max);
    while excess(high) > 0.0 {
        high = in_range("the spread of effects", 4.0 * high)?;
    }
    Ok(bisect(0.0, high, 0.0, |variance| excess(variance) > 0.0).middle())
}

/// The weighted mean and the weighted sum of squares around it.
fn weighted(findings: &[Finding], variance: f64) -> (f64, f64) {
    let weight = |finding: &Finding| {
        1.0 / (finding.standard_error * finding.standard_error + variance).max(f64::MIN_POSITIVE)
    };
    let total: f64 = findings.iter().map(weight).sum();
    let mean = findings
        .iter()
        .map(|finding| weight(finding) / total * finding.estimate)
        .sum::<f64>();
    let squares = findings
        .iter()
        .map(|finding| weight(finding) * (finding.estimate - mean).powi(2))
        .sum();
    (mean, squares)
}
