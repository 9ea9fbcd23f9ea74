//! Projects: the scope of keys, tokens and configuration versions.
//!
//! A store holds one organisation; its projects are the rows here.
//! A project is not deleted: its audit and its tombstones would lose their meaning.

use crate::{access::By, error::StoreResult, key::ProjectKey, object::Expected, object::within};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its key.
    pub key: ProjectKey,
    /// Its name for people.
    pub name: String,
    /// Revision of this row, from 1.
    pub revision: u64,
    /// Configuration version: how many changes the project has seen.
    pub config_version: u64,
    /// When it was made, microseconds since the Unix epoch.
    pub created_at: i64,
    /// When this row was written, microseconds since the Unix epoch.
    pub updated_at: i64,
}

/// A project to be made or renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPut {
    /// Its key.
    pub key: ProjectKey,
    /// Its name for people.
    pub name: String,
    /// What the writer believes.
    pub expected: Expected,
    /// Who, why, when.
    pub by: By,
}

impl ProjectPut {
    pub(crate) fn validate(&self) -> StoreResult<()> {
        within("name", Some(&self.name), crate::access::NAME_MAX)?;
        self.by.validate()
    }
}
