//! E-values from a yes-or-no outcome of every unit: common events, such as requests above the median.
//!
//! Conditioning on the slow requests alone throws away what the fast ones say, which is most of the
//! information once half of all requests are slow. Here every unit gives one outcome (its first request),
//! and both outcomes are evidence. With stable probability `p` of being slow and odds ratio `psi`,
//! treatment units are slow with `p1 = psi p / (1 - p + psi p)`, and a slow unit came from the treatment
//! with probability `w p1 / (w p1 + c p)`, a fast one with `w (1-p1) / (w (1-p1) + c (1-p))`.
//! Under no effect both are `w / (w + c)` whatever `p` is, so a wrong `p` costs power, never validity.
//! That holds without margin only; with a margin the caller counts slow units alone.

use super::event_factor::Shares;
use super::first_events::{ln_likelihood_ratio, restarted_mixture};
use super::prior::RatioPrior;
use crate::observation::ArmCounts;

/// Outcomes of one phase: units with the event, and units without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// Units whose outcome was the event.
    pub with_event: ArmCounts,
    /// Units whose outcome was not.
    pub without_event: ArmCounts,
}

/// Probability of the event in the treatment at odds ratio `odds_ratio`, given `stable` in control.
#[must_use]
pub fn shifted_probability(stable: f64, odds_ratio: f64) -> f64 {
    odds_ratio * stable / (1.0 - stable + odds_ratio * stable)
}

/// `ln e` against "the odds of the event are not higher in the treatment".
#[must_use]
pub fn ln_e_value(
    phases: impl DoubleEndedIterator<Item = (Shares, Outcomes)> + Clone,
    stable: f64,
    prior: &RatioPrior,
) -> f64 {
    let informative = phases.filter(|(shares, _)| shares.is_informative());
    restarted_mixture(
        informative.map(|(shares, outcomes)| {
            move |odds_ratio: f64| {
                let shifted = shifted_probability(stable, odds_ratio);
                let more_events = shifted / stable;
                let fewer_others = (1.0 - shifted) / (1.0 - stable);
                ln_likelihood_ratio(shares, outcomes.with_event, more_events, 1.0)
                    + ln_likelihood_ratio(shares, outcomes.without_event, fewer_others, 1.0)
            }
        }),
        prior,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis_points::BasisPoints;

    #[test]
    fn the_mean_is_one_under_no_effect_even_with_a_wrong_stable_probability() {
        let treatment_bp = BasisPoints::new(2_000).unwrap();
        let shares = Shares {
            treatment_bp,
            control_bp: treatment_bp.complement(),
        };
        let (assumed, actual, w) = (0.5, 0.3, 0.2);
        let mut mean = 0.0;
        for (treated, probability) in [(true, w), (false, 1.0 - w)] {
            for (event, chance) in [(true, actual), (false, 1.0 - actual)] {
                let one = |hit| ArmCounts {
                    treatment: u64::from(hit && treated),
                    control: u64::from(hit && !treated),
                };
                let outcomes = Outcomes {
                    with_event: one(event),
                    without_event: one(!event),
                };
                let ln_e = ln_e_value(
                    [(shares, outcomes)].into_iter(),
                    assumed,
                    &RatioPrior::increase(),
                );
                mean += probability * chance * ln_e.exp();
            }
        }
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    }
}
