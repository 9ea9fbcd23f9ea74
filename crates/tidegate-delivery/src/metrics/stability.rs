//! How often a deployment goes wrong, how long until it is right again, and how much work is repair.

use super::lead_time::rounded_hours;
use super::{Contribution, Measured, Subject};
use crate::definition::{FailRateRule, IncidentLink, RecoveryRule, RecoverySpan, Rounding};
use crate::event::Outcome;
use crate::moment::Moment;
use crate::timeline::Incident;

/// A stretch of harm with a start and perhaps an end: an incident, or a change that was reverted.
struct Trouble {
    id: String,
    from: Moment,
    to: Option<Moment>,
    place: Option<usize>,
}

impl Subject<'_, '_> {
    pub(super) fn fail_rate(&self, rule: FailRateRule) -> Measured {
        let deployments = self.in_window().count();
        match rule {
            FailRateRule::AttributedFailures {} => self.attributed_fail_rate(deployments),
            FailRateRule::DeploymentsWithIncident {
                link,
                reverts_are_incidents,
            } => {
                let troubles = self.troubles(link, reverts_are_incidents);
                let mut places: Vec<usize> = troubles.iter().filter_map(|t| t.place).collect();
                places.sort_unstable();
                places.dedup();
                let inside: Vec<usize> = self
                    .in_window()
                    .filter(|p| places.binary_search(p).is_ok())
                    .collect();
                let mut measured = Measured::share(inside.len(), deployments);
                measured.formula =
                    "deployments with at least one incident over deployments".to_owned();
                let with_incidents = |&place: &usize| {
                    let mut deployment = self.deployment(place);
                    let own = troubles.iter().filter(|t| t.place == Some(place));
                    deployment.reasons = own.map(|t| format!("incident {}", t.id)).collect();
                    deployment
                };
                measured.contributing =
                    self.explained(|| inside.iter().map(with_incidents).collect());
                measured
            }
            FailRateRule::IncidentsPerDeployment { link } => {
                let window = self.query.window;
                let inside = |t: &Trouble| match t.place {
                    Some(place) => window.contains(self.history.deployments[place].finished_at),
                    None => link == IncidentLink::OpenedInWindow && window.contains(t.from),
                };
                let troubles: Vec<Trouble> = self
                    .troubles(link, false)
                    .into_iter()
                    .filter(inside)
                    .collect();
                let mut measured = Measured::share(troubles.len(), deployments);
                measured.formula = "incidents over deployments; can exceed 1".to_owned();
                measured.contributing =
                    self.explained(|| troubles.iter().map(|t| self.trouble(t, None)).collect());
                measured
            }
            FailRateRule::FailedAttempts {} => {
                let window = self.query.window;
                let attempts = self.history.series.attempts().iter();
                let ended = attempts
                    .filter(|d| d.outcome != Outcome::Started && window.contains(d.finished_at));
                let failed = ended.clone().filter(|d| d.outcome == Outcome::Failed);
                let mut measured = Measured::share(failed.count(), ended.count());
                measured.formula = "failed attempts over attempts".to_owned();
                measured
            }
        }
    }

    fn attributed_fail_rate(&self, deployments: usize) -> Measured {
        let verdicts = &self.failures.verdicts;
        let failed: Vec<usize> = self.in_window().filter(|&p| verdicts[p].failed()).collect();
        let possible = self
            .in_window()
            .filter(|&p| verdicts[p].only_possible())
            .count();
        let mut measured = Measured::share(failed.len(), deployments);
        measured.formula =
            "deployments with a certain or probable failure over deployments".to_owned();
        measured.note_count(
            possible,
            "more deployments may have failed; the record does not tell, and they are not counted",
        );
        measured.note_count(
            self.failures.unattributed.len(),
            "incidents of the service, at any time, are put down to no deployment",
        );
        if !self.knows_of_failures() {
            measured.notes.push("no incidents, rollouts or commits of this service are known: only rollbacks can show".to_owned());
        }
        measured.contributing = self.explained(|| failed.iter().map(|&p| self.failed(p)).collect());
        measured
    }

