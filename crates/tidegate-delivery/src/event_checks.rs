//! What a row must satisfy before it may enter the log.
//!
//! All violations are reported at once, each with its JSON pointer.
//! Rows already in the log are not checked again: the fold tolerates whatever an older version let in.

use crate::commit_graph::CommitId;
use crate::event::{
    CommitSeen, DeliveryEvent, DeploymentSeen, EventBody, EventProblem, MAX_LIST_ITEMS,
    MAX_TEXT_BYTES,
};
use crate::moment::Moment;

/// Every reason why the row cannot enter the log; empty when it can.
#[must_use]
pub fn problems_of(event: &DeliveryEvent) -> Vec<EventProblem> {
    let mut check = Check::default();
    check.moment("/at", Some(event.at));
    check.text("/source", &event.source);
    check.text("/id", &event.id);
    check.body(&event.body);
    check.found
}

#[derive(Default)]
struct Check {
    found: Vec<EventProblem>,
}

impl Check {
    fn body(&mut self, body: &EventBody) {
        match body {
            EventBody::Deployment(seen) => self.deployment(seen),
            EventBody::Commit(seen) => self.commit(seen),
            EventBody::Artifact(seen) => {
                self.text("/body/artifact/repository", &seen.repository);
                self.text("/body/artifact/version", &seen.version);
                self.commit_id("/body/artifact/commit", &seen.commit);
            }
            EventBody::Service(seen) => {
                self.text("/body/service/service", &seen.service);
                self.text("/body/service/repository", &seen.repository);
                self.optional("/body/service/team", seen.team.as_deref());
            }
            EventBody::PullRequest(seen) => {
                self.text("/body/pull_request/repository", &seen.repository);
                self.moment("/body/pull_request/opened_at", seen.opened_at);
                self.moment("/body/pull_request/merged_at", seen.merged_at);
                self.moment("/body/pull_request/first_commit_at", seen.first_commit_at);
                self.optional_commit(
                    "/body/pull_request/merge_commit",
                    seen.merge_commit.as_deref(),
                );
            }
            EventBody::Incident(seen) => {
                self.text("/body/incident/incident", &seen.incident);
                self.optional("/body/incident/service", seen.service.as_deref());
                self.optional("/body/incident/title", seen.title.as_deref());
                self.moment("/body/incident/detected_at", seen.detected_at);
                self.moment("/body/incident/resolved_at", seen.resolved_at);
                self.optional("/body/incident/evidence", seen.evidence.as_deref());
                self.optional("/body/incident/runbook", seen.runbook.as_deref());
            }
            EventBody::Item(seen) => {
                self.text("/body/item/item", &seen.item);
                self.moment("/body/item/created_at", seen.created_at);
                self.moment("/body/item/started_at", seen.started_at);
                self.moment("/body/item/finished_at", seen.finished_at);
            }
            EventBody::Exposure(seen) => {
                self.text("/body/exposure/flag", &seen.flag);
                self.share("/body/exposure/share_bp", seen.share_bp);
            }
            EventBody::Stage(seen) => {
                self.text("/body/stage/rollout", &seen.rollout);
                self.text("/body/stage/flag", &seen.flag);
                self.share("/body/stage/share_bp", seen.share_bp);
            }
            EventBody::Rollback(seen) => {
                self.text("/body/rollback/rollout", &seen.rollout);
                self.text("/body/rollback/flag", &seen.flag);
                self.moment("/body/rollback/impact_from", seen.impact_from);
                self.optional("/body/rollback/evidence", seen.evidence.as_deref());
            }
            EventBody::Decision(seen) => {
                self.text("/body/decision/flag", &seen.flag);
                self.text("/body/decision/decision", &seen.decision);
            }
            EventBody::Patch(seen) => {
                self.text("/body/patch/repository", &seen.repository);
                self.commit_id("/body/patch/commit", &seen.commit);
                self.text("/body/patch/patch_id", &seen.patch_id);
            }
            EventBody::Correction(seen) => {
                self.text("/body/correction/deployment", &seen.deployment);
                self.text("/body/correction/reason", &seen.reason);
                self.text("/body/correction/by", &seen.by);
            }
        }
    }

