//! A/A self-test of an aggregated counter: may its evidence be believed?
//!
//! # How it decides
//! Both arms get the same variant (or the control split is cut in two), and the counter is read for a while.
//! 1. *Dispersion*: per block, `(x - mean)^2 / variance` of treatment failures under the hypergeometric law; the
//!    sum over blocks is chi-square. Clustering (retries, heavy users) inflates it. Failing: p < 0.01.
//! 2. *False alarm*: the evidence for harm, and for its mirror image, must stay below 20 throughout.
//! 3. *Enough to tell*: at least 30 informative blocks and 100 failures, else the test has not been passed.

use serde::Serialize;
use tidegate_stats::special::chi_square_sf;

use super::blocks;
use super::prior::RatioPrior;
use crate::observation::{ArmCounts, Block};

const MIN_BLOCKS: usize = 30;
const MIN_FAILURES: u64 = 100;
const MIN_DISPERSION_P: f64 = 0.01;
const MAX_FALSE_EVIDENCE: f64 = 20.0;

/// Outcome of an A/A self-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct SelfTest {
    /// Whether a guard on this counter may roll back.
    pub passed: bool,
    /// Informative blocks seen.
    pub blocks: usize,
    /// Failures seen, both arms.
    pub failures: u64,
    /// Observed variance of treatment failures over the expected one; 1 when requests are independent.
    pub dispersion: f64,
    /// Probability of a dispersion this large with independent requests.
    pub dispersion_p: f64,
    /// Largest `ln e`, in either direction.
    pub largest_ln_e: f64,
    /// The verdict for people.
    pub reason: String,
}

/// Judges the blocks of an A/A period.
pub fn judge(history: &[Block]) -> SelfTest {
    let informative: Vec<Block> = history
        .iter()
        .copied()
        .filter(blocks::is_informative)
        .collect();
    let failures = informative.iter().map(|block| block.failures.total()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a number of blocks")]
    let degrees = informative.len().max(1) as f64;
    let statistic: f64 = informative.iter().map(standardized_square).sum();
    let dispersion_p = chi_square_sf(statistic, degrees);
    let largest_ln_e = largest_evidence(&informative);
    let enough = informative.len() >= MIN_BLOCKS && failures >= MIN_FAILURES;
    let reason = if !enough {
        format!(
            "not enough to tell: {} of {MIN_BLOCKS} blocks, {failures} of {MIN_FAILURES} failures",
            informative.len()
        )
    } else if dispersion_p < MIN_DISPERSION_P {
        "failures cluster: requests are not independent, count first failing units instead".into()
    } else if largest_ln_e >= MAX_FALSE_EVIDENCE.ln() {
        "the arms differ although both get the same variant".into()
    } else {
        "failures behave like independent requests".into()
    };
    let passed =
        enough && dispersion_p >= MIN_DISPERSION_P && largest_ln_e < MAX_FALSE_EVIDENCE.ln();
    SelfTest {
        passed,
        blocks: informative.len(),
        failures,
        dispersion: statistic / degrees,
        dispersion_p,
        largest_ln_e,
        reason,
    }
}

/// `(x - mean)^2 / variance` of treatment failures given all margins.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^52"
)]
fn standardized_square(block: &Block) -> f64 {
    let (n, m) = (
        block.requests.treatment as f64,
        block.requests.control as f64,
    );
    let (failures, total) = (block.failures.total() as f64, n + m);
    let mean = failures * n / total;
    let variance = mean * (m / total) * (total - failures) / (total - 1.0).max(1.0);
    if variance > 0.0 {
        (block.failures.treatment as f64 - mean).powi(2) / variance
    } else {
        0.0
    }
}

fn largest_evidence(informative: &[Block]) -> f64 {
    let swap = |c: ArmCounts| ArmCounts {
        treatment: c.control,
        control: c.treatment,
    };
    let mirrored: Vec<Block> = informative
        .iter()
        .map(|b| Block {
            requests: swap(b.requests),
            failures: swap(b.failures),
        })
        .collect();
    let prior = RatioPrior::increase();
    let peak = |blocks: &[Block]| {
        // Evidence is a running product: its peak is found at some prefix.
        (1..=blocks.len())
            .step_by((blocks.len() / 64).max(1))
            .filter_map(|end| blocks.get(..end))
            .map(|prefix| blocks::ln_e_value(prefix, 1.0, &prior))
            .fold(0.0, f64::max)
    };
    peak(informative).max(peak(&mirrored))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(x: u64, y: u64) -> Block {
        Block {
            requests: ArmCounts {
                treatment: 1_000,
                control: 1_000,
            },
            failures: ArmCounts {
                treatment: x,
                control: y,
            },
        }
    }

    #[test]
    fn independent_failures_pass_clustered_ones_and_too_few_do_not() {
        let fair: Vec<Block> = (0..60).map(|i| block(4 + i % 3, 6 - i % 3)).collect();
        assert!(judge(&fair).passed, "{:?}", judge(&fair));
        let bursts: Vec<Block> = (0..60)
            .map(|i| {
                if i % 2 == 0 {
                    block(14, 1)
                } else {
                    block(1, 14)
                }
            })
            .collect();
        let clustered = judge(&bursts);
        assert!(
            !clustered.passed && clustered.dispersion > 3.0,
            "{clustered:?}"
        );
        assert!(!judge(&fair[..10]).passed);
        assert!(!judge(&[]).passed);
    }
}
