//! Stages, rollbacks and decisions of rollouts, from the rollouts' own logs.
//!
//! | entry of the rollout's log | rows |
//! |---|---|
//! | a stage is in force | stage |
//! | the planner decided to roll back | rollback (automatic, with the guard and its sentence), incident opened |
//! | a person aborted or pulled the emergency stop | rollback (by hand, with the reason) |
//! | share zero was written and read back | exposure 0, decision `stop`, incident over |
//! | the plan ran to its end | decision `ship` |
//!
//! An incident lasts from the decision to exposure back at zero; its harm began with the first exposed unit, which
//! the rollback row carries as `impact_from`.
//! Must not know: whether a rollout is running; a log that has not grown since is not read.

use std::collections::BTreeMap;

use tidegate_delivery::event::{
    DecisionSeen, EventBody, ExposureSeen, IncidentSeen, MAX_TEXT_BYTES, RollbackSeen, StageSeen,
};
use tidegate_delivery::{DeliveryEvent, Moment};
use tidegate_rollout::{RolloutEvent, RolloutSpec};
use tidegate_store::{ObjectKind, ProjectKey, Store, StoreError, StreamRecord};

use super::own::{LookError, SOURCE, append};
use super::settings::moment;
use crate::app::App;
use crate::rollouts::stream_of;

/// Records read at a time.
const PAGE: u32 = 1000;

/// How far each rollout's log is written.
#[derive(Debug)]
pub(super) struct Followed {
    rollouts: BTreeMap<(String, String), Follow>,
    /// Whether those at rest are to be looked at too.
    is_due: bool,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            rollouts: BTreeMap::new(),
            is_due: true,
        }
    }
}

/// One rollout's log, as far as it is written.
#[derive(Debug, Clone, Default)]
struct Follow {
    /// Sequence of the last record written.
    after: u64,
    /// Since when units are exposed, in the present run.
    exposed_from: Option<Moment>,
    /// The incident that an automatic rollback opened, until it is over.
    incident: Option<String>,
    /// Whether nothing can follow without a change of the flag, which the audit chain shows.
    is_at_rest: bool,
}

impl Followed {
    /// Writes what has been added to the logs of all rollouts; of those at rest only if the audit chain has grown.
    pub(super) async fn look(
        &mut self,
        app: &App,
        store: &dyn Store,
        chain_has_grown: bool,
    ) -> Result<(), LookError> {
        self.is_due |= chain_has_grown;
        for project in store.project_list().await? {
            for (key, spec) in rollouts(store, &project.key).await? {
                let name = (project.key.as_str().to_owned(), key);
                let follow = self.rollouts.entry(name.clone()).or_default();
                if follow.is_at_rest && !self.is_due {
                    continue;
                }
                let head = store.log_head(&project.key, &stream_of(&name.1)).await?;
                while follow.after < head {
                    // On a copy: what is not appended is read again.
                    let mut next = follow.clone();
                    let rows = next.read(store, &project.key, &name.1, &spec).await?;
                    append(app, &name.0, rows).await?;
                    *follow = next;
                }
                follow.is_at_rest |= head == 0;
            }
        }
        self.is_due = false;
        Ok(())
    }
}

