//! Endpoints: made, listed without what is secret, tested, given new keys, removed; and dead letters.
//!
//! A secret is in the answer to the creation of its key and nowhere else.

use serde::Serialize;
use serde_json::{Value, json};
use tidegate_store::{
    Expected, ObjectChange, ObjectKind, OutboxMessage, OutboxRow, StoreError, StreamAppend, Write,
};

use super::endpoint::{Endpoint, KeyName, MAX_KEYS, Wanted};
use super::log::{self, Attempt};
use super::{ENDPOINT_TOPIC, event_id};
use crate::access::Principal;
use crate::app::objects::{self, Place};
use crate::app::{App, AppError, actor_of};
use crate::time_text::rfc3339;

/// The longest time two keys sign side by side, in hours.
const MAX_OVERLAP_HOURS: u32 = 24 * 30;
/// Dead letters in one answer.
const PAGE: u32 = 1000;

/// An endpoint as people see it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its key.
    pub key: String,
    /// Scheme, host and port of its address; the rest may be a secret.
    pub origin: String,
    /// What it is told.
    pub events: Vec<String>,
    /// Whether it is asked before a rollout raises a share.
    pub asks: bool,
    /// What it is for.
    pub description: Option<String>,
    /// Its live keys, the newest first.
    pub keys: Vec<ShownKey>,
    /// Revision of the object.
    pub revision: u64,
}

/// A key as people see it: that it is there, and until when.
#[derive(Debug, Serialize)]
pub struct ShownKey {
    /// When it was made.
    pub created_at: String,
    /// When it stops signing.
    pub expires_at: Option<String>,
}

/// Deliveries to one endpoint.
#[derive(Debug, Serialize)]
pub struct Deliveries {
    /// The newest attempts, the newest first.
    pub rows: Vec<Attempt>,
    /// Messages that were given up.
    pub dead: Vec<DeadLetter>,
}

/// A message that was given up.
#[derive(Debug, Serialize)]
pub struct DeadLetter {
    /// Its number, to redeliver it by.
    pub number: u64,
    /// Its id, as its receiver would see it.
    pub id: Value,
    /// The type of its event.
    pub event: Value,
    /// When it was written.
    pub created_at: String,
    /// How many attempts failed.
    pub attempts: u32,
    /// What the last one said.
    pub last_error: Option<String>,
}

fn shown(key: &str, endpoint: &Endpoint, revision: u64, now_us: i64) -> Shown {
    let show = |key: &KeyName| ShownKey {
        created_at: rfc3339(key.created_us),
        expires_at: key.expires_us.map(rfc3339),
    };
    Shown {
        key: key.to_owned(),
        origin: endpoint.origin(),
        events: endpoint.events.clone(),
        asks: endpoint.asks,
        description: endpoint.description.clone(),
        keys: endpoint.live_keys(now_us).map(show).collect(),
        revision,
    }
}

/// Makes an endpoint and its first key; the secret is returned this once.
///
/// # Errors
/// Everything that is wrong with it; a key that is taken; no key to sign with; storage.
pub async fn create(
    app: &App,
    principal: &Principal,
    project: &str,
    wanted: Wanted,
) -> Result<(Shown, String), AppError> {
    let mut violations = wanted.violations();
    if let Err(error) = app.operations.egress.admit(&wanted.url) {
        let place = crate::app::Violation::at("/url", "bad-endpoint", error.to_string());
        violations.push(place);
    }
    if !violations.is_empty() {
        return Err(AppError::Invalid(violations));
    }
    let place = Place::parse(project, ObjectKind::Webhook, &wanted.key)?;
    let key = new_key(app.clock.now_us());
    let secret = secret_of(app, &place, &key)?;
    let endpoint = Endpoint {
        url: wanted.url,
        events: wanted.events,
        asks: wanted.asks,
        description: wanted.description,
        keys: vec![key],
    };
    let revision = put(app, principal, &place, &endpoint, Expected::Absent).await?;
    let now_us = app.clock.now_us();
    Ok((shown(&wanted.key, &endpoint, revision, now_us), secret))
}

