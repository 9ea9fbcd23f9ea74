//! The OpenFeature manifest API: flags as code generators need them.
//!
//! A manifest knows of a flag its key, type, default value, name and description; rules, variants
//! and rollouts are not its concern and survive every write through it. Deleting archives: the
//! key stays taken. Requests are read strictly, all that is wrong with one is said at once, and
//! a write is refused rather than merged if somebody else changed the flag meanwhile.

mod translate;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_flags::FlagSpec;
use tidegate_store::{ObjectKind, StoredObject};

use super::body;
use super::problem::Problem;
use super::routes::{Access, Dialect, RouteRow, Routes, Verb};
use crate::access::{Permission, Principal};
use crate::app::objects::{self, Belief, Place};
use crate::app::{App, AppError, Violation};
use crate::time_text::rfc3339;
use translate::{Sent, manifest_flag};

/// One flag, with a default value as large as a definition may be.
const FLAG_BYTES: usize = 1024 * 1024;
const CAPABILITIES: &str = "x-manifest-capabilities";

pub(crate) fn routes(routes: Routes) -> Routes {
    const ALL: &str = "/openfeature/v0/manifest";
    const FLAGS: &str = "/openfeature/v0/manifest/flags";
    const FLAG: &str = "/openfeature/v0/manifest/flags/{key}";
    routes
        .add(row(Verb::Get, ALL, 0, "Read the flag manifest"), read)
        .add(
            row(
                Verb::Post,
                FLAGS,
                FLAG_BYTES,
                "Create a flag of the manifest",
            ),
            create,
        )
        .add(
            row(Verb::Put, FLAG, FLAG_BYTES, "Change a flag of the manifest"),
            update,
        )
        .add(
            row(Verb::Delete, FLAG, 0, "Archive a flag of the manifest"),
            archive,
        )
}

const fn row(verb: Verb, path: &'static str, body_limit: usize, summary: &'static str) -> RouteRow {
    let access = Access::Needs(match verb {
        Verb::Get => Permission::ConfigRead,
        _ => Permission::ConfigWrite,
    });
    RouteRow {
        verb,
        path,
        access,
        body_limit,
        dialect: Dialect::Manifest,
        summary,
    }
}

/// `GET /openfeature/v0/manifest`: what is served, archived flags left out. It reads memory, so
/// code is generated from a developer's file and without a database just as well.
async fn read(State(app): State<App>, Extension(principal): Extension<Principal>) -> Response {
    let place = app.live.project(principal.default_project());
    let set = place.map(|place| place.load());
    let specs = set.iter().flat_map(|set| &set.specs);
    let flags: Vec<Value> = specs
        .filter_map(|(key, spec)| manifest_flag(key, spec))
        .collect();
    success(&app, &principal, StatusCode::OK, &json!({ "flags": flags }))
}

/// `POST /openfeature/v0/manifest/flags`
async fn create(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    bytes: Bytes,
) -> Result<Response, Refused> {
    only_where_flags_are_kept(&app)?;
    let sent = Sent::read_new(&body::json(&bytes, &app.flag_limits)?)?;
    let place = Place::parse(principal.default_project(), ObjectKind::Flag, &sent.key)?;
    if find(&app, &place).await?.is_some() {
        return Err(taken(&sent.key));
    }
    let definition = sent.definition();
    let written = objects::write(
        &app,
        &principal,
        &place,
        Belief::Absent,
        definition.clone(),
        None,
    )
    .await;
    written?;
    answer(
        &app,
        &principal,
        StatusCode::CREATED,
        &sent.key,
        &definition,
    )
}

/// `PUT /openfeature/v0/manifest/flags/{key}`
async fn update(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(key): Path<String>,
    bytes: Bytes,
) -> Result<Response, Refused> {
    only_where_flags_are_kept(&app)?;
    let sent = Sent::read_change(&body::json(&bytes, &app.flag_limits)?, &key)?;
    let place = Place::parse(principal.default_project(), ObjectKind::Flag, &key)?;
    let (object, spec) = stored(&app, &place).await?;
    let definition = sent.applied_to(&spec).map_err(|conflict| {
        Refused::new(StatusCode::CONFLICT, conflict.message.clone()).with(vec![conflict])
    })?;
    let belief = Belief::Revision(object.revision);
    objects::write(&app, &principal, &place, belief, definition.clone(), None).await?;
    answer(&app, &principal, StatusCode::OK, &key, &definition)
}

