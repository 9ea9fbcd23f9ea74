//! Sequential sample-ratio check: do units arrive in the arms at the shares that were set?
//!
//! # Why
//! If they do not, something drops or duplicates units in one arm and no comparison can be trusted.
//! The check never rolls back; it holds and pages.
//!
//! # How it decides
//! Per newly seen unit, the predictive probability of its arm under a Dirichlet prior centred on the share in
//! force is divided by that share (Lindon and Malek 2022). Per phase this is a beta-binomial ratio of
//! counts. Three concentrations are averaged: a loose one sees gross mismatch in few units, a tight one
//! sees a per cent in many. Phases multiply. At `1/srm_alpha` the verdict is invalid.

use tidegate_stats::special::ln_beta;

use super::event_factor::Shares;
use super::log_domain::ln_sum_exp;
use crate::observation::ArmCounts;

/// Pseudo-units of the priors, from loose to tight.
const CONCENTRATIONS: [f64; 3] = [30.0, 1_000.0, 30_000.0];

/// `ln e` against "units arrive in the arms at the shares in force".
#[must_use]
pub fn ln_e_value(phases: impl Iterator<Item = (Shares, ArmCounts)>) -> f64 {
    let mut totals = CONCENTRATIONS.map(|_| 0.0);
    for (shares, counts) in phases.filter(|(shares, _)| shares.is_informative()) {
        for (total, concentration) in totals.iter_mut().zip(CONCENTRATIONS) {
            *total += phase_ln_e(shares, counts, concentration);
        }
    }
    ln_sum_exp(&totals) - 3_f64.ln()
}

fn phase_ln_e(shares: Shares, counts: ArmCounts, concentration: f64) -> f64 {
    if counts.total() == 0 {
        return 0.0;
    }
    let expected = shares.treatment_probability(1.0);
    let (a, b) = (concentration * expected, concentration * (1.0 - expected));
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of units are far below 2^52"
    )]
    let (t, c) = (counts.treatment as f64, counts.control as f64);
    ln_beta(a + t, b + c) - ln_beta(a, b) - t * expected.ln() - c * (1.0 - expected).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis_points::BasisPoints;

    fn shares(treatment: u16) -> Shares {
        let treatment_bp = BasisPoints::new(treatment).unwrap();
        Shares {
            treatment_bp,
            control_bp: treatment_bp.complement(),
        }
    }

    #[test]
    fn right_shares_give_no_evidence_and_a_wrong_one_gives_much() {
        let right = ArmCounts {
            treatment: 500,
            control: 9_500,
        };
        assert!(ln_e_value([(shares(500), right)].into_iter()) < 0.0);
        let lost = ArmCounts {
            treatment: 400,
            control: 9_500,
        };
        assert!(ln_e_value([(shares(500), lost)].into_iter()) > 1_000_f64.ln());
    }

    #[test]
    fn the_mean_over_outcomes_is_one_at_the_right_share() {
        let (n, w): (u64, f64) = (30, 0.2);
        let mut choose = 1.0;
        let mut mean = 0.0;
        for t in 0..=n {
            let counts = ArmCounts {
                treatment: t,
                control: n - t,
            };
            let probability = choose
                * w.powi(i32::try_from(t).unwrap())
                * (1.0 - w).powi(i32::try_from(n - t).unwrap());
            mean += probability * ln_e_value([(shares(2_000), counts)].into_iter()).exp();
            choose *= (n - t) as f64 / (t + 1) as f64;
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }
}
