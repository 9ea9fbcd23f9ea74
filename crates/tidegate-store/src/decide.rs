//! What a change does to the state it finds: the table in [`crate::object`], as a function.

use crate::{
    error::{StoreError, StoreResult},
    object::{Expected, ObjectChange, Write},
};

/// The newest revision of a key, as far as deciding needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) revision: u64,
    pub(crate) deleted: bool,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) revision: u64,
    pub(crate) verb: &'static str,
}

/// Decides a change that [`ObjectChange::validate`] has passed.
pub(crate) fn decide(head: Option<Head>, change: &ObjectChange) -> StoreResult<Step> {
    match (head, &change.write) {
        (None, Write::Put(_)) if change.expected == Expected::Absent => Ok(Step {
            revision: 1,
            verb: "create",
        }),
        (None, _) => Err(StoreError::not_found(change.what())),
        (Some(head), Write::Revive(_)) if !head.deleted => Err(exists(head, change)),
        (Some(head), Write::Revive(_)) => follow(head, change, "revive"),
        (Some(head), _) if head.deleted => Err(StoreError::Tombstoned {
            what: change.what(),
            revision: head.revision,
        }),
        (Some(head), Write::Put(_)) => follow(head, change, "update"),
        (Some(head), Write::Delete) => follow(head, change, "delete"),
    }
}

fn follow(head: Head, change: &ObjectChange, verb: &'static str) -> StoreResult<Step> {
    match change.expected {
        Expected::Absent => Err(exists(head, change)),
        Expected::Revision(expected) if expected != head.revision => Err(StoreError::Stale {
            current: head.revision,
        }),
        Expected::Revision(_) | Expected::Any => Ok(Step {
            revision: head.revision + 1,
            verb,
        }),
    }
}

fn exists(head: Head, change: &ObjectChange) -> StoreError {
    StoreError::Exists {
        what: change.what(),
        current: head.revision,
    }
}
