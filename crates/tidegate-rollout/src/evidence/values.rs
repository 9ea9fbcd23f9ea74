//! Exact evidence for a numeric value per unit, folded unit by unit.
//!
//! # Why it is exact
//! Under no effect a unit's value does not depend on its arm, so given all values the arms are independent
//! coins with the known probability `q = w / (w + c)`. Tilting the coin by the value,
//! `exp(l y) / (q exp(l y) + 1 - q)` for a treatment unit and `1 / (q exp(l y) + 1 - q)` for a control unit,
//! gives a factor with mean one for every value and every tilt `l`: no moments, no normality.
//! A margin divides treatment values by the harmless ratio first.
//! Values are clipped to `cap` before anything else, so one extreme unit moves the product by a bounded
//! factor; the statement is then about the clipped metric, and the report says so.
//!
//! A unit counts once, with the value it had when its window closed.

use serde::{Deserialize, Serialize};

use super::event_factor::Shares;
use super::log_domain::LnSum;

/// What is frozen about a metric before the rollout; any choice is valid, a good one is quick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericFrame {
    /// Stable mean, in the metric's unit of measure: without it every unit would be a bet on its arm.
    pub centre: f64,
    /// Stable standard deviation, in the metric's unit of measure.
    pub scale: f64,
    /// Absolute value at which units are clipped, in the metric's unit of measure.
    pub cap: f64,
}

/// Tilts, in units of the inverse frozen scale: small and large shifts of the mean.
const TILTS: [f64; 5] = [0.03, 0.1, 0.3, 1.0, 2.0];

/// The stored fold: log product per tilt, in the fixed order of the tilts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericEvidence {
    /// What was frozen before the rollout.
    pub frame: NumericFrame,
    /// One log product per tilt.
    pub ln_products: Vec<f64>,
}

impl NumericEvidence {
    /// Whether the stored fold can have been produced by [`NumericProcess`].
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.ln_products.len() == TILTS.len()
            && self.ln_products.iter().all(|x| x.is_finite())
            && self.frame.centre.is_finite()
            && self.frame.scale > 0.0
            && self.frame.cap > 0.0
            && self.frame.scale.is_finite()
            && self.frame.cap.is_finite()
    }

    /// `ln e`, tilts averaged.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let mut sum = LnSum::new();
        for product in &self.ln_products {
            sum.add(*product);
        }
        #[expect(clippy::cast_precision_loss, reason = "five tilts")]
        let count = self.ln_products.len().max(1) as f64;
        sum.ln() - count.ln()
    }
}

/// Folds units into [`NumericEvidence`]: O(1) per unit.
#[derive(Debug, Clone)]
pub struct NumericProcess {
    evidence: NumericEvidence,
    harmless_ratio: f64,
    sign: f64,
}

impl NumericProcess {
    /// A process that has seen nothing. `harmless_ratio` is the guard's; harm by increase when
    /// `increase_harms`.
    #[must_use]
    pub fn new(frame: NumericFrame, harmless_ratio: f64, increase_harms: bool) -> Self {
        let evidence = NumericEvidence {
            frame,
            ln_products: vec![0.0; TILTS.len()],
        };
        Self {
            evidence,
            harmless_ratio,
            sign: if increase_harms { 1.0 } else { -1.0 },
        }
    }

    /// Folds in one unit. A value that is not a number is refused and leaves the evidence unchanged.
    pub fn push(&mut self, shares: Shares, is_treatment: bool, value: f64) -> bool {
        if !value.is_finite() || !shares.is_informative() {
            return false;
        }
        let NumericFrame { centre, scale, cap } = self.evidence.frame;
        let fair = if is_treatment {
            value / self.harmless_ratio
        } else {
            value
        };
        let y = self.sign * (fair.clamp(-cap, cap) - centre) / scale;
        let q = shares.treatment_probability(1.0);
        for (product, tilt) in self.evidence.ln_products.iter_mut().zip(TILTS) {
            let lean = tilt * y;
            // ln(q e^lean + 1 - q), written so that neither side overflows.
            let ln_norm = if lean > 0.0 {
                lean + q.mul_add(1.0 - (-lean).exp(), (-lean).exp()).ln()
            } else {
                (q * lean.exp_m1()).ln_1p()
            };
            *product += if is_treatment {
                lean - ln_norm
            } else {
                -ln_norm
            };
        }
        true
    }

    /// What to store.
    #[must_use]
    pub fn evidence(&self) -> &NumericEvidence {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis_points::BasisPoints;

    fn frame(centre: f64, scale: f64) -> NumericFrame {
        NumericFrame {
            centre,
            scale,
            cap: 50.0,
        }
    }

    fn shares() -> Shares {
        let treatment_bp = BasisPoints::new(2_000).unwrap();
        Shares {
            treatment_bp,
            control_bp: treatment_bp.complement(),
        }
    }

    #[test]
    fn the_mean_over_arms_is_one_for_every_value_and_tilt() {
        for value in [-1e9, -3.0, 0.0, 0.4, 7.0, 1e9] {
            let after = |is_treatment| {
                let mut process = NumericProcess::new(frame(0.0, 2.0), 1.0, true);
                assert!(process.push(shares(), is_treatment, value));
                process.evidence().ln_products.clone()
            };
            for (treated, control) in after(true).into_iter().zip(after(false)) {
                assert!((0.2 * treated.exp() + 0.8 * control.exp() - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn harm_shows_in_its_own_direction_and_nonsense_is_refused() {
        let run = |increase_harms, treated: f64| {
            let mut process = NumericProcess::new(frame(2.0, 1.0), 1.0, increase_harms);
            for i in 0..2_000 {
                let is_treatment = i % 5 == 0;
                let noise = f64::from(i % 7) / 3.5 - 1.0;
                process.push(
                    shares(),
                    is_treatment,
                    noise + if is_treatment { treated } else { 2.0 },
                );
            }
            assert!(!process.push(shares(), true, f64::NAN));
            assert!(process.evidence().is_well_formed());
            process.evidence().ln_e()
        };
        assert!(run(true, 3.0) > 100_f64.ln());
        assert!(run(false, 1.0) > 100_f64.ln());
        assert!(run(true, 2.0) < 3.0 && run(false, 3.0) < 0.0);
    }
}
