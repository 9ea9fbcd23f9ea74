//! Ratios of sums: revenue per order, clicks per view, errors per request.
//!
//! # Promise
//! `R = sum M / sum D` of an arm, with the variance that respects that a unit contributes to both sums
//! and that its observations are not independent of each other.
//!
//! # Formula
//! The unit is the randomised unit.
//! Each gets the linearised score `L = (M - R D) / mu_D`, whose mean is zero and whose variance over `n`
//! units gives `Var R = (s_M^2 - 2 R s_MD + R^2 s_D^2) / (n mu_D^2)` (Deng, Knoblich and Lu, KDD 2018,
//! arXiv 1803.06336).
//! Comparisons of the two ratios then follow `effect`; history can be subtracted from the same score
//! (`cuped`).
//!
//! # When it fails
//! Where the mean of the denominator is not well away from zero: a handful of units with a denominator.
//! A denominator that is zero on average is refused.

use crate::effect::{Contrast, Estimate, enough_units};
use crate::error::{Side, StatsError, in_range};
use crate::moments::{JointMoments, JointSummary};

/// The columns of joint moments that form a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatioColumns {
    /// Column of the numerator.
    pub numerator: usize,
    /// Column of the denominator.
    pub denominator: usize,
}

/// The contrast of the ratios of two arms.
///
/// # Errors
/// If an arm has fewer than two units, lacks a column, or has a zero denominator.
pub fn contrast(
    control: &JointMoments,
    treatment: &JointMoments,
    columns: RatioColumns,
) -> Result<Contrast, StatsError> {
    Contrast::of_estimates(
        &estimate(control, columns, Side::Control)?,
        &estimate(treatment, columns, Side::Treatment)?,
    )
}

/// The ratio of one arm.
///
/// # Errors
/// As for [`contrast`].
pub fn estimate(
    moments: &JointMoments,
    columns: RatioColumns,
    side: Side,
) -> Result<Estimate, StatsError> {
    enough_units(side, moments.units(), 2)?;
    let read = [columns.numerator, columns.denominator];
    let summary = moments.summary(&read, "the moments of a ratio")?;
    let score = Score::of_ratio(&summary, columns, side)?;
    let variance = summary.form(&score.gradient, &score.gradient).max(0.0);
    Ok(Estimate {
        value: score.value,
        variance: in_range("the variance of a ratio", variance / summary.units as f64)?,
        units: summary.units,
        events: summary.events.get(columns.numerator).copied().unwrap_or(0),
    })
}

/// A mean or a ratio and the gradient that turns the columns into its linearised score.
pub(crate) struct Score {
    pub(crate) value: f64,
    /// Columns with their weights.
    pub(crate) gradient: [(usize, f64); 2],
}

impl Score {
    /// The mean of a column: its own score.
    pub(crate) fn of_mean(summary: &JointSummary, column: usize) -> Result<Self, StatsError> {
        Ok(Self {
            value: summary.mean(column)?,
            gradient: [(column, 1.0), (column, 0.0)],
        })
    }

    /// The ratio of two columns.
    pub(crate) fn of_ratio(
        summary: &JointSummary,
        columns: RatioColumns,
        side: Side,
    ) -> Result<Self, StatsError> {
        let numerator = summary.mean(columns.numerator)?;
        let denominator = summary.mean(columns.denominator)?;
        if denominator == 0.0 {
            return Err(StatsError::ZeroDenominator { side });
        }
        let value = in_range("a ratio", numerator / denominator)?;
        let weight = |weight: f64| in_range("the gradient of a ratio", weight);
        Ok(Self {
            value,
            gradient: [
                (columns.numerator, weight(1.0 / denominator)?),
                (columns.denominator, weight(-value / denominator)?),
            ],
        })
    }
}
