//! Who may come in: tokens, people, their sign-ins and their one-time links.
//!
//! The store keeps what is granted; the table that says what a role may do is the server's.
//! Names and addresses of people live in the user row alone, so that erasing a person is
//! erasing that row; everything else knows the opaque id.

use crate::{
    actor::{ACTOR_ID_MAX, Actor},
    credential::CredentialHash,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::{REASON_BYTES_MAX, text_enum, within},
    secret::Secret,
};

/// Longest name of a token or a person, in bytes.
pub const NAME_MAX: usize = 200;
/// Longest e-mail address, in bytes (RFC 5321).
pub const EMAIL_MAX: usize = 254;
/// Most grants of one person.
pub const GRANTS_MAX: usize = 1000;

text_enum! {
    /// What a token is for.
    TokenKind {
        /// Management, within its roles.
        Admin => "admin",
        /// Evaluates, synchronises and ingests for a server.
        Server => "server",
        /// Evaluates and ingests for a browser; sees values only.
        Browser => "browser",
        /// Delivery events of a pipeline.
        Ci => "ci",
    }
}

text_enum! {
    /// A role, granted to a person or a token in a scope.
    Role {
        /// Reads.
        Viewer => "viewer",
        /// Writes drafts.
        Contributor => "contributor",
        /// Pauses, aborts, kills.
        Operator => "operator",
        /// Changes flags.
        Developer => "developer",
        /// Changes metrics and experiments.
        Experimenter => "experimenter",
        /// Approves what others propose.
        Approver => "approver",
        /// Manages people and tokens.
        Admin => "admin",
    }
}

text_enum! {
    /// What a one-time link does when followed.
    LinkPurpose {
        /// Signs in.
        SignIn => "sign-in",
        /// Accepts an invitation and sets the first password.
        Invite => "invite",
        /// Sets a new password.
        Reset => "reset",
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Organisation,
    /// In one project.
    Project(ProjectKey),
    /// For the objects of one project that carry a tag.
    Tag(ProjectKey, String),
}

/// One row of the flat role table; rights are the union, absent is denied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleGrant {
    /// The role.
    pub role: Role,
    /// Where it holds.
    pub scope: Scope,
}

/// A token as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Public part, its identity.
    pub selector: String,
    /// What it is for.
    pub kind: TokenKind,
    /// The one project it belongs to.
    pub project: ProjectKey,
    /// Name for people.
    pub name: String,
    /// Roles in its project; meaningful for kind `admin`.
    pub roles: Vec<Role>,
    /// Hash of the verifier.
    pub hash: CredentialHash,
    /// When it was made, microseconds since the Unix epoch.
    pub created_at: i64,
    /// Who made it.
    pub created_by: Actor,
    /// When it ends, microseconds since the Unix epoch; it may be without end.
    pub expires_at: Option<i64>,
    /// When it was last used, microseconds since the Unix epoch, as precise as the server's
    /// batching of touches.
    pub last_used_at: Option<i64>,
    /// When it was disabled, microseconds since the Unix epoch.
    pub disabled_at: Option<i64>,
}

impl TokenRecord {
    /// Whether it may be used at `now_us`.
    pub fn is_usable(&self, now_us: i64) -> bool {
        self.disabled_at.is_none() && self.expires_at.is_none_or(|end| now_us < end)
    }

    pub(crate) fn validate(&self) -> StoreResult<()> {
        validate_selector(&self.selector)?;
        within("name", Some(&self.name), NAME_MAX)?;
        self.created_by.validate()
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Opaque id, never reused.
    pub id: String,
    /// Address, lower case; absent once the person is erased.
    pub email: Option<String>,
    /// Name; absent once the person is erased.
    pub name: Option<String>,
    /// Password hash in PHC form; absent until one is set.
    pub password: Option<Secret>,
    /// Granted roles.
    pub grants: Vec<RoleGrant>,
    /// When it was made, microseconds since the Unix epoch.
    pub created_at: i64,
    /// When sign-in was taken away, microseconds since the Unix epoch.
    pub disabled_at: Option<i64>,
}

/// A person to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Opaque id, made by the caller at random.
    pub id: String,
    /// Address; compared in lower case.
    pub email: String,
    /// Name.
    pub name: String,
    /// Granted roles.
    pub grants: Vec<RoleGrant>,
}

