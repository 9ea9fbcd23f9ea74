//! The caller, once known: who it is for the audit trail, and what it may do where.
//!
//! A token acts in its one project. A person acts where a role was granted: everywhere, or in the
//! projects named; rights are the union, and what is not granted is denied.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::{Permission, PermissionSet, Role};

/// Where a principal's identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A token of one project.
    Token,
    /// Whoever configured the server: the bootstrap token.
    Installation,
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
    /// The one project a token belongs to; `None` for people and for the local developer.
    pub project: Option<String>,
    /// What is granted in every project this caller belongs to.
    everywhere: PermissionSet,
    /// What is granted besides in single projects; only people have such grants.
    within: BTreeMap<String, PermissionSet>,
}

impl Principal {
    /// A caller with the union of `roles`, in `project` or, without one, in all of them.
    #[must_use]
    pub fn new(kind: PrincipalKind, id: String, project: Option<String>, roles: Vec<Role>) -> Self {
        Self(Arc::new(Identity {
            kind,
            id,
            project,
            everywhere: union(&roles),
            within: BTreeMap::new(),
        }))
    }

    /// A person with `everywhere` in all projects and `within` in single ones.
    #[must_use]
    pub fn person(id: String, everywhere: &[Role], within: &BTreeMap<String, Vec<Role>>) -> Self {
        let within = within
            .iter()
            .map(|(project, roles)| (project.clone(), union(roles)))
            .collect();
        Self(Arc::new(Identity {
            kind: PrincipalKind::Person,
            id,
            project: None,
            everywhere: union(everywhere),
            within,
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
    /// Whether the table grants `permission` to this caller in `project`.
    #[must_use]
    pub fn may(&self, permission: Permission, project: &str) -> bool {
        let here = self.within.get(project).copied().unwrap_or_default();
        self.belongs_to(project) && self.everywhere.union(here).allows(permission)
    }

    /// Whether this caller may manage who has access in all projects at once.
    #[must_use]
    pub fn manages_everyone(&self) -> bool {
        match self.kind {
            PrincipalKind::Installation | PrincipalKind::LocalDeveloper => true,
            PrincipalKind::Person => self.everywhere.allows(Permission::AccessManage),
            PrincipalKind::Token | PrincipalKind::FlagdPort => false,
        }
    }

    /// Whether this caller may address `project` at all.
    #[must_use]
    pub fn belongs_to(&self, project: &str) -> bool {
        match &self.project {
            Some(own) => own == project,
            None => self.everywhere != PermissionSet::NONE || self.within.contains_key(project),
        }
    }

    /// The project meant where the request names none: a token's own; for a person the default
    /// one, or else the first in which a role is granted.
    #[must_use]
    pub fn default_project(&self) -> &str {
        match &self.project {
            Some(own) => own,
            None if self.belongs_to(crate::DEFAULT_PROJECT) => crate::DEFAULT_PROJECT,
            None => self
                .within
                .keys()
                .next()
                .map_or(crate::DEFAULT_PROJECT, String::as_str),
        }
    }
}

fn union(roles: &[Role]) -> PermissionSet {
    roles.iter().fold(PermissionSet::NONE, |set, role| {
        set.union(role.permissions())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(everywhere: &[Role], within: &[(&str, Role)]) -> Principal {
        let within = within
            .iter()
            .map(|(project, role)| ((*project).to_owned(), vec![*role]))
            .collect();
        Principal::person("p".to_owned(), everywhere, &within)
    }

    #[test]
    fn a_role_holds_where_it_was_granted_and_adds_to_what_holds_everywhere() {
        use Permission as P;
        let cases = [
            (person(&[Role::Viewer], &[]), "shop", P::ConfigRead, true),
            (person(&[Role::Viewer], &[]), "shop", P::Stop, false),
            (
                person(&[], &[("shop", Role::Operator)]),
                "shop",
                P::Stop,
                true,
            ),
            (
                person(&[], &[("shop", Role::Operator)]),
                "bank",
                P::ConfigRead,
                false,
            ),
            (
                person(&[Role::Viewer], &[("shop", Role::Operator)]),
                "shop",
                P::Stop,
                true,
            ),
            (
                person(&[Role::Viewer], &[("shop", Role::Operator)]),
                "bank",
                P::Stop,
                false,
            ),
            (person(&[], &[]), "default", P::ConfigRead, false),
        ];
        for (caller, project, permission, granted) in cases {
            assert_eq!(
                caller.may(permission, project),
                granted,
                "{caller:?} {permission:?} in {project}"
            );
        }
    }

    #[test]
    fn the_project_meant_is_one_in_which_something_is_granted() {
        assert_eq!(
            person(&[], &[("shop", Role::Viewer)]).default_project(),
            "shop"
        );
        assert_eq!(person(&[Role::Viewer], &[]).default_project(), "default");
        assert_eq!(person(&[], &[]).default_project(), "default");
    }

    #[test]
    fn an_administrator_of_one_project_does_not_manage_everyone() {
        assert!(person(&[Role::Admin], &[]).manages_everyone());
        assert!(!person(&[], &[("shop", Role::Admin)]).manages_everyone());
        let token = Principal::new(
            PrincipalKind::Token,
            "t".to_owned(),
            Some("shop".to_owned()),
            vec![Role::Admin],
        );
        assert!(!token.manages_everyone());
    }
}
