//! Before the start: does a source answer, has it counted control, would a guard on it fire, and how
//! soon?
//!
//! The source itself is asked, not notes about it. Its answer now is what made-up readings are put
//! on top of: in the treatment everything counts that the guard watches, in control what usually does,
//! and tally, evidence and planner must call that harm. The rate of requests is the difference to an
//! earlier answer: of Prometheus ten minutes ago, of a document the last time somebody asked.

use tidegate_rollout::forecast::Traffic;
use tidegate_rollout::{
    ArmCounts, BasisPoints, Direction, Guard, GuardObservation, Measured, Observations, Phase,
    RolloutSpec, SourceStatus, Verdict, plan,
};
use tidegate_store::ObjectKind;

use super::answer::Place as Falls;
use super::meter::{Counters, Reading};
use super::poll::{self, Counted, Fault};
use super::spec::{Provider, SourceSpec};
use super::tally::{Outcome, Tally};
use crate::app::objects::{self, Place};
use crate::app::{App, AppError, Violation};
use crate::rollouts::{GuardSource, shadow};

/// How far back Prometheus is asked for the rate of requests, microseconds.
const BACK_US: i64 = 600_000_000;
/// Made-up readings, and requests of each arm in each.
const READINGS: u64 = 40;
const REQUESTS: u64 = 1_000;
/// Of how many requests of control one counts, where nothing is known.
const USUAL_EVERY: u64 = 50;
/// The quantile of a histogram whose exceedance a forecast is made of.
const FORECAST_QUANTILE: f64 = 0.95;

/// What is known of one guard on a source.
#[derive(Debug, Clone)]
pub(in crate::rollouts) struct Proof {
    /// Its place in the policy.
    pub(in crate::rollouts) index: usize,
    /// Why it proves nothing, with a code.
    pub(in crate::rollouts) refusal: Option<(&'static str, String)>,
    /// Whether it fires under an injected fault; `None` where that cannot be played.
    pub(in crate::rollouts) fired: Option<bool>,
    /// How much traffic it counts.
    pub(in crate::rollouts) traffic: Option<Traffic>,
    /// Whether its source passed its self-test in its present revision.
    pub(in crate::rollouts) may_roll_back: bool,
}

/// Asks every source that guards a policy.
///
/// # Errors
/// Storage; what a source lacks is part of the proof.
pub(in crate::rollouts) async fn prove(
    app: &App,
    project: &str,
    policy: &RolloutSpec,
) -> Result<Vec<Proof>, AppError> {
    let mut proofs = Vec::new();
    for (index, guard) in policy.guards.iter().enumerate() {
        if let Some(GuardSource::Source(key)) = GuardSource::of(&guard.metric) {
            proofs.push(prove_one(app, (project, &key), (policy, guard), index).await?);
        }
    }
    Ok(proofs)
}

/// Refuses guards whose sources are not there, do not answer, or have never counted a request of
/// control: such a guard could not fire.
///
/// # Errors
/// Every such guard, with what was asked and what came back.
pub(in crate::rollouts) fn insist(proofs: &[Proof]) -> Result<(), AppError> {
    let refused = proofs.iter().filter_map(|proof| {
        let (code, message) = proof.refusal.clone()?;
        let pointer = format!("/guards/{}/metric", proof.index);
        Some(Violation::at(pointer, code, message))
    });
    let violations: Vec<Violation> = refused.collect();
    if violations.is_empty() {
        Ok(())
    } else {
        Err(AppError::Invalid(violations))
    }
}

async fn prove_one(
    app: &App,
    (project, key): (&str, &str),
    (policy, guard): (&RolloutSpec, &Guard),
    index: usize,
) -> Result<Proof, AppError> {
    let refused = |code, message| Proof {
        index,
        refusal: Some((code, message)),
        fired: None,
        traffic: None,
        may_roll_back: false,
    };
    let place = Place::parse(project, ObjectKind::Source, key)?;
    let object = match objects::read(app, &place).await {
        Ok(object) => object,
        Err(AppError::NotFound(_)) => {
            let message = format!("there is no source {key:?}; create it first");
            return Ok(refused("unknown-source", message));
        }
        Err(error) => return Err(error),
    };
    let spec = SourceSpec::from_json(&object.spec).map_err(AppError::Invalid)?;
    let arms = (policy.treatment.as_str(), policy.control.as_str());
    let now_us = app.clock.now_us();
    let counted = match poll::read(&app.operations.egress, &spec, arms, now_us).await {
        Ok(counted) => counted,
        Err(Fault {
            query, response, ..
        }) => {
            let message =
                format!("the source {key:?} does not answer: asked {query:?}, got {response}");
            return Ok(refused("not-proven", message));
        }
    };
    if counted.control_requests() == 0 {
        let control = &policy.control;
        let message = format!("the source {key:?} has not counted a request of {control:?}");
        return Ok(refused("not-proven", message));
    }
    let earlier = earlier(app, (project, key), (&spec, arms), (&counted, now_us)).await;
    Ok(Proof {
        index,
        refusal: None,
        fired: fires(policy, guard, &counted, now_us),
        traffic: earlier.and_then(|(at_us, before)| traffic(&before, &counted, now_us - at_us)),
        may_roll_back: super::self_test::has_passed(app, &place, object.revision).await,
    })
}

/// An earlier answer of the same source, and when it was given.
async fn earlier(
    app: &App,
    (project, key): (&str, &str),
    (spec, arms): (&SourceSpec, (&str, &str)),
    (counted, now_us): (&Counted, i64),
) -> Option<(i64, Counted)> {
    let name = (project.to_owned(), key.to_owned());
    let noted = app
        .rollouts
        .sources
        .note_answer(name, now_us, counted.clone());
    if matches!(spec.from, Provider::Http { .. }) {
        return noted;
    }
    let at_us = now_us.saturating_sub(BACK_US);
    let asked = poll::read(&app.operations.egress, spec, arms, at_us).await;
    asked.ok().map(|before| (at_us, before)).or(noted)
}

/// What came between two answers, as rates.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests and microseconds are far below 2^52"
)]
fn traffic(before: &Counted, now: &Counted, time_us: i64) -> Option<Traffic> {
    let (before, now) = (both_arms(before)?, both_arms(now)?);
    let requests = now.requests.checked_sub(before.requests)?;
    let counted = now.failures.checked_sub(before.failures)?;
    let seconds = time_us as f64 / 1e6;
    let is_enough = requests > 0 && counted > 0 && counted <= requests && seconds >= 1.0;
    is_enough.then(|| Traffic {
        units_per_second: requests as f64 / seconds,
        event_rate: counted as f64 / requests as f64,
    })
}

