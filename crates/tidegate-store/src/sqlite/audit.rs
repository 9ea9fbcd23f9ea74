//! The audit chain in SQLite.
//!
//! Entries are appended under the write transaction of what they tell of, so the chain has one
//! writer and its head cannot move between reading and appending.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    access::By,
    audit::{AuditDraft, AuditEntry, AuditHead, AuditNote, AuditObject, AuditQuery, Checkpoint},
    credential::random_bytes,
    digest::Digest,
    error::{StoreError, StoreResult},
    store::{AuditStore, PAGE_LIMIT_MAX},
};

/// The end of the chain, and the epoch that the next entry belongs to.
pub(super) struct ChainHead {
    pub(super) epoch: u64,
    pub(super) head: AuditHead,
}

/// Reads the end of the chain.
pub(super) async fn chain_head(connection: &mut SqliteConnection) -> StoreResult<ChainHead> {
    let row = sqlx::query(sql!("chain_head"))
        .fetch_one(connection)
        .await?;
    let head = match row.maybe_number("sequence")? {
        None => AuditHead::EMPTY,
        Some(sequence) => AuditHead {
            sequence,
            epoch: row.number("epoch")?,
            hash: row.digest("hash")?,
        },
    };
    Ok(ChainHead {
        epoch: row.number("store_epoch")?,
        head,
    })
}

/// Appends an entry inside a transaction.
pub(super) async fn append_in_txn(
    connection: &mut SqliteConnection,
    draft: AuditDraft,
) -> StoreResult<AuditHead> {
    draft.validate()?;
    let chain = chain_head(connection).await?;
    let mut salt = [0; 16];
    random_bytes(&mut salt).map_err(|error| StoreError::Unavailable {
        retryable: true,
        not_applied: true,
        reason: error.to_string(),
    })?;
    let entry = draft.seal(&chain.head, chain.epoch, salt);
    insert_entry(connection, &entry).await?;
    if let Some(note) = &entry.note {
        insert_note(connection, entry.sequence, note).await?;
    }
    Ok(entry.as_head())
}