    fn knows_of_failures(&self) -> bool {
        let service = self.history.series.service();
        self.history.repository().is_some()
            || self
                .timeline
                .incidents()
                .iter()
                .any(|i| i.facts.service.as_deref() == Some(service))
    }

    pub(super) fn rework_rate(&self) -> Measured {
        let rework = &self.failures.rework;
        let repairs: Vec<usize> = self.in_window().filter(|&p| rework[p].is_some()).collect();
        let mut measured = Measured::share(repairs.len(), self.in_window().count());
        measured.formula = "deployments made as repair over deployments".to_owned();
        measured.contributing = self.explained(|| {
            let with_reason = |&place: &usize| {
                let mut repair = self.deployment(place);
                repair.reasons.extend(rework[place].clone());
                repair
            };
            repairs.iter().map(with_reason).collect()
        });
        measured
    }

    pub(super) fn recovery(&self, rule: RecoveryRule) -> Measured {
        match rule.rule {
            RecoverySpan::AttributedRecovery => self.attributed_recovery(rule),
            RecoverySpan::NextSuccess => self.next_success(rule),
            RecoverySpan::CauseToResolution
            | RecoverySpan::IncidentDuration
            | RecoverySpan::EarlierOfIncidentAndCause => self.incident_recovery(rule),
        }
    }

    fn attributed_recovery(&self, rule: RecoveryRule) -> Measured {
        let mut recovered = Vec::new();
        let mut open = 0;
        for place in self
            .in_window()
            .filter(|&p| self.failures.verdicts[p].failed())
        {
            let verdict = &self.failures.verdicts[place];
            let deployed = self.history.deployments[place].finished_at;
            match verdict.recovered() {
                Some(end) => {
                    let start = verdict.began().unwrap_or(deployed);
                    recovered.push((place, rounded_hours(rule.rounding, start, end.max(start))));
                }
                None => open += 1,
            }
        }
        let hours: Vec<f64> = recovered.iter().map(|&(_, hours)| hours).collect();
        let mut measured =
            self.statistic("failed_deployment_recovery_time", rule.statistic, &hours);
        measured.formula = format!(
            "{} over failed deployments of end of impact minus its start",
            rule.statistic.name()
        );
        measured.note_count(
            open,
            "failed deployments are not recovered, or nobody recorded when",
        );
        measured.contributing = self.explained(|| {
            let valued = |&(place, hours): &(usize, f64)| Contribution {
                value: Some(hours),
                ..self.failed(place)
            };
            recovered.iter().map(valued).collect()
        });
        measured
    }

    fn incident_recovery(&self, rule: RecoveryRule) -> Measured {
        let link = rule.link.unwrap_or(IncidentLink::OpenedInWindow);
        let mut spans = Vec::new();
        for trouble in self.troubles(link, rule.reverts_are_incidents) {
            let Some(end) = trouble.to.filter(|&end| self.query.window.contains(end)) else {
                continue;
            };
            let deployed = trouble
                .place
                .map(|place| self.history.deployments[place].finished_at);
            let start = match (rule.rule, deployed) {
                (RecoverySpan::CauseToResolution, None) => continue,
                (RecoverySpan::CauseToResolution, Some(deployed)) => deployed,
                (RecoverySpan::EarlierOfIncidentAndCause, Some(deployed)) => {
                    deployed.min(trouble.from)
                }
                _ => trouble.from,
            };
            if rule.both_in_window && !self.query.window.contains(start) {
                continue;
            }
            let hours = rounded_hours(rule.rounding, start, end);
            spans.push((self.trouble(&trouble, Some(hours)), hours));
        }
        let hours: Vec<f64> = spans.iter().map(|&(_, hours)| hours).collect();
        let mut measured =
            self.statistic("failed_deployment_recovery_time", rule.statistic, &hours);
        measured.formula = format!(
            "{} over incidents of end minus {}",
            rule.statistic.name(),
            match rule.rule {
                RecoverySpan::CauseToResolution => "finish of the causing deployment",
                RecoverySpan::EarlierOfIncidentAndCause =>
                    "the earlier of start and causing deployment",
                _ => "start",
            }
        );
        measured.contributing =
            self.explained(|| spans.into_iter().map(|(trouble, _)| trouble).collect());
        measured
    }

