//! People over REST, as seen from one project. The secret of a link is in the answer that made it
//! and nowhere else.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_store::{Scope, UserRecord};

use super::body;
use crate::access::Principal;
use crate::app::people::{self, Invited, Wanted};
use crate::app::{App, AppError};
use crate::time_text::rfc3339;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddRequest {
    email: String,
    name: String,
    roles: Vec<String>,
    #[serde(default)]
    everywhere: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RolesRequest {
    roles: Vec<String>,
    #[serde(default)]
    everywhere: bool,
}

#[derive(Debug, Serialize)]
struct GrantDocument {
    role: &'static str,
    /// `null`: in all projects.
    project: Option<String>,
}

#[derive(Debug, Serialize)]
struct PersonDocument {
    id: String,
    email: Option<String>,
    name: Option<String>,
    roles: Vec<GrantDocument>,
    has_password: bool,
    created_at: String,
    disabled_at: Option<String>,
}

impl From<UserRecord> for PersonDocument {
    fn from(person: UserRecord) -> Self {
        let grant = |grant: &tidegate_store::RoleGrant| GrantDocument {
            role: grant.role.as_str(),
            project: match &grant.scope {
                Scope::Organisation => None,
                Scope::Project(project) | Scope::Tag(project, _) => {
                    Some(project.as_str().to_owned())
                }
            },
        };
        Self {
            roles: person.grants.iter().map(grant).collect(),
            has_password: person.password.is_some(),
            created_at: rfc3339(person.created_at),
            disabled_at: person.disabled_at.map(rfc3339),
            id: person.id,
            email: person.email,
            name: person.name,
        }
    }
}

/// `GET /api/v1/projects/{project}/people`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
) -> Result<Response, AppError> {
    let found = people::list(&app, &principal, &project).await?;
    let rows: Vec<PersonDocument> = found.into_iter().map(Into::into).collect();
    Ok(Json(json!({ "rows": rows })).into_response())
}

/// `POST /api/v1/projects/{project}/people`: adds a person; the answer has the link to send them.
pub(crate) async fn add(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path(project): Path<String>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: AddRequest = request(&app, &bytes)?;
    let wanted = Wanted {
        roles: request.roles,
        everywhere: request.everywhere,
    };
    let who = (request.email, request.name);
    let invited = people::add(&app, &principal, &project, who, &wanted).await?;
    Ok((StatusCode::CREATED, Json(invitation(invited))).into_response())
}

/// `PUT /api/v1/projects/{project}/people/{person}/roles`: replaces those of one scope.
pub(crate) async fn set_roles(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, person)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let request: RolesRequest = request(&app, &bytes)?;
    let wanted = Wanted {
        roles: request.roles,
        everywhere: request.everywhere,
    };
    let changed = people::set_roles(&app, &principal, &project, &person, &wanted).await?;
    Ok(Json(PersonDocument::from(changed)).into_response())
}

/// `POST /api/v1/projects/{project}/people/{person}/{reset|disable|enable}`
pub(crate) async fn act(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, person, action)): Path<(String, String, String)>,
) -> Result<Response, AppError> {
    let answer = match action.as_str() {
        "reset" => invitation(people::reset(&app, &principal, &project, &person).await?),
        "disable" | "enable" => {
            let disabled = action == "disable";
            let changed =
                people::set_disabled(&app, &principal, &project, &person, disabled).await?;
            json!(PersonDocument::from(changed))
        }
        _ => return Err(AppError::NotFound(format!("the action {action:?}"))),
    };
    Ok(Json(answer).into_response())
}

/// `DELETE /api/v1/projects/{project}/people/{person}`: forgets what is known about them.
pub(crate) async fn forget(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Path((project, person)): Path<(String, String)>,
) -> Result<Response, AppError> {
    people::forget(&app, &principal, &project, &person).await?;
    Ok(Json(json!({ "id": person, "forgotten": true })).into_response())
}

fn request<T: DeserializeOwned>(app: &App, bytes: &[u8]) -> Result<T, AppError> {
    serde_json::from_value(body::json(bytes, &app.flag_limits)?)
        .map_err(|error| AppError::invalid("", "unexpected-shape", error.to_string()))
}

fn invitation(invited: Invited) -> Value {
    json!({
        "person": PersonDocument::from(invited.person),
        "link": {
            "path": format!("/sign-in?link={}", invited.link.text.expose()),
            "expires_at": rfc3339(invited.link.expires_at_us),
        },
    })
}
