//! Sample ratio mismatch: does the traffic arrive in the shares the flag served?
//!
//! **Why first.** A skewed split is a broken experiment: lost exposures, redirects, bots, a crash
//! in one arm. No estimate behind it can be trusted, so the quality gate asks this before any
//! other question.
//!
//! **Three answers.**
//! - *chi-square*: Pearson's test, for one look at the end. Peeked at after every unit from 100
//!   to 200,000 its .001 version fires in 6.3 % of healthy experiments, so it never raises an alarm here.
//! - *exact*: the binomial or multinomial probability of all outcomes no likelier than the one
//!   seen, where enumeration is feasible.
//! - *sequential*: the Dirichlet-multinomial e-process of Lindon and Malek (NeurIPS 2022),
//!   `E = B(a + x) / B(a) / prod p_j^{x_j}` with `a_j = A p_j`. `P(E ever reaches 1/alpha) <= alpha`
//!   (Ville), so it may be looked at after every unit for ever. **This one raises the alarm.**
//!
//! **Ramps.** When the allocation changes a new [`Phase`] begins. E multiplies over phases, each
//! with its own shares from the flag's own history; chi-square statistics and degrees add.
//! A ramp from 100/0 over 90/10 to 50/50 is silent.
//!
//! **An arm of weight zero** has no degree of freedom. Units in it are impossible under the
//! allocation and raise an alarm of their own.
//!
//! **When it fails.** Units must be independent and counted once; a unit counted in two arms is
//! another check.

mod exact;
mod sequential;

use serde::Serialize;
use thiserror::Error;

pub use sequential::{PRIOR_STRENGTH, log_e};

use crate::special::chi_square_sf;

/// Most arms in one allocation.
pub const ARMS_MAX: usize = 1_000;
/// Counts above this are not exact in double precision.
pub const COUNT_MAX: u64 = 1 << 53;
/// Smallest share of an arm that is served at all.
const SMALLEST_SHARE: f64 = 1e-9;

/// A stretch of time with one allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Relative shares as served, any scale; zero means "not served".
    pub weights: Vec<f64>,
    /// Units first seen in each arm during the phase.
    pub counts: Vec<u64>,
}

/// How the sequential check is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SrmOptions {
    /// Chance of a false alarm, ever.
    pub alpha: f64,
    /// Prior strength `A`: large finds small skews late, small finds large skews early.
    pub prior_strength: f64,
}

impl Default for SrmOptions {
    fn default() -> Self {
        Self {
            alpha: 0.001,
            prior_strength: PRIOR_STRENGTH,
        }
    }
}

/// Why counts and weights cannot be checked.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SrmError {
    /// Nothing to check.
    #[error("no allocation phase; give counts and weights")]
    NoPhase,
    /// Counts and weights disagree in number.
    #[error(
        "phase {phase}: {counts} counts for {weights} weights; give one of each per arm, the same \
         arms in every phase, and at most {ARMS_MAX}"
    )]
    Shape {
        /// From 1.
        phase: usize,
        /// Number of counts.
        counts: usize,
        /// Number of weights.
        weights: usize,
    },
    /// A split needs two arms.
    #[error("phase {phase}: a split has at least two arms")]
    OneArm {
        /// From 1.
        phase: usize,
    },
    /// A weight that is no share.
    #[error("phase {phase}, arm {arm}: weight {weight} is not a finite number of at least 0")]
    Weight {
        /// From 1.
        phase: usize,
        /// From 1.
        arm: usize,
        /// As given.
        weight: f64,
    },
    /// A weight so small beside the others that its share is lost.
    #[error("phase {phase}, arm {arm}: weight {weight:e} is no share beside the others; use 0")]
    WeightTooSmall {
        /// From 1.
        phase: usize,
        /// From 1.
        arm: usize,
        /// As given.
        weight: f64,
    },
    /// The weights sum to nothing, or to more than a number.
    #[error("phase {phase}: the weights sum to {sum}; at least one must be positive")]
    WeightSum {
        /// From 1.
        phase: usize,
        /// The sum.
        sum: f64,
    },
    /// A count beyond exact arithmetic.
    #[error("phase {phase}: {count} units are more than {COUNT_MAX}")]
    Count {
        /// From 1.
        phase: usize,
        /// As given, saturated.
        count: u64,
    },
    /// The error is no probability, or the prior no strength.
    #[error(
        "alpha {alpha} must be between 0 and 1 and the prior strength {prior_strength} positive and finite"
    )]
    Options {
        /// As given.
        alpha: f64,
        /// As given.
        prior_strength: f64,
    },
}

