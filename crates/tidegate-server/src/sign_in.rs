//! Sign-in for people: a one-time link sets a password, a password opens a session.
//!
//! A new password, whoever sets it, ends every session of the person.
//! A session is a row of the store and a cookie; it is looked up at each request, so that ending
//! it ends it everywhere at once. Only people use it: tokens are decided from memory and never
//! come here. Hashing a password takes memory and time on purpose, so few run at a time, on
//! threads of their own, and the rest wait briefly or are told to come back.

use std::collections::BTreeMap;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, PasswordHash};
use tidegate_store::audit::{AuditDraft, AuditObject};
use tidegate_store::{
    Actor, By, LinkPurpose, MintedCredential, NewUser, OneTimeLink, PresentedCredential, RoleGrant,
    Scope, Secret, SessionRecord, StoreError, UserChange, UserRecord,
};
use tokio::sync::Semaphore;

use crate::access::{Principal, Role};
use crate::app::objects::refusal;
use crate::app::{App, AppError};

/// How long a session lasts, in seconds.
pub(crate) const SESSION_SECONDS: i64 = 12 * 60 * 60;
/// How the first administrator signs in.
pub const FIRST_ADDRESS: &str = "admin@localhost";

const LINK_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Memory of one hash is some 20 MiB.
const HASHES_AT_A_TIME: usize = 2;
const PATIENCE: Duration = Duration::from_secs(3);
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 12..=256;
/// A hash that no password has: verified where nobody has the address, so that it takes as long as
/// a wrong password, and set where a password is taken away.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What bounds the work of hashing.
#[derive(Debug)]
pub struct Hashing(Semaphore);

impl Default for Hashing {
    fn default() -> Self {
        Self(Semaphore::new(HASHES_AT_A_TIME))
    }
}

impl Hashing {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AppError> {
        let busy = || AppError::RateLimited {
            reason: "too many sign-ins at a time".to_owned(),
            retry_after_seconds: 2,
        };
        let place = tokio::time::timeout(PATIENCE, self.0.acquire()).await;
        let _place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| AppError::Internal(error.to_string()))
    }

    async fn hash(&self, password: Secret) -> Result<Secret, AppError> {
        self.run(move || Argon2::default().hash_password(password.expose().as_bytes()))
            .await?
            .map(|hash: PasswordHash| Secret::new(hash.to_string()))
            .map_err(|error| AppError::Internal(error.to_string()))
    }

    async fn is_right(&self, password: Secret, hash: Secret) -> Result<bool, AppError> {
        self.run(move || {
            PasswordHash::new(hash.expose()).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(password.expose().as_bytes(), &hash)
                    .is_ok()
            })
        })
        .await
    }
}

/// The link that lets the first administrator set a password, while nobody has one.
///
/// # Errors
/// As storage says.
pub async fn first_link(app: &App) -> Result<Option<Secret>, StoreError> {
    let store = app.store()?;
    let people = store.user_list(None, 2).await?;
    let person = match people.as_slice() {
        [] => {
            let id = uuid::Uuid::new_v4().to_string();
            let user = NewUser {
                id: id.clone(),
                email: FIRST_ADDRESS.to_owned(),
                name: "First administrator".to_owned(),
                grants: vec![RoleGrant {
                    role: tidegate_store::Role::Admin,
                    scope: Scope::Organisation,
                }],
            };
            let by = By::new(Actor::system("start"), app.clock.now_us());
            store.user_put(user, by).await?;
            id
        }
        [only] if only.password.is_none() && only.disabled_at.is_none() => only.id.clone(),
        _ => return Ok(None),
    };
    let Ok(minted) = MintedCredential::mint("link") else {
        return Ok(None);
    };
    Ok(Some(
        put_link(app, minted, person, LinkPurpose::Invite)
            .await?
            .text,
    ))
}