/// Requests of both arms, and what counts among them.
fn both_arms(counted: &Counted) -> Option<Counters> {
    match counted {
        Counted::Counts(reading) => Some(Counters {
            requests: reading.treatment.requests + reading.control.requests,
            failures: reading.treatment.failures + reading.control.failures,
        }),
        Counted::Buckets(treatment, control) => {
            let (bound, _) = control.bound_at(FORECAST_QUANTILE)?;
            let beyond =
                |buckets: &super::answer::Buckets| Some(buckets.total() - buckets.at_most(bound)?);
            Some(Counters {
                requests: treatment.total() + control.total(),
                failures: beyond(treatment)? + beyond(control)?,
            })
        }
    }
}

/// Whether a guard on a source calls an injected fault harm, on top of what the source counts now.
fn fires(policy: &RolloutSpec, guard: &Guard, counted: &Counted, now_us: i64) -> Option<bool> {
    let mut tally = Tally::default();
    let mut at = counted.clone();
    if let Outcome::NotYet(_) = tally.take(&at) {
        return None;
    }
    for _ in 0..READINGS {
        at = with_fault(&at, guard.direction);
        let _ = tally.take(&at);
    }
    let mut alone = policy.clone();
    alone.guards = vec![guard.clone()];
    let share = BasisPoints::new(5_000)?;
    let state = shadow::at_share(&alone, share, now_us);
    let seen = seen(guard, &tally.measured(true), &tally, (share, now_us));
    Some(plan(&alone, &state, &seen, now_us).verdict == Verdict::Harmed)
}

