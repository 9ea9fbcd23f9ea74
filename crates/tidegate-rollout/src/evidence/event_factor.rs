//! What one event is worth: the probability that it came from the treatment, and its likelihood ratio.

use crate::basis_points::BasisPoints;
use crate::observation::ArmCounts;

/// Shares of the two arms in force when a unit was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Share of the treatment.
    pub treatment_bp: BasisPoints,
    /// Share of the comparable control.
    pub control_bp: BasisPoints,
}

/// Natural logarithms of the factor an event contributes, by the arm it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventFactor {
    /// For an event in the treatment.
    pub ln_treatment: f64,
    /// For an event in control.
    pub ln_control: f64,
}

impl EventFactor {
    /// What an event is worth that cannot tell the arms apart.
    pub const NEUTRAL: Self = Self {
        ln_treatment: 0.0,
        ln_control: 0.0,
    };

    /// `ln` of what these events are worth together.
    #[must_use]
    pub fn weigh(self, counts: ArmCounts) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of units are far below 2^52"
        )]
        let (treatment, control) = (counts.treatment as f64, counts.control as f64);
        treatment * self.ln_treatment + control * self.ln_control
    }
}

impl Shares {
    /// Whether both arms exist, so that an event can tell them apart.
    #[must_use]
    pub fn is_informative(self) -> bool {
        self.treatment_bp > BasisPoints::ZERO && self.control_bp > BasisPoints::ZERO
    }

    /// `q(r) = w r / (w r + c)`: probability that an event came from the treatment when its units have
    /// `ratio` times the events of control.
    #[must_use]
    pub fn treatment_probability(self, ratio: f64) -> f64 {
        let (w, c) = (
            self.treatment_bp.fraction() * ratio,
            self.control_bp.fraction(),
        );
        w / (w + c)
    }

    /// Likelihood ratio of an event under `ratio` against `null_ratio`.
    ///
    /// `q(r)/q(r0)` and `(1-q(r))/(1-q(r0))` with the common denominator cancelled, so neither
    /// logarithm loses digits when a share is small.
    #[must_use]
    pub fn event_factor(self, ratio: f64, null_ratio: f64) -> EventFactor {
        let (w, c) = (self.treatment_bp.fraction(), self.control_bp.fraction());
        let ln_control = (w.mul_add(null_ratio, c) / w.mul_add(ratio, c)).ln();
        EventFactor {
            ln_treatment: (ratio / null_ratio).ln() + ln_control,
            ln_control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_average_to_one_under_the_null_and_below_one_inside_it() {
        for treatment in [1, 100, 500, 5_000, 9_900] {
            let treatment_bp = BasisPoints::new(treatment).unwrap();
            let shares = Shares {
                treatment_bp,
                control_bp: treatment_bp.complement(),
            };
            for (ratio, null) in [(2.0, 1.0), (100.0, 1.5), (0.5, 1.0), (0.2, 0.9)] {
                let factor = shares.event_factor(ratio, null);
                let mean =
                    |q: f64| q * factor.ln_treatment.exp() + (1.0 - q) * factor.ln_control.exp();
                let at_null = shares.treatment_probability(null);
                assert!((mean(at_null) - 1.0).abs() < 1e-12, "{treatment} {ratio}");
                let inside = if ratio > null { null * 0.8 } else { null * 1.2 };
                assert!(mean(shares.treatment_probability(inside)) < 1.0);
            }
        }
    }
}
