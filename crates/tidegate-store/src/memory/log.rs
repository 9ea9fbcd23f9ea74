//! Audit, outbox and streams in the reference model.

use async_trait::async_trait;

use super::{MemoryStore, Waiting};
use crate::{
    access::By,
    audit::{AuditDraft, AuditEntry, AuditHead, AuditObject, AuditQuery, Checkpoint},
    digest::Digest,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::json_text,
    outbox::{LAST_ERROR_MAX, OutboxRow},
    store::{AuditStore, OutboxStore, PAGE_LIMIT_MAX, StreamStore},
    stream::{Appended, StreamAppend, StreamRecord, validate_named_value},
};

fn clamp(limit: u32) -> usize {
    usize::try_from(limit.min(PAGE_LIMIT_MAX)).unwrap_or(usize::MAX)
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn audit_append(&self, draft: AuditDraft) -> StoreResult<AuditHead> {
        self.transact(|state| state.audit(draft))
    }

    async fn audit_list(&self, query: &AuditQuery) -> StoreResult<Vec<AuditEntry>> {
        let state = self.state();
        let project = query.project.as_ref().map(ProjectKey::as_str);
        let wanted = state.audit.iter().filter(|entry| {
            entry.sequence > query.after
                && (project.is_none()
                    || entry.project.as_deref() == project
                    || (query.with_whole_store && entry.project.is_none()))
                && (query.object.is_none() || entry.object == query.object)
        });
        Ok(wanted.take(clamp(query.limit)).cloned().collect())
    }

    async fn audit_head(&self) -> StoreResult<AuditHead> {
        Ok(self
            .state()
            .audit
            .last()
            .map_or(AuditHead::EMPTY, AuditEntry::as_head))
    }

    async fn audit_note_erase(&self, sequence: u64, by: By) -> StoreResult<()> {
        self.transact(|state| {
            let entry = state
                .audit
                .iter_mut()
                .find(|entry| entry.sequence == sequence);
            let note = entry.and_then(|entry| entry.note.take());
            note.ok_or_else(|| StoreError::not_found("a note"))?;
            let object = AuditObject::new("audit-note", sequence.to_string());
            state
                .audit(AuditDraft::new("audit.erase-note", Some(object), &by))
                .map(drop)
        })
    }

    async fn audit_checkpoint_put(&self, checkpoint: Checkpoint) -> StoreResult<()> {
        let mut state = self.state();
        if !state.checkpoints.contains(&checkpoint) {
            state.checkpoints.push(checkpoint);
            state
                .checkpoints
                .sort_by_key(|checkpoint| checkpoint.sequence);
        }
        Ok(())
    }

    async fn audit_checkpoint_list(&self, after: u64, limit: u32) -> StoreResult<Vec<Checkpoint>> {
        let state = self.state();
        let later = state
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.sequence > after);
        Ok(later.take(clamp(limit)).cloned().collect())
    }
}

impl MemoryStore {
    fn with_message(
        &self,
        id: u64,
        is_dead: bool,
        work: impl FnOnce(&mut Waiting),
    ) -> StoreResult<()> {
        let mut state = self.state();
        let found = state
            .outbox
            .get_mut(&id)
            .filter(|waiting| waiting.is_dead == is_dead);
        let missing = || StoreError::not_found(format!("outbox message {id}"));
        work(found.ok_or_else(missing)?);
        Ok(())
    }
}

fn fail(waiting: &mut Waiting, error: &str) {
    waiting.row.attempts += 1;
    waiting.row.last_error = Some(error[..error.floor_char_boundary(LAST_ERROR_MAX)].to_owned());
}

