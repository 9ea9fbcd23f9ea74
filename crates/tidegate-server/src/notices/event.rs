//! What is told: one document per event, in the shape Standard Webhooks asks for.
//!
//! `{type, timestamp, data}`, where data says which object of which project, what it was before and
//! is now, who did it, why, and where to look. A document that would be too large leaves before and
//! after out and says so; whoever needs them follows the link.

use serde_json::{Value, json};
use tidegate_rollout::RolloutEvent;
use tidegate_store::{ObjectChange, ObjectKind, Write};

use crate::egress::destination::encoded;
use crate::time_text::rfc3339;

/// Largest document that carries before and after, in bytes.
const MAX_WHOLE: usize = 64 * 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its type, such as `flag.kill`.
    pub name: String,
    /// The whole document.
    pub document: Value,
}

/// The type of a change's event: the action the audit trail names.
#[must_use]
pub fn name_of(change: &ObjectChange, existed: bool) -> String {
    let verb = match change.write {
        Write::Put(_) if existed => "update",
        Write::Put(_) => "create",
        Write::Delete => "delete",
        Write::Revive(_) => "revive",
    };
    let plain = || format!("{}.{verb}", change.kind);
    change.action.clone().unwrap_or_else(plain)
}

/// The event of a change of an object.
#[must_use]
pub fn of_change(change: &ObjectChange, before: Option<&Value>, (id, base): (&str, &str)) -> Event {
    let name = name_of(change, before.is_some());
    let after = match &change.write {
        Write::Put(spec) | Write::Revive(spec) => Some(spec),
        Write::Delete => None,
    };
    let (project, key) = (change.project.as_str(), change.key.as_str());
    let mut data = json!({
        "id": id,
        "scope": { "project": project, "kind": change.kind.as_str(), "key": key },
        "before": before,
        "after": after,
        "actor": change.actor.to_string(),
        "reason": change.reason,
        "link": link(base, project, change.kind, key),
    });
    if data.to_string().len() > MAX_WHOLE {
        data["before"] = Value::Null;
        data["after"] = Value::Null;
        data["is_abridged"] = Value::Bool(true);
    }
    let document = json!({ "type": name, "timestamp": rfc3339(change.now_us), "data": data });
    Event { name, document }
}

/// The event of an entry in a rollout's log; `None` for entries that only concern the planner.
#[must_use]
pub fn of_rollout(
    (project, key): (&str, &str),
    share_before_bp: u16,
    entry: &RolloutEvent,
    (id, base): (&str, &str),
) -> Option<Event> {
    let told = rollout_words(entry)?;
    let name = format!("rollout.{}", told.verb);
    let at = rfc3339(entry.at_us());
    let document = json!({
        "type": name,
        "timestamp": at,
        "data": {
            "id": id,
            "scope": { "project": project, "kind": "rollout", "key": key },
            "before": { "share_bp": share_before_bp },
            "after": { "share_bp": told.share_bp.unwrap_or(share_before_bp), "stage": told.stage },
            "actor": told.actor.unwrap_or("system:rollout"),
            "reason": told.reason,
            "link": format!("{}/report", link(base, project, ObjectKind::Rollout, key)),
        },
    });
    Some(Event { name, document })
}

struct RolloutWords<'a> {
    verb: &'static str,
    actor: Option<&'a str>,
    reason: Option<&'a str>,
    share_bp: Option<u16>,
    stage: Option<usize>,
}

