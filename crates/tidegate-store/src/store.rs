//! The storage interface: one trait per family of state, and [`Store`] for all of them.
//!
//! The traits know nothing of SQL; `conformance` (feature of the same name) says what an
//! implementation must do, and every implementation runs it.
//! Every write is one transaction: it is wholly there, with its audit entry and its messages,
//! or not at all, and `Ok` means that it survives a power cut.
//! Times are microseconds since the Unix epoch and come from the caller.
//! `limit` is clamped to [`PAGE_LIMIT_MAX`].

use std::path::Path;

use async_trait::async_trait;

use crate::{
    access::{By, NewUser, OneTimeLink, SessionRecord, TokenRecord, UserChange, UserRecord},
    audit::{AuditDraft, AuditEntry, AuditHead, AuditQuery, Checkpoint},
    error::StoreResult,
    key::{ObjectKey, ProjectKey},
    object::{
        Committed, ConfigVersion, ObjectChange, ObjectKind, ObjectPage, Snapshot, StoredObject,
    },
    outbox::OutboxRow,
    project::{Project, ProjectPut},
    secret::Secret,
    stream::{Appended, StreamAppend, StreamRecord},
};

/// Most rows in one answer.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// Projects and their objects.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Makes or renames a project; `config_version` of the result is the project's.
    async fn project_put(&self, put: ProjectPut) -> StoreResult<Committed>;
    /// A project, if it exists.
    async fn project_get(&self, project: &ProjectKey) -> StoreResult<Option<Project>>;
    /// All projects in byte order of their keys.
    async fn project_list(&self) -> StoreResult<Vec<Project>>;
    /// Commits one change.
    async fn object_commit(&self, change: ObjectChange) -> StoreResult<Committed>;
    /// Commits all changes in order, or none; results are in the order of the changes.
    async fn objects_commit(&self, changes: Vec<ObjectChange>) -> StoreResult<Vec<Committed>>;
    /// The result of the change that was committed under an idempotency key, until it is pruned.
    async fn idempotency_find(
        &self,
        project: &ProjectKey,
        key: &str,
    ) -> StoreResult<Option<Committed>>;
    /// The newest revision, which may be a tombstone; `None` if the key was never written.
    async fn object_get(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
    ) -> StoreResult<Option<StoredObject>>;
    /// Live objects in byte order of their keys, those after `after_key`.
    async fn object_list(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        after_key: Option<&ObjectKey>,
        limit: u32,
    ) -> StoreResult<ObjectPage>;
    /// Revisions of a key, newest first, tombstones included.
    async fn object_history(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
        limit: u32,
    ) -> StoreResult<Vec<StoredObject>>;
    /// All live flags and segments and the version they make up, read at one moment.
    async fn config_snapshot(&self, project: &ProjectKey) -> StoreResult<Snapshot>;
    /// Version of the configuration alone, cheap enough to poll.
    async fn config_version(&self, project: &ProjectKey) -> StoreResult<ConfigVersion>;
}

/// Tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Adds a token; audited as `token.create`.
    async fn token_put(&self, token: TokenRecord, by: By) -> StoreResult<()>;
    /// The token with this selector.
    async fn token_find_by_selector(&self, selector: &str) -> StoreResult<Option<TokenRecord>>;
    /// Tokens of a project, newest first.
    async fn token_list(&self, project: &ProjectKey) -> StoreResult<Vec<TokenRecord>>;
    /// Disables a token for ever; audited as `token.disable`; doing it twice changes nothing.
    async fn token_disable(&self, selector: &str, by: By) -> StoreResult<()>;
    /// Notes that a token was used; a time earlier than the noted one changes nothing.
    async fn token_touch(&self, selector: &str, used_at: i64) -> StoreResult<()>;
}

/// People, their sign-ins and one-time links.
#[async_trait]
pub trait PeopleStore: Send + Sync {
    /// Adds a person; audited as `user.create`.
    async fn user_put(&self, user: NewUser, by: By) -> StoreResult<()>;
    /// A person by opaque id.
    async fn user_get(&self, id: &str) -> StoreResult<Option<UserRecord>>;
    /// A person by address, compared in lower case.
    async fn user_find_by_email(&self, email: &str) -> StoreResult<Option<UserRecord>>;
    /// People in byte order of their ids, those after `after_id`.
    async fn user_list(&self, after_id: Option<&str>, limit: u32) -> StoreResult<Vec<UserRecord>>;
    /// Changes a person; audited.
    async fn user_change(&self, id: &str, change: UserChange, by: By) -> StoreResult<()>;
    /// Adds a sign-in.
    async fn session_put(&self, session: SessionRecord) -> StoreResult<()>;
    /// The sign-in with this selector, ended ones excluded, expired ones included.
    async fn session_find_by_selector(&self, selector: &str) -> StoreResult<Option<SessionRecord>>;
    /// Notes that a sign-in was used; a time earlier than the noted one changes nothing.
    async fn session_touch(&self, selector: &str, seen_at: i64) -> StoreResult<()>;
    /// Ends a sign-in; ending it twice changes nothing.
    async fn session_end(&self, selector: &str) -> StoreResult<()>;
    /// Ends all sign-ins of a person and says how many.
    async fn session_end_all(&self, user_id: &str) -> StoreResult<u64>;
    /// Adds a one-time link.
    async fn one_time_link_put(&self, link: OneTimeLink) -> StoreResult<()>;
    /// Uses a link up and returns it; `None` if it does not exist, was used, has expired at
    /// `now_us`, or `verifier` is not its verifier.
    async fn one_time_link_take(
        &self,
        selector: &str,
        verifier: &Secret,
        now_us: i64,
    ) -> StoreResult<Option<OneTimeLink>>;
}

