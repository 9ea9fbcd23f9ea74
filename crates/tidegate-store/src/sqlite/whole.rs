//! The store as a whole: backup, health, pruning.

use std::path::Path;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{SqliteStore, audit, backup, migrate, sql};
use crate::{
    durable,
    error::StoreResult,
    store::{BackupReport, Health, Pruned, Store},
};

async fn prune_in_txn(connection: &mut SqliteConnection, before_us: i64) -> StoreResult<Pruned> {
    let mut removed = [0; 3];
    let statements = [
        sql!("session_prune"),
        sql!("link_prune"),
        sql!("idempotency_prune"),
    ];
    for (count, statement) in removed.iter_mut().zip(statements) {
        let done = sqlx::query(statement)
            .bind(before_us)
            .execute(&mut *connection)
            .await?;
        *count = done.rows_affected();
    }
    let [sessions, links, idempotency_keys] = removed;
    Ok(Pruned {
        sessions,
        links,
        idempotency_keys,
    })
}

fn bytes_on_disk(path: &Path) -> u64 {
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    len(path) + len(&durable::with_suffix(path, "-wal"))
}

#[async_trait]
impl Store for SqliteStore {
    async fn backup_to(&self, path: &Path) -> StoreResult<BackupReport> {
        backup::back_up(&self.path, path).await
    }

    async fn health(&self) -> StoreResult<Health> {
        let mut txn = self.readers.begin().await?;
        let chain = audit::chain_head(&mut txn).await?;
        let reason = self.refusal().map(|refusal| refusal.to_string());
        Ok(Health {
            is_writable: reason.is_none(),
            reason,
            epoch: chain.epoch,
            schema_version: migrate::pragma(&mut txn, "PRAGMA user_version").await?,
            bytes: bytes_on_disk(&self.path),
            audit_head: chain.head,
        })
    }

    async fn prune(&self, before_us: i64) -> StoreResult<Pruned> {
        let mut txn = self.begin().await?;
        let pruned = prune_in_txn(&mut txn, before_us).await;
        self.finish(txn, pruned).await
    }
}
