//! Which deployments failed, which were repairs, and why we say so.
//!
//! A deployment *failed* when it needed immediate intervention.
//! Evidence, strongest first:
//!
//! | evidence | certainty |
//! |---|---|
//! | a person's ruling | certain |
//! | Tidegate's own automatic rollback of a flag that the deployment brought | certain |
//! | an incident that names the deployment | certain |
//! | an incident of the service within 24 h after the latest deployment | probable |
//! | a deliberate return to the version before ([`crate::rollback`]) | probable |
//! | the next deployment is a hotfix by its sender's word | probable |
//! | one of its commits was reverted by a deployment within 7 days | probable |
//! | an older version followed and the record does not tell why | possible |
//!
//! Certain and probable count; possible is shown and never counted.
//! A ruling `did_not_fail` overrides everything, and the evidence stays visible.
//! An incident beyond the cut-off is blamed on no deployment; its number is reported.
//!
//! *Recovery* runs from the deployment (or from the first exposed unit, where an exposure caused the harm) to the
//! latest end among the counted evidence: rollback, repair, incident over, exposure back to zero.
//!
//! *Rework* is the repairing deployment: a rollback, a hotfix, a revert, the named fix of an incident.

use serde::Serialize;

use crate::commit_graph::Node;
use crate::event::{Intent, Ruling};
use crate::history::History;
use crate::moment::{Moment, span_millis};
use crate::rollback::{RollbackCandidate, RollbackClass};
use crate::timeline::{Incident, RolloutRollback, Timeline};

/// An incident is put down to the latest deployment only within this many hours.
pub const INCIDENT_CUT_OFF_HOURS: i64 = 24;
/// A revert counts against the reverted change's deployment only within this many days.
pub const REVERT_CUT_OFF_DAYS: i64 = 7;
const MILLIS_PER_HOUR: i64 = 3_600_000;

/// How sure an attribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Shown, never counted.
    Possible,
    /// Counted.
    Probable,
    /// Counted.
    Certain,
}

/// One reason to say that a deployment failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// How sure.
    pub certainty: Certainty,
    /// In words, naming what it rests on.
    pub reason: String,
    /// When harm began, if not with the deployment.
    #[serde(skip)]
    pub began: Option<Moment>,
    /// When it was over, if it is.
    #[serde(skip)]
    pub ended: Option<Moment>,
}

/// What is held against one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// All evidence, in the order of the table above.
    pub evidence: Vec<Evidence>,
    /// Whether a person ruled that it did not fail.
    pub cleared: bool,
}

impl Verdict {
    /// Whether it counts as failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.cleared && self.counted().next().is_some()
    }

    /// Whether it may have failed, without counting.
    #[must_use]
    pub fn only_possible(&self) -> bool {
        !self.cleared && !self.evidence.is_empty() && !self.failed()
    }

    /// When harm began: the earliest start that the counted evidence names.
    #[must_use]
    pub fn began(&self) -> Option<Moment> {
        self.counted().filter_map(|e| e.began).min()
    }

    /// When all counted harm was over; `None` while some of it lasts or no evidence knows.
    /// Where exposure did the harm, exposure back to zero ends it, whatever a ticket says.
    #[must_use]
    pub fn recovered(&self) -> Option<Moment> {
        let by_exposure = self.began().is_some();
        self.counted()
            .filter(|e| !by_exposure || e.began.is_some())
            .map(|e| e.ended)
            .reduce(|a, b| Some(a?.max(b?)))
            .flatten()
    }

    fn counted(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence
            .iter()
            .filter(|e| e.certainty >= Certainty::Probable)
    }
}

/// Failures and repairs of one service's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// By deployment.
    pub verdicts: Vec<Verdict>,
    /// For each deployment, why it is a repair, if it is.
    pub rework: Vec<Option<String>>,
    /// Incidents of the service blamed on no deployment.
    pub unattributed: Vec<String>,
}

