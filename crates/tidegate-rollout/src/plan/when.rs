//! When time alone may change a plan, so that nobody has to plan again and again to find out.
//!
//! Without new evidence a plan changes when a bake is over, a freeze ends, the deadline passes, data grows
//! stale, or a clock without data runs out. The earliest of these is exact enough to sleep until; looking
//! earlier changes nothing and costs only time. New evidence, a person, a foreign edit or a hook are told
//! otherwise.

use super::{Action, Plan, gates};
use crate::observation::Observations;
use crate::report::Wait;
use crate::spec::{NoDataPolicy, RolloutSpec, microseconds};
use crate::state::RolloutState;
use crate::verdict::Verdict;

/// An unchanged verdict is looked at, and written down, at least this often.
const AT_LEAST_EVERY_US: i64 = 60_000_000;
/// An action that is asked for and not yet done (a hook holds it, a kill lies over it) is asked for again.
const UNDONE_EVERY_US: i64 = 250_000;

/// The earliest instant, microseconds since the epoch, at which `made` may differ for no other reason than
/// time; never before the plan's own.
#[must_use]
pub fn next_look_us(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    made: &Plan,
) -> i64 {
    let now_us = made.now_us;
    let mut earliest = now_us.saturating_add(AT_LEAST_EVERY_US);
    let mut consider = |at_us: i64| {
        if at_us > now_us {
            earliest = earliest.min(at_us);
        }
    };
    if made.actions.iter().any(is_to_be_done) {
        consider(now_us.saturating_add(UNDONE_EVERY_US));
    }
    for wait in &made.report.waiting_for {
        match wait {
            Wait::Bake { min_seconds, .. } => {
                let baked_us = gates::baked_us(spec, state, made.monitored, now_us);
                let left_us = microseconds(*min_seconds).saturating_sub(baked_us);
                consider(now_us.saturating_add(left_us));
            }
            Wait::Freeze { until_us, .. } => consider(*until_us),
            _ => {}
        }
    }
    if let (Some(seconds), Some(started)) = (spec.deadline_seconds, state.started_us) {
        consider(started.saturating_add(microseconds(seconds)));
    }
    let stale_us = spec.staleness_us().saturating_add(1);
    let newest = observations.guards.iter().map(|guard| guard.as_of_us);
    for seen_us in newest.chain(observations.last_unit_us) {
        consider(seen_us.saturating_add(stale_us));
    }
    if made.verdict == Verdict::NoData {
        let limit = match spec.no_data {
            NoDataPolicy::Hold => None,
            NoDataPolicy::RollBack { after_seconds }
            | NoDataPolicy::SyntheticLoad { after_seconds } => Some(after_seconds),
        };
        let running = match state.last_verdict {
            Some(Verdict::NoData) => state.elapsed_since_log_us(now_us),
            _ => 0,
        };
        let without_us = state.without_data_us.saturating_add(running);
        if let Some(seconds) = limit {
            consider(now_us.saturating_add(microseconds(seconds).saturating_sub(without_us)));
        }
    }
    earliest
}

fn is_to_be_done(action: &Action) -> bool {
    matches!(
        action,
        Action::SetShare { .. } | Action::Complete { .. } | Action::RollBack { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;
    use crate::basis_points::BasisPoints;
    use crate::event::RolloutEvent;
    use crate::observation::{ArmCounts, GuardObservation, Measured, Phase, SourceStatus};
    use serde_json::json;

    const SECOND: i64 = 1_000_000;

    fn running(more: &serde_json::Value) -> (RolloutSpec, RolloutState, Observations) {
        let mut policy = json!({
            "flag": "f", "treatment": "on", "control": "off", "staleness_seconds": 40,
            "stages": [{"share_bp": 1000, "min_seconds": 30}, {"share_bp": 5000, "min_seconds": 30}],
            "guards": [{"metric": "errors"}],
        });
        for (key, value) in more.as_object().unwrap() {
            policy[key] = value.clone();
        }
        let spec = RolloutSpec::from_json(&policy).unwrap();
        let share_bp = BasisPoints::new(1_000).unwrap();
        let log = [
            RolloutEvent::Started {
                at_us: 0,
                who: "ann".to_owned(),
            },
            RolloutEvent::StageEntered {
                at_us: 0,
                stage: 0,
                share_bp,
            },
        ];
        let state = RolloutState::fold(&spec, &log);
        let units = ArmCounts {
            treatment: 100,
            control: 900,
        };
        let observations = Observations {
            as_of_us: 10 * SECOND,
            last_unit_us: Some(5 * SECOND),
            phases: vec![Phase {
                treatment_bp: share_bp,
                control_bp: share_bp.complement(),
                started_us: 0,
                units,
                exposed: units,
            }],
            guards: vec![GuardObservation {
                metric: "errors".to_owned(),
                source: SourceStatus::Ok,
                as_of_us: 10 * SECOND,
                proven: true,
                dropped_samples: 0,
                measured: Measured::FirstEvents {
                    phases: vec![ArmCounts::default()],
                },
            }],
            ..Observations::default()
        };
        (spec, state, observations)
    }

    #[test]
    fn the_next_look_is_when_the_bake_ends_data_grows_stale_or_a_clock_runs_out() {
        let next = |more: serde_json::Value, last_unit_us: i64| {
            let (spec, state, mut seen) = running(&more);
            seen.last_unit_us = Some(last_unit_us);
            let made = plan(&spec, &state, &seen, 10 * SECOND);
            next_look_us(&spec, &state, &seen, &made)
        };
        assert_eq!(next(json!({}), 10 * SECOND), 30 * SECOND, "the bake");
        assert_eq!(
            next(json!({"staleness_seconds": 12}), 10 * SECOND),
            22 * SECOND + 1,
            "the data"
        );
        assert_eq!(
            next(json!({"deadline_seconds": 17}), 10 * SECOND),
            17 * SECOND,
            "the deadline"
        );
        let silent =
            json!({"staleness_seconds": 4, "no_data": {"roll_back": {"after_seconds": 9}}});
        assert_eq!(next(silent, SECOND), 14 * SECOND + 1, "the guard's own age");
    }

    #[test]
    fn nothing_changes_by_time_before_the_next_look() {
        let (spec, state, seen) = running(&json!({}));
        let made = plan(&spec, &state, &seen, 10 * SECOND);
        let next_us = next_look_us(&spec, &state, &seen, &made);
        let actions = |at_us: i64| plan(&spec, &state, &seen, at_us).actions;
        assert_eq!(actions(next_us - 1), made.actions);
        assert_ne!(actions(next_us), made.actions);
    }
}
