//! What would this plan do? Seeded simulation against synthetic services with known truth.
//!
//! # How it decides
//! Each history plays one rollout: failing requests arrive one by one, each by a unit whose arm is fixed by its
//! hash; the first of each unit is pushed into the same [`FirstEventProcess`] that stands behind the planner's
//! evidence, and the threshold is tested **after every event**, which is the most anybody can peek.
//! Stages advance by their own conditions (approvals are granted at once). Healthy histories give the
//! false-rollback rate with its upper 99 % Clopper-Pearson limit; harmed ones give delay and excess failed
//! requests against the two-arm bound of [`two_arm_bound`].
//!
//! # What it must not know
//! No clock and no random source but the seed: the same call gives the same report on every machine.
//!
//! [`FirstEventProcess`]: crate::evidence::FirstEventProcess

mod draw;
mod history;
mod workload;

use serde::Serialize;
use tidegate_stats::special::beta_inc_inv;

use crate::forecast::{RATIOS, Traffic, two_arm_bound};
use crate::spec::RolloutSpec;

pub use draw::Draw;
pub use history::{Harm, History, Outcome};
pub use workload::{Arrivals, Failure, Shape, Workload};

/// What the simulation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct SimulationReport {
    /// The service that was played.
    pub workload: Workload,
    /// Histories per row.
    pub histories: u64,
    /// The seed.
    pub seed: u64,
    /// Allowed probability of a false rollback.
    pub alpha: f64,
    /// How often a healthy change was rolled back.
    pub healthy: HealthyRow,
    /// What became of harmful changes.
    pub harmed: Vec<HarmedRow>,
    /// What became of changes whose harm began in the middle of the bake; empty without a bake.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateRow>,
    /// For people.
    pub sentence: String,
}

/// Healthy histories.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HealthyRow {
    /// Histories.
    pub histories: u64,
    /// Those rolled back.
    pub false_rollbacks: u64,
    /// Their share.
    pub rate: f64,
    /// Upper limit of the one-sided 99 % Clopper-Pearson interval.
    pub rate_upper_99: f64,
    /// Mean seconds until the plan was done.
    pub mean_seconds: f64,
}

/// Histories with one size of harm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HarmedRow {
    /// Failures in the treatment per failure in control.
    pub ratio: f64,
    /// Histories.
    pub histories: u64,
    /// Those rolled back before the plan was done.
    pub caught: u64,
    /// Mean seconds to rollback, or to the end where it was missed.
    pub mean_seconds: f64,
    /// Mean failed requests above those control would have had, until then.
    pub mean_excess_failures: f64,
    /// Two-arm bound of the seconds; absent when the plan is too short for it.
    pub bound_seconds: Option<f64>,
    /// Mean seconds over the bound.
    pub seconds_ratio: Option<f64>,
    /// Mean excess failures over the bound.
    pub excess_ratio: Option<f64>,
}

/// Histories whose harm began in the middle of the last stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LateRow {
    /// Failures in the treatment per failure in control, once it had begun.
    pub ratio: f64,
    /// Histories in which harm began: the others were rolled back before.
    pub histories: u64,
    /// Those rolled back afterwards.
    pub caught: u64,
    /// Mean seconds from when harm began to the rollback, or to the end where it was missed.
    pub mean_seconds: f64,
    /// Mean failed requests above those control would have had, until then.
    pub mean_excess_failures: f64,
}

/// Upper end of the one-sided Clopper-Pearson interval: `hits` of `trials` at `level`.
#[must_use]
pub fn upper_limit(hits: u64, trials: u64, level: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let (k, n) = (hits as f64, trials as f64);
    beta_inc_inv(k + 1.0, n - k, level)
}

