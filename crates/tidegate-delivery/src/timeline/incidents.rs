//! Incidents: many rows, one incident by source and name.

use std::collections::BTreeMap;

use super::{earliest, replace};
use crate::event::IncidentSeen;
use crate::moment::Moment;

/// One incident, as far as the rows tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incident {
    /// `source:name`.
    pub id: String,
    /// Everything known; `detected_at` is always filled.
    pub facts: IncidentSeen,
}

impl Incident {
    /// When it was first noticed.
    #[must_use]
    pub fn detected_at(&self) -> Moment {
        self.facts.detected_at.unwrap_or(Moment::EARLIEST)
    }

    /// When it was over; `None` while it lasts.
    #[must_use]
    pub const fn resolved_at(&self) -> Option<Moment> {
        self.facts.resolved_at
    }
}

#[derive(Default)]
pub(super) struct IncidentFold {
    incidents: BTreeMap<(String, String), IncidentSeen>,
}

impl IncidentFold {
    pub(super) fn apply(&mut self, at: Moment, source: String, seen: IncidentSeen) {
        let facts = self
            .incidents
            .entry((source, seen.incident.clone()))
            .or_insert_with(|| IncidentSeen {
                incident: seen.incident.clone(),
                ..IncidentSeen::default()
            });
        let noticed = seen
            .detected_at
            .or(seen.resolved_at.is_none().then_some(at));
        earliest(&mut facts.detected_at, noticed);
        replace(&mut facts.resolved_at, seen.resolved_at);
        replace(&mut facts.service, seen.service);
        replace(&mut facts.environment, seen.environment);
        replace(&mut facts.title, seen.title);
        replace(&mut facts.severity, seen.severity);
        replace(&mut facts.caused_by, seen.caused_by);
        replace(&mut facts.fixed_by, seen.fixed_by);
        replace(&mut facts.flag, seen.flag);
        replace(&mut facts.runbook, seen.runbook);
        replace(&mut facts.evidence, seen.evidence);
    }

    /// An incident known only from its end is as old as its end: it enters no recovery time.
    pub(super) fn finish(self) -> Vec<Incident> {
        let mut incidents: Vec<Incident> = self
            .incidents
            .into_iter()
            .map(|((source, name), mut facts)| {
                facts.detected_at = facts.detected_at.or(facts.resolved_at);
                Incident {
                    id: format!("{source}:{name}"),
                    facts,
                }
            })
            .collect();
        incidents.sort_by(|a, b| (a.detected_at(), &a.id).cmp(&(b.detected_at(), &b.id)));
        incidents
    }
}
