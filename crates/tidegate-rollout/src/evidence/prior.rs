//! The prior over ratios: which sizes of harm the evidence looks for, and how eagerly.
//!
//! A weight `p` on the true ratio costs `ln(1/p)` nats of delay, so the grid is a bet. One event at a 5 %
//! share carries at most 3 nats, hence two failures can reach `ln 100` only if much weight lies on total
//! breakage. The measured trade-off is in `docs/rollout-benchmark.md`.

/// Sizes of harm and their weights, as ratios beyond the harmless one.
#[derive(Debug, Clone, PartialEq)]
pub struct RatioPrior {
    points: Vec<PriorPoint>,
}

/// One size of harm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriorPoint {
    /// Ratio treatment / control, relative to the harmless ratio; above 1 for harm by increase.
    pub ratio: f64,
    /// Logarithm of its weight; weights sum to one.
    pub ln_weight: f64,
}

/// Ratio and weight of the tuned grid.
const TUNED: [(f64, f64); 8] = [
    (1.25, 0.06),
    (1.5, 0.08),
    (2.0, 0.10),
    (3.0, 0.10),
    (5.0, 0.10),
    (10.0, 0.10),
    (30.0, 0.08),
    (100.0, 0.38),
];

impl RatioPrior {
    /// The tuned grid for harm by increase.
    #[must_use]
    pub fn increase() -> Self {
        Self::from_weighted(&TUNED)
    }

    /// The same grid of reciprocals, for harm by decrease.
    #[must_use]
    pub fn decrease() -> Self {
        Self::from_weighted(&TUNED.map(|(ratio, weight)| (1.0 / ratio, weight)))
    }

    /// A grid of its own; weights are scaled to sum to one, points without weight or ratio are dropped.
    #[must_use]
    pub fn from_weighted(points: &[(f64, f64)]) -> Self {
        let legal = |(ratio, weight): &&(f64, f64)| {
            ratio.is_finite() && *ratio > 0.0 && weight.is_finite() && *weight > 0.0
        };
        let total: f64 = points.iter().filter(legal).map(|(_, weight)| weight).sum();
        let points = points
            .iter()
            .filter(legal)
            .map(|(ratio, weight)| PriorPoint {
                ratio: *ratio,
                ln_weight: (weight / total).ln(),
            })
            .collect();
        Self { points }
    }

    /// The grid with no ratio above `cap`: an event with stable probability `p` cannot become more
    /// than `1/p` times as frequent.
    #[must_use]
    pub fn capped(&self, cap: f64) -> Self {
        let points = self
            .points
            .iter()
            .map(|point| PriorPoint {
                ratio: point.ratio.min(cap),
                ..*point
            })
            .collect();
        Self { points }
    }

    /// The points, in fixed order.
    #[must_use]
    pub fn points(&self) -> &[PriorPoint] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_capping_keeps_them() {
        for prior in [RatioPrior::increase(), RatioPrior::decrease()] {
            let capped = prior.capped(20.0);
            for grid in [&prior, &capped] {
                let total: f64 = grid.points().iter().map(|p| p.ln_weight.exp()).sum();
                assert!((total - 1.0).abs() < 1e-12);
            }
            assert!(capped.points().iter().all(|p| p.ratio <= 20.0));
        }
    }
}