/// The endpoints of a project, by key.
///
/// # Errors
/// Storage.
pub async fn list(app: &App, project: &str) -> Result<Vec<Shown>, AppError> {
    let place = Place::parse(project, ObjectKind::Webhook, "any")?;
    let found = super::of_kind(app, &place.project).await;
    let found = found.map_err(|error| objects::refusal(&error, "endpoints"))?;
    let now_us = app.clock.now_us();
    let show = |object: &tidegate_store::StoredObject| {
        let endpoint = Endpoint::from_stored(&object.spec)?;
        Some(shown(
            object.key.as_str(),
            &endpoint,
            object.revision,
            now_us,
        ))
    };
    Ok(found.iter().filter_map(show).collect())
}

/// Gives an endpoint a new key; the others sign beside it for `overlap_hours`.
///
/// # Errors
/// No such endpoint; two keys live already; too long an overlap; storage.
pub async fn rotate(
    app: &App,
    principal: &Principal,
    project: &str,
    (key, overlap_hours): (&str, u32),
) -> Result<(Shown, String), AppError> {
    if overlap_hours > MAX_OVERLAP_HOURS {
        let message = format!("at most {MAX_OVERLAP_HOURS} hours");
        return Err(AppError::invalid("/overlap_hours", "out-of-range", message));
    }
    let (place, mut endpoint, revision) = read(app, project, key).await?;
    let now_us = app.clock.now_us();
    let live: Vec<KeyName> = endpoint.live_keys(now_us).cloned().collect();
    if live.len() >= MAX_KEYS && overlap_hours > 0 {
        return Err(AppError::Conflict(
            "two keys are live already; wait until the older ends, or rotate with an overlap of 0"
                .to_owned(),
        ));
    }
    let end_us = now_us.saturating_add(i64::from(overlap_hours) * 3_600_000_000);
    let fresh = new_key(now_us);
    let secret = secret_of(app, &place, &fresh)?;
    let old = live
        .into_iter()
        .filter(|_| overlap_hours > 0)
        .map(|old| KeyName {
            expires_us: Some(old.expires_us.map_or(end_us, |end| end.min(end_us))),
            ..old
        });
    endpoint.keys = std::iter::once(fresh).chain(old).collect();
    let expected = Expected::Revision(revision);
    let revision = put(app, principal, &place, &endpoint, expected).await?;
    Ok((shown(key, &endpoint, revision, now_us), secret))
}

/// Removes an endpoint; what waits for it becomes dead letters.
///
/// # Errors
/// No such endpoint; storage.
pub async fn delete(
    app: &App,
    principal: &Principal,
    project: &str,
    key: &str,
) -> Result<(), AppError> {
    let (place, _, revision) = read(app, project, key).await?;
    let expected = Expected::Revision(revision);
    commit(app, principal, &place, (expected, Write::Delete)).await?;
    Ok(())
}

/// Puts a test message in line for an endpoint and returns its id.
///
/// # Errors
/// No such endpoint; storage.
pub async fn test(
    app: &App,
    principal: &Principal,
    project: &str,
    key: &str,
) -> Result<String, AppError> {
    let (place, _, _) = read(app, project, key).await?;
    let now_us = app.clock.now_us();
    let id = event_id();
    let link = format!(
        "{}/api/v1/projects/{project}/webhook-endpoints/{key}/deliveries",
        app.operations.notices.base()
    );
    let payload = json!({
        "type": "webhook.test",
        "timestamp": rfc3339(now_us),
        "data": {
            "id": id,
            "scope": { "project": project, "kind": "webhook", "key": key },
            "before": null,
            "after": null,
            "actor": actor_of(principal).to_string(),
            "reason": "a test",
            "link": link,
        },
    });
    let append = StreamAppend {
        project: place.project,
        stream: "webhook-tests".to_owned(),
        payload: json!({ "id": id, "endpoint": key }),
        delivery: None,
        expected_head: None,
        outbox: vec![OutboxMessage {
            topic: format!("{ENDPOINT_TOPIC}{key}"),
            payload,
        }],
        now_us,
    };
    async { app.store()?.log_append(append).await }
        .await
        .map_err(|error| objects::refusal(&error, "the test"))?;
    Ok(id)
}