    fn next_success(&self, rule: RecoveryRule) -> Measured {
        let attempts = self.history.series.attempts();
        let mut hours = Vec::new();
        let mut open = 0;
        for (place, failed) in attempts.iter().enumerate() {
            if failed.outcome != Outcome::Failed || !self.query.window.contains(failed.finished_at)
            {
                continue;
            }
            match attempts[place..]
                .iter()
                .find(|d| d.outcome == Outcome::Succeeded)
            {
                Some(next) => hours.push(rounded_hours(
                    Rounding::None,
                    failed.finished_at,
                    next.finished_at,
                )),
                None => open += 1,
            }
        }
        let mut measured =
            self.statistic("failed_deployment_recovery_time", rule.statistic, &hours);
        measured.formula = format!(
            "{} over failed attempts of the next success minus the failure",
            rule.statistic.name()
        );
        measured.note_count(open, "failed attempts have no success after them");
        measured
    }

    /// Incidents of this service and environment, and reverted pull requests where they count as such.
    fn troubles(&self, link: IncidentLink, with_reverts: bool) -> Vec<Trouble> {
        let series = self.history.series;
        let concerns = |incident: &&Incident| {
            incident.facts.service.as_deref() == Some(series.service())
                && incident
                    .facts
                    .environment
                    .as_deref()
                    .is_none_or(|e| e == series.environment())
        };
        let mut troubles: Vec<Trouble> = self
            .timeline
            .incidents()
            .iter()
            .filter(concerns)
            .map(|incident| Trouble {
                id: incident.id.clone(),
                from: incident.detected_at(),
                to: incident.resolved_at(),
                place: self.linked(link, incident),
            })
            .filter(|trouble| link != IncidentLink::ExplicitCause || trouble.place.is_some())
            .collect();
        if with_reverts {
            troubles.extend(self.reverted_pull_requests());
        }
        troubles
    }

    fn linked(&self, link: IncidentLink, incident: &Incident) -> Option<usize> {
        let detected = incident.detected_at();
        match link {
            IncidentLink::OpenedInWindow => None,
            IncidentLink::LatestBefore => self.history.latest_before(detected),
            IncidentLink::ExplicitCause => self
                .history
                .named(incident.facts.caused_by.as_deref()?, None),
            IncidentLink::UntilNextDeployment => {
                let after = self
                    .history
                    .deployments
                    .partition_point(|d| d.finished_at <= detected);
                after.checked_sub(1)
            }
        }
    }

    /// From the original's merge to the revert's merge.
    fn reverted_pull_requests(&self) -> Vec<Trouble> {
        let Some((repository, _)) = self.timeline.repository_of(self.history.series.service())
        else {
            return Vec::new();
        };
        self.timeline
            .pull_requests_of(repository)
            .filter_map(|revert| {
                let original = self.timeline.pull_request(repository, revert.reverts?)?;
                let from = original.merged_at?;
                let after = self
                    .history
                    .deployments
                    .partition_point(|d| d.finished_at <= from);
                Some(Trouble {
                    id: format!("#{} reverted by #{}", original.number, revert.number),
                    from,
                    to: revert.merged_at,
                    place: after.checked_sub(1),
                })
            })
            .collect()
    }

    fn trouble(&self, trouble: &Trouble, value: Option<f64>) -> Contribution {
        Contribution {
            id: trouble.id.clone(),
            at: trouble.from,
            value,
            deployment: trouble
                .place
                .map(|place| self.history.deployments[place].id.clone()),
            reasons: Vec::new(),
        }
    }

    fn failed(&self, place: usize) -> Contribution {
        let evidence = &self.failures.verdicts[place].evidence;
        let mut contribution = self.deployment(place);
        contribution.reasons = evidence.iter().map(|e| e.reason.clone()).collect();
        contribution
    }
}
