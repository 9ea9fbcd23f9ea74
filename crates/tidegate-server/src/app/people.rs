//! People: added by an invitation, given roles, taken away.
//!
//! Who may do it is decided twice: the route asks for the permission to manage access in its
//! project, and each use case asks whether the caller manages *everything the change touches*.
//! Otherwise the administrator of one project could reset the password of somebody who
//! administers all of them, and be that person. Whoever holds the bootstrap token configured the
//! server and manages everybody.
//!
//! Names and addresses stay in the person's row; the audit knows the opaque id and the roles.

use std::str::FromStr as _;

use tidegate_store::{
    By, LinkPurpose, NewUser, ProjectKey, Role, RoleGrant, Scope, UserChange, UserRecord,
};

use super::objects::refusal;
use super::{App, AppError, Violation, actor_of};
use crate::access::{Permission, Principal};
use crate::sign_in::{self, PasswordLink};

/// The most people that are listed; beyond it whoever manages them uses the identity provider.
const MOST_LISTED: usize = 10_000;
const PAGE: u32 = 1000;

/// Roles, and where they are to hold.
#[derive(Debug)]
pub struct Wanted {
    /// The roles, in words.
    pub roles: Vec<String>,
    /// In all projects, and not only in the one that was addressed.
    pub everywhere: bool,
}

/// A person, and the link by which they set a password.
#[derive(Debug)]
pub struct Invited {
    /// The person.
    pub person: UserRecord,
    /// The link, shown once.
    pub link: PasswordLink,
}

/// Adds a person and makes the link of the invitation.
///
/// # Errors
/// Every rule that is broken; an address that is taken; a scope the caller does not manage.
pub async fn add(
    app: &App,
    principal: &Principal,
    project: &str,
    (email, name): (String, String),
    wanted: &Wanted,
) -> Result<Invited, AppError> {
    let scope = scope_of(project, wanted.everywhere)?;
    let grants = grants(&scope, &wanted.roles)?;
    if grants.is_empty() {
        let message = "name at least one role; without one a person may do nothing";
        return Err(AppError::invalid("/roles", "role-needed", message));
    }
    refuse_unless_manages(principal, &scope)?;
    let id = uuid::Uuid::new_v4().to_string();
    let user = NewUser {
        id: id.clone(),
        email,
        name,
        grants,
    };
    let by = by(app, principal, &in_words(&scope, &wanted.roles));
    async { app.store()?.user_put(user, by).await }
        .await
        .map_err(|error| refusal(&error, "the person"))?;
    let link = sign_in::make_link(app, id.clone(), LinkPurpose::Invite).await?;
    Ok(Invited {
        person: find(app, &id).await?,
        link,
    })
}

/// The people who may do something in `project`, by address.
///
/// # Errors
/// Storage.
pub async fn list(
    app: &App,
    principal: &Principal,
    project: &str,
) -> Result<Vec<UserRecord>, AppError> {
    let mut people = everybody(app).await?;
    people.retain(|person| principal.manages_everyone() || acts_in(person, project));
    people.sort_by(|one, other| one.email.cmp(&other.email));
    Ok(people)
}

/// Replaces the roles a person has in one scope; what is granted elsewhere stays.
///
/// # Errors
/// Unknown roles; a scope the caller does not manage; the last administrator.
pub async fn set_roles(
    app: &App,
    principal: &Principal,
    project: &str,
    person: &str,
    wanted: &Wanted,
) -> Result<UserRecord, AppError> {
    let scope = scope_of(project, wanted.everywhere)?;
    let granted = grants(&scope, &wanted.roles)?;
    refuse_unless_manages(principal, &scope)?;
    let _turn = app.operations.changing_people.lock().await;
    let before = find(app, person).await?;
    let mut after: Vec<RoleGrant> = before.grants.clone();
    after.retain(|grant| grant.scope != scope);
    after.extend(granted);
    if is_administrator(&before.grants) && !is_administrator(&after) {
        refuse_if_last(app, principal, &before).await?;
    }
    let by = by(app, principal, &in_words(&scope, &wanted.roles));
    change(app, person, UserChange::Grants(after), by).await?;
    find(app, person).await
}

/// Takes a person's password away, ends their sign-ins, and makes a link for a new password.
///
/// # Errors
/// A person the caller does not manage, or who is disabled.
pub async fn reset(
    app: &App,
    principal: &Principal,
    project: &str,
    person: &str,
) -> Result<Invited, AppError> {
    let found = managed(app, principal, project, person).await?;
    if found.disabled_at.is_some() {
        let reason = "the person is disabled; enable them first";
        return Err(AppError::Conflict(reason.to_owned()));
    }
    sign_in::take_password(app, person, by(app, principal, "reset")).await?;
    let link = sign_in::make_link(app, person.to_owned(), LinkPurpose::Reset).await?;
    Ok(Invited {
        person: find(app, person).await?,
        link,
    })
}

/// Takes sign-in away, at once and for every session, or gives it back.
///
/// # Errors
/// A person the caller does not manage; the last administrator.
pub async fn set_disabled(
    app: &App,
    principal: &Principal,
    project: &str,
    person: &str,
    disabled: bool,
) -> Result<UserRecord, AppError> {
    let _turn = app.operations.changing_people.lock().await;
    let found = managed(app, principal, project, person).await?;
    if disabled && is_administrator(&found.grants) {
        refuse_if_last(app, principal, &found).await?;
    }
    let change_to = UserChange::Disabled(disabled);
    change(app, person, change_to, bare_by(app, principal)).await?;
    // What a person scheduled is held once they may not sign in: see `crate::schedules`.
    crate::reconcile::reload(app).await;
    find(app, person).await
}

