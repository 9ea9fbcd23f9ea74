//! Several guards, one alpha: when is the rollout as a whole harmed, and which guard is guilty.
//!
//! # How it decides
//! Guard `j` gets the part `v_j` of alpha, the parts summing to one.
//! - *Union*: harm when some `v_j E_j >= 1/alpha`. Each `E_j` needs to be an e-process in its own history only
//!   (its supremum exceeds `1/(v_j alpha)` with probability at most `v_j alpha`), so this holds under any
//!   dependence: a user who is slow in one guard and failing in another does no damage.
//! - *Average*: harm when `sum v_j E_j >= 1/alpha`. Somewhat quicker when several guards suffer at once, but valid
//!   only when every `E_j` is an e-process in the joint history, that is when a unit reveals its arm once
//!   over all guards. The observations say whether that is so.
//!
//! # Guilt
//! Step down (e-Holm): a guard whose own `v_j E_j` reaches the threshold is guilty; its part of alpha is
//! then shared among the rest, and so on. The guard with most evidence is named even when only the average
//! crossed. Running maxima are never fed to e-BH, which has no control over them.

use serde::{Deserialize, Serialize};

use super::log_domain::LnSum;

/// How the guards' evidence was combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// Every guard against its own threshold.
    Union,
    /// The weighted average against one threshold.
    Average,
}

/// A guard's evidence and its part of alpha.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// `ln e`.
    pub ln_e: f64,
    /// Part of alpha, as a logarithm.
    pub ln_weight: f64,
}

/// The joint decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    /// How it was made.
    pub combination: Combination,
    /// `ln` of the combined e-value: compare with `ln(1/alpha)`.
    pub ln_e: f64,
    /// Whether it reached `ln(1/alpha)`.
    pub is_harmed: bool,
    /// Per guard, whether it is guilty.
    pub guilty: Vec<bool>,
}

/// Combines guards at level `alpha`.
#[must_use]
pub fn combine(shares: &[Share], alpha: f64, combination: Combination) -> Joint {
    let threshold = -alpha.ln();
    let largest = shares
        .iter()
        .map(|s| s.ln_e + s.ln_weight)
        .fold(f64::NEG_INFINITY, f64::max);
    let ln_e = match combination {
        Combination::Union => largest,
        Combination::Average => {
            let mut sum = LnSum::new();
            shares.iter().for_each(|s| sum.add(s.ln_e + s.ln_weight));
            sum.ln()
        }
    };
    let is_harmed = ln_e >= threshold;
    let mut guilty = step_down(shares, threshold);
    if is_harmed && !guilty.contains(&true) {
        for (verdict, share) in guilty.iter_mut().zip(shares) {
            *verdict = share.ln_e + share.ln_weight >= largest;
        }
    }
    Joint {
        combination,
        ln_e,
        is_harmed,
        guilty,
    }
}

/// e-Holm: rejects what reaches its threshold, hands its weight to the rest, and repeats.
fn step_down(shares: &[Share], threshold: f64) -> Vec<bool> {
    let mut guilty = vec![false; shares.len()];
    loop {
        let left: f64 = shares
            .iter()
            .zip(&guilty)
            .filter(|(_, is_guilty)| !**is_guilty)
            .map(|(share, _)| share.ln_weight.exp())
            .sum();
        let ln_scale = if left > 0.0 { -left.ln() } else { 0.0 };
        let mut found = false;
        for (is_guilty, share) in guilty.iter_mut().zip(shares) {
            if !*is_guilty && share.ln_e + share.ln_weight + ln_scale >= threshold {
                *is_guilty = true;
                found = true;
            }
        }
        if !found {
            return guilty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(ln_es: &[f64]) -> Vec<Share> {
        #[expect(clippy::cast_precision_loss, reason = "a handful of guards")]
        let ln_weight = -(ln_es.len() as f64).ln();
        ln_es
            .iter()
            .map(|ln_e| Share {
                ln_e: *ln_e,
                ln_weight,
            })
            .collect()
    }

    #[test]
    fn a_union_needs_one_guard_beyond_its_own_threshold() {
        let one_hundred = 100_f64.ln();
        let below = combine(&shares(&[one_hundred, 0.0]), 0.01, Combination::Union);
        assert!(!below.is_harmed && below.guilty == [false, false]);
        let above = combine(
            &shares(&[one_hundred + 2_f64.ln(), 0.0]),
            0.01,
            Combination::Union,
        );
        assert!(above.is_harmed && above.guilty == [true, false]);
    }

    #[test]
    fn weight_of_the_guilty_passes_on_to_the_next() {
        let strong = 250_f64.ln();
        let middling = 150_f64.ln();
        let joint = combine(&shares(&[strong, middling]), 0.01, Combination::Union);
        assert_eq!(joint.guilty, [true, true]);
        let alone = combine(&shares(&[0.0, middling]), 0.01, Combination::Union);
        assert_eq!(alone.guilty, [false, false]);
    }

    #[test]
    fn an_average_adds_up_what_no_guard_shows_alone() {
        let joint = combine(
            &shares(&[120_f64.ln(), 110_f64.ln()]),
            0.01,
            Combination::Average,
        );
        assert!(joint.is_harmed);
        assert_eq!(joint.guilty, [true, false]);
    }
}
