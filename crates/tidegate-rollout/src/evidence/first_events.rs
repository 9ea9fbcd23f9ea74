//! E-values from first failing events: the default evidence of a guard.
//!
//! # Why first events
//! Given the set of units that ever fail and when, hash assignment makes each unit's arm an independent
//! coin under the hypothesis of no effect. That is exact whatever the correlation *inside* a unit: heavy
//! users and retry storms change how often a unit fails, not which arm it is in.
//!
//! # Restarts
//! Harm may begin late (a leak, a cache that expires). Evidence gathered while all was well would then have
//! to be undone first. So the capital is split: most bets from the beginning, the rest enters at later
//! phase starts with weights that sum to less than one, which keeps Ville's bound for the whole rollout.

use super::event_factor::{EventFactor, Shares};
use super::log_domain::LnSum;
use super::prior::RatioPrior;
use crate::observation::ArmCounts;

/// Part of the capital that bets from the very beginning.
const FIRST_CAPITAL: f64 = 0.9;

/// Logarithm of the capital entering at the `index`-th informative phase.
///
/// `0.9`, then `0.1 / (i (i + 1))`: the sum over all i telescopes to at most one.
#[must_use]
pub fn ln_restart_weight(index: usize) -> f64 {
    if index == 0 {
        return FIRST_CAPITAL.ln();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a phase index is far below 2^52"
    )]
    let i = index as f64;
    ((1.0 - FIRST_CAPITAL) / (i * (i + 1.0))).ln()
}

/// `ln e` of counts per phase against "the ratio is at most `null_ratio`" (or at least, when the prior
/// lies below one). Phases without both arms carry no information and are skipped.
#[must_use]
pub fn ln_e_value(
    phases: impl DoubleEndedIterator<Item = (Shares, ArmCounts)> + Clone,
    null_ratio: f64,
    prior: &RatioPrior,
) -> f64 {
    let informative = phases.filter(|(shares, _)| shares.is_informative());
    restarted_mixture(
        informative.map(|(shares, counts)| {
            move |ratio: f64| ln_likelihood_ratio(shares, counts, ratio * null_ratio, null_ratio)
        }),
        prior,
    )
}

/// `ln` of the likelihood ratio of a phase's counts.
#[must_use]
pub fn ln_likelihood_ratio(shares: Shares, counts: ArmCounts, ratio: f64, null_ratio: f64) -> f64 {
    shares.event_factor(ratio, null_ratio).weigh(counts)
}

/// Mixes per-phase log likelihood ratios over restarts and over the prior.
///
/// `phases` yields, oldest first, a function from ratio to the phase's log likelihood ratio.
#[must_use]
pub(crate) fn restarted_mixture<F: Fn(f64) -> f64>(
    phases: impl DoubleEndedIterator<Item = F> + Clone,
    prior: &RatioPrior,
) -> f64 {
    let count = phases.clone().count();
    if count == 0 {
        return 0.0;
    }
    let mut since_phase = vec![0.0_f64; prior.points().len()];
    let mut sum = LnSum::new();
    let mut spent = 0.0;
    for (back, phase) in phases.rev().enumerate() {
        let ln_capital = ln_restart_weight(count - 1 - back);
        spent += ln_capital.exp();
        for (total, point) in since_phase.iter_mut().zip(prior.points()) {
            *total += phase(point.ratio);
            sum.add(ln_capital + point.ln_weight + *total);
        }
    }
    // Capital reserved for phases still to come is worth exactly what it was.
    sum.add((1.0 - spent).max(0.0).ln());
    sum.ln()
}

/// The same evidence folded event by event, for streams and simulation: O(grid) per event, no allocation.
///
/// After any sequence of phases and events it equals [`ln_e_value`] of their counts.
#[derive(Debug, Clone)]
pub struct FirstEventProcess {
    prior: RatioPrior,
    null_ratio: f64,
    factors: Vec<EventFactor>,
    ln_products: Vec<f64>,
    phases: usize,
    reserve: f64,
}

impl FirstEventProcess {
    /// A process that has seen nothing; it bets from its first phase on.
    #[must_use]
    pub fn new(prior: RatioPrior, null_ratio: f64) -> Self {
        let points = prior.points().len();
        Self {
            prior,
            null_ratio,
            factors: vec![EventFactor::NEUTRAL; points],
            ln_products: vec![f64::NEG_INFINITY; points],
            phases: 0,
            reserve: 1.0,
        }
    }