impl Failures {
    /// Weighs all evidence about a service's deployments.
    #[must_use]
    pub fn of(
        timeline: &Timeline,
        history: &History<'_>,
        candidates: &[RollbackCandidate],
    ) -> Self {
        let deployments = history.deployments.len();
        let mut failures = Self {
            verdicts: vec![Verdict::default(); deployments],
            rework: vec![None; deployments],
            unattributed: Vec::new(),
        };
        failures.weigh_exposure_rollbacks(timeline, history);
        for incident in timeline.incidents() {
            failures.weigh_incident(history, incident);
        }
        for candidate in candidates
            .iter()
            .filter(|c| c.service == history.series.service())
        {
            failures.weigh_rollback(candidate);
        }
        failures.weigh_hotfixes(history);
        failures.weigh_reverts(history);
        failures.apply_rulings(timeline, history);
        failures
    }

    fn blame(&mut self, place: usize, evidence: Evidence) {
        if let Some(verdict) = self.verdicts.get_mut(place) {
            verdict.evidence.push(evidence);
        }
    }

    fn mark_rework(&mut self, place: usize, reason: String) {
        if let Some(slot) = self.rework.get_mut(place) {
            slot.get_or_insert(reason);
        }
    }

    fn weigh_exposure_rollbacks(&mut self, timeline: &Timeline, history: &History<'_>) {
        for (flag, facts) in timeline.flags() {
            for rollback in facts
                .rollbacks
                .iter()
                .filter(|rollback| rollback.facts.automatic)
            {
                let Some(place) = exposed_by(history, flag, rollback) else {
                    continue;
                };
                let deployed = history.deployments[place].finished_at;
                let reason = format!(
                    "rollout {} of flag {flag} was rolled back automatically{}",
                    rollback.facts.rollout,
                    rollback
                        .facts
                        .guard
                        .as_ref()
                        .map_or(String::new(), |g| format!(" on guard {g}")),
                );
                self.blame(
                    place,
                    Evidence {
                        certainty: Certainty::Certain,
                        reason,
                        began: rollback
                            .facts
                            .impact_from
                            .or_else(|| facts.first_exposed(deployed)),
                        ended: Some(facts.closed_after(rollback.at).unwrap_or(rollback.at)),
                    },
                );
            }
        }
    }

    fn weigh_incident(&mut self, history: &History<'_>, incident: &Incident) {
        let facts = &incident.facts;
        let service = history.series.service();
        let elsewhere = facts
            .environment
            .as_deref()
            .is_some_and(|e| e != history.series.environment());
        if facts.service.as_deref() != Some(service) || elsewhere {
            return;
        }
        let detected = incident.detected_at();
        let named = facts
            .caused_by
            .as_deref()
            .and_then(|text| history.named(text, Some(detected)));
        let latest = history.latest_before(detected).filter(|&place| {
            let age = span_millis(history.deployments[place].finished_at, detected);
            age <= INCIDENT_CUT_OFF_HOURS * MILLIS_PER_HOUR
        });
        let (place, certainty, how) = match (named, latest) {
            (Some(place), _) => (place, Certainty::Certain, "names this deployment"),
            (None, Some(place)) => (place, Certainty::Probable, "began within 24 h after it"),
            (None, None) => {
                self.unattributed.push(incident.id.clone());
                return;
            }
        };
        let evidence = Evidence {
            certainty,
            reason: format!("incident {} {how}", incident.id),
            began: None,
            ended: incident.resolved_at(),
        };
        self.blame(place, evidence);
        if let Some(fix) = facts
            .fixed_by
            .as_deref()
            .and_then(|text| history.named(text, None))
        {
            self.mark_rework(fix, format!("repaired incident {}", incident.id));
        }
    }

    fn weigh_rollback(&mut self, candidate: &RollbackCandidate) {
        let certainty = match candidate.class {
            RollbackClass::OutOfOrder => return,
            RollbackClass::Rollback => Certainty::Probable,
            RollbackClass::Unknown => Certainty::Possible,
        };
        let evidence = Evidence {
            certainty,
            reason: format!(
                "{} returned to an older version: {}",
                candidate.deployment, candidate.reason
            ),
            began: None,
            ended: Some(candidate.at),
        };
        self.blame(candidate.newer_place, evidence);
        if certainty == Certainty::Probable {
            self.mark_rework(candidate.place, "returned to an older version".to_owned());
        }
    }

