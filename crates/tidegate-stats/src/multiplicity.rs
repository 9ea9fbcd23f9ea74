//! Many metrics, one promise: corrections for testing more than one hypothesis.
//!
//! | procedure | promises | needs |
//! |---|---|---|
//! | [`holm`] | no false finding at all, with chance 1 - alpha | nothing |
//! | [`benjamini_hochberg`] | a share of false findings of at most alpha, on average | independent or positively dependent p-values |
//! | [`e_benjamini_hochberg`] | the same under any dependence, stopped at any time | e-values |
//! | [`graphical`] | no false finding; alpha handed on along a graph when a hypothesis falls | nothing |
//!
//! Fixed sequences and gatekeeping of primaries are graphs: [`Graph::fixed_sequence`],
//! [`Graph::gatekeeper`]. All of them keep their promise at any stopping time when they are
//! given always-valid p-values.
//!
//! **Intervals.** Adjusted p-values say nothing about sizes, and intervals solved back from them
//! are not simultaneous. [`interval_alphas`] gives the level at which each metric's own interval
//! must be computed so that the set keeps the procedure's promise: alpha/m for Holm (all intervals
//! cover together), R alpha/m for the R findings of Benjamini-Hochberg (share of findings whose
//! interval misses; Benjamini and Yekutieli 2005; for e-values Xu, Wang and Ramdas 2022).
//! Holm's test gains a little from stepping down that its simultaneous interval cannot show.
//!
//! Sources: Holm (1979); Benjamini and Hochberg (1995); Wang and Ramdas (2022); Bretz, Maurer,
//! Brannath and Posch (2009).

mod graph;

use serde::Serialize;
use thiserror::Error;

pub use graph::{Graph, graphical};

/// Why a family cannot be corrected.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FamilyError {
    /// A p-value out of range.
    #[error("p-value {index} is {value}, not between 0 and 1")]
    PValue {
        /// From 0.
        index: usize,
        /// As given.
        value: f64,
    },
    /// An e-value that is no number.
    #[error("log e-value {index} is not a number")]
    EValue {
        /// From 0.
        index: usize,
    },
    /// The error is no probability.
    #[error("alpha {alpha} is not between 0 and 1")]
    Alpha {
        /// As given.
        alpha: f64,
    },
    /// The graph does not fit the hypotheses.
    #[error(
        "the graph has weights or transitions that are negative, sum to more than 1, or do not match {hypotheses} hypotheses"
    )]
    Graph {
        /// Number of p-values.
        hypotheses: usize,
    },
}

/// Holm's adjusted p-values, in the order given: `p_(i) (m - i + 1)`, running maximum.
///
/// # Errors
/// When a p-value is out of range.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, FamilyError> {
    let order = ascending(p_values)?;
    let count = p_values.len();
    let mut adjusted = vec![0.0; count];
    let mut highest: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        highest = highest.max(p_values[index] * (count - rank) as f64);
        adjusted[index] = highest.min(1.0);
    }
    Ok(adjusted)
}

/// Benjamini and Hochberg's adjusted p-values: `p_(i) m / i`, running minimum from the top.
///
/// # Errors
/// When a p-value is out of range.
pub fn benjamini_hochberg(p_values: &[f64]) -> Result<Vec<f64>, FamilyError> {
    let order = ascending(p_values)?;
    let count = p_values.len() as f64;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut lowest: f64 = 1.0;
    for (rank, &index) in order.iter().enumerate().rev() {
        lowest = lowest.min(p_values[index] * count / (rank + 1) as f64);
        adjusted[index] = lowest;
    }
    Ok(adjusted)
}

/// Which hypotheses e-BH rejects: the R largest e-values, R the most with `e_(R) >= m/(R alpha)`.
///
/// # Errors
/// When an e-value is no number or alpha no probability.
pub fn e_benjamini_hochberg(log_e: &[f64], alpha: f64) -> Result<Vec<bool>, FamilyError> {
    check_alpha(alpha)?;
    if let Some(index) = log_e.iter().position(|value| value.is_nan()) {
        return Err(FamilyError::EValue { index });
    }
    let mut order: Vec<usize> = (0..log_e.len()).collect();
    order.sort_by(|a, b| log_e[*b].total_cmp(&log_e[*a]));
    let count = log_e.len() as f64;
    let rejected = order
        .iter()
        .enumerate()
        .filter(|(rank, index)| log_e[**index] >= (count / ((rank + 1) as f64 * alpha)).ln())
        .map(|(rank, _)| rank + 1)
        .max()
        .unwrap_or(0);
    let mut verdicts = vec![false; log_e.len()];
    for index in &order[..rejected] {
        verdicts[*index] = true;
    }
    Ok(verdicts)
}

/// What a set of intervals promises together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// All intervals cover at once, with chance 1 - alpha.
    Simultaneous,
    /// Among the findings, the share of intervals that miss is at most alpha on average.
    FalseCoverageRate,
}

/// The level for each metric's interval that keeps the promise: `None` for a metric of which
/// the promise says nothing (no finding, under [`Coverage::FalseCoverageRate`]).
#[must_use]
pub fn interval_alphas(findings: &[bool], alpha: f64, coverage: Coverage) -> Vec<Option<f64>> {
    let count = findings.len() as f64;
    let found = findings.iter().filter(|finding| **finding).count() as f64;
    findings
        .iter()
        .map(|finding| match coverage {
            Coverage::Simultaneous => Some(alpha / count),
            Coverage::FalseCoverageRate => finding.then_some(alpha * found / count),
        })
        .collect()
}

fn check_alpha(alpha: f64) -> Result<(), FamilyError> {
    if alpha > 0.0 && alpha < 1.0 {
        Ok(())
    } else {
        Err(FamilyError::Alpha { alpha })
    }
}

fn check_p_values(p_values: &[f64]) -> Result<(), FamilyError> {
    match p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(index) => Err(FamilyError::PValue {
            index,
            value: p_values[index],
        }),
        None => Ok(()),
    }
}

fn ascending(p_values: &[f64]) -> Result<Vec<usize>, FamilyError> {
    check_p_values(p_values)?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    Ok(order)
}

#[cfg(test)]
mod tests;