/// What became of the last deliveries, and what was given up.
///
/// # Errors
/// No such endpoint; storage.
pub async fn deliveries(app: &App, project: &str, key: &str) -> Result<Deliveries, AppError> {
    read(app, project, key).await?;
    let dead = dead_letters(app, project, key).await?;
    let show = |row: OutboxRow| DeadLetter {
        number: row.id,
        id: row.payload["data"]["id"].clone(),
        event: row.payload["type"].clone(),
        created_at: rfc3339(row.created_at),
        attempts: row.attempts,
        last_error: row.last_error,
    };
    Ok(Deliveries {
        rows: log::read(app, project, key).await,
        dead: dead.into_iter().map(show).collect(),
    })
}

/// Puts one dead letter of an endpoint back in line, or all of them; says how many.
///
/// # Errors
/// No such endpoint or letter; storage.
pub async fn redeliver(
    app: &App,
    project: &str,
    (key, number): (&str, Option<u64>),
) -> Result<usize, AppError> {
    read(app, project, key).await?;
    let dead = dead_letters(app, project, key).await?;
    let wanted: Vec<u64> = dead
        .iter()
        .map(|row| row.id)
        .filter(|id| number.is_none_or(|number| number == *id))
        .collect();
    if let (Some(number), true) = (number, wanted.is_empty()) {
        return Err(AppError::NotFound(format!(
            "dead letter {number} of endpoint {key:?}"
        )));
    }
    let now_us = app.clock.now_us();
    for id in &wanted {
        async { app.store()?.outbox_redeliver(*id, now_us).await }
            .await
            .map_err(|error| objects::refusal(&error, "the dead letter"))?;
    }
    Ok(wanted.len())
}

async fn dead_letters(app: &App, project: &str, key: &str) -> Result<Vec<OutboxRow>, AppError> {
    let place = Place::parse(project, ObjectKind::Webhook, key)?;
    let topic = format!("{ENDPOINT_TOPIC}{key}");
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = async {
            app.store()?
                .outbox_dead_list(&place.project, after, PAGE)
                .await
        };
        let page = page
            .await
            .map_err(|error| objects::refusal(&error, "dead letters"))?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = last.id;
        found.extend(page.into_iter().filter(|row| row.topic == topic));
    }
}

async fn read(app: &App, project: &str, key: &str) -> Result<(Place, Endpoint, u64), AppError> {
    let place = Place::parse(project, ObjectKind::Webhook, key)?;
    let object = objects::read(app, &place).await?;
    let endpoint = Endpoint::from_stored(&object.spec)
        .ok_or_else(|| AppError::Internal(format!("endpoint {key:?} cannot be read")))?;
    Ok((place, endpoint, object.revision))
}

async fn put(
    app: &App,
    principal: &Principal,
    place: &Place,
    endpoint: &Endpoint,
    expected: Expected,
) -> Result<u64, AppError> {
    let spec =
        serde_json::to_value(endpoint).map_err(|error| AppError::Internal(error.to_string()))?;
    commit(app, principal, place, (expected, Write::Put(spec))).await
}

/// Commits without a difference for the audit trail, which would show the address.
async fn commit(
    app: &App,
    principal: &Principal,
    place: &Place,
    (expected, write): (Expected, Write),
) -> Result<u64, AppError> {
    let change = ObjectChange::new(
        (place.project.clone(), place.kind, place.key.clone()),
        expected,
        write,
        actor_of(principal),
        app.clock.now_us(),
    );
    let committed = async {
        let committed = app.store()?.object_commit(change).await?;
        super::reload(app).await?;
        Ok::<_, StoreError>(committed)
    };
    let committed = committed
        .await
        .map_err(|error| objects::refusal(&error, "the endpoint"))?;
    Ok(committed.revision)
}

fn new_key(now_us: i64) -> KeyName {
    KeyName {
        id: uuid::Uuid::new_v4().simple().to_string(),
        created_us: now_us,
        expires_us: None,
    }
}

fn secret_of(app: &App, place: &Place, key: &KeyName) -> Result<String, AppError> {
    let master = app.operations.notices.master();
    let master = master.ok_or_else(|| AppError::Unavailable {
        reason: "this server has no key to sign notices with; the log says why".to_owned(),
        retry_after_seconds: 60,
    })?;
    let (project, endpoint) = (place.project.as_str(), place.key.as_str());
    Ok(master.key(project, endpoint, &key.id).to_secret())
}
