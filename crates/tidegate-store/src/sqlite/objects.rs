//! Objects in SQLite: one transaction per commit, one read transaction per snapshot.

use async_trait::async_trait;
use serde_json::Value;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore, audit, outbox, projects,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    audit::{AuditDraft, AuditObject},
    decide::{Head, Step, decide},
    digest::{Digest, Encoder},
    error::{StoreError, StoreResult},
    key::{ObjectKey, ProjectKey},
    object::{
        CHANGES_PER_COMMIT_MAX, Committed, ConfigVersion, ObjectChange, ObjectKind, ObjectPage,
        Quarantined, Snapshot, StoredObject, Write, json_text,
    },
    project::{Project, ProjectPut},
    store::{ObjectStore, PAGE_LIMIT_MAX},
};

/// Commits a change inside a transaction.
async fn commit_in_txn(
    connection: &mut SqliteConnection,
    change: ObjectChange,
) -> StoreResult<Committed> {
    let request = request_digest(&change);
    if let Some(first) = earlier_result(connection, &change, request).await? {
        return Ok(first);
    }
    let config_version = projects::bump_in_txn(connection, &change.project).await?;
    let (head, before) = head(connection, &change).await?;
    let step = decide(head, &change)?;
    let after = write_object(connection, &change, step).await?;
    let draft = draft(&change, step, (before, after));
    let audited = audit::append_in_txn(connection, draft).await?;
    let committed = Committed {
        revision: step.revision,
        config_version,
        epoch: audited.epoch,
        audit_sequence: audited.sequence,
    };
    outbox::send(connection, &change.project, &change.outbox, change.now_us).await?;
    remember(connection, &change, request, committed).await?;
    Ok(committed)
}

async fn commit_all_in_txn(
    connection: &mut SqliteConnection,
    changes: Vec<ObjectChange>,
) -> StoreResult<Vec<Committed>> {
    let mut committed = Vec::with_capacity(changes.len());
    for change in changes {
        committed.push(commit_in_txn(connection, change).await?);
    }
    Ok(committed)
}

/// What makes two changes under one idempotency key the same change.
///
/// The expectation and the time are left out: a caller that tries again may have read anew.
fn request_digest(change: &ObjectChange) -> Digest {
    let (verb, spec) = match &change.write {
        Write::Put(spec) => ("put", Some(json_text(spec))),
        Write::Delete => ("delete", None),
        Write::Revive(spec) => ("revive", Some(json_text(spec))),
    };
    Encoder::new("tidegate.idempotency.v1")
        .text(change.kind.as_str())
        .text(change.key.as_str())
        .text(verb)
        .optional(spec.as_deref(), Encoder::text)
        .finish()
}

async fn earlier_result(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
    request: Digest,
) -> StoreResult<Option<Committed>> {
    let Some(key) = &change.idempotency_key else {
        return Ok(None);
    };
    let row = sqlx::query(sql!("idempotency_get"))
        .bind(change.project.as_str())
        .bind(key)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.digest("request_digest")? != request {
        return Err(StoreError::invalid(
            "idempotency_key",
            "it was used for another change",
        ));
    }
    remembered(&row).map(Some)
}

fn remembered(row: &SqliteRow) -> StoreResult<Committed> {
    Ok(Committed {
        revision: row.number("revision")?,
        config_version: row.number("config_version")?,
        epoch: row.number("epoch")?,
        audit_sequence: row.number("audit_sequence")?,
    })
}

async fn remember(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
    request: Digest,
    committed: Committed,
) -> StoreResult<()> {
    let Some(key) = &change.idempotency_key else {
        return Ok(());
    };
    sqlx::query(sql!("idempotency_put"))
        .bind(change.project.as_str())
        .bind(key)
        .bind(request.0.to_vec())
        .bind(signed(committed.revision))
        .bind(signed(committed.config_version))
        .bind(signed(committed.epoch))
        .bind(signed(committed.audit_sequence))
        .bind(change.now_us)
        .execute(connection)
        .await?;
    Ok(())
}

/// The newest revision, and the digest of what is live.
async fn head(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
) -> StoreResult<(Option<Head>, Option<Digest>)> {
    let row = sqlx::query(sql!("object_head"))
        .bind(change.project.as_str())
        .bind(change.kind.as_str())
        .bind(change.key.as_str())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok((None, None));
    };
    let head = Head {
        revision: row.number("revision")?,
        deleted: row.flag("deleted")?,
    };
    let live = if head.deleted {
        None
    } else {
        Some(row.digest("digest")?)
    };
    Ok((Some(head), live))
}

