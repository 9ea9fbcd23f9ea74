//! The flat table of permissions: what each token kind and each role may do.
//!
//! A principal's rights are the union of its roles' rows. There is no inheritance to reason
//! about and no rule with a negative: what is not listed is denied.

use serde::Serialize;

/// One thing a caller can be allowed to do. Routes name exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Permission {
    /// Resolve flags to values.
    Evaluate,
    /// Receive whole rule sets (in-process providers) and explanations.
    Sync,
    /// Send events and telemetry.
    Ingest,
    /// Say which units are one person, and take that back.
    Identify,
    /// Send delivery events (deployments, incidents, webhooks).
    DeliveryWrite,
    /// Read definitions, reports and history.
    ConfigRead,
    /// Create, change and delete flags, segments, metrics, journeys and rollouts.
    ConfigWrite,
    /// Lower exposure at once: kill a flag, pause or abort a rollout.
    Stop,
    /// Raise exposure by hand: start, resume, advance a rollout, lift a kill.
    Raise,
    /// Approve a stage or a change.
    Approve,
    /// Read the audit trail.
    AuditRead,
    /// Create, list and disable tokens and users; back up.
    AccessManage,
    /// Read `/metrics` and `/status` in full.
    Observe,
}

impl Permission {
    /// Every permission, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::Evaluate,
        Self::Sync,
        Self::Ingest,
        Self::Identify,
        Self::DeliveryWrite,
        Self::ConfigRead,
        Self::ConfigWrite,
        Self::Stop,
        Self::Raise,
        Self::Approve,
        Self::AuditRead,
        Self::AccessManage,
        Self::Observe,
    ];

    const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

/// A set of permissions, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PermissionSet(u16);

impl PermissionSet {
    /// The set that allows nothing.
    pub const NONE: Self = Self(0);
    /// The set that allows everything; only `admin` and the local developer have it.
    pub const ALL: Self = Self::of(&Permission::ALL);

    /// The set of the listed permissions.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < permissions.len() {
            bits |= permissions[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set grants `permission`.
    #[must_use]
    pub const fn allows(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }
}

/// A row of the table: the kind of a token, or the role of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Token kind `admin` and people who run the installation.
    Admin,
    /// Token kind `server`: an application's back end.
    Server,
    /// Token kind `browser`: readable by anybody who opens the page, so values only.
    Browser,
    /// Token kind `ci`: a pipeline that reports deliveries.
    Ci,
    /// A person who looks.
    Viewer,
    /// A person on call: looks, and may always lower exposure.
    Operator,
    /// A person who builds: changes definitions, runs rollouts.
    Developer,
    /// A person who drafts: reads everything, changes nothing that is served.
    Contributor,
    /// A person who measures: changes metrics and journeys, reads and evaluates.
    Experimenter,
    /// A person whose consent a stage or change can require.
    Approver,
}

impl Role {
    /// Every role, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::Admin,
        Self::Server,
        Self::Browser,
        Self::Ci,
        Self::Viewer,
        Self::Operator,
        Self::Developer,
        Self::Contributor,
        Self::Experimenter,
        Self::Approver,
    ];

    /// The word used in tokens, in the API and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Server => "server",
            Self::Browser => "browser",
            Self::Ci => "ci",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Contributor => "contributor",
            Self::Experimenter => "experimenter",
            Self::Approver => "approver",
        }
    }

    /// The role of that word, if there is one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// The role's row of the table.
    #[must_use]
    pub const fn permissions(self) -> PermissionSet {
        use Permission as P;
        match self {
            Self::Admin => PermissionSet::ALL,
            Self::Server => PermissionSet::of(&[P::Evaluate, P::Sync, P::Ingest, P::Identify]),
            Self::Browser => PermissionSet::of(&[P::Evaluate, P::Ingest]),
            Self::Ci => PermissionSet::of(&[P::DeliveryWrite]),
            Self::Viewer | Self::Contributor => PermissionSet::of(&[P::ConfigRead, P::Observe]),
            Self::Experimenter => PermissionSet::of(&[
                P::Evaluate,
                P::ConfigRead,
                P::ConfigWrite,
                P::Observe,
                P::AuditRead,
                P::Stop,
            ]),
            Self::Operator => {
                PermissionSet::of(&[P::ConfigRead, P::Observe, P::AuditRead, P::Stop])
            }
            Self::Developer => PermissionSet::of(&[
                P::Evaluate,
                P::Sync,
                P::ConfigRead,
                P::ConfigWrite,
                P::Observe,
                P::AuditRead,
                P::Stop,
                P::Raise,
            ]),
            Self::Approver => {
                PermissionSet::of(&[P::ConfigRead, P::Observe, P::AuditRead, P::Stop, P::Approve])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table as people read it; a change to it is a reviewed change here.
    #[test]
    fn the_table_grants_exactly_what_it_says() {
        let granted = |role: Role| {
            Permission::ALL
                .into_iter()
                .filter(|permission| role.permissions().allows(*permission))
                .count()
        };
        let counts: Vec<(&str, usize)> = Role::ALL
            .into_iter()
            .map(|role| (role.as_str(), granted(role)))
            .collect();
        assert_eq!(
            counts,
            [
                ("admin", 13),
                ("server", 4),
                ("browser", 2),
                ("ci", 1),
                ("viewer", 2),
                ("operator", 4),
                ("developer", 8),
                ("contributor", 2),
                ("experimenter", 6),
                ("approver", 5)
            ]
        );
    }

    /// The columns of the table in docs/access.md, in order.
    const COLUMNS: [(&str, Permission); 13] = [
        ("evaluate", Permission::Evaluate),
        ("sync", Permission::Sync),
        ("ingest", Permission::Ingest),
        ("identify", Permission::Identify),
        ("delivery", Permission::DeliveryWrite),
        ("read", Permission::ConfigRead),
        ("write", Permission::ConfigWrite),
        ("stop", Permission::Stop),
        ("raise", Permission::Raise),
        ("approve", Permission::Approve),
        ("audit", Permission::AuditRead),
        ("access", Permission::AccessManage),
        ("observe", Permission::Observe),
    ];

    fn cells(line: &str) -> Vec<&str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn the_table_that_people_read_is_the_one_that_decides() {
        let document = include_str!("../../../../docs/access.md");
        let mut table = document.lines().filter(|line| line.starts_with('|'));
        let head = cells(table.next().unwrap());
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(head[1..], names);
        let rows = table.skip(1).take(11);
        let mut seen = 0;
        for row in rows {
            let row = cells(row);
            let word = row[0].trim_start_matches("token ").trim_matches('`');
            let role = Role::parse(word).unwrap();
            for ((name, permission), cell) in COLUMNS.iter().zip(&row[1..]) {
                let granted = role.permissions().allows(*permission);
                assert_eq!(*cell == "x", granted, "{word}: {name}");
            }
            seen += 1;
        }
        assert_eq!(seen, 11, "four kinds of tokens, seven roles of people");
    }

    #[test]
    fn a_browser_token_sees_values_only() {
        let browser = Role::Browser.permissions();
        assert!(browser.allows(Permission::Evaluate) && browser.allows(Permission::Ingest));
        for denied in [
            Permission::Sync,
            Permission::Identify,
            Permission::ConfigRead,
            Permission::Observe,
        ] {
            assert!(!browser.allows(denied), "{denied:?}");
        }
    }

    #[test]
    fn words_and_roles_are_one_to_one() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}
