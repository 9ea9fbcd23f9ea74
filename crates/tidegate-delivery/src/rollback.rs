//! Rollback or late arrival: telling them apart where the record allows, and saying so where it does not.
//!
//! **Candidates.** A deployment whose version is older than the one before it, or, where versions do not compare,
//! whose commit was delivered before and brings nothing new.
//! A candidate is not yet a rollback: pipelines re-run, and builds finish out of order.
//!
//! **First signal: did it run here before?** Whoever goes back goes back to something that ran. A version that never
//! ran in production, although the log reaches back beyond it, arrived late: [`RollbackClass::OutOfOrder`].
//!
//! **Second signal: how did it come?** Whatever comes through the pipeline is written to the stage before production
//! first. Of a version that ran before:
//! * not written there in the 30 minutes before, while the stage is in use for this service: straight to production,
//!   so [`RollbackClass::Rollback`];
//! * written there: a return that took the pipeline, or a pipeline that ran again. The record does not tell, so
//!   [`RollbackClass::Unknown`];
//! * the stage is not in use (no deployment of the service there in the 90 days before): [`RollbackClass::Unknown`].
//!
//! Unknown ones are shown with their reason and count as neither.
//! What the sender says (`intent`) and what a person ruled come before the signal.
//!
//! **Fleet-wide actions.** Candidates less than 30 minutes apart that touch three or more services are marked as
//! one action: one cause, not many.
//!
//! The rule is a heuristic: deployment records hold no ground truth about why.

use std::cmp::Ordering;

use serde::Serialize;

use crate::event::{Intent, Ruling};
use crate::history::History;
use crate::moment::{Moment, span_millis};
use crate::timeline::{Deployment, Series, Timeline};
use crate::version_order::compare;

const MILLIS_PER_MINUTE: i64 = 60_000;
/// Delay from the stage before to production within which a version came through the pipeline, minutes.
const THROUGH_PIPELINE_MINUTES: i64 = 30;
/// Candidates closer than this may be one action, minutes.
const ONE_ACTION_MINUTES: i64 = 30;
/// Services from which on it is.
const FLEET_SERVICES: usize = 3;
/// The stage before production is in use if the service was deployed there within this many days.
const STAGE_IN_USE_DAYS: i64 = 90;

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackClass {
    /// A deliberate return to an earlier version.
    Rollback,
    /// An older version that arrived late.
    OutOfOrder,
    /// The record does not tell.
    Unknown,
}

/// An older version deployed after a newer one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RollbackCandidate {
    /// Service.
    pub service: String,
    /// The deployment that brought the older version.
    pub deployment: String,
    /// Its place in the service's history.
    #[serde(skip)]
    pub place: usize,
    /// When.
    #[serde(serialize_with = "as_text")]
    pub at: Moment,
    /// The deployment of the newer version.
    pub newer: String,
    /// Its place in the service's history.
    #[serde(skip)]
    pub newer_place: usize,
    /// Hours for which the newer version had been live.
    pub newer_live_hours: f64,
    /// Whether the older version ran in production before; absent where the log does not reach back far enough.
    pub ran_before: Option<bool>,
    /// What it is.
    pub class: RollbackClass,
    /// Why.
    pub reason: String,
    /// Number of the fleet-wide action it belongs to, if to one.
    pub fleet_action: Option<usize>,
}

pub(crate) fn as_text<S: serde::Serializer>(moment: &Moment, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(moment)
}

