//! The kinds of rows a table may hold and how each is read.

use super::mapping::Record;
use super::{RowProblem, read_time};
use crate::event::{
    CommitSeen, DeliveryEvent, DeploymentSeen, EventBody, IncidentSeen, Intent, ItemSeen, Outcome,
};
use crate::moment::Moment;

/// A field of a kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
}

const fn need(name: &'static str) -> Field {
    Field {
        name,
        required: true,
    }
}

const fn may(name: &'static str) -> Field {
    Field {
        name,
        required: false,
    }
}

const ID: Field = may("id");
const TIME: Field = need("time");
const SERVICE: Field = need("service");
const OPTIONAL_SERVICE: Field = may("service");
const ENVIRONMENT: Field = need("environment");
const OPTIONAL_ENVIRONMENT: Field = may("environment");
const VERSION: Field = may("version");
const COMMIT: Field = may("commit");
const PIPELINE: Field = may("pipeline");
const OUTCOME: Field = may("outcome");
const INTENT: Field = may("intent");
const STARTED: Field = may("started");
const REPOSITORY: Field = need("repository");
const COMMIT_ID: Field = need("commit");
const PARENTS: Field = may("parents");
const AUTHORED: Field = may("authored");
const PULL_REQUEST: Field = may("pull_request");
const RESOLVED: Field = may("resolved");
const TITLE: Field = may("title");
const SEVERITY: Field = may("severity");
const CAUSED_BY: Field = may("caused_by");
const FIXED_BY: Field = may("fixed_by");
const ITEM_ID: Field = need("id");
const CREATED: Field = may("created");
const FINISHED: Field = may("finished");
const KIND: Field = may("kind");

const TIME_CURE: &str = "write seconds since 1970, RFC 3339, or a date";

/// What the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A version put somewhere.
    Deployments,
    /// Commits.
    Changes,
    /// Incidents.
    Incidents,
    /// Pieces of work.
    Items,
}

/// Every kind.
pub const ALL_KINDS: [RowKind; 4] = [
    RowKind::Deployments,
    RowKind::Changes,
    RowKind::Incidents,
    RowKind::Items,
];

impl RowKind {
    /// As the command line writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployments => "deployments",
            Self::Changes => "changes",
            Self::Incidents => "incidents",
            Self::Items => "items",
        }
    }

    pub(super) const fn fields(self) -> &'static [Field] {
        match self {
            Self::Deployments => &[
                TIME,
                ENVIRONMENT,
                SERVICE,
                VERSION,
                COMMIT,
                ID,
                PIPELINE,
                OUTCOME,
                INTENT,
                STARTED,
            ],
            Self::Changes => &[TIME, REPOSITORY, COMMIT_ID, PARENTS, AUTHORED, PULL_REQUEST],
            Self::Incidents => &[
                TIME,
                ID,
                OPTIONAL_SERVICE,
                OPTIONAL_ENVIRONMENT,
                RESOLVED,
                TITLE,
                SEVERITY,
                CAUSED_BY,
                FIXED_BY,
            ],
            Self::Items => &[ITEM_ID, OPTIONAL_SERVICE, CREATED, STARTED, FINISHED, KIND],
        }
    }
}

pub(super) fn read(
    kind: RowKind,
    source: &str,
    record: &Record<'_, '_>,
) -> Result<DeliveryEvent, RowProblem> {
    let (at, id, body) = match kind {
        RowKind::Deployments => deployment(record)?,
        RowKind::Changes => change(record)?,
        RowKind::Incidents => incident(record)?,
        RowKind::Items => item(record)?,
    };
    Ok(DeliveryEvent {
        at,
        source: source.to_owned(),
        id,
        body,
    })
}

type Read = Result<(Moment, String, EventBody), RowProblem>;

fn deployment(record: &Record<'_, '_>) -> Read {
    let at = required_time(record, TIME)?;
    let service = record.required(SERVICE)?;
    let environment = record.required(ENVIRONMENT)?;
    let version = record.optional(VERSION);
    let id = match record.optional(ID) {
        Some(id) => id.to_owned(),
        None => format!(
            "{environment}/{service}/{}@{}",
            version.unwrap_or("-"),
            at.millis() / 1000
        ),
    };
    let outcome = record.parsed(OUTCOME, "write started, succeeded or failed", outcome)?;
    let seen = DeploymentSeen {
        service: service.to_owned(),
        environment: environment.to_owned(),
        version: version.map(str::to_owned),
        commit: owned(record.optional(COMMIT)),
        deployment: None,
        pipeline: owned(record.optional(PIPELINE)),
        outcome: outcome.unwrap_or_default(),
        started_at: time(record, STARTED)?,
        intent: record.parsed(INTENT, "write planned, hotfix or rollback", intent)?,
    };
    Ok((at, id, EventBody::Deployment(seen)))
}

