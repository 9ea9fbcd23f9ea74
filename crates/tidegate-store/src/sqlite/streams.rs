//! Append-only streams and named values in SQLite.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore, outbox, projects,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    digest::Digest,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::json_text,
    store::{PAGE_LIMIT_MAX, StreamStore},
    stream::{Appended, DeliveryId, StreamAppend, StreamRecord, validate_named_value},
};

async fn append_in_txn(
    connection: &mut SqliteConnection,
    append: &StreamAppend,
) -> StoreResult<Appended> {
    if let Some(earlier) = delivered(connection, append).await? {
        return Ok(earlier);
    }
    if projects::get(connection, &append.project).await?.is_none() {
        return Err(projects::missing(&append.project));
    }
    let current = head(connection, &append.project, &append.stream).await?;
    if append
        .expected_head
        .is_some_and(|expected| expected != current)
    {
        return Err(StoreError::Stale { current });
    }
    let text = json_text(&append.payload);
    let appended = Appended {
        sequence: current + 1,
        digest: Digest::of(text.as_bytes()),
        is_duplicate: false,
    };
    sqlx::query(sql!("stream_insert"))
        .bind(append.project.as_str())
        .bind(&append.stream)
        .bind(signed(appended.sequence))
        .bind(text)
        .bind(appended.digest.0.to_vec())
        .bind(append.delivery.as_ref().map(|delivery| &delivery.source))
        .bind(append.delivery.as_ref().map(|delivery| &delivery.id))
        .bind(append.now_us)
        .execute(&mut *connection)
        .await?;
    outbox::send(connection, &append.project, &append.outbox, append.now_us).await?;
    Ok(appended)
}

async fn delivered(
    connection: &mut SqliteConnection,
    append: &StreamAppend,
) -> StoreResult<Option<Appended>> {
    let Some(delivery) = &append.delivery else {
        return Ok(None);
    };
    let row = sqlx::query(sql!("stream_delivered"))
        .bind(append.project.as_str())
        .bind(&delivery.source)
        .bind(&delivery.id)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Appended {
        sequence: row.number("sequence")?,
        digest: row.digest("digest")?,
        is_duplicate: true,
    }))
}

async fn head(
    connection: &mut SqliteConnection,
    project: &ProjectKey,
    stream: &str,
) -> StoreResult<u64> {
    sqlx::query(sql!("stream_head"))
        .bind(project.as_str())
        .bind(stream)
        .fetch_one(connection)
        .await?
        .number("head")
}

fn record(row: &SqliteRow) -> StoreResult<StreamRecord> {
    let sequence = row.number("sequence")?;
    let (text, digest) = (row.text("payload")?, row.digest("digest")?);
    let corrupt = |reason: String| StoreError::corrupt(format!("stream record {sequence}"), reason);
    if Digest::of(text.as_bytes()) != digest {
        return Err(corrupt("its text does not give its digest".to_owned()));
    }
    let delivery = match (row.maybe_text("source")?, row.maybe_text("delivery_id")?) {
        (Some(source), Some(id)) => Some(DeliveryId { source, id }),
        _ => None,
    };
    Ok(StreamRecord {
        sequence,
        payload: serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?,
        digest,
        delivery,
        appended_at: row.time("appended_at")?,
    })
}

#[async_trait]
impl StreamStore for SqliteStore {
    async fn log_append(&self, append: StreamAppend) -> StoreResult<Appended> {
        append.validate()?;
        let mut txn = self.begin().await?;
        let appended = append_in_txn(&mut txn, &append).await;
        self.finish(txn, appended).await
    }

    async fn log_read(
        &self,
        project: &ProjectKey,
        stream: &str,
        after: u64,
        limit: u32,
    ) -> StoreResult<Vec<StreamRecord>> {
        let rows = sqlx::query(sql!("stream_read"))
            .bind(project.as_str())
            .bind(stream)
            .bind(signed(after))
            .bind(limit.min(PAGE_LIMIT_MAX))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(record).collect()
    }

    async fn log_head(&self, project: &ProjectKey, stream: &str) -> StoreResult<u64> {
        let mut connection = self.readers.acquire().await?;
        head(&mut connection, project, stream).await
    }

    async fn kv_put(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        validate_named_value(key, value)?;
        let statement = sqlx::query(sql!("named_value_put"))
            .bind(key.to_owned())
            .bind(value.to_vec());
        self.run(statement).await?;
        Ok(())
    }

    async fn kv_get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let row = sqlx::query_scalar(sql!("named_value_get"))
            .bind(key)
            .fetch_optional(&self.readers);
        Ok(row.await?)
    }
}