#[async_trait]
impl OutboxStore for MemoryStore {
    async fn outbox_take(
        &self,
        limit: u32,
        now_us: i64,
        lease_until: i64,
    ) -> StoreResult<Vec<OutboxRow>> {
        let mut state = self.state();
        let mut seen = Vec::new();
        let mut taken = Vec::new();
        for waiting in state.outbox.values_mut().filter(|waiting| !waiting.is_dead) {
            let line = (waiting.row.project.clone(), waiting.row.topic.clone());
            let is_first = !seen.contains(&line);
            seen.push(line);
            if is_first && waiting.due_at <= now_us && taken.len() < clamp(limit) {
                waiting.due_at = lease_until;
                taken.push(waiting.row.clone());
            }
        }
        Ok(taken)
    }

    async fn outbox_done(&self, id: u64) -> StoreResult<()> {
        self.with_message(id, false, |_| {})?;
        self.state().outbox.remove(&id);
        Ok(())
    }

    async fn outbox_fail(&self, id: u64, error: &str, next_attempt_at: i64) -> StoreResult<()> {
        self.with_message(id, false, |waiting| {
            fail(waiting, error);
            waiting.due_at = next_attempt_at;
        })
    }

    async fn outbox_dead(&self, id: u64, error: &str) -> StoreResult<()> {
        self.with_message(id, false, |waiting| {
            fail(waiting, error);
            waiting.is_dead = true;
        })
    }

    async fn outbox_dead_list(
        &self,
        project: &ProjectKey,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<OutboxRow>> {
        let state = self.state();
        let dead = state.outbox.values().filter(|waiting| waiting.is_dead);
        let wanted = dead
            .map(|waiting| waiting.row.clone())
            .filter(|row| row.project == *project && row.id > after_id);
        Ok(wanted.take(clamp(limit)).collect())
    }

    async fn outbox_redeliver(&self, id: u64, now_us: i64) -> StoreResult<()> {
        self.with_message(id, true, |waiting| {
            waiting.is_dead = false;
            waiting.due_at = now_us;
        })
    }
}

#[async_trait]
impl StreamStore for MemoryStore {
    async fn log_append(&self, append: StreamAppend) -> StoreResult<Appended> {
        append.validate()?;
        self.transact(|state| {
            let in_project = state
                .streams
                .iter()
                .filter(|((p, _), _)| *p == append.project);
            let earlier = in_project
                .flat_map(|(_, records)| records)
                .find(|record| append.delivery.is_some() && record.delivery == append.delivery);
            if let Some(StreamRecord {
                sequence, digest, ..
            }) = earlier
            {
                let (sequence, digest) = (*sequence, *digest);
                return Ok(Appended {
                    sequence,
                    digest,
                    is_duplicate: true,
                });
            }
            state.project(&append.project)?;
            let project = append.project.clone();
            let records = state
                .streams
                .entry((append.project, append.stream))
                .or_default();
            let current = records.last().map_or(0, |last| last.sequence);
            if append
                .expected_head
                .is_some_and(|expected| expected != current)
            {
                return Err(StoreError::Stale { current });
            }
            let digest = Digest::of(json_text(&append.payload).as_bytes());
            let sequence = current + 1;
            records.push(StreamRecord {
                sequence,
                payload: append.payload,
                digest,
                delivery: append.delivery,
                appended_at: append.now_us,
            });
            state.send(&project, &append.outbox, append.now_us);
            Ok(Appended {
                sequence,
                digest,
                is_duplicate: false,
            })
        })
    }

    async fn log_read(
        &self,
        project: &ProjectKey,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> StoreResult<Vec<StreamRecord>> {
        let state = self.state();
        let records = state.streams.get(&(project.clone(), stream.to_owned()));
        let later = records
            .into_iter()
            .flatten()
            .filter(|record| record.sequence > after);
        Ok(later.take(clamp(limit)).cloned().collect())
    }

    async fn log_head(&self, project: &ProjectKey, stream: &str) -> StoreResult<u64> {
        let state = self.state();
        let records = state.streams.get(&(project.clone(), stream.to_owned()));
        Ok(records
            .and_then(|records| records.last())
            .map_or(0, |last| last.sequence))
    }

    async fn kv_put(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        validate_named_value(key, value)?;
        self.state().values.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    async fn kv_get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.state().values.get(key).cloned())
    }
}
