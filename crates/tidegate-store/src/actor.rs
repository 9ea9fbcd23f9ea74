//! Who did something.
//!
//! An actor is a kind and an opaque id: a user's id is random, never a name or an address,
//! because the audit chain keeps it for ever and a person may ask to be forgotten.

use std::fmt;

use crate::{
    error::StoreResult,
    object::{text_enum, within},
};

/// Longest actor id, in bytes.
pub const ACTOR_ID_MAX: usize = 128;

text_enum! {
    /// What kind of actor.
    ActorKind {
        /// A person who is signed in; the id is the user's opaque id.
        User => "user",
        /// A token; the id is its selector.
        Token => "token",
        /// A part of the program, such as `rollout`.
        System => "system",
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Opaque id inside the kind, 1 to [`ACTOR_ID_MAX`] bytes.
    pub id: String,
}

impl Actor {
    /// A signed-in person, by opaque id.
    pub fn user(id: impl Into<String>) -> Self {
        Self {
            kind: ActorKind::User,
            id: id.into(),
        }
    }

    /// A token, by selector.
    pub fn token(selector: impl Into<String>) -> Self {
        Self {
            kind: ActorKind::Token,
            id: selector.into(),
        }
    }

    /// A part of the program, by name.
    pub fn system(name: impl Into<String>) -> Self {
        Self {
            kind: ActorKind::System,
            id: name.into(),
        }
    }

    pub(crate) fn validate(&self) -> StoreResult<()> {
        within("actor.id", Some(&self.id), ACTOR_ID_MAX)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}
