//! Evidence from aggregated request counters, block by block.
//!
//! # What it assumes
//! Within a closed interval, requests fail independently. Retries and heavy users break that, and the broken
//! test rolls back healthy changes by the dozen. So this evidence may hold; it may roll back only after
//! the very same query passed the [self-test](super::self_test).
//!
//! # How it decides
//! Given the requests per arm and the total of failures, treatment failures follow Fisher's non-central
//! hypergeometric law with the odds ratio as its only parameter; the base rate cancels. Each closed block
//! multiplies by the likelihood ratio against the largest harmless ratio. Blocks are never split, so
//! the product is an e-process at block ends.

use super::log_domain::LnSum;
use super::prior::RatioPrior;
use crate::observation::Block;

/// Terms left out of the normalising sum once they are below `e^-40` of the largest.
const NEGLIGIBLE: f64 = 40.0;

/// `ln e` of closed blocks against "the odds ratio is at most `null_ratio`".
/// Blocks without failures or without both arms carry no information.
#[must_use]
pub fn ln_e_value(blocks: &[Block], null_ratio: f64, prior: &RatioPrior) -> f64 {
    let mut totals: Vec<f64> = prior.points().iter().map(|point| point.ln_weight).collect();
    for block in blocks.iter().filter(|block| is_informative(block)) {
        let base = ln_probability(block, null_ratio);
        for (total, point) in totals.iter_mut().zip(prior.points()) {
            *total += ln_probability(block, null_ratio * point.ratio) - base;
        }
    }
    super::log_domain::ln_sum_exp(&totals)
}

/// Whether a block can tell the arms apart and is consistent.
#[must_use]
pub fn is_informative(block: &Block) -> bool {
    let failures = block.failures;
    block.requests.treatment > 0
        && block.requests.control > 0
        && failures.total() > 0
        && failures.treatment <= block.requests.treatment
        && failures.control <= block.requests.control
}

/// Log probability of the block's treatment failures at an odds ratio.
fn ln_probability(block: &Block, odds_ratio: f64) -> f64 {
    let (n, m) = (block.requests.treatment, block.requests.control);
    let failures = block.failures.total();
    let lowest = failures.saturating_sub(m);
    let highest = failures.min(n);
    let observed = block.failures.treatment;
    // Terms relative to the observed one, by the ratio of neighbours; unimodal, so stop when negligible.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of requests are far below 2^52"
    )]
    let ln_step = |x: u64| {
        let (up, down) = ((n - x) as f64 * (failures - x) as f64, (x + 1) as f64);
        (odds_ratio * up / (down * (m + x + 1 - failures) as f64)).ln()
    };
    let mut sum = LnSum::new();
    sum.add(0.0);
    let mut largest = 0.0_f64;
    let mut term = 0.0;
    for x in observed..highest {
        let step = ln_step(x);
        term += step;
        largest = largest.max(term);
        sum.add(term);
        if step < 0.0 && term < largest - NEGLIGIBLE {
            break;
        }
    }
    term = 0.0;
    for x in (lowest..observed).rev() {
        let step = ln_step(x);
        term -= step;
        largest = largest.max(term);
        sum.add(term);
        if step > 0.0 && term < largest - NEGLIGIBLE {
            break;
        }
    }
    -sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::ArmCounts;
    use tidegate_stats::special::ln_gamma;

    fn ln_choose(n: f64, k: f64) -> f64 {
        ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
    }

    fn block(n: u64, m: u64, x: u64, y: u64) -> Block {
        Block {
            requests: ArmCounts {
                treatment: n,
                control: m,
            },
            failures: ArmCounts {
                treatment: x,
                control: y,
            },
        }
    }

    #[test]
    fn probabilities_agree_with_binomial_coefficients() {
        let (n, m, failures) = (30_u64, 70_u64, 12_u64);
        for odds in [0.5_f64, 1.0, 4.0] {
            let weight = |x: u64| {
                let (n, m, x, f) = (n as f64, m as f64, x as f64, failures as f64);
                ln_choose(n, x) + ln_choose(m, f - x) + x * odds.ln()
            };
            let mut sum = LnSum::new();
            (0..=failures).for_each(|x| sum.add(weight(x)));
            for x in 0..=failures {
                let direct = weight(x) - sum.ln();
                let found = ln_probability(&block(n, m, x, failures - x), odds);
                assert!(
                    (direct - found).abs() < 1e-9,
                    "{odds} {x}: {direct} {found}"
                );
            }
        }
    }

    #[test]
    fn harm_accumulates_over_blocks_and_empty_ones_say_nothing() {
        let prior = RatioPrior::increase();
        let harmed = vec![block(1_000, 19_000, 15, 95); 6];
        assert!(ln_e_value(&harmed, 1.0, &prior) > 100_f64.ln());
        assert!(ln_e_value(&[block(10, 0, 3, 0), block(10, 90, 0, 0)], 1.0, &prior).abs() < 1e-12);
        let inconsistent = block(2, 10, 3, 0);
        assert!(!is_informative(&inconsistent));
    }
}