async fn rollouts(
    store: &dyn Store,
    project: &ProjectKey,
) -> Result<Vec<(String, RolloutSpec)>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .object_list(project, ObjectKind::Rollout, after.as_ref(), PAGE)
            .await?;
        for object in page.objects {
            // One that cannot be read was never started.
            if let Ok(spec) = RolloutSpec::from_json(&object.spec) {
                found.push((object.key.as_str().to_owned(), spec));
            }
        }
        match page.next_after {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

impl Follow {
    /// The rows of the next page of records.
    async fn read(
        &mut self,
        store: &dyn Store,
        project: &ProjectKey,
        rollout: &str,
        spec: &RolloutSpec,
    ) -> Result<Vec<DeliveryEvent>, StoreError> {
        let stream = stream_of(rollout);
        let page = store.log_read(project, &stream, self.after, PAGE).await?;
        let mut rows = Vec::new();
        for record in &page {
            self.after = record.sequence;
            rows.extend(self.rows(rollout, spec, record));
        }
        if page.is_empty() {
            // Nothing there where the head says there is: a hole, which is passed.
            self.after += 1;
        }
        Ok(rows)
    }

    fn rows(
        &mut self,
        rollout: &str,
        spec: &RolloutSpec,
        record: &StreamRecord,
    ) -> Vec<DeliveryEvent> {
        let Ok(event) = serde_json::from_value::<RolloutEvent>(record.payload.clone()) else {
            return Vec::new();
        };
        self.is_at_rest = matches!(
            event,
            RolloutEvent::RolledBack { .. } | RolloutEvent::Completed { .. }
        );
        let about = About { rollout, spec };
        let at = moment(event.at_us());
        let bodies = self.bodies(&about, at, event, record.sequence);
        let row = |(what, body)| DeliveryEvent {
            at,
            source: SOURCE.to_owned(),
            // The time belongs to the name: a restored store counts its records again from an earlier one.
            id: format!(
                "rollout/{rollout}/{}@{}/{what}",
                record.sequence,
                at.millis()
            ),
            body,
        };
        bodies.into_iter().map(row).collect()
    }

    fn bodies(
        &mut self,
        about: &About<'_>,
        at: Moment,
        event: RolloutEvent,
        sequence: u64,
    ) -> Vec<(&'static str, EventBody)> {
        match event {
            RolloutEvent::Started { .. } | RolloutEvent::Retried { .. } => {
                *self = Self {
                    after: self.after,
                    ..Self::default()
                };
                Vec::new()
            }
            RolloutEvent::StageEntered {
                stage, share_bp, ..
            } => {
                let share_bp = u16::from(share_bp);
                if share_bp > 0 {
                    self.exposed_from.get_or_insert(at);
                }
                vec![("stage", about.stage(stage, share_bp))]
            }
            RolloutEvent::RollbackDecided { reason, .. } => {
                let incident = format!("rollback/{}/{sequence}", about.rollout);
                let opened = about.incident(&incident, at, &reason);
                self.incident = Some(incident);
                vec![
                    ("rollback", about.rollback(true, self.exposed_from, &reason)),
                    ("incident", opened),
                ]
            }
            RolloutEvent::Aborted { why, .. } | RolloutEvent::EmergencyStopped { why, .. } => {
                vec![("rollback", about.rollback(false, self.exposed_from, &why))]
            }
            RolloutEvent::RolledBack { .. } => {
                let mut bodies = vec![
                    ("exposure", about.closed()),
                    ("decision", about.decision("stop")),
                ];
                if let Some(incident) = self.incident.take() {
                    bodies.push(("recovered", about.recovered(incident, at)));
                }
                bodies
            }
            RolloutEvent::Completed { .. } => vec![("decision", about.decision("ship"))],
            _ => Vec::new(),
        }
    }
}

/// The rollout that rows are about.
struct About<'r> {
    rollout: &'r str,
    spec: &'r RolloutSpec,
}

impl About<'_> {
    fn stage(&self, stage: usize, share_bp: u16) -> EventBody {
        EventBody::Stage(StageSeen {
            rollout: self.rollout.to_owned(),
            flag: self.spec.flag.clone(),
            stage: u32::try_from(stage).unwrap_or(u32::MAX),
            share_bp,
        })
    }

    fn rollback(&self, automatic: bool, from: Option<Moment>, why: &str) -> EventBody {
        EventBody::Rollback(RollbackSeen {
            rollout: self.rollout.to_owned(),
            flag: self.spec.flag.clone(),
            automatic,
            guard: automatic.then(|| self.guard(why)).flatten(),
            impact_from: from,
            service: None,
            evidence: Some(short(why)).filter(|why| !why.is_empty()),
        })
    }

    /// The guard that the planner's sentence names.
    fn guard(&self, sentence: &str) -> Option<String> {
        let named = |metric: &&String| sentence.contains(metric.as_str());
        let metrics = self.spec.guards.iter().map(|guard| &guard.metric);
        // `errors/checkout` holds `errors`, so the longest name is the one that is meant.
        metrics
            .filter(named)
            .max_by_key(|metric| metric.len())
            .cloned()
    }

    fn incident(&self, incident: &str, at: Moment, why: &str) -> EventBody {
        EventBody::Incident(IncidentSeen {
            incident: incident.to_owned(),
            environment: Some("production".to_owned()),
            title: Some(short(&format!(
                "rollout {} of flag {} was rolled back automatically",
                self.rollout, self.spec.flag
            ))),
            detected_at: Some(at),
            flag: Some(self.spec.flag.clone()),
            evidence: Some(short(why)),
            ..IncidentSeen::default()
        })
    }

    fn recovered(&self, incident: String, at: Moment) -> EventBody {
        EventBody::Incident(IncidentSeen {
            incident,
            resolved_at: Some(at),
            ..IncidentSeen::default()
        })
    }

    fn closed(&self) -> EventBody {
        EventBody::Exposure(ExposureSeen {
            flag: self.spec.flag.clone(),
            share_bp: 0,
        })
    }

    fn decision(&self, decision: &str) -> EventBody {
        EventBody::Decision(DecisionSeen {
            flag: self.spec.flag.clone(),
            decision: decision.to_owned(),
        })
    }
}

/// A sentence cut to what a row may carry.
fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