/// Pearson's test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChiSquare {
    /// Sum of (observed - expected)^2 / expected over arms of positive weight and phases.
    pub statistic: f64,
    /// Arms of positive weight less one, summed over phases.
    pub df: usize,
    /// Valid for one look.
    pub p_value: f64,
}

/// The exact test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Exact {
    /// Chance of an outcome no likelier than the one seen.
    pub p_value: f64,
}

/// The e-process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SequentialSrm {
    /// Natural logarithm of E.
    pub log_e: f64,
    /// `min(1, 1/E)`: valid at any time.
    pub p_value: f64,
    /// Chance of a false alarm, ever.
    pub alpha: f64,
    /// Prior strength `A`.
    pub prior_strength: f64,
    /// E reached 1/alpha.
    pub alarm: bool,
}

/// One arm's traffic over all phases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ArmTraffic {
    /// Units seen.
    pub count: u64,
    /// Units expected under the allocation.
    pub expected: f64,
    /// Any-time bounds on the true share, for one phase only; joint over the arms at
    /// `1 - alpha`.
    pub share_bounds: Option<(f64, f64)>,
}

/// What the check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SrmReport {
    /// Pearson's test.
    pub chi_square: ChiSquare,
    /// The exact test, where feasible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<Exact>,
    /// The e-process, which decides.
    pub sequential: SequentialSrm,
    /// Arms (from 0) with units while their weight was zero: an alarm of its own.
    pub unserved_arms_with_units: Vec<usize>,
    /// Traffic by arm.
    pub arms: Vec<ArmTraffic>,
    /// The split is not what was served.
    pub alarm: bool,
    /// One sentence.
    pub summary: String,
}

/// Checks counts against the allocation of each phase.
///
/// # Errors
/// When counts and weights are no allocation; see [`SrmError`].
pub fn check(phases: &[Phase], options: &SrmOptions) -> Result<SrmReport, SrmError> {
    validate(phases, options)?;
    let normalised: Vec<Served> = phases.iter().map(Served::of).collect();
    let chi_square = chi_square(&normalised);
    let exact = match normalised.as_slice() {
        [only] => exact::p_value(&only.shares, &only.counts),
        _ => None,
    };
    let sequential = sequential_answer(&normalised, options);
    let unserved = unserved_arms_with_units(phases);
    let arms = arm_traffic(phases, options);
    let alarm = sequential.alarm || !unserved.is_empty();
    let summary = summarise(&sequential, &unserved);
    Ok(SrmReport {
        chi_square,
        exact: exact.map(|p_value| Exact { p_value }),
        sequential,
        unserved_arms_with_units: unserved,
        arms,
        alarm,
        summary,
    })
}

/// The arms of positive weight of one phase, shares summing to one.
struct Served {
    shares: Vec<f64>,
    counts: Vec<f64>,
}

impl Served {
    fn of(phase: &Phase) -> Self {
        let sum: f64 = phase.weights.iter().sum();
        let (shares, counts) = phase
            .weights
            .iter()
            .zip(&phase.counts)
            .filter(|(weight, _)| **weight > 0.0)
            .map(|(weight, count)| (weight / sum, count_as_f64(*count)))
            .unzip();
        Self { shares, counts }
    }
}

/// Exact: counts are checked to be at most [`COUNT_MAX`].
fn count_as_f64(count: u64) -> f64 {
    count as f64
}

