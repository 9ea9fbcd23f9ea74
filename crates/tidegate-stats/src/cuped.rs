//! Variance reduction by what was known before exposure.
//!
//! # Promise
//! The effect keeps its meaning and its p-value keeps its level; only noise that history explains is
//! removed.
//! The share removed is reported with every answer, also where it is nil, and the adjusted and unadjusted
//! contrasts come from the same moments.
//!
//! # Assumptions
//! Covariates are measured before exposure, so their true means are equal in both arms.
//! A covariate the treatment can influence biases the effect.
//!
//! # Formula
//! Deng, Xu, Kohavi and Walker (WSDM 2013): subtract `beta' (X_T - X_C)` from the difference, `beta` the
//! within-arm regression of the outcome on the covariates, arms pooled; any fixed `beta` is unbiased.
//! On the relative scale the contrast is `D(theta) = (Y_T - phi Y_C) - kappa (X_T - X_C)` with `phi = 1 +
//! theta` and `kappa = beta (1 + w_T theta)`, `w_T` the share of units in treatment.
//! Since `1 + w_T theta = w_C + w_T phi`, it is the contrast `A_T - phi A_C` of two *adjusted arm means*
//!
//! - `A_T = Y_T - w_C beta' (X_T - X_C)`,
//! - `A_C = Y_C + w_T beta' (X_T - X_C)`,
//!
//! which are correlated, stays quadratic in theta, and at `theta = 0` is absolute CUPED: one p-value.
//! For ratios, outcome and covariates are replaced by linearised scores (`ratio`); a ratio may be adjusted
//! by plain columns and a mean by ratios, because only the scores enter.
//!
//! Units without history: give the covariate the value 0 and add an indicator column of having history as
//! a further covariate, which makes them a stratum of their own.
//! Covariates that are constant or linear in the others are dropped and named.

use crate::comparison::Note;
use crate::effect::{Contrast, enough_units, welch_degrees};
use crate::error::{Side, StatsError, in_range};
use crate::moments::{JointMoments, JointSummary};
use crate::ratio::{RatioColumns, Score};

/// A covariate whose variance given those before it is a smaller share than this adds only rounding.
const COLLINEAR_BELOW: f64 = 1e-10;

/// An adjusted contrast and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjustment {
    /// The contrast of the adjusted arm means; hand it to any method.
    pub contrast: Contrast,
    /// The coefficient of each covariate; zero if dropped.
    pub coefficients: Vec<f64>,
    /// Covariates (as positions in the list given) dropped because they add nothing.
    pub dropped: Vec<usize>,
    /// Share of the variance of the difference that was removed.
    pub variance_reduction: f64,
}

/// What is measured of a unit: a column, or the ratio of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The mean of a column.
    Mean(usize),
    /// The sum of one column over the sum of another.
    Ratio(RatioColumns),
}

impl Measure {
    fn score(self, summary: &JointSummary, side: Side) -> Result<Score, StatsError> {
        match self {
            Self::Mean(column) => Score::of_mean(summary, column),
            Self::Ratio(columns) => Score::of_ratio(summary, columns, side),
        }
    }

    /// The column whose units count as events.
    fn leading(self) -> usize {
        match self {
            Self::Mean(column) => column,
            Self::Ratio(columns) => columns.numerator,
        }
    }

    fn columns(self) -> [usize; 2] {
        match self {
            Self::Mean(column) => [column, column],
            Self::Ratio(columns) => [columns.numerator, columns.denominator],
        }
    }
}

/// Adjusts the means of column `outcome` by the columns `covariates`.
///
/// # Errors
/// If an arm has fewer than two units, the columns do not exist, or a moment leaves the range.
pub fn means(
    control: &JointMoments,
    treatment: &JointMoments,
    outcome: usize,
    covariates: &[usize],
) -> Result<Adjustment, StatsError> {
    let covariates: Vec<Measure> = covariates.iter().copied().map(Measure::Mean).collect();
    adjusted(control, treatment, Measure::Mean(outcome), &covariates)
}