    fn deployment(&mut self, seen: &DeploymentSeen) {
        self.text("/body/deployment/service", &seen.service);
        self.text("/body/deployment/environment", &seen.environment);
        self.optional("/body/deployment/version", seen.version.as_deref());
        self.optional("/body/deployment/deployment", seen.deployment.as_deref());
        self.optional("/body/deployment/pipeline", seen.pipeline.as_deref());
        self.optional_commit("/body/deployment/commit", seen.commit.as_deref());
        self.moment("/body/deployment/started_at", seen.started_at);
    }

    fn commit(&mut self, seen: &CommitSeen) {
        self.text("/body/commit/repository", &seen.repository);
        self.commit_id("/body/commit/commit", &seen.commit);
        for parent in &seen.parents {
            self.commit_id("/body/commit/parents", parent);
        }
        self.list("/body/commit/parents", seen.parents.len());
        self.list("/body/commit/reverts", seen.reverts.len());
        self.list("/body/commit/flags", seen.flags.len());
        self.list(
            "/body/commit/services",
            seen.services.as_ref().map_or(0, Vec::len),
        );
        for flag in &seen.flags {
            self.text("/body/commit/flags", flag);
        }
    }

    fn text(&mut self, pointer: &'static str, text: &str) {
        if text.is_empty() {
            self.found.push(EventProblem::Empty { pointer });
        }
        self.optional(pointer, Some(text));
    }

    fn optional(&mut self, pointer: &'static str, text: Option<&str>) {
        let bytes = text.map_or(0, str::len);
        if bytes > MAX_TEXT_BYTES {
            self.found.push(EventProblem::TooLong { pointer, bytes });
        }
    }

    fn list(&mut self, pointer: &'static str, items: usize) {
        if items > MAX_LIST_ITEMS {
            self.found.push(EventProblem::TooMany { pointer, items });
        }
    }

    fn share(&mut self, pointer: &'static str, share_bp: u16) {
        if share_bp > 10_000 {
            self.found.push(EventProblem::Share { pointer, share_bp });
        }
    }

    fn commit_id(&mut self, pointer: &'static str, text: &str) {
        if CommitId::parse(text).is_none() {
            self.found.push(EventProblem::CommitId { pointer });
        }
    }

    fn optional_commit(&mut self, pointer: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.commit_id(pointer, text);
        }
    }

    fn moment(&mut self, pointer: &'static str, moment: Option<Moment>) {
        if let Some(Err(error)) = moment.map(Moment::plausible) {
            self.found.push(EventProblem::Time { pointer, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ExposureSeen, Outcome};

    #[test]
    fn all_violations_of_a_row_are_named_at_once() {
        let event = DeliveryEvent {
            at: Moment::from_millis(0),
            source: String::new(),
            id: "x".repeat(MAX_TEXT_BYTES + 1),
            body: EventBody::Deployment(DeploymentSeen {
                service: String::new(),
                environment: "production".into(),
                version: None,
                commit: Some("v12".into()),
                deployment: None,
                pipeline: None,
                outcome: Outcome::Succeeded,
                started_at: None,
                intent: None,
            }),
        };
        let text: Vec<String> = problems_of(&event)
            .iter()
            .map(ToString::to_string)
            .collect();
        for part in [
            "/at",
            "/source",
            "/id",
            "/body/deployment/service",
            "/body/deployment/commit",
        ] {
            assert!(
                text.iter().any(|line| line.starts_with(part)),
                "{part}: {text:?}"
            );
        }
    }

    #[test]
    fn a_share_is_at_most_everyone() {
        let mut event = DeliveryEvent {
            at: Moment::EARLIEST,
            source: "tidegate".into(),
            id: "1".into(),
            body: EventBody::Exposure(ExposureSeen {
                flag: "f".into(),
                share_bp: 10_000,
            }),
        };
        assert_eq!(problems_of(&event), vec![]);
        event.body = EventBody::Exposure(ExposureSeen {
            flag: "f".into(),
            share_bp: 10_001,
        });
        assert_eq!(problems_of(&event).len(), 1);
    }
}