    /// Opens a phase: new capital enters, and events to come are weighed by these shares.
    /// A phase without both arms carries no information and takes no capital.
    pub fn enter_phase(&mut self, shares: Shares) {
        if !shares.is_informative() {
            self.factors.fill(EventFactor::NEUTRAL);
            return;
        }
        let ln_capital = ln_restart_weight(self.phases);
        self.phases += 1;
        self.reserve = (self.reserve - ln_capital.exp()).max(0.0);
        let slots = self.factors.iter_mut().zip(&mut self.ln_products);
        for ((factor, product), point) in slots.zip(self.prior.points()) {
            *factor = shares.event_factor(point.ratio * self.null_ratio, self.null_ratio);
            let mut sum = LnSum::new();
            sum.add(*product);
            sum.add(ln_capital + point.ln_weight);
            *product = sum.ln();
        }
    }

    /// Folds in one first failing event.
    pub fn push(&mut self, is_treatment: bool) {
        for (product, factor) in self.ln_products.iter_mut().zip(&self.factors) {
            *product += if is_treatment {
                factor.ln_treatment
            } else {
                factor.ln_control
            };
        }
    }

    /// `ln e` now.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let mut sum = LnSum::new();
        sum.add(self.reserve.ln());
        self.ln_products
            .iter()
            .for_each(|product| sum.add(*product));
        sum.ln()
    }

    /// Whether `ln e` has reached a positive `threshold`; cheaper than computing it while it is far below.
    #[must_use]
    pub fn has_reached(&self, threshold: f64) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the grid has a handful of points"
        )]
        let slack = (self.ln_products.len() as f64 + 1.0).ln();
        let largest = self.ln_products.iter().copied().fold(0.0, f64::max);
        largest + slack >= threshold && self.ln_e() >= threshold
    }
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
    fn restart_weights_never_exceed_the_capital() {
        let total: f64 = (0..100_000).map(|i| ln_restart_weight(i).exp()).sum();
        assert!(total <= 1.0 && total > 0.9999, "{total}");
    }

    #[test]
    fn a_snapshot_equals_the_fold_event_by_event() {
        let mut process = FirstEventProcess::new(RatioPrior::increase(), 1.1);
        let mut phases = Vec::new();
        for (share, treatment, control) in
            [(500, 3, 40), (2_500, 0, 0), (2_500, 19, 20), (10_000, 7, 0)]
        {
            let (mut seen, counts) = (0, ArmCounts { treatment, control });
            process.enter_phase(shares(share));
            while seen < counts.total() {
                process.push(seen < treatment);
                seen += 1;
            }
            phases.push((shares(share), counts));
            let snapshot = ln_e_value(phases.iter().copied(), 1.1, &RatioPrior::increase());
            assert!((snapshot - process.ln_e()).abs() < 1e-12);
        }
        assert!(process.ln_e() > 0.5);
        assert!(process.has_reached(process.ln_e() - 1e-9));
        assert!(!process.has_reached(process.ln_e() + 1e-9));
    }

    #[test]
    fn without_both_arms_there_is_no_evidence() {
        let counts = ArmCounts {
            treatment: 1_000,
            control: 0,
        };
        let value = ln_e_value(
            [(shares(10_000), counts)].into_iter(),
            1.0,
            &RatioPrior::increase(),
        );
        assert_eq!(value, 0.0);
        assert_eq!(
            ln_e_value([].into_iter(), 1.0, &RatioPrior::increase()),
            0.0
        );
    }

    #[test]
    fn the_mean_over_all_outcomes_is_one_under_the_null() {
        // Exact enumeration: n events at share w, binomial arms, two phases.
        let (first, second, n) = (shares(500), shares(2_500), 12_u64);
        let pmf = |shares: Shares, k: u64| {
            let q: f64 = shares.treatment_probability(1.0);
            let mut choose = 1.0;
            for i in 0..k {
                choose *= (n - i) as f64 / (i + 1) as f64;
            }
            choose
                * q.powi(i32::try_from(k).unwrap())
                * (1.0 - q).powi(i32::try_from(n - k).unwrap())
        };
        let mut mean = 0.0;
        for a in 0..=n {
            for b in 0..=n {
                let phases = [
                    (
                        first,
                        ArmCounts {
                            treatment: a,
                            control: n - a,
                        },
                    ),
                    (
                        second,
                        ArmCounts {
                            treatment: b,
                            control: n - b,
                        },
                    ),
                ];
                let ln_e = ln_e_value(phases.into_iter(), 1.0, &RatioPrior::increase());
                mean += pmf(first, a) * pmf(second, b) * ln_e.exp();
            }
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }
}
