//! The reference model: the whole store as plain maps behind a lock.
//!
//! It exists to say what right is: the conformance suite and the property tests hold every
//! implementation against it.
//! It shares with them the types and their validation and nothing else, so that a mistake in a
//! shared decision cannot agree with itself.
//! It keeps nothing on disk; a test that needs no disk may use it.

mod access;
mod log;
mod objects;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    access::{OneTimeLink, SessionRecord, TokenRecord, UserRecord},
    audit::{AuditDraft, AuditEntry, AuditHead, Checkpoint},
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::{Committed, ObjectKind, StoredObject, Write},
    outbox::OutboxRow,
    project::Project,
    store::{BackupReport, Health, Pruned, Store},
    stream::StreamRecord,
};

type Place = (ProjectKey, ObjectKind, String);

/// What a transaction would change; cloned before and dropped to undo.
#[derive(Debug, Clone, Default)]
struct State {
    projects: BTreeMap<ProjectKey, Project>,
    /// Every revision of each key, oldest first.
    objects: BTreeMap<Place, Vec<StoredObject>>,
    remembered: BTreeMap<(ProjectKey, String), Remembered>,
    audit: Vec<AuditEntry>,
    checkpoints: Vec<Checkpoint>,
    outbox: BTreeMap<u64, Waiting>,
    last_message: u64,
    tokens: BTreeMap<String, TokenRecord>,
    users: BTreeMap<String, UserRecord>,
    sessions: BTreeMap<String, SessionRecord>,
    links: BTreeMap<String, OneTimeLink>,
    streams: BTreeMap<(ProjectKey, String), Vec<StreamRecord>>,
    values: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Remembered {
    request: (ObjectKind, String, Write),
    result: Committed,
    at_us: i64,
}

#[derive(Debug, Clone)]
struct Waiting {
    row: OutboxRow,
    due_at: i64,
    is_dead: bool,
}

/// The reference model.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

/// The model is never restored, so its epoch is that of a new store.
const EPOCH: u64 = 1;

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work on a copy and keeps the copy if it succeeded.
    fn transact<T>(&self, work: impl FnOnce(&mut State) -> StoreResult<T>) -> StoreResult<T> {
        let mut state = self.state();
        let mut copy = state.clone();
        let done = work(&mut copy)?;
        *state = copy;
        Ok(done)
    }
}

impl State {
    fn audit(&mut self, draft: AuditDraft) -> StoreResult<AuditHead> {
        draft.validate()?;
        let head = self
            .audit
            .last()
            .map_or(AuditHead::EMPTY, AuditEntry::as_head);
        let entry = draft.seal(&head, EPOCH, [7; 16]);
        let head = entry.as_head();
        self.audit.push(entry);
        Ok(head)
    }

    fn project(&mut self, key: &ProjectKey) -> StoreResult<&mut Project> {
        self.projects
            .get_mut(key)
            .ok_or_else(|| StoreError::not_found(format!("project {key}")))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn backup_to(&self, _path: &Path) -> StoreResult<BackupReport> {
        Err(StoreError::Unavailable {
            retryable: false,
            not_applied: true,
            reason: "the reference model keeps nothing on disk".to_owned(),
        })
    }

    async fn health(&self) -> StoreResult<Health> {
        Ok(Health {
            is_writable: true,
            reason: None,
            epoch: EPOCH,
            schema_version: crate::sqlite::SCHEMA_VERSION,
            bytes: 0,
            audit_head: self
                .state()
                .audit
                .last()
                .map_or(AuditHead::EMPTY, AuditEntry::as_head),
        })
    }

    async fn prune(&self, before_us: i64) -> StoreResult<Pruned> {
        self.transact(|state| {
            let sizes = |state: &State| {
                [
                    state.sessions.len(),
                    state.links.len(),
                    state.remembered.len(),
                    state.outbox.len(),
                ]
            };
            let before = sizes(state);
            state
                .sessions
                .retain(|_, session| session.expires_at >= before_us);
            state.links.retain(|_, link| link.expires_at >= before_us);
            state
                .remembered
                .retain(|_, remembered| remembered.at_us >= before_us);
            state
                .outbox
                .retain(|_, waiting| !waiting.is_dead || waiting.row.created_at >= before_us);
            let after = sizes(state);
            let gone = |n: usize| u64::try_from(before[n] - after[n]).unwrap_or(u64::MAX);
            Ok(Pruned {
                sessions: gone(0),
                links: gone(1),
                idempotency_keys: gone(2),
                dead_letters: gone(3),
            })
        })
    }
}