fn seen(
    guard: &Guard,
    measured: &Measured,
    tally: &Tally,
    (share, now_us): (BasisPoints, i64),
) -> Observations {
    let units: ArmCounts = tally.requests();
    Observations {
        watermark: 0,
        as_of_us: now_us,
        last_unit_us: Some(now_us),
        phases: vec![Phase {
            treatment_bp: share,
            control_bp: share.complement(),
            started_us: now_us,
            units,
            exposed: units,
        }],
        guards: vec![GuardObservation {
            metric: guard.metric.clone(),
            source: SourceStatus::Ok,
            as_of_us: now_us,
            proven: true,
            dropped_samples: 0,
            measured: measured.clone(),
        }],
        multiply_exposed_units: 0,
        counts_units_once_over_all_guards: true,
    }
}

/// The next answer if everything harmful happened to the treatment and the usual to control.
fn with_fault(counted: &Counted, direction: Direction) -> Counted {
    match counted {
        Counted::Counts(reading) => {
            let usual = REQUESTS / USUAL_EVERY;
            let (treatment, control) = match direction {
                Direction::Increase => (REQUESTS, usual),
                Direction::Decrease => (0, REQUESTS),
            };
            let more = |counters: Counters, counted: u64| Counters {
                requests: counters.requests.saturating_add(REQUESTS),
                failures: counters.failures.saturating_add(counted),
            };
            Counted::Counts(Reading {
                treatment: more(reading.treatment, treatment),
                control: more(reading.control, control),
            })
        }
        Counted::Buckets(treatment, control) => {
            let place = match direction {
                Direction::Increase => Falls::BeyondAll,
                Direction::Decrease => Falls::WithinAll,
            };
            Counted::Buckets(
                treatment.with_more(REQUESTS, place),
                control.with_more(REQUESTS, Falls::AsUsual),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::buckets_from_json;
    use super::*;
    use serde_json::json;

    fn policy(direction: &str, margin: f64) -> RolloutSpec {
        RolloutSpec::from_json(&json!({
            "flag": "f", "treatment": "on", "control": "off", "stages": [{"share_bp": 100}],
            "guards": [{"metric": "source/s", "direction": direction, "margin": margin}],
        }))
        .unwrap()
    }

    fn counts(requests: u64, failures: u64) -> Counted {
        let counters = Counters { requests, failures };
        Counted::Counts(Reading {
            treatment: Counters::default(),
            control: counters,
        })
    }

    #[test]
    fn a_guard_on_a_source_fires_in_its_own_direction_once_it_is_known_what_is_usual() {
        let document = json!({"h": {"0.1": 5_000, "0.5": 9_500, "+Inf": 10_000}});
        let control = buckets_from_json(&document, "/h").unwrap();
        let nobody =
            buckets_from_json(&json!({"h": {"0.1": 0, "0.5": 0, "+Inf": 0}}), "/h").unwrap();
        let few = Counted::Buckets(nobody.clone(), nobody.clone());
        let histogram = Counted::Buckets(nobody, control);
        for (counted, direction, margin, fired) in [
            (counts(900, 20), "increase", 0.0, Some(true)),
            (counts(900, 500), "decrease", 0.0, Some(true)),
            (counts(900, 20), "increase", 3.0, Some(true)),
            (few, "increase", 0.0, None),
            (histogram.clone(), "increase", 0.0, Some(true)),
            (histogram, "decrease", 0.0, Some(true)),
        ] {
            let policy = policy(direction, margin);
            let found = fires(&policy, &policy.guards[0], &counted, 1_000_000);
            assert_eq!(found, fired, "{direction} {margin} {counted:?}");
        }
    }

    #[test]
    fn traffic_is_what_came_between_two_answers_and_nothing_after_a_reset() {
        let found = traffic(&counts(1_000, 10), &counts(7_000, 40), 60_000_000).unwrap();
        assert!((found.units_per_second - 100.0).abs() < 1e-9);
        assert!((found.event_rate - 0.005).abs() < 1e-9);
        assert!(traffic(&counts(1_000, 10), &counts(900, 9), 60_000_000).is_none());
        assert!(traffic(&counts(1_000, 10), &counts(1_000, 10), 60_000_000).is_none());
    }
}