/// Adjusts a ratio of sums by ratios of the history.
///
/// # Errors
/// As for [`means`], and if a denominator is zero on average.
pub fn ratio(
    control: &JointMoments,
    treatment: &JointMoments,
    outcome: RatioColumns,
    history: &[RatioColumns],
) -> Result<Adjustment, StatsError> {
    let covariates: Vec<Measure> = history.iter().copied().map(Measure::Ratio).collect();
    adjusted(control, treatment, Measure::Ratio(outcome), &covariates)
}

/// Adjusts a mean or a ratio by any means and ratios of the history: what counts is each one's score.
///
/// # Errors
/// As for [`ratio`].
pub fn adjusted(
    control: &JointMoments,
    treatment: &JointMoments,
    outcome: Measure,
    covariates: &[Measure],
) -> Result<Adjustment, StatsError> {
    let read: Vec<usize> = std::iter::once(&outcome)
        .chain(covariates)
        .flat_map(|measure| measure.columns())
        .collect();
    let arm = |moments: &JointMoments, side: Side| {
        enough_units(side, moments.units(), 2)?;
        let summary = moments.summary(&read, "the moments of a covariate")?;
        let scores: Result<Vec<Score>, StatsError> = covariates
            .iter()
            .map(|measure| measure.score(&summary, side))
            .collect();
        let score = outcome.score(&summary, side)?;
        Ok(Arm::of(&summary, &score, &scores?, outcome.leading()))
    };
    adjust(
        &arm(control, Side::Control)?,
        &arm(treatment, Side::Treatment)?,
    )
}

/// Outcome and covariates of one arm: estimates, and covariances of their per-unit scores.
struct Arm {
    units: u64,
    events: u64,
    outcome: f64,
    covariates: Vec<f64>,
    outcome_variance: f64,
    outcome_covariances: Vec<f64>,
    covariate_covariances: Vec<Vec<f64>>,
}

impl Arm {
    fn of(summary: &JointSummary, outcome: &Score, covariates: &[Score], column: usize) -> Self {
        Self {
            units: summary.units,
            events: summary.events.get(column).copied().unwrap_or(0),
            outcome: outcome.value,
            covariates: covariates.iter().map(|score| score.value).collect(),
            outcome_variance: summary.form(&outcome.gradient, &outcome.gradient).max(0.0),
            outcome_covariances: covariates
                .iter()
                .map(|score| summary.form(&outcome.gradient, &score.gradient))
                .collect(),
            covariate_covariances: covariates
                .iter()
                .map(|left| {
                    covariates
                        .iter()
                        .map(|right| summary.form(&left.gradient, &right.gradient))
                        .collect()
                })
                .collect(),
        }
    }

    fn weight(&self) -> f64 {
        (self.units - 1) as f64
    }

    /// Variance of the outcome, of `beta' X`, and their covariance, for one unit.
    fn parts(&self, beta: &[f64]) -> Parts {
        let crossed = dot(beta, &self.outcome_covariances);
        let explained = self
            .covariate_covariances
            .iter()
            .zip(beta)
            .map(|(row, b)| b * dot(row, beta))
            .sum();
        Parts {
            outcome: self.outcome_variance,
            crossed,
            explained,
        }
    }
}

struct Parts {
    outcome: f64,
    crossed: f64,
    explained: f64,
}

impl Parts {
    /// `Var(Y - k beta' X)`.
    fn residual(&self, k: f64) -> f64 {
        (self.outcome - 2.0 * k * self.crossed + k * k * self.explained).max(0.0)
    }
}