/// Forgets a person: address, name, password and roles go, the opaque id stays in the audit.
///
/// # Errors
/// A person the caller does not manage; the last administrator.
pub async fn forget(
    app: &App,
    principal: &Principal,
    project: &str,
    person: &str,
) -> Result<(), AppError> {
    let _turn = app.operations.changing_people.lock().await;
    let found = managed(app, principal, project, person).await?;
    if is_administrator(&found.grants) {
        refuse_if_last(app, principal, &found).await?;
    }
    change(app, person, UserChange::Erase, bare_by(app, principal)).await?;
    crate::reconcile::reload(app).await;
    Ok(())
}

/// Everybody, in byte order of their ids.
pub(crate) async fn everybody(app: &App) -> Result<Vec<UserRecord>, AppError> {
    let mut people: Vec<UserRecord> = Vec::new();
    loop {
        let after = people.last().map(|person| person.id.clone());
        let page = async { app.store()?.user_list(after.as_deref(), PAGE).await }
            .await
            .map_err(|error| refusal(&error, "people"))?;
        let is_last = page.is_empty() || people.len() + page.len() > MOST_LISTED;
        people.extend(page);
        if is_last {
            return Ok(people);
        }
    }
}

async fn find(app: &App, person: &str) -> Result<UserRecord, AppError> {
    async { app.store()?.user_get(person).await }
        .await
        .map_err(|error| refusal(&error, "the person"))?
        .ok_or_else(|| missing(person))
}

/// The person, if the caller manages everything that is granted to them.
async fn managed(
    app: &App,
    principal: &Principal,
    project: &str,
    person: &str,
) -> Result<UserRecord, AppError> {
    let found = find(app, person).await?;
    if !principal.manages_everyone() && !acts_in(&found, project) {
        // Who else there is, is none of the caller's business.
        return Err(missing(person));
    }
    for grant in &found.grants {
        refuse_unless_manages(principal, &grant.scope)?;
    }
    Ok(found)
}

fn missing(person: &str) -> AppError {
    AppError::NotFound(format!("person {person:?}"))
}

async fn change(app: &App, person: &str, to: UserChange, by: By) -> Result<(), AppError> {
    async { app.store()?.user_change(person, to, by).await }
        .await
        .map_err(|error| refusal(&error, "the person"))
}

fn scope_of(project: &str, everywhere: bool) -> Result<Scope, AppError> {
    if everywhere {
        return Ok(Scope::Organisation);
    }
    ProjectKey::parse(project)
        .map(Scope::Project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))
}

/// The grants of `roles` in `scope`, or every word that is no role.
fn grants(scope: &Scope, roles: &[String]) -> Result<Vec<RoleGrant>, AppError> {
    let mut granted = Vec::new();
    let mut violations = Vec::new();
    for (index, word) in roles.iter().enumerate() {
        match Role::from_str(word) {
            Ok(role) => granted.push(RoleGrant {
                role,
                scope: scope.clone(),
            }),
            Err(_) => {
                let known: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
                let message = format!("{word:?} is not one of {}", known.join(", "));
                let pointer = format!("/roles/{index}");
                violations.push(Violation::at(pointer, "unknown-role", message));
            }
        }
    }
    granted.sort();
    granted.dedup();
    if violations.is_empty() {
        Ok(granted)
    } else {
        Err(AppError::Invalid(violations))
    }
}

fn refuse_unless_manages(principal: &Principal, scope: &Scope) -> Result<(), AppError> {
    let (manages, place) = match scope {
        Scope::Organisation => (principal.manages_everyone(), "in all projects".to_owned()),
        Scope::Project(project) | Scope::Tag(project, _) => (
            principal.manages_everyone()
                || principal.may(Permission::AccessManage, project.as_str()),
            format!("in project {project}"),
        ),
    };
    if manages {
        return Ok(());
    }
    Err(AppError::Forbidden(format!(
        "it takes the right to manage access {place}"
    )))
}

/// Somebody must be able to let the next person in.
async fn refuse_if_last(
    app: &App,
    principal: &Principal,
    leaving: &UserRecord,
) -> Result<(), AppError> {
    if principal.kind == crate::access::PrincipalKind::Installation {
        return Ok(());
    }
    let others = everybody(app).await?;
    let remains = others.iter().any(|person| {
        person.id != leaving.id && person.disabled_at.is_none() && is_administrator(&person.grants)
    });
    if remains {
        return Ok(());
    }
    Err(AppError::Conflict(
        "nobody else is an administrator everywhere; give that role to somebody first".to_owned(),
    ))
}

fn is_administrator(grants: &[RoleGrant]) -> bool {
    grants
        .iter()
        .any(|grant| grant.role == Role::Admin && grant.scope == Scope::Organisation)
}

fn acts_in(person: &UserRecord, project: &str) -> bool {
    person.grants.iter().any(|grant| match &grant.scope {
        Scope::Organisation => true,
        Scope::Project(own) | Scope::Tag(own, _) => own.as_str() == project,
    })
}

fn in_words(scope: &Scope, roles: &[String]) -> String {
    let place = match scope {
        Scope::Organisation => "in all projects".to_owned(),
        Scope::Project(project) | Scope::Tag(project, _) => format!("in project {project}"),
    };
    let roles = match roles {
        [] => "none".to_owned(),
        roles => roles.join(", "),
    };
    format!("roles {place}: {roles}")
}

fn bare_by(app: &App, principal: &Principal) -> By {
    By::new(actor_of(principal), app.clock.now_us())
}

fn by(app: &App, principal: &Principal, reason: &str) -> By {
    By {
        reason: Some(reason.to_owned()),
        ..bare_by(app, principal)
    }
}
