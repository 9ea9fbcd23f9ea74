//! Objects over REST: one set of handlers for every kind.
//!
//! A revision travels as an entity tag. `PUT` takes the definition itself, or the whole document a
//! `GET` answered with (`{kind, key, spec, ...}`), so that reading, editing and sending back works.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_store::{ObjectKind, StoredObject};

use super::body;
use super::query::{Parameters, Query, Sent};
use crate::access::Principal;
use crate::app::objects::{Belief, Place};
use crate::app::{App, AppError, Violation, objects, stop};

/// The kinds that live under `/api/v1/projects/{project}/{collection}`.
pub(crate) const COLLECTIONS: [(&str, ObjectKind); 7] = [
    ("sets", ObjectKind::Set),
    ("flags", ObjectKind::Flag),
    ("segments", ObjectKind::Segment),
    ("metrics", ObjectKind::Metric),
    ("journeys", ObjectKind::Journey),
    ("rollouts", ObjectKind::Rollout),
    ("sources", ObjectKind::Source),
];

/// An object as it is answered.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectDocument {
    kind: &'static str,
    key: String,
    revision: u64,
    created_at: String,
    updated_at: String,
    updated_by: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    spec: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Violation>,
}

impl From<StoredObject> for ObjectDocument {
    fn from(object: StoredObject) -> Self {
        Self {
            kind: object.kind.as_str(),
            key: object.key.as_str().to_owned(),
            revision: object.revision,
            created_at: crate::time_text::rfc3339(object.created_at),
            updated_at: crate::time_text::rfc3339(object.updated_at),
            updated_by: object.updated_by.to_string(),
            deleted: object.deleted,
            spec: object.spec,
            warnings: Vec::new(),
        }
    }
}

/// What a write answers with.
#[derive(Debug, Serialize)]
struct WrittenDocument {
    key: String,
    revision: u64,
    config_version: u64,
    audit_sequence: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Violation>,
}

/// How long a kill's answer waits for its transaction. It is served before.
const SETTLE_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// Where a page starts and how long it is.
#[derive(Debug)]
pub(crate) struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

impl Parameters for Page {
    fn read(sent: &mut Sent) -> Self {
        Self {
            after: sent.text("after"),
            limit: sent.number("limit"),
        }
    }
}

/// Why a change is made, for the audit trail.
#[derive(Debug)]
pub(crate) struct Why {
    reason: Option<String>,
}