async fn insert_entry(connection: &mut SqliteConnection, entry: &AuditEntry) -> StoreResult<()> {
    let bytes = |digest: Option<Digest>| digest.map(|digest| digest.0.to_vec());
    sqlx::query(sql!("audit_insert"))
        .bind(signed(entry.sequence))
        .bind(signed(entry.epoch))
        .bind(entry.at_us)
        .bind(entry.project.as_deref())
        .bind(entry.actor.kind.as_str())
        .bind(&entry.actor.id)
        .bind(&entry.action)
        .bind(entry.object.as_ref().map(|object| &object.kind))
        .bind(entry.object.as_ref().map(|object| &object.key))
        .bind(entry.revision.map(signed))
        .bind(bytes(entry.before))
        .bind(bytes(entry.after))
        .bind(bytes(entry.note_digest))
        .bind(entry.previous_hash.0.to_vec())
        .bind(entry.hash.0.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_note(
    connection: &mut SqliteConnection,
    sequence: u64,
    note: &AuditNote,
) -> StoreResult<()> {
    sqlx::query(sql!("audit_note_insert"))
        .bind(signed(sequence))
        .bind(note.salt.to_vec())
        .bind(note.reason.as_deref())
        .bind(note.changes.as_deref())
        .execute(connection)
        .await?;
    Ok(())
}

/// An entry from its row.
pub(super) fn entry(row: &SqliteRow) -> StoreResult<AuditEntry> {
    let object = match (
        row.maybe_text("object_kind")?,
        row.maybe_text("object_key")?,
    ) {
        (Some(kind), Some(key)) => Some(AuditObject { kind, key }),
        _ => None,
    };
    Ok(AuditEntry {
        sequence: row.number("sequence")?,
        epoch: row.number("epoch")?,
        at_us: row.time("at_us")?,
        project: row.maybe_text("project")?,
        actor: row.actor("actor_kind", "actor_id")?,
        action: row.text("action")?,
        object,
        revision: row.maybe_number("revision")?,
        before: row.maybe_digest("before_digest")?,
        after: row.maybe_digest("after_digest")?,
        note_digest: row.maybe_digest("note_digest")?,
        previous_hash: row.digest("previous_hash")?,
        hash: row.digest("hash")?,
        note: note(row)?,
    })
}

fn note(row: &SqliteRow) -> StoreResult<Option<AuditNote>> {
    let (reason, changes) = (row.maybe_text("reason")?, row.maybe_text("changes")?);
    if reason.is_none() && changes.is_none() {
        return Ok(None);
    }
    Ok(Some(AuditNote {
        salt: row.fixed("salt")?,
        reason,
        changes,
    }))
}

/// A checkpoint from its row.
pub(super) fn checkpoint(row: &SqliteRow) -> StoreResult<Checkpoint> {
    Ok(Checkpoint {
        sequence: row.number("sequence")?,
        epoch: row.number("epoch")?,
        hash: row.digest("hash")?,
        signed_at: row.time("signed_at")?,
        key_id: row.text("key_id")?,
        signature: row.fixed("signature")?,
    })
}

async fn erase_note(connection: &mut SqliteConnection, sequence: u64, by: &By) -> StoreResult<()> {
    let erased = sqlx::query(sql!("audit_note_delete"))
        .bind(signed(sequence))
        .execute(&mut *connection)
        .await?;
    if erased.rows_affected() == 0 {
        return Err(StoreError::not_found(format!(
            "a note of audit entry {sequence}"
        )));
    }
    let object = AuditObject::new("audit-note", sequence.to_string());
    append_in_txn(
        connection,
        AuditDraft::new("audit.erase-note", Some(object), by),
    )
    .await?;
    Ok(())
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn audit_append(&self, draft: AuditDraft) -> StoreResult<AuditHead> {
        let mut txn = self.begin().await?;
        let head = append_in_txn(&mut txn, draft).await;
        self.finish(txn, head).await
    }

    async fn audit_list(&self, query: &AuditQuery) -> StoreResult<Vec<AuditEntry>> {
        let project = query.project.as_ref().map(|project| project.as_str());
        let (after, limit) = (signed(query.after), query.limit.min(PAGE_LIMIT_MAX));
        let statement = match (&query.object, project) {
            (Some(object), _) => sqlx::query(sql!("audit_list_object"))
                .bind(after)
                .bind(limit)
                .bind(project)
                .bind(&object.kind)
                .bind(&object.key),
            (None, Some(project)) => sqlx::query(sql!("audit_list_project"))
                .bind(after)
                .bind(limit)
                .bind(project)
                .bind(query.with_whole_store),
            (None, None) => sqlx::query(sql!("audit_list")).bind(after).bind(limit),
        };
        statement
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(entry)
            .collect()
    }

    async fn audit_head(&self) -> StoreResult<AuditHead> {
        let mut connection = self.readers.acquire().await?;
        Ok(chain_head(&mut connection).await?.head)
    }

    async fn audit_note_erase(&self, sequence: u64, by: By) -> StoreResult<()> {
        let mut txn = self.begin().await?;
        let erased = erase_note(&mut txn, sequence, &by).await;
        self.finish(txn, erased).await
    }

    async fn audit_checkpoint_put(&self, checkpoint: Checkpoint) -> StoreResult<()> {
        let mut txn = self.begin().await?;
        let put = sqlx::query(sql!("checkpoint_insert"))
            .bind(signed(checkpoint.sequence))
            .bind(signed(checkpoint.epoch))
            .bind(checkpoint.hash.0.to_vec())
            .bind(checkpoint.signed_at)
            .bind(checkpoint.key_id)
            .bind(checkpoint.signature.to_vec())
            .execute(&mut *txn)
            .await;
        self.finish(txn, put.map(drop).map_err(StoreError::from))
            .await
    }

    async fn audit_checkpoint_list(&self, after: u64, limit: u32) -> StoreResult<Vec<Checkpoint>> {
        let rows = sqlx::query(sql!("checkpoint_list"))
            .bind(signed(after))
            .bind(limit.min(PAGE_LIMIT_MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(checkpoint).collect()
    }
}
