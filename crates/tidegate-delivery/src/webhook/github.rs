//! GitHub's webhooks.
//!
//! * `deployment`, `deployment_status`: one deployment by its id; `inactive` says nothing about success.
//! * `pull_request`, `pull_request_review`: reviews by programs and by the author do not start the review clock.
//! * `release` (published): a tag that names a commit, where the payload carries the commit.
//! * `issues`: pieces of work; an issue labelled `incident` is an incident too.
//! * `push` yields nothing: its commits carry no parents, so the repository itself must be read.
//!
//! A service is named after its repository.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::told::{Told, row};
use super::{ParseError, Parsed, Request, WebhookSource};
use crate::event::{
    ArtifactSeen, DeploymentSeen, EventBody, IncidentSeen, ItemSeen, Outcome, PullRequestSeen,
};
use crate::moment::Moment;

/// What GitHub sends with every delivery: which event it is, and the delivery's name.
pub(super) const NEEDED_HEADERS: [&str; 2] = [EVENT, DELIVERY];
const EVENT: &str = "X-GitHub-Event";
const DELIVERY: &str = "X-GitHub-Delivery";

const INCIDENT_LABEL: &str = "incident";
const STARTED_LABEL: &str = "in progress";

#[derive(Deserialize)]
struct Repository {
    name: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    id: u64,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

pub(super) fn parse(request: &Request<'_>) -> Result<Parsed, ParseError> {
    let needed = |name| {
        let missing = ParseError::MissingHeader { name };
        request.header(name).ok_or(missing)
    };
    let (event, delivery) = (needed(EVENT)?, needed(DELIVERY)?);
    let (at, bodies) = match event {
        "deployment" | "deployment_status" => deployment(request)?,
        "pull_request" => pull_request(request)?,
        "pull_request_review" => review(request)?,
        "release" => release(request)?,
        "issues" => issue(request)?,
        "push" => {
            serde_json::from_slice::<IgnoredAny>(request.body)?;
            return Ok(Parsed::nothing(
                "a push carries no parents; commits are read from the repository",
            ));
        }
        other => {
            serde_json::from_slice::<IgnoredAny>(request.body)?;
            return Ok(Parsed::nothing(format!(
                "{other} events say nothing about delivery"
            )));
        }
    };
    if bodies.is_empty() {
        return Ok(Parsed::nothing(format!(
            "this {event} event changes nothing"
        )));
    }
    let id = |place: usize| {
        if place == 0 {
            delivery.to_owned()
        } else {
            format!("{delivery}/{place}")
        }
    };
    let events = bodies
        .into_iter()
        .enumerate()
        .map(|(place, body)| {
            row(
                WebhookSource::GitHub,
                id(place),
                at.unwrap_or(request.received_at),
                body,
            )
        })
        .collect();
    Ok(Parsed {
        events,
        notes: Vec::new(),
    })
}

type Bodies = Result<(Option<Moment>, Vec<EventBody>), ParseError>;

fn deployment(request: &Request<'_>) -> Bodies {
    #[derive(Deserialize)]
    struct Payload {
        deployment: Deployment,
        deployment_status: Option<Status>,
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Deployment {
        id: u64,
        sha: String,
        #[serde(rename = "ref")]
        reference: String,
        environment: String,
        #[serde(default)]
        created_at: Told,
    }
    #[derive(Deserialize)]
    struct Status {
        state: String,
        #[serde(default)]
        created_at: Told,
    }
    let payload: Payload = serde_json::from_slice(request.body)?;
    let (at, outcome) = match &payload.deployment_status {
        None => (payload.deployment.created_at.0, Outcome::Started),
        Some(status) => {
            let outcome = match status.state.as_str() {
                "success" => Outcome::Succeeded,
                "failure" | "error" => Outcome::Failed,
                "inactive" => return Ok((None, Vec::new())),
                _ => Outcome::Started,
            };
            (status.created_at.0, outcome)
        }
    };
    let version = payload.deployment.reference;
    let seen = DeploymentSeen {
        service: payload.repository.name,
        environment: payload.deployment.environment.to_lowercase(),
        version: Some(version).filter(|version| !version.is_empty()),
        commit: Some(payload.deployment.sha),
        deployment: Some(payload.deployment.id.to_string()),
        pipeline: None,
        outcome,
        started_at: payload.deployment.created_at.0,
        intent: None,
    };
    Ok((at, vec![EventBody::Deployment(seen)]))
}

#[derive(Deserialize)]
struct PullRequest {
    number: u32,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    merged: Option<bool>,
    merge_commit_sha: Option<String>,
    #[serde(default)]
    created_at: Told,
    #[serde(default)]
    updated_at: Told,
    #[serde(default)]
    merged_at: Told,
    #[serde(default)]
    closed_at: Told,
    additions: Option<u64>,
    deletions: Option<u64>,
    user: Option<User>,
}

fn pull_request(request: &Request<'_>) -> Bodies {
    #[derive(Deserialize)]
    struct Payload {
        action: String,
        pull_request: PullRequest,
        repository: Repository,
    }
    let Payload {
        action,
        pull_request: told,
        repository,
    } = serde_json::from_slice(request.body)?;
    let ready_at = match action.as_str() {
        "ready_for_review" => told.updated_at.0,
        "opened" if !told.draft => told.created_at.0,
        _ => None,
    };
    let merged = told.merged.unwrap_or(told.merged_at.0.is_some());
    let seen = PullRequestSeen {
        repository: repository.name,
        number: told.number,
        opened_at: told.created_at.0,
        ready_at,
        merged_at: told.merged_at.0,
        closed_at: told.closed_at.0,
        merge_commit: told.merge_commit_sha.filter(|_| merged),
        changed_lines: told
            .additions
            .zip(told.deletions)
            .map(|(added, gone)| added.saturating_add(gone)),
        reverts: told.body.as_deref().and_then(reverted),
        ..PullRequestSeen::default()
    };
    Ok((told.updated_at.0, vec![EventBody::PullRequest(seen)]))
}

/// GitHub's revert button writes `Reverts owner/repository#7`.
fn reverted(body: &str) -> Option<u32> {
    let line = body.lines().find(|line| line.starts_with("Reverts "))?;
    line.trim().rsplit_once('#')?.1.parse().ok()
}

fn review(request: &Request<'_>) -> Bodies {
    #[derive(Deserialize)]
    struct Payload {
        review: Review,
        pull_request: PullRequest,
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Review {
        #[serde(default)]
        submitted_at: Told,
        user: Option<User>,
    }
    let Payload {
        review,
        pull_request,
        repository,
    } = serde_json::from_slice(request.body)?;
    let author = pull_request.user.map(|user| user.id);
    let by_person = review
        .user
        .filter(|user| user.kind != "Bot" && Some(user.id) != author);
    if by_person.is_none() {
        return Ok((None, Vec::new()));
    }
    let seen = PullRequestSeen {
        repository: repository.name,
        number: pull_request.number,
        first_review_at: review.submitted_at.0,
        ..PullRequestSeen::default()
    };
    Ok((review.submitted_at.0, vec![EventBody::PullRequest(seen)]))
}

fn release(request: &Request<'_>) -> Bodies {
    #[derive(Deserialize)]
    struct Payload {
        action: String,
        release: Release,
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Release {
        tag_name: String,
        target_commitish: String,
        #[serde(default)]
        published_at: Told,
    }
    let Payload {
        action,
        release,
        repository,
    } = serde_json::from_slice(request.body)?;
    let names_commit = crate::commit_graph::CommitId::parse(&release.target_commitish).is_some();
    if action != "published" || !names_commit {
        return Ok((None, Vec::new()));
    }
    let seen = ArtifactSeen {
        repository: repository.name,
        version: release.tag_name,
        commit: release.target_commitish,
    };
    Ok((release.published_at.0, vec![EventBody::Artifact(seen)]))
}

fn issue(request: &Request<'_>) -> Bodies {
    #[derive(Deserialize)]
    struct Payload {
        action: String,
        issue: Issue,
        label: Option<Label>,
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Issue {
        number: u64,
        title: String,
        #[serde(default)]
        labels: Vec<Label>,
        #[serde(default)]
        created_at: Told,
        #[serde(default)]
        updated_at: Told,
        #[serde(default)]
        closed_at: Told,
    }
    let Payload {
        action,
        issue,
        label,
        repository,
    } = serde_json::from_slice(request.body)?;
    let name = format!("{}#{}", repository.name, issue.number);
    let starts = action == "labeled" && label.is_some_and(|label| is_named(&label, STARTED_LABEL));
    let mut bodies = vec![EventBody::Item(ItemSeen {
        item: name.clone(),
        service: Some(repository.name.clone()),
        created_at: issue.created_at.0,
        started_at: issue.updated_at.0.filter(|_| starts),
        finished_at: issue.closed_at.0,
        ..ItemSeen::default()
    })];
    if issue
        .labels
        .iter()
        .any(|label| is_named(label, INCIDENT_LABEL))
    {
        bodies.push(EventBody::Incident(IncidentSeen {
            incident: name,
            service: Some(repository.name),
            title: Some(crate::webhook::told::short(issue.title)),
            detected_at: issue.created_at.0,
            resolved_at: issue.closed_at.0,
            ..IncidentSeen::default()
        }));
    }
    Ok((issue.updated_at.0, bodies))
}

fn is_named(label: &Label, name: &str) -> bool {
    label.name.replace('-', " ").eq_ignore_ascii_case(name)
}