    fn weigh_hotfixes(&mut self, history: &History<'_>) {
        for (place, deployment) in history.deployments.iter().enumerate() {
            if deployment.intent != Some(Intent::Hotfix) {
                continue;
            }
            self.mark_rework(place, "a hotfix by its sender's word".to_owned());
            if let Some(before) = place.checked_sub(1) {
                let evidence = Evidence {
                    certainty: Certainty::Probable,
                    reason: format!("hotfix {} followed", deployment.id),
                    began: None,
                    ended: Some(deployment.finished_at),
                };
                self.blame(before, evidence);
            }
        }
    }

    /// A revert of a revert brings the change back: it repairs nothing and blames nothing.
    fn weigh_reverts(&mut self, history: &History<'_>) {
        let Some(repository) = history.repository() else {
            return;
        };
        for place in 0..history.deployments.len() {
            for &commit in history.all_commits(place) {
                for &reverted in repository.reverts(commit) {
                    let Some(target) = repository.graph().find_seen(reverted) else {
                        continue;
                    };
                    if repository.reverts(target).is_empty() {
                        self.weigh_revert(history, place, target, &reverted.to_hex());
                    }
                }
            }
        }
    }

    fn weigh_revert(&mut self, history: &History<'_>, place: usize, target: Node, name: &str) {
        let Some(origin) = history.brought_by(target).filter(|&origin| origin < place) else {
            return;
        };
        let (from, to) = (history.deployments[origin], history.deployments[place]);
        let limit = REVERT_CUT_OFF_DAYS * 24 * MILLIS_PER_HOUR;
        if span_millis(from.finished_at, to.finished_at) > limit
            || !history.has_lead_times(origin, None)
        {
            return;
        }
        let evidence = Evidence {
            certainty: Certainty::Probable,
            reason: format!("{} reverted its commit {}", to.id, &name[..12]),
            began: None,
            ended: Some(to.finished_at),
        };
        self.blame(origin, evidence);
        self.mark_rework(place, format!("reverts commit {}", &name[..12]));
    }

    fn apply_rulings(&mut self, timeline: &Timeline, history: &History<'_>) {
        for (place, deployment) in history.deployments.iter().enumerate() {
            if timeline.rulings_on(&deployment.id).is_empty() {
                continue;
            }
            let about_failure = [Ruling::Failed, Ruling::DidNotFail];
            if let Some(ruling) = timeline.ruling_among(&deployment.id, &about_failure) {
                let failed = ruling.ruling == Ruling::Failed;
                self.verdicts[place].cleared = !failed;
                if failed {
                    let next = history.deployments.get(place + 1);
                    let evidence = Evidence {
                        certainty: Certainty::Certain,
                        reason: format!("ruled by a person: {}", ruling.reason),
                        began: None,
                        ended: self.verdicts[place]
                            .recovered()
                            .or(next.map(|d| d.finished_at)),
                    };
                    self.verdicts[place].evidence.insert(0, evidence);
                }
            }
            let about_work = [Ruling::Rework, Ruling::Planned];
            if let Some(ruling) = timeline.ruling_among(&deployment.id, &about_work) {
                self.rework[place] = (ruling.ruling == Ruling::Rework)
                    .then(|| format!("ruled by a person: {}", ruling.reason));
            }
        }
    }
}

/// The deployment that brought the flag's change: by the commits' trailers, else the service's latest before
/// the harm began.
fn exposed_by(history: &History<'_>, flag: &str, rollback: &RolloutRollback) -> Option<usize> {
    let latest = history.latest_before(rollback.at)?;
    let by_trailer = history.repository().and_then(|repository| {
        (0..=latest).rev().find(|&place| {
            history
                .all_commits(place)
                .iter()
                .any(|&commit| repository.flags(commit).iter().any(|name| name == flag))
        })
    });
    by_trailer.or_else(|| {
        let began = rollback.facts.impact_from.unwrap_or(rollback.at);
        (rollback.facts.service.as_deref() == Some(history.series.service()))
            .then(|| history.latest_before(began))
            .flatten()
    })
}
