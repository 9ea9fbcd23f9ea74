//! CDEvents over CloudEvents HTTP, both ways.
//!
//! In: the three content modes. Binary: the body is the CDEvent. Structured (`application/cloudevents+json`): it
//! stands in `data`. Batch (`application/cloudevents-batch+json`): an array of those.
//! Told apart by the context's own source and id, so two senders never collide; our rows' source is
//! `cdevents:<source>`.
//!
//! Read: `service` deployed, upgraded, published (succeeded), rolledback (succeeded, intent rollback);
//! `incident` detected, reported, resolved; `change` created, merged, abandoned, updated, reviewed; `ticket` created,
//! updated, closed; and our own `dev.cdeventsx.tidegate-*`.
//! Every other type is genuine and says nothing here. `schemaUri` is never resolved.
//!
//! Out: [`to_cdevent`] writes rows that have a CDEvents type, ours as custom types.

use serde::Deserialize;
use serde_json::{Value, json};

use super::told::Told;
use super::{ParseError, Parsed, Request};
use crate::event::{
    DecisionSeen, DeliveryEvent, DeploymentSeen, EventBody, ExposureSeen, IncidentSeen, Intent,
    ItemSeen, Outcome, PullRequestSeen, RollbackSeen, StageSeen,
};
use crate::moment::Moment;

const BATCH: &str = "application/cloudevents-batch+json";
const STRUCTURED: &str = "application/cloudevents+json";
const OURS: &str = "dev.cdeventsx.tidegate-";

#[derive(Deserialize)]
struct CdEvent {
    context: Context,
    #[serde(default)]
    subject: Subject,
}

#[derive(Deserialize)]
struct Context {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    timestamp: Told,
}

