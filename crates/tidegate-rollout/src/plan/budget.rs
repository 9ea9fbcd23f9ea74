//! The harm-budget ramp: how much exposure the remaining budget can pay for.
//!
//! With budget `B`, harm so far at most `H`, excess failures per treatment unit at most `U`, traffic `lam`
//! units per second and reaction time `tau`, the next share is `(B - H) / (lam U tau)`: even if every unit
//! from now on suffered as much as is not yet excluded, the budget would hold until the gate is shut.
//! Before there is data `U` is one: every unit might fail.

use super::judge::Judgement;
use crate::basis_points::BasisPoints;
use crate::observation::{ArmCounts, Observations};
use crate::report::GuardReport;
use crate::spec::{HarmBudget, RolloutSpec};

/// What the budget allows now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Allowance {
    pub(super) share_bp: BasisPoints,
    pub(super) spent: f64,
}

/// The next share by rollouts.md section 6; all quantities at least zero.
#[must_use]
pub fn budget_share(
    budget: &HarmBudget,
    spent: f64,
    units_per_second: f64,
    excess: f64,
) -> BasisPoints {
    let left = (budget.excess_failures - spent).max(0.0);
    let cost = units_per_second * excess * budget.reaction_seconds;
    if cost <= 0.0 {
        return BasisPoints::ALL;
    }
    BasisPoints::floor_of(left / cost)
}

/// The allowance of a policy with a harm budget; `None` without one.
pub(super) fn allowance(
    spec: &RolloutSpec,
    observations: &Observations,
    judgement: &Judgement,
) -> Option<Allowance> {
    let budget = spec.harm_budget.as_ref()?;
    let units_per_second = measured_rate(observations)
        .unwrap_or(0.0)
        .max(budget.units_per_second);
    let worst = judgement
        .guards
        .iter()
        .map(upper_bounds)
        .fold((0.0_f64, 0.0_f64), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    let (excess, spent) = if judgement.guards.is_empty() {
        (1.0, 0.0)
    } else {
        worst
    };
    Some(Allowance {
        share_bp: budget_share(budget, spent, units_per_second, excess),
        spent,
    })
}

/// Upper ends of (excess failures per treatment unit, excess failures so far) for one guard.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of units are far below 2^52"
)]
fn upper_bounds(guard: &GuardReport) -> (f64, f64) {
    let (events, units) = (guard.events, guard.units);
    let failed = events.treatment as f64;
    let Some(ratio) = guard.effect.upper.filter(|_| units.treatment > 0) else {
        return (1.0, failed);
    };
    let excess_part = (1.0 - 1.0 / ratio).max(0.0);
    // The rate a treatment unit would have had, from control; at least one event so that "none yet" is not "never".
    let control_rate = (events.control as f64 + 1.0) / (units.control as f64 + 1.0);
    let per_unit = (control_rate * (ratio - 1.0)).clamp(0.0, 1.0);
    (per_unit, failed * excess_part)
}

/// Units first seen per second over all phases.
fn measured_rate(observations: &Observations) -> Option<f64> {
    let started = observations.phases.first()?.started_us;
    let elapsed = observations.as_of_us.saturating_sub(started);
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and microseconds are far below 2^52"
    )]
    let rate = |units: u64| units as f64 / (elapsed as f64 / 1e6);
    let units = ArmCounts::sum(observations.phases.iter().map(|p| &p.units)).total();
    (elapsed >= 1_000_000).then(|| rate(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_example_starts_at_four_per_cent() {
        let budget = HarmBudget {
            excess_failures: 20.0,
            units_per_second: 100.0,
            reaction_seconds: 5.0,
        };
        assert_eq!(
            budget_share(&budget, 0.0, 100.0, 1.0),
            BasisPoints::new(400).unwrap()
        );
        assert_eq!(budget_share(&budget, 20.0, 100.0, 1.0), BasisPoints::ZERO);
        assert_eq!(budget_share(&budget, 0.0, 100.0, 0.0), BasisPoints::ALL);
    }
}