/// Plays `histories` healthy rollouts of a plan.
#[must_use]
pub fn simulate_healthy(
    spec: &RolloutSpec,
    workload: &Workload,
    histories: u64,
    seed: u64,
) -> HealthyRow {
    let (mut false_rollbacks, mut seconds) = (0, 0.0);
    for index in 0..histories {
        let outcome = history::play(
            spec,
            workload,
            Harm::at_once(1.0),
            history_seed(seed, index),
        );
        false_rollbacks += u64::from(outcome.is_rolled_back);
        seconds += outcome.seconds;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let n = histories.max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let rate = false_rollbacks as f64 / n;
    HealthyRow {
        histories,
        false_rollbacks,
        rate,
        rate_upper_99: upper_limit(false_rollbacks, histories, 0.99),
        mean_seconds: seconds / n,
    }
}

/// Plays `histories` rollouts of a plan whose first guard is harmed by `ratio`.
#[must_use]
pub fn simulate_harmed(
    spec: &RolloutSpec,
    workload: &Workload,
    ratio: f64,
    histories: u64,
    seed: u64,
) -> HarmedRow {
    let (mut caught, mut seconds, mut excess) = (0, 0.0, 0.0);
    for index in 0..histories {
        let harm = Harm::at_once(ratio);
        let outcome = history::play(spec, workload, harm, history_seed(seed, index));
        caught += u64::from(outcome.is_rolled_back);
        seconds += outcome.seconds;
        excess += outcome.excess_failures;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let n = histories.max(1) as f64;
    let (mean_seconds, mean_excess_failures) = (seconds / n, excess / n);
    let bound = bound(spec, workload, ratio);
    HarmedRow {
        ratio,
        histories,
        caught,
        mean_seconds,
        mean_excess_failures,
        bound_seconds: bound.map(|(seconds, _)| seconds),
        seconds_ratio: bound.map(|(seconds, _)| mean_seconds / seconds),
        excess_ratio: bound.map(|(_, excess)| mean_excess_failures / excess),
    }
}

/// Plays `histories` rollouts of a plan in the middle of whose last stage the first guard begins to be harmed.
#[must_use]
pub fn simulate_late(
    spec: &RolloutSpec,
    workload: &Workload,
    ratio: f64,
    histories: u64,
    seed: u64,
) -> LateRow {
    let (mut begun, mut caught, mut seconds, mut excess) = (0, 0, 0.0, 0.0);
    for index in 0..histories {
        let harm = Harm::late(ratio);
        let outcome = history::play(spec, workload, harm, history_seed(seed, index));
        let Some(onset) = outcome.harm_began else {
            continue;
        };
        begun += 1;
        caught += u64::from(outcome.is_rolled_back);
        seconds += outcome.seconds - onset;
        excess += outcome.excess_failures;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of histories")]
    let n = begun.max(1) as f64;
    LateRow {
        ratio,
        histories: begun,
        caught,
        mean_seconds: seconds / n,
        mean_excess_failures: excess / n,
    }
}

/// Seconds and excess failures of the two-arm bound with `ln(k/alpha)` for k guards.
fn bound(spec: &RolloutSpec, workload: &Workload, ratio: f64) -> Option<(f64, f64)> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of guards")]
    let guards = spec.guards.len().max(1) as f64;
    let traffic = Traffic {
        units_per_second: workload.requests_per_second,
        event_rate: workload.error_rate,
    };
    let row = two_arm_bound(spec, traffic, ratio, (guards / spec.alpha).ln());
    row.seconds.map(|seconds| (seconds, row.excess_events))
}

/// Plays a plan against a service: healthy, and at 1.5, 2, 4, 10 and 100 times the error rate.
pub fn simulate(
    spec: &RolloutSpec,
    workload: &Workload,
    histories: u64,
    seed: u64,
) -> SimulationReport {
    let healthy = simulate_healthy(spec, workload, histories, seed);
    let harmed: Vec<HarmedRow> = RATIOS
        .iter()
        .filter(|ratio| **ratio * workload.error_rate <= 1.0)
        .map(|ratio| simulate_harmed(spec, workload, *ratio, histories, seed ^ 0x5EED))
        .collect();
    let late = match spec.bake {
        None => Vec::new(),
        Some(_) => RATIOS
            .iter()
            .filter(|ratio| **ratio * workload.error_rate <= 1.0)
            .map(|ratio| simulate_late(spec, workload, *ratio, histories, seed ^ 0x1A7E))
            .collect(),
    };
    let sentence = sentence(&healthy, &harmed);
    let alpha = spec.alpha;
    SimulationReport {
        workload: *workload,
        histories,
        seed,
        alpha,
        healthy,
        harmed,
        late,
        sentence,
    }
}

fn sentence(healthy: &HealthyRow, harmed: &[HarmedRow]) -> String {
    let false_rate = format!(
        "rolls back {} of {} healthy changes (at most {:.2} % at 99 % confidence)",
        healthy.false_rollbacks,
        healthy.histories,
        100.0 * healthy.rate_upper_99
    );
    let doubling = harmed.iter().find(|row| row.ratio == 2.0).map(|row| {
        format!(
            "; catches {} of {} doublings of errors, on average after {:.0} s and {:.1} excess failed requests",
            row.caught, row.histories, row.mean_seconds, row.mean_excess_failures
        )
    });
    false_rate + &doubling.unwrap_or_default()
}

/// A seed of its own for each history: neighbouring seeds give unrelated streams.
fn history_seed(seed: u64, index: u64) -> u64 {
    draw::mix(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

#[cfg(test)]
mod tests;
