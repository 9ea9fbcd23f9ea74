//! The outbox in SQLite.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteStore,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    error::{StoreError, StoreResult},
    key::ProjectKey,
    outbox::{LAST_ERROR_MAX, OutboxRow},
    store::{OutboxStore, PAGE_LIMIT_MAX},
};

fn message(row: &SqliteRow) -> StoreResult<OutboxRow> {
    let id = row.number("id")?;
    let payload = serde_json::from_str(&row.text("payload")?)
        .map_err(|error| StoreError::corrupt(format!("outbox message {id}"), error.to_string()))?;
    let attempts = u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX);
    Ok(OutboxRow {
        id,
        project: ProjectKey::parse(&row.text("project")?)?,
        topic: row.text("topic")?,
        payload,
        created_at: row.time("created_at")?,
        attempts,
        last_error: row.maybe_text("last_error")?,
    })
}

/// Cuts a message of another program to what is worth keeping.
fn clipped(error: &str) -> &str {
    &error[..error.floor_char_boundary(LAST_ERROR_MAX)]
}

fn refuse_unknown(affected: u64, id: u64) -> StoreResult<()> {
    match affected {
        0 => Err(StoreError::not_found(format!("outbox message {id}"))),
        _ => Ok(()),
    }
}

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn outbox_take(
        &self,
        limit: u32,
        now_us: i64,
        lease_until: i64,
    ) -> StoreResult<Vec<OutboxRow>> {
        let mut txn = self.begin().await?;
        let taken = sqlx::query(sql!("outbox_take"))
            .bind(limit.min(PAGE_LIMIT_MAX))
            .bind(now_us)
            .bind(lease_until)
            .fetch_all(&mut *txn)
            .await;
        let rows = self.finish(txn, taken.map_err(StoreError::from)).await?;
        let mut messages = rows.iter().map(message).collect::<StoreResult<Vec<_>>>()?;
        messages.sort_by_key(|message| message.id);
        Ok(messages)
    }

    async fn outbox_done(&self, id: u64) -> StoreResult<()> {
        let done = self
            .run(sqlx::query(sql!("outbox_done")).bind(signed(id)))
            .await?;
        refuse_unknown(done, id)
    }

    async fn outbox_fail(&self, id: u64, error: &str, next_attempt_at: i64) -> StoreResult<()> {
        let statement = sqlx::query(sql!("outbox_fail"))
            .bind(signed(id))
            .bind(clipped(error).to_owned())
            .bind(next_attempt_at);
        refuse_unknown(self.run(statement).await?, id)
    }

    async fn outbox_dead(&self, id: u64, error: &str) -> StoreResult<()> {
        let statement = sqlx::query(sql!("outbox_bury"))
            .bind(signed(id))
            .bind(clipped(error).to_owned());
        refuse_unknown(self.run(statement).await?, id)
    }

    async fn outbox_dead_list(
        &self,
        project: &ProjectKey,
        after_id: u64,
        limit: u32,
    ) -> StoreResult<Vec<OutboxRow>> {
        let rows = sqlx::query(sql!("outbox_dead_list"))
            .bind(project.as_str())
            .bind(signed(after_id))
            .bind(limit.min(PAGE_LIMIT_MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(message).collect()
    }

    async fn outbox_redeliver(&self, id: u64, now_us: i64) -> StoreResult<()> {
        let statement = sqlx::query(sql!("outbox_redeliver"))
            .bind(signed(id))
            .bind(now_us);
        refuse_unknown(self.run(statement).await?, id)
    }
}
