//! The outbox in SQLite.

use async_trait::async_trait;
use serde_json::Value;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::json_text,
    outbox::{LAST_ERROR_MAX, OutboxMessage, OutboxRow},
    store::{OutboxStore, PAGE_LIMIT_MAX},
};

/// Puts messages in line.
pub(super) async fn send(
    connection: &mut SqliteConnection,
    project: &ProjectKey,
    messages: &[OutboxMessage],
    now_us: i64,
) -> StoreResult<()> {
    for message in messages {
        sqlx::query(sql!("outbox_insert"))
            .bind(project.as_str())
            .bind(&message.topic)
            .bind(json_text(&message.payload))
            .bind(now_us)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A message, whose payload is an error if it is damaged.
struct Decoded {
    row: OutboxRow,
    damage: Option<String>,
}

fn decoded(row: &SqliteRow) -> StoreResult<Decoded> {
    let payload = row
        .text("payload")
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    let (payload, damage) = match payload {
        Ok(payload) => (payload, None),
        Err(reason) => (
            Value::Null,
            Some(format!("the payload cannot be read: {reason}")),
        ),
    };
    let row = OutboxRow {
        id: row.number("id")?,
        project: row.project("project")?,
        topic: row.text("topic")?,
        payload,
        created_at: row.time("created_at")?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX),
        last_error: row.maybe_text("last_error")?,
    };
    Ok(Decoded { row, damage })
}

/// Takes what is due; a damaged message becomes a dead letter, or it would be taken and fail
/// for ever with its whole topic behind it.
async fn take_in_txn(
    connection: &mut SqliteConnection,
    limit: u32,
    (now_us, lease_until): (i64, i64),
) -> StoreResult<Vec<OutboxRow>> {
    let rows = sqlx::query(sql!("outbox_take"))
        .bind(limit.min(PAGE_LIMIT_MAX))
        .bind(now_us)
        .bind(lease_until)
        .fetch_all(&mut *connection)
        .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let Decoded { row, damage } = decoded(row)?;
        match damage {
            None => taken.push(row),
            Some(reason) => {
                let bury = sqlx::query(sql!("outbox_bury")).bind(signed(row.id));
                bury.bind(clipped(&reason))
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    taken.sort_by_key(|message| message.id);
    Ok(taken)
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
        let taken = take_in_txn(&mut txn, limit, (now_us, lease_until)).await;
        self.finish(txn, taken).await
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
        rows.iter().map(|row| Ok(decoded(row)?.row)).collect()
    }

    async fn outbox_redeliver(&self, id: u64, now_us: i64) -> StoreResult<()> {
        let statement = sqlx::query(sql!("outbox_redeliver"))
            .bind(signed(id))
            .bind(now_us);
        refuse_unknown(self.run(statement).await?, id)
    }
}