fn rollout_words(entry: &RolloutEvent) -> Option<RolloutWords<'_>> {
    let told = |verb| RolloutWords {
        verb,
        actor: None,
        reason: None,
        share_bp: None,
        stage: None,
    };
    let by = |verb, who, why| RolloutWords {
        actor: Some(who),
        reason: why,
        ..told(verb)
    };
    Some(match entry {
        RolloutEvent::Evidence { .. }
        | RolloutEvent::Intended { .. }
        | RolloutEvent::Abandoned { .. } => return None,
        RolloutEvent::Started { who, .. } => by("started", who, None),
        RolloutEvent::StageEntered {
            stage, share_bp, ..
        } => RolloutWords {
            share_bp: Some(share_bp.get()),
            stage: Some(*stage),
            ..told("stage-entered")
        },
        RolloutEvent::Approved {
            stage, who, why, ..
        } => RolloutWords {
            stage: Some(*stage),
            ..by("approved", who, Some(why))
        },
        RolloutEvent::Paused { who, why, .. } => by("paused", who, Some(why)),
        RolloutEvent::Resumed { who, why, .. } => by("resumed", who, Some(why)),
        RolloutEvent::Aborted { who, why, .. } => by("aborted", who, Some(why)),
        RolloutEvent::EmergencyStopped { who, why, .. } => by("stopped", who, Some(why)),
        RolloutEvent::RollbackDecided { reason, .. } => RolloutWords {
            reason: Some(reason),
            ..told("rollback-decided")
        },
        RolloutEvent::RolledBack { .. } => RolloutWords {
            share_bp: Some(0),
            ..told("rolled-back")
        },
        RolloutEvent::Completed { share_bp, .. } => RolloutWords {
            share_bp: Some(share_bp.get()),
            ..told("completed")
        },
        RolloutEvent::ForeignEdit { found_bp, who, .. } => RolloutWords {
            share_bp: Some(found_bp.get()),
            ..by("foreign-edit", who, None)
        },
        RolloutEvent::ForeignEditSettled { share_bp, who, .. } => RolloutWords {
            share_bp: Some(share_bp.get()),
            ..by("foreign-edit-settled", who, None)
        },
        RolloutEvent::Retried { who, .. } => RolloutWords {
            share_bp: Some(0),
            ..by("retried", who, None)
        },
    })
}

/// Where to look: an address if the server knows its own, else a path at it.
#[must_use]
pub fn link(base: &str, project: &str, kind: ObjectKind, key: &str) -> String {
    format!("{base}/api/v1/projects/{project}/{kind}s/{}", encoded(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_rollout::BasisPoints;
    use tidegate_store::{Actor, Expected, ObjectKey, ProjectKey};

    fn change(write: Write) -> ObjectChange {
        let project = ProjectKey::parse("shop").unwrap();
        let key = ObjectKey::parse(ObjectKind::Flag, "a/b").unwrap();
        let place = (project, ObjectKind::Flag, key);
        ObjectChange::new(
            place,
            Expected::Any,
            write,
            Actor::user("u1"),
            1_700_000_000_000_000,
        )
        .with_reason("because")
    }

    #[test]
    fn a_change_says_who_what_why_and_where() {
        let before = json!({"state": "DISABLED"});
        let change = change(Write::Put(json!({"state": "ENABLED"})));
        let event = of_change(&change, Some(&before), ("evt_1", "https://tide.example"));
        let expected = json!({
            "type": "flag.update",
            "timestamp": "2023-11-14T22:13:20Z",
            "data": {
                "id": "evt_1",
                "scope": {"project": "shop", "kind": "flag", "key": "a/b"},
                "before": {"state": "DISABLED"},
                "after": {"state": "ENABLED"},
                "actor": "user:u1",
                "reason": "because",
                "link": "https://tide.example/api/v1/projects/shop/flags/a%2Fb",
            },
        });
        assert_eq!(event.document, expected);
    }

    #[test]
    fn the_type_is_what_the_audit_trail_calls_it() {
        let mut kill = change(Write::Put(json!({})));
        assert_eq!(name_of(&kill, false), "flag.create");
        kill.action = Some("flag.kill".to_owned());
        assert_eq!(name_of(&kill, true), "flag.kill");
        assert_eq!(name_of(&change(Write::Delete), true), "flag.delete");
    }

    #[test]
    fn a_document_that_would_be_too_large_says_that_it_is_abridged() {
        let huge = change(Write::Put(json!({"text": "x".repeat(MAX_WHOLE)})));
        let event = of_change(&huge, None, ("evt_1", ""));
        assert_eq!(event.document["data"]["is_abridged"], true);
        assert!(event.document.to_string().len() < 1000);
    }

    #[test]
    fn a_rollback_is_told_with_its_sentence_and_a_plan_is_not() {
        let plan = tidegate_rollout::Digest::of(&1);
        let decided = RolloutEvent::RollbackDecided {
            at_us: 0,
            reason: "errors doubled".to_owned(),
            plan,
        };
        let event = of_rollout(("p", "r"), 500, &decided, ("evt_2", "")).unwrap();
        assert_eq!(event.name, "rollout.rollback-decided");
        assert_eq!(event.document["data"]["reason"], "errors doubled");
        assert_eq!(
            event.document["data"]["link"],
            "/api/v1/projects/p/rollouts/r/report"
        );
        let intended = RolloutEvent::Intended {
            at_us: 0,
            step: 1,
            stage: Some(0),
            from_bp: BasisPoints::ZERO,
            to_bp: BasisPoints::ALL,
            plan,
        };
        assert_eq!(of_rollout(("p", "r"), 0, &intended, ("evt_3", "")), None);
    }
}
