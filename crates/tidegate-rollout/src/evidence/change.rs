//! Change detection: harm that begins late, watched without end.
//!
//! # When it is used
//! Ville's bound holds for one rollout from its start. A bake, or a service watched for months, has no end;
//! there the promise is a rate: at most one false alarm per `1/alpha` periods on average.
//!
//! # How it decides
//! With `L_t` the likelihood ratio of a period for one ratio of the grid,
//! Shiryaev-Roberts is `M_t = L_t (M_{t-1} + 1)` and CUSUM is `M_t = L_t max(M_{t-1}, 1)`.
//! `M_t - t` is a martingale under no harm, so an alarm at `1/alpha` comes after `1/alpha` periods or more
//! on average (Roberts 1966), without assuming independence. CUSUM lies below Shiryaev-Roberts, hence
//! inherits the bound. The grid is averaged.

use serde::{Deserialize, Serialize};

use super::event_factor::{EventFactor, Shares};
use super::log_domain::LnSum;
use super::prior::RatioPrior;
use crate::observation::ArmCounts;

/// Which recursion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Sum over all possible starts.
    ShiryaevRoberts,
    /// The best possible start.
    Cusum,
}

/// A change detector over periods; O(grid) per period or event, O(grid) memory.
#[derive(Debug, Clone)]
pub struct ChangeDetector {
    detector: Detector,
    prior: RatioPrior,
    null_ratio: f64,
    factors: Vec<EventFactor>,
    ln_statistics: Vec<f64>,
}

impl ChangeDetector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(detector: Detector, prior: RatioPrior, null_ratio: f64) -> Self {
        let points = prior.points().len();
        Self {
            detector,
            prior,
            null_ratio,
            factors: vec![EventFactor::NEUTRAL; points],
            ln_statistics: vec![f64::NEG_INFINITY; points],
        }
    }

    /// Begins a period: harm may begin now, and events to come are weighed by these shares.
    pub fn begin_period(&mut self, shares: Shares) {
        if !shares.is_informative() {
            self.factors.fill(EventFactor::NEUTRAL);
            return;
        }
        let slots = self.factors.iter_mut().zip(&mut self.ln_statistics);
        for ((factor, statistic), point) in slots.zip(self.prior.points()) {
            *factor = shares.event_factor(point.ratio * self.null_ratio, self.null_ratio);
            *statistic = match self.detector {
                Detector::Cusum => statistic.max(0.0),
                Detector::ShiryaevRoberts => {
                    let mut sum = LnSum::new();
                    sum.add(0.0);
                    sum.add(*statistic);
                    sum.ln()
                }
            };
        }
    }

    /// Folds in first failing events of the period under way.
    pub fn add(&mut self, counts: ArmCounts) {
        for (statistic, factor) in self.ln_statistics.iter_mut().zip(&self.factors) {
            *statistic += factor.weigh(counts);
        }
    }

    /// Folds in the first failing events of one whole period.
    pub fn push(&mut self, shares: Shares, counts: ArmCounts) {
        if shares.is_informative() {
            self.begin_period(shares);
            self.add(counts);
        }
    }

    /// `ln` of the statistic averaged over the grid; alarm at `ln(1/alpha)`.
    #[must_use]
    pub fn ln_statistic(&self) -> f64 {
        let mut sum = LnSum::new();
        for (statistic, point) in self.ln_statistics.iter().zip(self.prior.points()) {
            sum.add(statistic + point.ln_weight);
        }
        sum.ln()
    }
}

/// Mean time between false alarms, in days, that a threshold `1/alpha` guarantees.
#[must_use]
pub fn days_between_false_alarms(alpha: f64, period_seconds: f64) -> f64 {
    period_seconds / alpha / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis_points::BasisPoints;

    #[test]
    fn late_harm_is_seen_soon_after_it_begins_and_cusum_stays_below() {
        let treatment_bp = BasisPoints::new(5_000).unwrap();
        let shares = Shares {
            treatment_bp,
            control_bp: treatment_bp,
        };
        let new = |kind| ChangeDetector::new(kind, RatioPrior::increase(), 1.0);
        let (mut roberts, mut cusum) = (new(Detector::ShiryaevRoberts), new(Detector::Cusum));
        for _ in 0..500 {
            for detector in [&mut roberts, &mut cusum] {
                detector.push(
                    shares,
                    ArmCounts {
                        treatment: 3,
                        control: 3,
                    },
                );
            }
        }
        assert!(roberts.ln_statistic() < 100_f64.ln());
        let mut periods = 0;
        while roberts.ln_statistic() < 100_f64.ln() {
            for detector in [&mut roberts, &mut cusum] {
                detector.push(
                    shares,
                    ArmCounts {
                        treatment: 9,
                        control: 3,
                    },
                );
            }
            periods += 1;
        }
        assert!(periods <= 5, "{periods}");
        assert!(cusum.ln_statistic() <= roberts.ln_statistic());
        assert!((days_between_false_alarms(0.01, 864.0) - 1.0).abs() < 1e-12);
    }
}
