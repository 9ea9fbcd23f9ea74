//! The exact goodness-of-fit test: the chance of every outcome no likelier than the one seen.
//!
//! Two arms: both binomial tails, summed outward from their inner ends by the ratio of
//! neighbouring probabilities until nothing is added; inner ends by bisection, the probability
//! by Loader's saddle-point form, which holds its relative accuracy at any size.
//! More arms: full enumeration, where it is small.

use crate::special::{deviance, ln_gamma, stirling_correction};

/// Largest number of units for two arms: the sum takes some multiples of sqrt(n) terms.
const BINOMIAL_UNITS_MAX: f64 = 1e9;
/// Largest number of outcomes enumerated for more arms.
const OUTCOMES_MAX: f64 = 500_000.0;
/// Outcomes within this of the observed log-probability count as equally likely.
const TIE: f64 = 1e-9;

/// The exact p-value, or nothing where enumeration is not feasible.
pub(super) fn p_value(shares: &[f64], counts: &[f64]) -> Option<f64> {
    let total: f64 = counts.iter().sum();
    match (shares, counts) {
        ([share, _], [count, _]) if total <= BINOMIAL_UNITS_MAX => {
            Some(binomial(*count, total, *share))
        }
        (shares, _) if shares.len() > 2 && outcomes(total, shares.len()) <= OUTCOMES_MAX => {
            Some(multinomial(shares, counts, total))
        }
        _ => None,
    }
}

/// `C(n + k - 1, k - 1)`.
fn outcomes(total: f64, arms: usize) -> f64 {
    (1..arms)
        .map(|arm| arm as f64)
        .fold(1.0, |product, arm| product * (total + arm) / arm)
}

fn ln_binomial_pmf(count: f64, total: f64, share: f64) -> f64 {
    let other = total - count;
    if count == 0.0 {
        return total * (-share).ln_1p();
    }
    if other == 0.0 {
        return total * share.ln();
    }
    stirling_correction(total)
        - stirling_correction(count)
        - stirling_correction(other)
        - deviance(count, total * share)
        - deviance(other, total * (1.0 - share))
        - 0.5 * (std::f64::consts::TAU * count * (other / total)).ln()
}

fn binomial(count: f64, total: f64, share: f64) -> f64 {
    if total == 0.0 {
        return 1.0;
    }
    let observed = ln_binomial_pmf(count, total, share);
    let mode = ((total + 1.0) * share).floor().min(total);
    let likelier = |value: f64| ln_binomial_pmf(value, total, share) > observed + TIE;
    if !likelier(mode) {
        return 1.0;
    }
    let low_end = last_unlikely(0.0, mode, &likelier);
    let high_end = last_unlikely(total, mode, &likelier);
    let odds = share / (1.0 - share);
    let low = low_end.map_or(0.0, |end| {
        tail(ln_binomial_pmf(end, total, share), end, |value| {
            value / ((total - value + 1.0) * odds)
        })
    });
    let high = high_end.map_or(0.0, |end| {
        tail(ln_binomial_pmf(end, total, share), total - end, |left| {
            left / (total - left + 1.0) * odds
        })
    });
    (low + high).min(1.0)
}

/// The integer nearest the mode, on the side of `end`, that is not likelier than observed.
fn last_unlikely(end: f64, mode: f64, likelier: &impl Fn(f64) -> bool) -> Option<f64> {
    if likelier(end) {
        return None;
    }
    let (mut out, mut within) = (end, mode);
    while (within - out).abs() > 1.0 {
        let middle = (0.5 * (out + within)).floor();
        if likelier(middle) {
            within = middle;
        } else {
            out = middle;
        }
    }
    Some(out)
}

/// Sums `p + p r(m) + p r(m) r(m-1) + ...` where `m` counts the steps left to the end.
fn tail(ln_first: f64, steps: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut term, mut left) = (1.0, 1.0, steps);
    while left >= 1.0 {
        term *= ratio(left);
        sum += term;
        left -= 1.0;
        if term < sum * 1e-18 {
            break;
        }
    }
    ln_first.exp() * sum
}

fn multinomial(shares: &[f64], counts: &[f64], total: f64) -> f64 {
    let ln_shares: Vec<f64> = shares.iter().map(|share| share.ln()).collect();
    let head = ln_gamma(total + 1.0);
    let part = |arm: usize, count: f64| count * ln_shares[arm] - ln_gamma(count + 1.0);
    let observed = head
        + counts
            .iter()
            .enumerate()
            .map(|(arm, count)| part(arm, *count))
            .sum::<f64>();
    let mut walk = Enumeration {
        part: &part,
        arms: shares.len(),
        limit: observed + TIE,
        sum: 0.0,
    };
    walk.visit(0, total, head);
    walk.sum.min(1.0)
}

struct Enumeration<'a, P: Fn(usize, f64) -> f64> {
    part: &'a P,
    arms: usize,
    limit: f64,
    sum: f64,
}

impl<P: Fn(usize, f64) -> f64> Enumeration<'_, P> {
    fn visit(&mut self, arm: usize, left: f64, so_far: f64) {
        if arm + 1 == self.arms {
            let ln_p = so_far + (self.part)(arm, left);
            if ln_p <= self.limit {
                self.sum += ln_p.exp();
            }
            return;
        }
        let mut count = 0.0;
        while count <= left {
            self.visit(arm + 1, left - count, so_far + (self.part)(arm, count));
            count += 1.0;
        }
    }
}