fn change(record: &Record<'_, '_>) -> Read {
    let commit = record.required(COMMIT_ID)?;
    let parents = record.optional(PARENTS).unwrap_or("");
    let seen = CommitSeen {
        repository: record.required(REPOSITORY)?.to_owned(),
        commit: commit.to_owned(),
        parents: parents.split_whitespace().map(str::to_owned).collect(),
        authored_at: time(record, AUTHORED)?,
        pull_request: record.parsed(PULL_REQUEST, "write the number alone", str::parse)?,
        ..CommitSeen::default()
    };
    Ok((
        required_time(record, TIME)?,
        commit.to_owned(),
        EventBody::Commit(seen),
    ))
}

fn incident(record: &Record<'_, '_>) -> Read {
    let at = required_time(record, TIME)?;
    let service = record.optional(OPTIONAL_SERVICE);
    let name = match record.optional(ID) {
        Some(id) => id.to_owned(),
        None => format!("{}@{}", service.unwrap_or("-"), at.millis() / 1000),
    };
    let resolved_at = time(record, RESOLVED)?;
    if resolved_at.is_some_and(|resolved| resolved < at) {
        let cause = "lies before the incident's own time".to_owned();
        return Err(record.problem(RESOLVED, cause, "check both times"));
    }
    let seen = IncidentSeen {
        incident: name.clone(),
        service: owned(service),
        environment: owned(record.optional(OPTIONAL_ENVIRONMENT)),
        title: owned(record.optional(TITLE)),
        severity: owned(record.optional(SEVERITY)),
        detected_at: Some(at),
        resolved_at,
        caused_by: owned(record.optional(CAUSED_BY)),
        fixed_by: owned(record.optional(FIXED_BY)),
        ..IncidentSeen::default()
    };
    Ok((
        at,
        delivery_of(&name, resolved_at),
        EventBody::Incident(seen),
    ))
}

fn item(record: &Record<'_, '_>) -> Read {
    let name = record.required(ITEM_ID)?;
    let (created_at, started_at) = (time(record, CREATED)?, time(record, STARTED)?);
    let finished_at = time(record, FINISHED)?;
    let Some(at) = finished_at.or(started_at).or(created_at) else {
        let cause = "the row has no created, started or finished time".to_owned();
        return Err(record.problem(CREATED, cause, "give at least one time"));
    };
    let seen = ItemSeen {
        item: name.to_owned(),
        service: owned(record.optional(OPTIONAL_SERVICE)),
        kind: owned(record.optional(KIND)),
        created_at,
        started_at,
        finished_at,
        waiting: None,
    };
    Ok((
        at,
        delivery_of(&format!("{name}@{}", at.millis()), finished_at),
        EventBody::Item(seen),
    ))
}

/// A row read again after the thing ended is a new delivery about the same thing.
fn delivery_of(name: &str, end: Option<Moment>) -> String {
    match end {
        Some(end) => format!("{name}#{}", end.millis()),
        None => name.to_owned(),
    }
}

fn required_time(record: &Record<'_, '_>, field: Field) -> Result<Moment, RowProblem> {
    record.required(field)?;
    time(record, field)?.ok_or_else(|| record.problem(field, "is blank".to_owned(), TIME_CURE))
}

fn time(record: &Record<'_, '_>, field: Field) -> Result<Option<Moment>, RowProblem> {
    record.parsed(field, TIME_CURE, read_time)
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn outcome(text: &str) -> Result<Outcome, String> {
    match text.to_ascii_lowercase().as_str() {
        "success" | "succeeded" | "successful" | "ok" | "passed" => Ok(Outcome::Succeeded),
        "failure" | "failed" | "error" => Ok(Outcome::Failed),
        "started" | "pending" | "in_progress" | "running" => Ok(Outcome::Started),
        other => Err(format!("{other:?} is no outcome")),
    }
}

fn intent(text: &str) -> Result<Intent, String> {
    match text.to_ascii_lowercase().as_str() {
        "planned" => Ok(Intent::Planned),
        "hotfix" | "unplanned" => Ok(Intent::Hotfix),
        "rollback" => Ok(Intent::Rollback),
        other => Err(format!("{other:?} is no intent")),
    }
}
