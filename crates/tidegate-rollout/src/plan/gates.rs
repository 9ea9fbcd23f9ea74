//! What a stage still waits for: its own conditions, and suspicion.
//!
//! Conditions are counted in the stage in force only; earlier stages bought earlier raises.

use super::judge::{self, Judgement};
use crate::observation::{ArmCounts, Measured, Observations};
use crate::report::Wait;
use crate::spec::{RolloutSpec, Stage, microseconds};
use crate::state::RolloutState;

/// `ln e` at which a raise waits: the square root of the threshold for rollback, 10 to 1 at alpha 0.01.
///
/// Shares may depend on the past without harm to validity, so caution here is free of false alarms; a
/// healthy change drifts away from this level by itself as events come in.
#[must_use]
pub fn suspicion_threshold(alpha: f64) -> f64 {
    -0.5 * alpha.ln()
}

/// Everything the stage in force waits for.
pub(super) fn unmet(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    judgement: &Judgement,
    now_us: i64,
) -> Vec<Wait> {
    let Some(index) = state.stage else {
        return Vec::new();
    };
    let Some(stage) = spec.stages.get(index) else {
        return Vec::new();
    };
    let min_seconds = spec.min_seconds(index);
    let mut waits = Vec::new();
    let is_monitored = judgement.verdict.allows_raise() || judgement.is_unobservable;
    let baked_us = baked_us(spec, state, is_monitored, now_us);
    if baked_us < microseconds(min_seconds) {
        let baked_seconds = u64::try_from(baked_us / 1_000_000).unwrap_or_default();
        waits.push(Wait::Bake {
            baked_seconds,
            min_seconds,
        });
    }
    if !spec.blind && !judgement.is_unobservable {
        waits.extend(unmet_counts(spec, stage, state, observations));
    }
    waits.extend(judgement.suspects.iter().filter_map(|index| {
        let guard = judgement.guards.get(*index)?;
        Some(Wait::Suspicion {
            metric: guard.metric.clone(),
            ln_e: guard.ln_e,
        })
    }));
    waits
}

/// Monitored time in this stage including the time since the latest log entry.
/// Without guards the plan is a clock, so downtime counts.
pub(super) fn baked_us(
    spec: &RolloutSpec,
    state: &RolloutState,
    is_monitored: bool,
    now_us: i64,
) -> i64 {
    if spec.blind {
        return state
            .stage_entered_us
            .map_or(0, |entered| now_us.saturating_sub(entered));
    }
    let running = if is_monitored {
        state.elapsed_since_log_us(now_us)
    } else {
        0
    };
    state.baked_us.saturating_add(running)
}

fn unmet_counts(
    spec: &RolloutSpec,
    stage: &Stage,
    state: &RolloutState,
    observations: &Observations,
) -> Vec<Wait> {
    let mut waits = Vec::new();
    let current: Vec<usize> = judge::current_phases(state, observations)
        .map(|(index, _)| index)
        .collect();
    let exposed = |i: &usize| observations.phases.get(*i).map(|p| &p.exposed);
    let seen = ArmCounts::sum(current.iter().filter_map(exposed)).treatment;
    if seen < stage.min_units {
        waits.push(Wait::Units {
            seen,
            min_units: stage.min_units,
        });
    }
    let counted = spec.guards.iter().filter_map(|guard| {
        let observed = observations
            .guards
            .iter()
            .find(|o| o.metric == guard.metric)?;
        Some((
            events_in(&observed.measured, &current)?,
            guard.metric.clone(),
        ))
    });
    if let Some((seen, metric)) = counted.min()
        && seen < stage.min_events
    {
        waits.push(Wait::Events {
            seen,
            min_events: stage.min_events,
            metric,
        });
    }
    waits
}

/// Events of a guard in the phases named; `None` where its form counts none per phase.
fn events_in(measured: &Measured, phases: &[usize]) -> Option<u64> {
    let total = |counts: &[ArmCounts]| {
        phases
            .iter()
            .filter_map(|i| counts.get(*i))
            .map(|c| c.total())
            .sum::<u64>()
    };
    match measured {
        Measured::FirstEvents { phases } => Some(total(phases)),
        Measured::LatencyLadder { rungs } => rungs.iter().map(|rung| total(&rung.slow)).max(),
        Measured::Moments { .. }
        | Measured::Values { .. }
        | Measured::Aggregated { .. }
        | Measured::AggregatedLadder { .. } => None,
    }
}