impl Parameters for Why {
    fn read(sent: &mut Sent) -> Self {
        Self {
            reason: sent.text("reason"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KillRequest {
    reason: String,
}

/// `GET /api/v1/projects/{project}/{collection}`
pub(crate) async fn list(
    State(app): State<App>,
    Path((project, collection)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Result<Response, AppError> {
    let kind = kind_of(&collection)?;
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let found = objects::list(&app, &project, kind, page.after.as_deref(), limit).await?;
    let rows: Vec<ObjectDocument> = found.objects.into_iter().map(Into::into).collect();
    let next = found.next_after.map(|key| key.as_str().to_owned());
    Ok(Json(json!({ "rows": rows, "next_after": next })).into_response())
}

/// `GET /api/v1/projects/{project}/{collection}/{key}`
pub(crate) async fn get(
    State(app): State<App>,
    Path(path): Path<ObjectPath>,
) -> Result<Response, AppError> {
    let object = objects::read(&app, &path.place()?).await?;
    let tag = revision_tag(object.revision);
    Ok(([(ETAG, tag)], Json(ObjectDocument::from(object))).into_response())
}

/// `POST /api/v1/projects/{project}/{collection}`: creates, and never replaces.
pub(crate) async fn create(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, collection)): Path<(String, String)>,
    Query(why): Query<Why>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let key = document.get("key").and_then(Value::as_str).ok_or_else(|| {
        AppError::invalid(
            "/key",
            "key-needed",
            "name the object: {\"key\": ..., \"spec\": ...}",
        )
    })?;
    let place = Place::parse(&project, kind_of(&collection)?, key)?;
    write(
        &app,
        &principal,
        &place,
        Belief::Absent,
        document,
        why.reason,
    )
    .await
}

/// `PUT /api/v1/projects/{project}/{collection}/{key}`
pub(crate) async fn put(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(path): Path<ObjectPath>,
    Query(why): Query<Why>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let place = path.place()?;
    let belief = belief(&headers)?;
    let document = body::json(&bytes, &app.flag_limits)?;
    write(&app, &principal, &place, belief, document, why.reason).await
}

/// `DELETE /api/v1/projects/{project}/{collection}/{key}`
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(path): Path<ObjectPath>,
    Query(why): Query<Why>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let place = path.place()?;
    let committed =
        objects::delete(&app, &principal, &place, belief(&headers)?, why.reason).await?;
    Ok(
        Json(json!({ "key": path.key, "revision": committed.revision, "deleted": true }))
            .into_response(),
    )
}

/// `GET /api/v1/projects/{project}/{collection}/{key}/history`: newest first.
pub(crate) async fn history(
    State(app): State<App>,
    Path(path): Path<ObjectPath>,
) -> Result<Response, AppError> {
    let found = objects::history(&app, &path.place()?, 100).await?;
    let rows: Vec<ObjectDocument> = found.into_iter().map(Into::into).collect();
    Ok(Json(json!({ "rows": rows })).into_response())
}

/// `POST /api/v1/projects/{project}/flags/{key}/kill`
pub(crate) async fn kill(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let document = body::json(&bytes, &app.flag_limits)?;
    let request: KillRequest = serde_json::from_value(document)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let stopped = stop::kill(&app, &principal, &project, &key, &request.reason)?;
    // It is served. Where storage is well the answer waits for the ordinary transaction too, so
    // that the audit trail already shows it; where it is not, the answer does not wait.
    let _ = tokio::time::timeout(SETTLE_WAIT, crate::reconcile::settle_stops(&app)).await;
    let answer = json!({
        "key": key,
        "stop": stopped.id,
        "serves": stopped.serves,
        "durable": stopped.durable,
    });
    Ok(Json(answer).into_response())
}

/// `POST /api/v1/projects/{project}/flags/{key}/revive`: lifts a kill.
pub(crate) async fn revive(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: KillRequest = serde_json::from_value(body::json(&bytes, &app.flag_limits)?)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))?;
    let place = Place::parse(&project, ObjectKind::Flag, &key)?;
    let committed = objects::revive(&app, &principal, &place, &request.reason).await?;
    Ok(Json(json!({ "key": key, "revision": committed.revision })).into_response())
}

/// `POST /api/v1/projects/{project}/flags/{key}/evaluate`: the value, and why.
pub(crate) async fn explain(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let place = app
        .live
        .project(&project)
        .ok_or_else(|| AppError::NotFound(format!("project {project:?}")))?;
    let set = place.load();
    let handle = set
        .ruleset
        .handle(&key)
        .ok_or_else(|| AppError::NotFound(format!("flag {key:?}")))?;
    let document = body::json(&bytes, &app.flag_limits)?;
    let context = match document.get("context") {
        Some(Value::Object(context)) => context.clone(),
        None => serde_json::Map::new(),
        Some(_) => {
            return Err(AppError::invalid(
                "/context",
                "not-an-object",
                "the context is an object",
            ));
        }
    };
    let bound = set.ruleset.bind(&context, app.clock.now_seconds());
    let explanation = set.ruleset.explain(handle, &bound);
    Ok(Json(json!({
        "flag": key,
        "explanation": explanation,
        "config_version": set.config_version,
        "stale_since": set.stale_since_us.map(crate::time_text::rfc3339),
    }))
    .into_response())
}

/// Where an object lives, as the path says it.
#[derive(Debug, Deserialize)]
pub(crate) struct ObjectPath {
    project: String,
    collection: String,
    key: String,
}

impl ObjectPath {
    fn place(&self) -> Result<Place, AppError> {
        Place::parse(&self.project, kind_of(&self.collection)?, &self.key)
    }
}

fn kind_of(collection: &str) -> Result<ObjectKind, AppError> {
    COLLECTIONS
        .into_iter()
        .find_map(|(word, kind)| (word == collection).then_some(kind))
        .ok_or_else(|| AppError::NotFound(format!("the collection {collection:?}")))
}

async fn write(
    app: &App,
    principal: &Principal,
    place: &Place,
    belief: Belief,
    document: Value,
    reason: Option<String>,
) -> Result<Response, AppError> {
    let spec = definition_in(document, place)?;
    let written = objects::write(app, principal, place, belief, spec, reason).await?;
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = WrittenDocument {
        key: place.key.as_str().to_owned(),
        revision: written.committed.revision,
        config_version: written.committed.config_version,
        audit_sequence: written.committed.audit_sequence,
        warnings: written.warnings,
    };
    Ok((
        status,
        [(ETAG, revision_tag(answer.revision))],
        Json(answer),
    )
        .into_response())
}

/// The definition in what was sent: the document itself, or its `spec`.
fn definition_in(document: Value, place: &Place) -> Result<Value, AppError> {
    let Value::Object(mut object) = document else {
        return Err(AppError::invalid("", "not-an-object", "send a JSON object"));
    };
    let Some(spec) = object.remove("spec") else {
        return Ok(Value::Object(object));
    };
    let own = [("kind", place.kind.as_str()), ("key", place.key.as_str())];
    for (name, expected) in own {
        if object
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|sent| sent != expected)
        {
            return Err(AppError::invalid(
                &format!("/{name}"),
                "not-this-object",
                format!("the path says {expected:?}"),
            ));
        }
    }
    let read_only = [
        "kind",
        "key",
        "revision",
        "created_at",
        "updated_at",
        "updated_by",
        "warnings",
    ];
    let unknown: Vec<Violation> = object
        .keys()
        .filter(|name| !read_only.contains(&name.as_str()))
        .map(|name| Violation::at(format!("/{name}"), "unknown-field", "no such field here"))
        .collect();
    if unknown.is_empty() {
        Ok(spec)
    } else {
        Err(AppError::Invalid(unknown))
    }
}

/// What the caller's conditions say about the object.
fn belief(headers: &HeaderMap) -> Result<Belief, AppError> {
    if let Some(value) = headers.get(IF_MATCH) {
        let text = value.to_str().unwrap_or_default().trim();
        let revision = text.trim_start_matches("W/").trim_matches('"');
        return revision.parse().map(Belief::Revision).map_err(|_| {
            AppError::invalid(
                "",
                "bad-if-match",
                format!("If-Match must be the revision, such as \"3\", and is {text:?}"),
            )
        });
    }
    match headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes) {
        Some(b"*") => Ok(Belief::Absent),
        Some(_) => Err(AppError::invalid(
            "",
            "bad-if-none-match",
            "only `*` is understood",
        )),
        None => Ok(Belief::Unsaid),
    }
}

fn revision_tag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}
