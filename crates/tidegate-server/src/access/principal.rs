//! The caller, once known: who it is for the audit trail, and what it may do.

use std::ops::Deref;
use std::sync::Arc;

use super::{Permission, PermissionSet, Role};

/// Where a principal's identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A token of one project.
    Token,
    /// A person who signed in.
    Person,
    /// The one developer at `tidegate dev`, on loopback only.
    LocalDeveloper,
    /// A local flagd port, which carries no credential and acts as a `server` token.
    FlagdPort,
}

/// An authenticated caller. Cheap to clone, because every request carries one.
#[derive(Debug, Clone)]
pub struct Principal(Arc<Identity>);

/// What is known of a caller.
#[derive(Debug)]
pub struct Identity {
    /// Where the identity comes from.
    pub kind: PrincipalKind,
    /// Stable id for audit and rate limits: a token selector or a user id.
    pub id: String,
    /// The one project a token belongs to; `None` for people, who may address any.
    pub project: Option<String>,
    /// The rows of the table this caller has.
    pub roles: Vec<Role>,
    permissions: PermissionSet,
}

impl Principal {
    /// A caller with the union of `roles`.
    #[must_use]
    pub fn new(kind: PrincipalKind, id: String, project: Option<String>, roles: Vec<Role>) -> Self {
        let permissions = roles.iter().fold(PermissionSet::NONE, |set, role| {
            set.union(role.permissions())
        });
        Self(Arc::new(Identity {
            kind,
            id,
            project,
            roles,
            permissions,
        }))
    }
}

impl Deref for Principal {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl Identity {
    /// Whether the table grants `permission` to this caller.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.allows(permission)
    }

    /// Whether this caller may address `project` at all.
    #[must_use]
    pub fn belongs_to(&self, project: &str) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
    }

    /// The project meant where the request names none.
    #[must_use]
    pub fn default_project(&self) -> &str {
        self.project.as_deref().unwrap_or(crate::DEFAULT_PROJECT)
    }
}