impl NewUser {
    pub(crate) fn validate(&self) -> StoreResult<()> {
        within("id", Some(&self.id), ACTOR_ID_MAX)?;
        within("name", Some(&self.name), NAME_MAX)?;
        validate_email(&self.email)?;
        validate_grants(&self.grants)
    }
}

/// What of a person changes; absent fields stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// Another name.
    Name(String),
    /// Other roles, replacing all.
    Grants(Vec<RoleGrant>),
    /// A new password hash; ends all sign-ins.
    Password(Secret),
    /// Sign-in taken away (ends all sign-ins) or given back.
    Disabled(bool),
    /// The person is forgotten: address, name, password, roles, sign-ins and links go; the
    /// opaque id stays, since the audit names it.
    Erase,
}

impl UserChange {
    /// Action named in the audit.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::Name(_) => "user.rename",
            Self::Grants(_) => "user.grants",
            Self::Password(_) => "user.password",
            Self::Disabled(true) => "user.disable",
            Self::Disabled(false) => "user.enable",
            Self::Erase => "user.erase",
        }
    }

    /// Whether every sign-in of the person ends with it.
    pub(crate) fn ends_sessions(&self) -> bool {
        matches!(self, Self::Password(_) | Self::Disabled(true) | Self::Erase)
    }

    pub(crate) fn validate(&self) -> StoreResult<()> {
        match self {
            Self::Name(name) => within("name", Some(name), NAME_MAX),
            Self::Grants(grants) => validate_grants(grants),
            Self::Password(hash) => within("password", Some(hash.expose()), 1024),
            Self::Disabled(_) | Self::Erase => Ok(()),
        }
    }
}

/// A sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Public part, its identity.
    pub selector: String,
    /// Hash of the verifier.
    pub hash: CredentialHash,
    /// Whose it is.
    pub user_id: String,
    /// When it began, microseconds since the Unix epoch.
    pub created_at: i64,
    /// When it ends, microseconds since the Unix epoch.
    pub expires_at: i64,
    /// When it was last used, microseconds since the Unix epoch.
    pub last_seen_at: i64,
}

/// A link that works once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeLink {
    /// Public part, its identity.
    pub selector: String,
    /// Hash of the verifier.
    pub hash: CredentialHash,
    /// Whom it lets in.
    pub user_id: String,
    /// What it does.
    pub purpose: LinkPurpose,
    /// When it was made, microseconds since the Unix epoch.
    pub created_at: i64,
    /// When it ends, microseconds since the Unix epoch.
    pub expires_at: i64,
}

/// Who changes access, why and when: the part that the audit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// Why, in the actor's words.
    pub reason: Option<String>,
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
}

impl By {
    /// An actor at a time, without a reason.
    pub fn new(actor: Actor, now_us: i64) -> Self {
        Self {
            actor,
            reason: None,
            now_us,
        }
    }

    pub(crate) fn validate(&self) -> StoreResult<()> {
        self.actor.validate()?;
        within("reason", self.reason.as_deref(), REASON_BYTES_MAX)
    }
}

/// Refuses a selector that was not made for the purpose.
pub(crate) fn validate_selector(selector: &str) -> StoreResult<()> {
    within("selector", Some(selector), ACTOR_ID_MAX)
}

fn validate_email(email: &str) -> StoreResult<()> {
    within("email", Some(email), EMAIL_MAX)?;
    let has_both_sides = email
        .split_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty());
    if !has_both_sides || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(StoreError::invalid("email", "it is no e-mail address"));
    }
    Ok(())
}

fn validate_grants(grants: &[RoleGrant]) -> StoreResult<()> {
    if grants.len() > GRANTS_MAX {
        return Err(StoreError::invalid(
            "grants",
            format!("more than {GRANTS_MAX}"),
        ));
    }
    grants.iter().try_for_each(|grant| match &grant.scope {
        Scope::Tag(_, tag) => within("grants.tag", Some(tag), NAME_MAX),
        Scope::Organisation | Scope::Project(_) => Ok(()),
    })
}