/// `DELETE /openfeature/v0/manifest/flags/{key}`
async fn archive(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(key): Path<String>,
) -> Result<Response, Refused> {
    only_where_flags_are_kept(&app)?;
    let place = Place::parse(principal.default_project(), ObjectKind::Flag, &key)?;
    let object = find(&app, &place).await?.ok_or_else(|| absent(&key))?;
    if object.deleted {
        return Err(archived(&key));
    }
    objects::delete(
        &app,
        &principal,
        &place,
        Belief::Revision(object.revision),
        None,
    )
    .await?;
    let said = json!({
        "message": format!("flag {key:?} is archived; its key stays taken"),
        "archivedAt": rfc3339(app.clock.now_us()),
    });
    Ok(success(&app, &principal, StatusCode::OK, &said))
}

/// A developer's server shows a file and writes none.
fn only_where_flags_are_kept(app: &App) -> Result<(), Refused> {
    if app.operations.serves_a_file {
        let cure = "this server serves a file: change the flag there";
        return Err(Refused::new(StatusCode::CONFLICT, cure));
    }
    Ok(())
}

async fn find(app: &App, place: &Place) -> Result<Option<StoredObject>, AppError> {
    objects::find(app, place).await
}

/// The flag at `place`, neither missing nor archived nor unreadable.
async fn stored(app: &App, place: &Place) -> Result<(StoredObject, FlagSpec), Refused> {
    let key = place.key.as_str();
    let object = find(app, place).await?.ok_or_else(|| absent(key))?;
    if object.deleted {
        return Err(archived(key));
    }
    let spec = FlagSpec::from_json(key, &object.spec).map_err(AppError::from)?;
    Ok((object, spec))
}

fn answer(
    app: &App,
    principal: &Principal,
    status: StatusCode,
    key: &str,
    definition: &Value,
) -> Result<Response, Refused> {
    let spec = FlagSpec::from_json(key, definition).map_err(AppError::from)?;
    let said = json!({
        "flag": manifest_flag(key, &spec),
        "updatedAt": rfc3339(app.clock.now_us()),
    });
    Ok(success(app, principal, status, &said))
}

fn success(app: &App, principal: &Principal, status: StatusCode, said: &Value) -> Response {
    let may_write = principal.may(Permission::ConfigWrite, principal.default_project())
        && !app.operations.serves_a_file;
    let capabilities = match may_write {
        true => "read,write,delete",
        false => "read",
    };
    let header = [(CAPABILITIES, HeaderValue::from_static(capabilities))];
    (status, header, Json(said)).into_response()
}

/// A request that was not done, in the manifest's words.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    message: String,
    details: Vec<Violation>,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: Vec::new(),
        }
    }

    fn with(mut self, details: Vec<Violation>) -> Self {
        self.details = details;
        self
    }
}

fn absent(key: &str) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("there is no flag {key:?}"))
}

fn taken(key: &str) -> Refused {
    let message = format!("the key {key:?} is taken, by a flag that is live or archived");
    let detail = Violation::at("/key", "taken", message.clone());
    Refused::new(StatusCode::CONFLICT, message).with(vec![detail])
}

fn archived(key: &str) -> Refused {
    let message = format!("flag {key:?} is archived; choose another key");
    let detail = Violation::at("/key", "archived", message.clone());
    Refused::new(StatusCode::CONFLICT, message).with(vec![detail])
}

impl From<Vec<Violation>> for Refused {
    fn from(violations: Vec<Violation>) -> Self {
        Self::from(AppError::Invalid(violations))
    }
}

impl From<AppError> for Refused {
    fn from(error: AppError) -> Self {
        let message = error.to_string();
        match error {
            AppError::Invalid(violations) => {
                Self::new(StatusCode::BAD_REQUEST, message).with(violations)
            }
            AppError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, message),
            AppError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, message),
            AppError::Conflict(_) | AppError::Stale { .. } | AppError::PreconditionRequired => {
                Self::new(StatusCode::CONFLICT, message)
            }
            AppError::RateLimited { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, message),
            AppError::Unavailable { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
            AppError::Internal(_) => {
                tracing::error!(error = %message, "a manifest request failed inside");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "something is wrong inside",
                )
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let details: Vec<Value> = self
            .details
            .iter()
            .map(|violation| {
                let field = violation.pointer.trim_start_matches('/');
                json!({ "field": field, "code": violation.code, "message": violation.message })
            })
            .collect();
        let mut error = json!({ "message": self.message, "status": self.status.as_u16() });
        if let (false, Some(object)) = (details.is_empty(), error.as_object_mut()) {
            object.insert("details".to_owned(), Value::Array(details));
        }
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}

/// A refusal of the guard in the manifest's words.
pub(crate) fn refusal(problem: &Problem) -> Response {
    Refused::new(problem.status(), problem.sentence())
        .with(problem.violations().to_vec())
        .into_response()
}