/// A link that sets a password, shown once.
#[derive(Debug)]
pub struct PasswordLink {
    /// Its secret.
    pub text: Secret,
    /// Unix microseconds after which it is refused.
    pub expires_at_us: i64,
}

/// Makes a link by which `person` sets a password.
///
/// # Errors
/// As storage says.
pub(crate) async fn make_link(
    app: &App,
    person: String,
    purpose: LinkPurpose,
) -> Result<PasswordLink, AppError> {
    let minted =
        MintedCredential::mint("link").map_err(|error| AppError::Internal(error.to_string()))?;
    put_link(app, minted, person, purpose)
        .await
        .map_err(|error| refusal(&error, "the link"))
}

async fn put_link(
    app: &App,
    minted: MintedCredential,
    user_id: String,
    purpose: LinkPurpose,
) -> Result<PasswordLink, StoreError> {
    let now_us = app.clock.now_us();
    let expires_at_us = now_us.saturating_add(LINK_US);
    let link = OneTimeLink {
        selector: minted.selector,
        hash: minted.hash,
        user_id,
        purpose,
        created_at: now_us,
        expires_at: expires_at_us,
    };
    app.store()?.one_time_link_put(link).await?;
    Ok(PasswordLink {
        text: minted.text,
        expires_at_us,
    })
}

/// Takes a person's password away: nothing is let in by it any more and every session ends.
///
/// # Errors
/// As storage says.
pub(crate) async fn take_password(app: &App, person: &str, by: By) -> Result<(), AppError> {
    let nobodys = UserChange::Password(Secret::new(NOBODYS));
    async { app.store()?.user_change(person, nobodys, by).await }
        .await
        .map_err(|error| refusal(&error, "the person"))
}

/// Uses a link up: sets the password and opens a session, whose cookie value is returned.
///
/// # Errors
/// A link that is not good any more, a password that is too short or too long.
pub(crate) async fn follow_link(
    app: &App,
    link: &str,
    password: Secret,
) -> Result<Secret, AppError> {
    refuse_length("/password", &password)?;
    let used_up = || AppError::Forbidden("the link was used, has expired, or never was".to_owned());
    let presented = PresentedCredential::parse(link).map_err(|_| used_up())?;
    let hash = app.operations.hashing.hash(password).await?;
    let now_us = app.clock.now_us();
    let taken = async {
        app.store()?
            .one_time_link_take(&presented.selector, &presented.verifier, now_us)
            .await
    };
    let taken = taken.await.map_err(|error| refusal(&error, "the link"))?;
    let link = taken.ok_or_else(used_up)?;
    set_password(app, &link.user_id, hash).await?;
    open_session(app, link.user_id).await
}

fn refuse_length(pointer: &str, password: &Secret) -> Result<(), AppError> {
    if PASSWORD_BYTES.contains(&password.expose().len()) {
        return Ok(());
    }
    let message = "a password has 12 to 256 bytes";
    Err(AppError::invalid(pointer, "password-length", message))
}

async fn set_password(app: &App, person: &str, hash: Secret) -> Result<(), AppError> {
    let by = By::new(Actor::user(person), app.clock.now_us());
    let change = UserChange::Password(hash);
    async { app.store()?.user_change(person, change, by).await }
        .await
        .map_err(|error| refusal(&error, "the password"))
}

/// Opens a session for whoever knows the password of `address`.
///
/// # Errors
/// Forbidden, without saying which of the two was wrong.
pub(crate) async fn sign_in(
    app: &App,
    address: &str,
    password: Secret,
) -> Result<Secret, AppError> {
    let person = who_knows(app, address, password).await?;
    open_session(app, person.id).await
}

/// Changes the password of whoever knows the one before: every session ends, and one is opened.
///
/// # Errors
/// Forbidden, without saying which was wrong; a password that is too short or too long.
pub(crate) async fn change_password(
    app: &App,
    address: &str,
    password: Secret,
    next: Secret,
) -> Result<Secret, AppError> {
    refuse_length("/new_password", &next)?;
    let person = who_knows(app, address, password).await?;
    let hash = app.operations.hashing.hash(next).await?;
    set_password(app, &person.id, hash).await?;
    open_session(app, person.id).await
}