/// The audit chain.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends an entry about something that is no change of stored state, such as a sign-in.
    async fn audit_append(&self, draft: AuditDraft) -> StoreResult<AuditHead>;
    /// Entries in order.
    async fn audit_list(&self, query: &AuditQuery) -> StoreResult<Vec<AuditEntry>>;
    /// The end of the chain.
    async fn audit_head(&self) -> StoreResult<AuditHead>;
    /// Erases the note of an entry, leaving the chain intact; audited as `audit.erase-note`.
    async fn audit_note_erase(&self, sequence: u64, by: By) -> StoreResult<()>;
    /// Keeps a signed checkpoint.
    async fn audit_checkpoint_put(&self, checkpoint: Checkpoint) -> StoreResult<()>;
    /// Checkpoints about entries after `after`, in order.
    async fn audit_checkpoint_list(&self, after: u64, limit: u32) -> StoreResult<Vec<Checkpoint>>;
}

/// Messages waiting to leave.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// Takes up to `limit` messages that are due, in order, and hides them until `lease_until`:
    /// who dies before [`OutboxStore::outbox_done`] has them taken again.
    async fn outbox_take(
        &self,
        limit: u32,
        now_us: i64,
        lease_until: i64,
    ) -> StoreResult<Vec<OutboxRow>>;
    /// The message arrived; it is removed.
    async fn outbox_done(&self, id: u64) -> StoreResult<()>;
    /// The attempt failed; the next one is due at `next_attempt_at`.
    async fn outbox_fail(&self, id: u64, error: &str, next_attempt_at: i64) -> StoreResult<()>;
    /// The message is given up and kept among the dead letters.
    async fn outbox_dead(&self, id: u64, error: &str) -> StoreResult<()>;
    /// Dead letters of a project after `after_id`, in order.
    async fn outbox_dead_list(
        &self,
        project: &ProjectKey,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<OutboxRow>>;
    /// Puts a dead letter back, due at once and behind nothing.
    async fn outbox_redeliver(&self, id: u64, now_us: i64) -> StoreResult<()>;
}

/// Append-only streams and small named values.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// Appends a record.
    async fn log_append(&self, append: StreamAppend) -> StoreResult<Appended>;
    /// Records after sequence `after`, in order.
    async fn log_read(
        &self,
        project: &ProjectKey,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> StoreResult<Vec<StreamRecord>>;
    /// Sequence of the last record; 0 if there is none.
    async fn log_head(&self, project: &ProjectKey, stream: &str) -> StoreResult<u64>;
    /// Sets a named value of the server's own, at most 64 KiB.
    async fn kv_put(&self, key: &str, value: &[u8]) -> StoreResult<()>;
    /// Reads a named value.
    async fn kv_get(&self, key: &str) -> StoreResult<Option<Vec<u8>>>;
}

/// What was removed by [`Store::prune`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Sign-ins that had ended.
    pub sessions: u64,
    /// Links that had ended or were used.
    pub links: u64,
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// Whether the storage works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether a write would be attempted.
    pub is_writable: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// Epoch of the store.
    pub epoch: u64,
    /// Version of the schema.
    pub schema_version: i64,
    /// Bytes on disk, the write-ahead log included; 0 where there is no disk.
    pub bytes: u64,
    /// The end of the audit chain.
    pub audit_head: AuditHead,
}

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Its size in bytes.
    pub bytes: u64,
    /// Epoch of the copied state.
    pub epoch: u64,
    /// End of the copied audit chain.
    pub audit_head: AuditHead,
}

/// All control-plane state behind one object.
#[async_trait]
pub trait Store:
    ObjectStore + TokenStore + PeopleStore + AuditStore + OutboxStore + StreamStore
{
    /// Writes a consistent copy to a file that did not exist, while reads and writes go on.
    async fn backup_to(&self, path: &Path) -> StoreResult<BackupReport>;
    /// Whether the storage works.
    async fn health(&self) -> StoreResult<Health>;
    /// Removes sign-ins and links that ended, and idempotency keys and dead letters that were
    /// written, before `before_us`.
    async fn prune(&self, before_us: i64) -> StoreResult<Pruned>;
}