fn validate(phases: &[Phase], options: &SrmOptions) -> Result<(), SrmError> {
    let SrmOptions {
        alpha,
        prior_strength,
    } = *options;
    if !(alpha > 0.0 && alpha < 1.0 && prior_strength > 0.0 && prior_strength.is_finite()) {
        return Err(SrmError::Options {
            alpha,
            prior_strength,
        });
    }
    let arms = phases.first().ok_or(SrmError::NoPhase)?.weights.len();
    for (index, Phase { weights, counts }) in phases.iter().enumerate() {
        let phase = index + 1;
        if counts.len() != weights.len() || counts.len() != arms || arms > ARMS_MAX {
            return Err(SrmError::Shape {
                phase,
                counts: counts.len(),
                weights: weights.len(),
            });
        }
        if arms < 2 {
            return Err(SrmError::OneArm { phase });
        }
        if let Some(arm) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(SrmError::Weight {
                phase,
                arm: arm + 1,
                weight: weights[arm],
            });
        }
        let sum: f64 = weights.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(SrmError::WeightSum { phase, sum });
        }
        let is_lost = |weight: &f64| *weight > 0.0 && weight / sum < SMALLEST_SHARE;
        if let Some(arm) = weights.iter().position(is_lost) {
            return Err(SrmError::WeightTooSmall {
                phase,
                arm: arm + 1,
                weight: weights[arm],
            });
        }
        let total = counts
            .iter()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        if total > COUNT_MAX {
            return Err(SrmError::Count {
                phase,
                count: total,
            });
        }
    }
    Ok(())
}

fn chi_square(phases: &[Served]) -> ChiSquare {
    let mut statistic = 0.0;
    let mut df = 0;
    for Served { shares, counts } in phases {
        let total: f64 = counts.iter().sum();
        df += shares.len().saturating_sub(1);
        if total > 0.0 {
            statistic += shares
                .iter()
                .zip(counts)
                .map(|(share, count)| (count - total * share).powi(2) / (total * share))
                .sum::<f64>();
        }
    }
    let p_value = if df == 0 {
        1.0
    } else {
        chi_square_sf(statistic, df as f64)
    };
    ChiSquare {
        statistic,
        df,
        p_value,
    }
}

fn sequential_answer(phases: &[Served], options: &SrmOptions) -> SequentialSrm {
    let log_e: f64 = phases
        .iter()
        .map(|phase| log_e(&phase.shares, &phase.counts, options.prior_strength))
        .sum();
    SequentialSrm {
        log_e,
        p_value: (-log_e).exp().min(1.0),
        alpha: options.alpha,
        prior_strength: options.prior_strength,
        alarm: log_e >= -options.alpha.ln(),
    }
}

fn unserved_arms_with_units(phases: &[Phase]) -> Vec<usize> {
    let arms = phases.first().map_or(0, |phase| phase.weights.len());
    (0..arms)
        .filter(|&arm| {
            phases
                .iter()
                .any(|phase| phase.weights[arm] == 0.0 && phase.counts[arm] > 0)
        })
        .collect()
}

fn arm_traffic(phases: &[Phase], options: &SrmOptions) -> Vec<ArmTraffic> {
    let arms = phases.first().map_or(0, |phase| phase.weights.len());
    (0..arms)
        .map(|arm| {
            let share_bounds = match phases {
                [only] => sequential::share_bounds(&only.counts, arm, options),
                _ => None,
            };
            ArmTraffic {
                count: phases.iter().map(|phase| phase.counts[arm]).sum(),
                expected: phases.iter().map(|phase| expected(phase, arm)).sum(),
                share_bounds,
            }
        })
        .collect()
}

fn expected(phase: &Phase, arm: usize) -> f64 {
    let total: u64 = phase.counts.iter().sum();
    count_as_f64(total) * phase.weights[arm] / phase.weights.iter().sum::<f64>()
}

fn summarise(sequential: &SequentialSrm, unserved: &[usize]) -> String {
    let limit = 1.0 / sequential.alpha;
    if !unserved.is_empty() {
        let arms: Vec<String> = unserved.iter().map(|arm| format!("{}", arm + 1)).collect();
        return format!(
            "Units arrived in arm {} while it was not served: assignment or logging is broken.",
            arms.join(", ")
        );
    }
    if sequential.alarm {
        return format!(
            "The split is not the one that was served: the evidence against it is E = e^{:.2}, past the \
             alarm limit of {limit:.0}. Find the cause before reading any result.",
            sequential.log_e
        );
    }
    format!(
        "No alarm: the evidence against the served split is E = e^{:.2}, below the limit of {limit:.0}.",
        sequential.log_e
    )
}

#[cfg(test)]
mod tests;