/// The person of `address`, if the password is theirs and they may sign in.
async fn who_knows(app: &App, address: &str, password: Secret) -> Result<UserRecord, AppError> {
    let wrong = || AppError::Forbidden("the address or the password is wrong".to_owned());
    if password.expose().len() > *PASSWORD_BYTES.end() {
        return Err(wrong());
    }
    let person = async { app.store()?.user_find_by_email(address).await }
        .await
        .map_err(|error| refusal(&error, "the person"))?
        .filter(|person| person.disabled_at.is_none());
    let known = person.as_ref().and_then(|person| person.password.clone());
    let hash = known.clone().unwrap_or_else(|| Secret::new(NOBODYS));
    let is_right = app.operations.hashing.is_right(password, hash).await?;
    match person {
        Some(person) if is_right && known.is_some() => Ok(person),
        _ => Err(wrong()),
    }
}

async fn open_session(app: &App, user_id: String) -> Result<Secret, AppError> {
    let minted =
        MintedCredential::mint("session").map_err(|error| AppError::Internal(error.to_string()))?;
    let now_us = app.clock.now_us();
    let session = SessionRecord {
        selector: minted.selector,
        hash: minted.hash,
        user_id: user_id.clone(),
        created_at: now_us,
        expires_at: now_us.saturating_add(SESSION_SECONDS * 1_000_000),
        last_seen_at: now_us,
    };
    let by = By::new(Actor::user(user_id.clone()), now_us);
    let object = AuditObject::new("user", user_id);
    let draft = AuditDraft::new("session.start", Some(object), &by);
    async {
        app.store()?.session_put(session).await?;
        app.store()?.audit_append(draft).await
    }
    .await
    .map_err(|error| refusal(&error, "the session"))?;
    Ok(minted.text)
}

/// Who has the session of this cookie value, if it is good now.
pub(crate) async fn person_of(app: &App, cookie: &str) -> Option<Principal> {
    let presented = PresentedCredential::parse(cookie).ok()?;
    let store = app.store().ok()?;
    let session = store.session_find_by_selector(&presented.selector).await;
    let session = session.ok()??;
    let is_good = session.hash.matches(&presented.verifier)
        && app.clock.now_us() < session.expires_at
        && presented.word == "session";
    if !is_good {
        return None;
    }
    let person = store.user_get(&session.user_id).await.ok()??;
    person.disabled_at.is_none().then(|| principal_of(&person))
}

/// The person with what is granted, everywhere and in single projects. A grant for a tag is not
/// one for its project, so it grants nothing here.
fn principal_of(person: &UserRecord) -> Principal {
    let mut everywhere = Vec::new();
    let mut within: BTreeMap<String, Vec<Role>> = BTreeMap::new();
    for grant in &person.grants {
        let Some(role) = Role::parse(grant.role.as_str()) else {
            continue;
        };
        match &grant.scope {
            Scope::Organisation => everywhere.push(role),
            Scope::Project(project) => within
                .entry(project.as_str().to_owned())
                .or_default()
                .push(role),
            Scope::Tag(..) => {}
        }
    }
    Principal::person(person.id.clone(), &everywhere, &within)
}

/// Ends the session of this cookie value; one that is no more changes nothing.
///
/// # Errors
/// As storage says.
pub(crate) async fn sign_out(app: &App, cookie: &str) -> Result<(), AppError> {
    let Ok(presented) = PresentedCredential::parse(cookie) else {
        return Ok(());
    };
    if person_of(app, cookie).await.is_none() {
        return Ok(());
    }
    async { app.store()?.session_end(&presented.selector).await }
        .await
        .map_err(|error| refusal(&error, "the session"))
}