#[derive(Default, Deserialize)]
struct Subject {
    #[serde(default)]
    id: String,
    #[serde(default)]
    content: Value,
}

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let content_type = request.header("Content-Type").unwrap_or("");
    let media = content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let events: Vec<Value> = match media.as_str() {
        BATCH => serde_json::from_slice(request.body)?,
        _ => vec![serde_json::from_slice(request.body)?],
    };
    let mut parsed = Parsed::default();
    for (place, mut value) in events.into_iter().enumerate() {
        if (media == STRUCTURED || media == BATCH) && value.get("data").is_some() {
            value = value["data"].take();
        }
        match serde_json::from_value::<CdEvent>(value) {
            Ok(event) => take(event, request.received_at, &mut parsed),
            Err(error) if media == BATCH => parsed
                .notes
                .push(format!("event {place} was left out: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(parsed)
}

fn take(event: CdEvent, received_at: Moment, parsed: &mut Parsed) {
    let CdEvent { context, subject } = event;
    let at = context.timestamp.0.unwrap_or(received_at);
    match body(&context.kind, at, &subject) {
        Some(body) => parsed.events.push(DeliveryEvent {
            at,
            source: format!("cdevents:{}", context.source),
            id: context.id,
            body,
        }),
        None => parsed
            .notes
            .push(format!("{} says nothing about delivery", context.kind)),
    }
}

/// `dev.cdevents.service.deployed.0.2.0`: the type without its version.
fn body(kind: &str, at: Moment, subject: &Subject) -> Option<EventBody> {
    if let Some(own) = kind.strip_prefix(OURS) {
        return own_body(own, subject);
    }
    let mut parts = kind.strip_prefix("dev.cdevents.")?.split('.');
    match (parts.next()?, parts.next()?) {
        ("service", predicate) => service(predicate, subject),
        ("incident", predicate) => incident(predicate, at, subject),
        ("change", predicate) => change(predicate, at, subject),
        ("ticket", predicate) => ticket(predicate, at, subject),
        _ => None,
    }
}

fn text(subject: &Subject, pointer: &str) -> Option<String> {
    let found = subject.content.pointer(pointer)?.as_str()?;
    (!found.is_empty()).then(|| found.to_owned())
}

fn service(predicate: &str, subject: &Subject) -> Option<EventBody> {
    let intent = match predicate {
        "deployed" | "upgraded" | "published" => None,
        "rolledback" => Some(Intent::Rollback),
        _ => return None,
    };
    let artifact = text(subject, "/artifactId");
    Some(EventBody::Deployment(DeploymentSeen {
        service: last_segment(&subject.id),
        environment: text(subject, "/environment/id")
            .map_or("production".to_owned(), |id| last_segment(&id)),
        version: artifact.map(|purl| version_of(&purl)),
        commit: None,
        deployment: None,
        pipeline: None,
        outcome: Outcome::Succeeded,
        started_at: None,
        intent,
    }))
}

/// The version of a package URL `pkg:type/name@version?qualifiers`, else the text itself.
fn version_of(purl: &str) -> String {
    let plain = purl.split(['?', '#']).next().unwrap_or(purl);
    plain
        .rsplit_once('@')
        .map_or(purl, |(_, version)| version)
        .to_owned()
}

fn last_segment(id: &str) -> String {
    id.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(id)
        .to_owned()
}

fn incident(predicate: &str, at: Moment, subject: &Subject) -> Option<EventBody> {
    let (detected_at, resolved_at) = match predicate {
        "detected" => (Some(at), None),
        "reported" => (Some(at), None),
        "resolved" => (None, Some(at)),
        _ => return None,
    };
    Some(EventBody::Incident(IncidentSeen {
        incident: subject.id.clone(),
        service: text(subject, "/service/id").map(|id| last_segment(&id)),
        environment: text(subject, "/environment/id").map(|id| last_segment(&id)),
        title: text(subject, "/description"),
        caused_by: text(subject, "/artifactId").map(|purl| version_of(&purl)),
        detected_at,
        resolved_at,
        ..IncidentSeen::default()
    }))
}

/// Changes with a number are pull requests; commits are read from the repository.
fn change(predicate: &str, at: Moment, subject: &Subject) -> Option<EventBody> {
    let number = last_segment(&subject.id)
        .trim_start_matches('#')
        .parse()
        .ok()?;
    let when = |wanted: &str| (predicate == wanted).then_some(at);
    Some(EventBody::PullRequest(PullRequestSeen {
        repository: text(subject, "/repository/id").map(|id| last_segment(&id))?,
        number,
        opened_at: when("created"),
        first_review_at: when("reviewed"),
        merged_at: when("merged"),
        closed_at: when("abandoned"),
        ..PullRequestSeen::default()
    }))
}

fn ticket(predicate: &str, at: Moment, subject: &Subject) -> Option<EventBody> {
    let when = |wanted: &str| (predicate == wanted).then_some(at);
    Some(EventBody::Item(ItemSeen {
        item: subject.id.clone(),
        kind: text(subject, "/ticketType"),
        created_at: when("created"),
        finished_at: when("closed"),
        ..ItemSeen::default()
    }))
}

fn own_body(kind: &str, subject: &Subject) -> Option<EventBody> {
    let content = subject.content.clone();
    let mut parts = kind.split('.');
    Some(match (parts.next()?, parts.next()?) {
        ("flag", "exposed") => {
            EventBody::Exposure(serde_json::from_value::<ExposureSeen>(content).ok()?)
        }
        ("rollout", "staged") => {
            EventBody::Stage(serde_json::from_value::<StageSeen>(content).ok()?)
        }
        ("rollout", "rolledback") => {
            EventBody::Rollback(serde_json::from_value::<RollbackSeen>(content).ok()?)
        }
        ("experiment", "decided") => {
            EventBody::Decision(serde_json::from_value::<DecisionSeen>(content).ok()?)
        }
        _ => return None,
    })
}

/// The row as a CDEvent, for rows that have a type: deployments that succeeded, incidents, and our own subjects.
#[must_use]
pub fn to_cdevent(event: &DeliveryEvent) -> Option<Value> {
    let (kind, id, content) = match &event.body {
        EventBody::Deployment(seen) if seen.outcome == Outcome::Succeeded => {
            let predicate = if seen.intent == Some(Intent::Rollback) {
                "rolledback"
            } else {
                "deployed"
            };
            let artifact = seen
                .version
                .as_ref()
                .map(|version| format!("pkg:generic/{}@{version}", seen.service));
            let content = json!({"environment": {"id": seen.environment}, "artifactId": artifact});
            (
                format!("dev.cdevents.service.{predicate}.0.2.0"),
                seen.service.clone(),
                content,
            )
        }
        EventBody::Incident(seen) => {
            let predicate = if seen.resolved_at.is_some() {
                "resolved"
            } else {
                "detected"
            };
            let content = json!({
                "description": seen.title,
                "environment": {"id": seen.environment.as_deref().unwrap_or("production")},
                "service": seen.service.as_ref().map(|id| json!({"id": id})),
            });
            (
                format!("dev.cdevents.incident.{predicate}.0.2.0"),
                seen.incident.clone(),
                content,
            )
        }
        EventBody::Exposure(seen) => own("flag-exposed", &seen.flag, seen)?,
        EventBody::Stage(seen) => own("rollout-staged", &seen.rollout, seen)?,
        EventBody::Rollback(seen) => own("rollout-rolledback", &seen.rollout, seen)?,
        EventBody::Decision(seen) => own("experiment-decided", &seen.flag, seen)?,
        _ => return None,
    };
    Some(json!({
        "context": {
            "specversion": "0.5.1", "id": event.id, "source": event.source,
            "type": kind, "timestamp": event.at.to_string(),
        },
        "subject": {"id": id, "content": content},
    }))
}

fn own(name: &str, subject: &str, seen: &impl serde::Serialize) -> Option<(String, String, Value)> {
    let kind = format!("{OURS}{}.0.1.0", name.replacen('-', ".", 1));
    Some((kind, subject.to_owned(), serde_json::to_value(seen).ok()?))
}
