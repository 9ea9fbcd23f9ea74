//! GitLab's webhooks.
//!
//! * `deployment`: one deployment by its id; the full commit id stands at the end of `commit_url`.
//! * `merge_request`: opened, merged, closed.
//! * `issue` and `incident`: pieces of work and incidents.
//! * `push` yields nothing: it lists 20 commits at most, so the repository itself must be read.
//!
//! A service is named after its project.

use serde::Deserialize;

use super::told::{Told, row, short};
use super::{ParseError, Parsed, Request, WebhookSource};
use crate::event::{DeploymentSeen, EventBody, IncidentSeen, ItemSeen, Outcome, PullRequestSeen};
use crate::moment::Moment;

#[derive(Deserialize)]
struct Kind {
    object_kind: String,
}

#[derive(Deserialize)]
struct Project {
    name: String,
}

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let kind: Kind = serde_json::from_slice(request.body)?;
    let (at, body, state) = match kind.object_kind.as_str() {
        "deployment" => deployment(request)?,
        "merge_request" => merge_request(request)?,
        "issue" | "incident" | "work_item" => issue(request, kind.object_kind == "incident")?,
        "push" | "tag_push" => {
            return Ok(Parsed::nothing(
                "a push lists 20 commits at most; commits are read from the repository",
            ));
        }
        other => {
            return Ok(Parsed::nothing(format!(
                "{other} events say nothing about delivery"
            )));
        }
    };
    let names = ["webhook-id", "Idempotency-Key", "X-Gitlab-Event-UUID"];
    let id = names
        .into_iter()
        .find_map(|name| request.header(name))
        .map_or(state, str::to_owned);
    let at = at.unwrap_or(request.received_at);
    Ok(Parsed {
        events: vec![row(WebhookSource::GitLab, id, at, body)],
        notes: Vec::new(),
    })
}

/// When, what, and a name for the delivery where the headers give none.
type Told3 = Result<(Option<Moment>, EventBody, String), ParseError>;

fn deployment(request: &Request<'_>) -> Told3 {
    #[derive(Deserialize)]
    struct Payload {
        status: String,
        #[serde(default)]
        status_changed_at: Told,
        deployment_id: u64,
        environment: String,
        #[serde(default)]
        commit_url: String,
        #[serde(default, rename = "ref")]
        reference: String,
        project: Project,
    }
    let told: Payload = serde_json::from_slice(request.body)?;
    let outcome = match told.status.as_str() {
        "success" => Outcome::Succeeded,
        "failed" | "canceled" => Outcome::Failed,
        _ => Outcome::Started,
    };
    let commit = told
        .commit_url
        .rsplit('/')
        .next()
        .filter(|id| id.len() == 40)
        .map(str::to_owned);
    let state = format!("deployment/{}/{}", told.deployment_id, told.status);
    let seen = DeploymentSeen {
        service: told.project.name,
        environment: told.environment,
        version: Some(told.reference).filter(|version| !version.is_empty()),
        commit,
        deployment: Some(told.deployment_id.to_string()),
        pipeline: None,
        outcome,
        started_at: None,
        intent: None,
    };
    Ok((told.status_changed_at.0, EventBody::Deployment(seen), state))
}

fn merge_request(request: &Request<'_>) -> Told3 {
    #[derive(Deserialize)]
    struct Payload {
        object_attributes: Attributes,
        project: Project,
    }
    #[derive(Deserialize)]
    struct Attributes {
        iid: u32,
        #[serde(default)]
        action: String,
        #[serde(default)]
        draft: bool,
        #[serde(default)]
        created_at: Told,
        #[serde(default)]
        updated_at: Told,
        merge_commit_sha: Option<String>,
    }
    let Payload {
        object_attributes: told,
        project,
    } = serde_json::from_slice(request.body)?;
    let at = told.updated_at.0;
    let when = |action: &str| at.filter(|_| told.action == action);
    let state = format!(
        "merge_request/{}/{}/{}",
        told.iid,
        told.action,
        at.map_or(0, Moment::millis)
    );
    let seen = PullRequestSeen {
        repository: project.name,
        number: told.iid,
        opened_at: told.created_at.0,
        ready_at: told
            .created_at
            .0
            .filter(|_| told.action == "open" && !told.draft),
        merged_at: when("merge"),
        closed_at: when("close"),
        merge_commit: told.merge_commit_sha.filter(|_| told.action == "merge"),
        ..PullRequestSeen::default()
    };
    Ok((at, EventBody::PullRequest(seen), state))
}

fn issue(request: &Request<'_>, is_incident: bool) -> Told3 {
    #[derive(Deserialize)]
    struct Payload {
        object_attributes: Attributes,
        project: Project,
    }
    #[derive(Deserialize)]
    struct Attributes {
        iid: u64,
        #[serde(default)]
        title: String,
        #[serde(default)]
        severity: Option<String>,
        #[serde(default, rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        created_at: Told,
        #[serde(default)]
        updated_at: Told,
        #[serde(default)]
        closed_at: Told,
    }
    let Payload {
        object_attributes: told,
        project,
    } = serde_json::from_slice(request.body)?;
    let name = format!("{}#{}", project.name, told.iid);
    let at = told.updated_at.0;
    let state = format!("issue/{name}/{}", at.map_or(0, Moment::millis));
    let is_incident = is_incident
        || told
            .kind
            .as_deref()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("incident"));
    let body = if is_incident {
        EventBody::Incident(IncidentSeen {
            incident: name,
            service: Some(project.name),
            title: Some(short(told.title)),
            severity: told.severity,
            detected_at: told.created_at.0,
            resolved_at: told.closed_at.0,
            ..IncidentSeen::default()
        })
    } else {
        EventBody::Item(ItemSeen {
            item: name,
            service: Some(project.name),
            kind: told.kind,
            created_at: told.created_at.0,
            finished_at: told.closed_at.0,
            ..ItemSeen::default()
        })
    };
    Ok((at, body, state))
}