/// Writes the newest revision and keeps it in the history; gives the digest of what is live.
async fn write_object(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
    step: Step,
) -> StoreResult<Option<Digest>> {
    let after = match &change.write {
        Write::Put(spec) | Write::Revive(spec) => {
            Some(put(connection, change, step.revision, spec).await?)
        }
        Write::Delete => {
            bury(connection, change, step.revision).await?;
            None
        }
    };
    sqlx::query(sql!("object_keep_revision"))
        .bind(change.project.as_str())
        .bind(change.kind.as_str())
        .bind(change.key.as_str())
        .execute(connection)
        .await?;
    Ok(after)
}

async fn put(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
    revision: u64,
    spec: &Value,
) -> StoreResult<Digest> {
    let text = json_text(spec);
    let digest = Digest::of(text.as_bytes());
    sqlx::query(sql!("object_put"))
        .bind(change.project.as_str())
        .bind(change.kind.as_str())
        .bind(change.key.as_str())
        .bind(signed(revision))
        .bind(text)
        .bind(digest.0.to_vec())
        .bind(change.now_us)
        .bind(change.actor.kind.as_str())
        .bind(&change.actor.id)
        .execute(connection)
        .await?;
    Ok(digest)
}

async fn bury(
    connection: &mut SqliteConnection,
    change: &ObjectChange,
    revision: u64,
) -> StoreResult<()> {
    sqlx::query(sql!("object_bury"))
        .bind(change.project.as_str())
        .bind(change.kind.as_str())
        .bind(change.key.as_str())
        .bind(signed(revision))
        .bind(change.now_us)
        .bind(change.actor.kind.as_str())
        .bind(&change.actor.id)
        .execute(connection)
        .await?;
    Ok(())
}

fn draft(
    change: &ObjectChange,
    step: Step,
    (before, after): (Option<Digest>, Option<Digest>),
) -> AuditDraft {
    let default_action = || format!("{}.{}", change.kind, step.verb);
    AuditDraft {
        project: Some(change.project.clone()),
        actor: change.actor.clone(),
        action: change.action.clone().unwrap_or_else(default_action),
        object: Some(AuditObject::new(change.kind.as_str(), change.key.as_str())),
        revision: Some(step.revision),
        before,
        after,
        reason: change.reason.clone(),
        changes: change.changes.clone(),
        now_us: change.now_us,
    }
}

/// An object from its row, held against its digest.
fn object(row: &SqliteRow) -> StoreResult<StoredObject> {
    let kind: ObjectKind = row.word("kind")?;
    let key = row.text("key")?;
    let text = row.text("spec")?;
    let place = || format!("{kind} {key}");
    if Digest::of(text.as_bytes()) != row.digest("digest")? {
        return Err(StoreError::corrupt(
            place(),
            "its specification does not give its digest",
        ));
    }
    let spec = serde_json::from_str(&text)
        .map_err(|error| StoreError::corrupt(place(), error.to_string()))?;
    Ok(StoredObject {
        project: row.project("project")?,
        kind,
        key: ObjectKey::parse(kind, &key)
            .map_err(|error| StoreError::corrupt(place(), error.to_string()))?,
        revision: row.number("revision")?,
        spec,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.actor("actor_kind", "actor_id")?,
        deleted: row.flag("deleted")?,
    })
}

/// Decodes what can be decoded and sets the rest aside.
fn decode_all(kind: ObjectKind, rows: &[SqliteRow]) -> (Vec<StoredObject>, Vec<Quarantined>) {
    let mut good = Vec::with_capacity(rows.len());
    let mut bad = Vec::new();
    for row in rows {
        match object(row) {
            Ok(object) => good.push(object),
            Err(error) => bad.push(Quarantined {
                kind,
                key: row
                    .text("key")
                    .unwrap_or_else(|_| "(unreadable)".to_owned()),
                revision: row.number("revision").unwrap_or(0),
                reason: error.to_string(),
            }),
        }
    }
    (good, bad)
}

async fn live(
    connection: &mut SqliteConnection,
    project: &ProjectKey,
    kind: ObjectKind,
) -> StoreResult<(Vec<StoredObject>, Vec<Quarantined>)> {
    let rows = sqlx::query(sql!("object_live"))
        .bind(project.as_str())
        .bind(kind.as_str())
        .fetch_all(connection)
        .await?;
    Ok(decode_all(kind, &rows))
}