fn adjust(control: &Arm, treatment: &Arm) -> Result<Adjustment, StatsError> {
    let (coefficients, dropped) = pooled_regression(control, treatment);
    let (in_control, in_treatment) = (control.parts(&coefficients), treatment.parts(&coefficients));
    let (n_control, n_treatment) = (control.units as f64, treatment.units as f64);
    let share_treatment = n_treatment / (n_control + n_treatment);
    let share_control = n_control / (n_control + n_treatment);
    let imbalance: f64 = coefficients
        .iter()
        .zip(treatment.covariates.iter().zip(&control.covariates))
        .map(|(beta, (treated, untreated))| beta * (treated - untreated))
        .sum();
    let parts = [
        in_control.residual(1.0) / n_control,
        in_treatment.residual(1.0) / n_treatment,
    ];
    let units = [control.units, treatment.units];
    let unadjusted = in_control.outcome / n_control + in_treatment.outcome / n_treatment;
    let variance_difference = in_range("the adjusted variance", parts[0] + parts[1])?;
    let variance_reduction = if unadjusted > 0.0 {
        1.0 - variance_difference / unadjusted
    } else {
        0.0
    };
    // Cov(A_T - A_C, A_C), arm by arm.
    let from_treatment = share_treatment * (in_treatment.crossed - in_treatment.explained);
    let from_control = in_control.outcome - (1.0 + share_treatment) * in_control.crossed
        + share_treatment * in_control.explained;
    let contrast = Contrast {
        control: in_range(
            "the adjusted mean",
            control.outcome + share_treatment * imbalance,
        )?,
        treatment: in_range(
            "the adjusted mean",
            treatment.outcome - share_control * imbalance,
        )?,
        difference: in_range(
            "the adjusted difference",
            (treatment.outcome - control.outcome) - imbalance,
        )?,
        variance_difference,
        variance_control: in_range(
            "the adjusted variance",
            in_control.residual(share_treatment) / n_control
                + share_treatment * share_treatment * in_treatment.explained / n_treatment,
        )?,
        covariance_difference_control: from_treatment / n_treatment - from_control / n_control,
        parts,
        degrees: welch_degrees(parts, units),
        units,
        events: [control.events, treatment.events],
        constant: [in_control.outcome == 0.0, in_treatment.outcome == 0.0],
        remarks: vec![Note::VarianceReduction {
            share: variance_reduction,
        }],
    };
    Ok(Adjustment {
        contrast,
        coefficients,
        dropped,
        variance_reduction,
    })
}

/// The within-arm regression, arms pooled, by Cholesky's decomposition of the correlation matrix; a
/// covariate whose pivot vanishes is dropped.
fn pooled_regression(control: &Arm, treatment: &Arm) -> (Vec<f64>, Vec<usize>) {
    let count = control.covariates.len();
    let pooled = |left: f64, right: f64| {
        let total = control.weight() + treatment.weight();
        left * (control.weight() / total) + right * (treatment.weight() / total)
    };
    let covariance = |i: usize, j: usize| {
        pooled(
            control.covariate_covariances[i][j],
            treatment.covariate_covariances[i][j],
        )
    };
    let scales: Vec<f64> = (0..count)
        .map(|i| covariance(i, i).max(0.0).sqrt())
        .collect();
    let mut factor = vec![vec![0.0; count]; count];
    let mut kept = vec![false; count];
    let mut forward = vec![0.0; count];
    for i in 0..count {
        if scales[i] == 0.0 {
            continue;
        }
        for j in 0..i {
            if kept[j] {
                let correlation = covariance(i, j) / scales[i] / scales[j];
                factor[i][j] = (correlation - dot(&factor[i][..j], &factor[j][..j])) / factor[j][j];
            }
        }
        let pivot = 1.0 - dot(&factor[i][..i], &factor[i][..i]);
        if pivot < COLLINEAR_BELOW {
            factor[i].fill(0.0);
            continue;
        }
        kept[i] = true;
        factor[i][i] = pivot.sqrt();
        let outcome = pooled(
            control.outcome_covariances[i],
            treatment.outcome_covariances[i],
        ) / scales[i];
        forward[i] = (outcome - dot(&factor[i][..i], &forward[..i])) / factor[i][i];
    }
    let mut beta = vec![0.0; count];
    for i in (0..count).rev().filter(|i| kept[*i]) {
        let later: f64 = (i + 1..count).map(|j| factor[j][i] * beta[j]).sum();
        beta[i] = (forward[i] - later) / factor[i][i];
    }
    for (coefficient, scale) in beta.iter_mut().zip(&scales) {
        if *scale > 0.0 {
            *coefficient /= scale;
        }
    }
    let dropped = (0..count).filter(|i| !kept[*i]).collect();
    (beta, dropped)
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}
