//! Control-plane state: objects with revisions, audit chain, outbox, tokens, users.
//!
//! This crate keeps what people and programs decided: projects, flags, segments, rollouts,
//! tokens, users, and who changed what and why.
//! It does not keep events (that is the lake), it does not know what a flag means (that is
//! `tidegate-flags`), and it decides nothing about who may do what (that is the server).
//!
//! Three promises hold for everything here:
//!
//! - **an acknowledged write is there**: `Ok` means the transaction is on disk;
//! - **a change, its audit entry and its messages are one transaction**: none without the
//!   others;
//! - **a storage fault is an error, never a panic**, and reads go on where the disk allows.
//!
//! [`Store`] is the interface; [`sqlite::SqliteStore`] is the embedded implementation.
//! [`stop_file`] stands apart on purpose: a kill or a rollback must work when the database
//! does not.

pub mod access;
pub mod actor;
pub mod audit;
pub mod credential;
mod decide;
pub mod digest;
mod durable;
pub mod error;
pub mod key;
pub mod object;
pub mod outbox;
pub mod project;
pub mod secret;
pub mod sqlite;
pub mod stop_file;
pub mod store;
pub mod stream;

pub use access::{
    By, LinkPurpose, NewUser, OneTimeLink, Role, RoleGrant, Scope, SessionRecord, TokenKind,
    TokenRecord, UserChange, UserRecord,
};
pub use actor::{Actor, ActorKind};
pub use audit::{AuditDraft, AuditEntry, AuditHead, AuditObject, AuditQuery, Checkpoint};
pub use credential::{CredentialHash, MintedCredential, PresentedCredential};
pub use digest::Digest;
pub use error::{StoreError, StoreResult};
pub use key::{KeyError, ObjectKey, ProjectKey};
pub use object::{
    Committed, ConfigVersion, Expected, FieldChange, ObjectChange, ObjectKind, ObjectPage,
    Quarantined, Snapshot, StoredObject, Write,
};
pub use outbox::{OutboxMessage, OutboxRow};
pub use project::{Project, ProjectPut};
pub use secret::Secret;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use stop_file::{StopFile, StopId, StopKind, StopRecord, StopServe};
pub use store::{
    AuditStore, BackupReport, Health, ObjectStore, OutboxStore, PeopleStore, Pruned, Store,
    StreamStore, TokenStore,
};
pub use stream::{Appended, DeliveryId, StreamAppend, StreamRecord};

/// A word that is none of those an enumeration knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no {expected}")]
pub struct UnknownWord {
    /// Name of the enumeration.
    pub expected: &'static str,
}