async fn snapshot(
    connection: &mut SqliteConnection,
    project: &ProjectKey,
) -> StoreResult<Snapshot> {
    let version = projects::version(connection, project).await?;
    let (flags, mut quarantined) = live(connection, project, ObjectKind::Flag).await?;
    let (segments, more) = live(connection, project, ObjectKind::Segment).await?;
    quarantined.extend(more);
    let (sets, more) = live(connection, project, ObjectKind::Set).await?;
    quarantined.extend(more);
    Ok(Snapshot {
        config_version: version.version,
        epoch: version.epoch,
        flags,
        segments,
        sets,
        quarantined,
    })
}

#[async_trait]
impl ObjectStore for SqliteStore {
    async fn project_put(&self, put: ProjectPut) -> StoreResult<Committed> {
        put.validate()?;
        let mut txn = self.begin().await?;
        let done = projects::put_in_txn(&mut txn, put).await;
        self.finish(txn, done).await
    }

    async fn project_get(&self, project: &ProjectKey) -> StoreResult<Option<Project>> {
        let mut connection = self.readers.acquire().await?;
        projects::get(&mut connection, project).await
    }

    async fn project_list(&self) -> StoreResult<Vec<Project>> {
        let rows = sqlx::query(sql!("project_list"))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(projects::project).collect()
    }

    async fn object_commit(&self, change: ObjectChange) -> StoreResult<Committed> {
        change.validate()?;
        let mut txn = self.begin().await?;
        let done = commit_in_txn(&mut txn, change).await;
        self.finish(txn, done).await
    }

    async fn objects_commit(&self, changes: Vec<ObjectChange>) -> StoreResult<Vec<Committed>> {
        if changes.len() > CHANGES_PER_COMMIT_MAX {
            return Err(StoreError::invalid(
                "changes",
                format!(
                    "{} changes, {CHANGES_PER_COMMIT_MAX} are allowed",
                    changes.len()
                ),
            ));
        }
        changes.iter().try_for_each(ObjectChange::validate)?;
        let mut txn = self.begin().await?;
        let done = commit_all_in_txn(&mut txn, changes).await;
        self.finish(txn, done).await
    }

    async fn idempotency_find(
        &self,
        project: &ProjectKey,
        key: &str,
    ) -> StoreResult<Option<Committed>> {
        let row = sqlx::query(sql!("idempotency_get"))
            .bind(project.as_str())
            .bind(key)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(remembered).transpose()
    }

    async fn object_get(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
    ) -> StoreResult<Option<StoredObject>> {
        let row = sqlx::query(sql!("object_get"))
            .bind(project.as_str())
            .bind(kind.as_str())
            .bind(key.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(object).transpose()
    }

    async fn object_list(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        after_key: Option<&ObjectKey>,
        limit: u32,
    ) -> StoreResult<ObjectPage> {
        let limit = limit.min(PAGE_LIMIT_MAX);
        let rows = sqlx::query(sql!("object_list"))
            .bind(project.as_str())
            .bind(kind.as_str())
            .bind(after_key.map_or("", |key| key.as_str()))
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        let is_full = u32::try_from(rows.len()).is_ok_and(|len| len == limit);
        let last_key = rows.last().and_then(|row| row.text("key").ok());
        let next_after = last_key
            .filter(|_| is_full)
            .and_then(|key| ObjectKey::parse(kind, &key).ok());
        let (objects, quarantined) = decode_all(kind, &rows);
        Ok(ObjectPage {
            objects,
            quarantined,
            next_after,
        })
    }

    async fn object_history(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
        limit: u32,
    ) -> StoreResult<Vec<StoredObject>> {
        let rows = sqlx::query(sql!("object_history"))
            .bind(project.as_str())
            .bind(kind.as_str())
            .bind(key.as_str())
            .bind(limit.min(PAGE_LIMIT_MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(object).collect()
    }

    async fn config_snapshot(&self, project: &ProjectKey) -> StoreResult<Snapshot> {
        let mut txn = self.readers.begin().await?;
        snapshot(&mut txn, project).await
    }

    async fn config_version(&self, project: &ProjectKey) -> StoreResult<ConfigVersion> {
        let mut connection = self.readers.acquire().await?;
        projects::version(&mut connection, project).await
    }
}