/// All candidates of an environment, by time; `stage_before` names the environment that versions pass first.
#[must_use]
pub fn rollback_candidates(
    timeline: &Timeline,
    histories: &[History<'_>],
    stage_before: &str,
) -> Vec<RollbackCandidate> {
    let mut candidates: Vec<RollbackCandidate> = histories
        .iter()
        .flat_map(|history| of_service(timeline, history, stage_before))
        .collect();
    candidates.sort_by(|a, b| (a.at, &a.deployment).cmp(&(b.at, &b.deployment)));
    mark_fleet_actions(&mut candidates);
    candidates
}

fn of_service(
    timeline: &Timeline,
    history: &History<'_>,
    stage_before: &str,
) -> Vec<RollbackCandidate> {
    let service = history.series.service();
    let stage = timeline.series_of(service, stage_before);
    (1..history.deployments.len())
        .filter(|&place| is_candidate(timeline, history, place))
        .map(|place| {
            let (newer, older) = (history.deployments[place - 1], history.deployments[place]);
            let ran_before = ran_before(history, place);
            let way = Way {
                stage,
                stage_before,
                ran_before,
            };
            let (class, reason) = classify(timeline, older, &way);
            RollbackCandidate {
                service: service.to_owned(),
                deployment: older.id.clone(),
                place,
                at: older.finished_at,
                newer: newer.id.clone(),
                newer_place: place - 1,
                newer_live_hours: older.finished_at.hours_since(newer.finished_at),
                ran_before,
                class,
                reason,
                fleet_action: None,
            }
        })
        .collect()
}

fn is_candidate(timeline: &Timeline, history: &History<'_>, place: usize) -> bool {
    let (before, this) = (history.deployments[place - 1], history.deployments[place]);
    if this.intent == Some(Intent::Rollback) || ruled(timeline, this).is_some() {
        return true;
    }
    let order = match (&this.version, &before.version) {
        (Some(this), Some(before)) => compare(this, before),
        _ => None,
    };
    match order {
        Some(order) => order == Ordering::Less,
        None => {
            history.is_resolved(place)
                && this.node != before.node
                && before.node.is_some()
                && history.all_commits(place).is_empty()
        }
    }
}

fn ruled(timeline: &Timeline, deployment: &Deployment) -> Option<RollbackClass> {
    let kinds = [Ruling::Rollback, Ruling::OutOfOrder];
    timeline
        .ruling_among(&deployment.id, &kinds)
        .map(|correction| {
            if correction.ruling == Ruling::Rollback {
                RollbackClass::Rollback
            } else {
                RollbackClass::OutOfOrder
            }
        })
}

/// Whether the version at `place` ran earlier; `None` if the log begins after versions as old as it.
fn ran_before(history: &History<'_>, place: usize) -> Option<bool> {
    let this = history.deployments[place];
    let earlier = &history.deployments[..place];
    let is_same = |other: &Deployment| match (&this.version, &other.version) {
        (Some(this), Some(other)) => this == other,
        _ => this.node.is_some() && this.node == other.node,
    };
    if earlier.iter().any(|other| is_same(other)) {
        return Some(true);
    }
    let is_older = |other: &Deployment| match (&other.version, &this.version) {
        (Some(other), Some(this)) => compare(other, this) == Some(Ordering::Less),
        _ => false,
    };
    earlier.iter().any(|other| is_older(other)).then_some(false)
}

/// How a candidate came to production, as far as the log shows.
struct Way<'w> {
    stage: Option<&'w Series>,
    stage_before: &'w str,
    ran_before: Option<bool>,
}

fn classify(timeline: &Timeline, older: &Deployment, way: &Way<'_>) -> (RollbackClass, String) {
    let Way {
        stage,
        stage_before,
        ran_before,
    } = *way;
    if let Some(class) = ruled(timeline, older) {
        return (class, "ruled by a person".to_owned());
    }
    if older.intent == Some(Intent::Rollback) {
        return (RollbackClass::Rollback, "the sender says so".to_owned());
    }
    if ran_before == Some(false) {
        let reason = "never ran here before, so nothing was returned to: it arrived late";
        return (RollbackClass::OutOfOrder, reason.to_owned());
    }
    let attempts = stage.map_or(&[][..], Series::attempts);
    let before = &attempts[..attempts.partition_point(|d| d.finished_at <= older.finished_at)];
    let minutes_since =
        |d: &Deployment| span_millis(d.finished_at, older.finished_at) / MILLIS_PER_MINUTE;
    let in_use = before
        .last()
        .is_some_and(|last| minutes_since(last) < STAGE_IN_USE_DAYS * 24 * 60);
    if !in_use {
        let reason = format!(
            "no deployment to {stage_before} in the {STAGE_IN_USE_DAYS} days before: the record does not tell"
        );
        return (RollbackClass::Unknown, reason);
    }
    let through = before
        .iter()
        .rev()
        .take_while(|d| minutes_since(d) < THROUGH_PIPELINE_MINUTES)
        .find(|d| d.version.is_some() && d.version == older.version);
    match through {
        Some(passed) => (
            RollbackClass::Unknown,
            format!(
                "ran here before and passed {stage_before} {} minutes before: a return through the pipeline, or a pipeline that ran again",
                minutes_since(passed)
            ),
        ),
        None => (
            RollbackClass::Rollback,
            format!(
                "went straight to production: not in {stage_before} in the {THROUGH_PIPELINE_MINUTES} minutes before"
            ),
        ),
    }
}

fn mark_fleet_actions(candidates: &mut [RollbackCandidate]) {
    let mut actions = 0;
    let mut start = 0;
    while start < candidates.len() {
        let mut end = start + 1;
        while end < candidates.len()
            && span_millis(candidates[end - 1].at, candidates[end].at)
                < ONE_ACTION_MINUTES * MILLIS_PER_MINUTE
        {
            end += 1;
        }
        let mut services: Vec<&str> = candidates[start..end]
            .iter()
            .map(|c| c.service.as_str())
            .collect();
        services.sort_unstable();
        services.dedup();
        if services.len() >= FLEET_SERVICES {
            actions += 1;
            for candidate in &mut candidates[start..end] {
                candidate.fleet_action = Some(actions);
            }
        }
        start = end;
    }
}
