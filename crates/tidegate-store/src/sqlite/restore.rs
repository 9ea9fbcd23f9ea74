//! Putting a backup in the place of a store.
//!
//! The backup is checked first: its pages, its schema, its audit chain.
//! Then a copy of it gets an epoch above its own and above that of the store it replaces, and
//! an audit entry that says so; only the finished copy takes the store's name.
//! Clients compare (epoch, version) and so accept the restored state although its version
//! number is older; checkpoints signed after the backup are known to be superseded.
//! The replaced file is kept as `<file>.before-restore`.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    SqliteOptions, audit, backup, fault, io_fault, lock, migrate, row::signed, sql, verify,
};
use crate::{
    access::By,
    audit::{AuditDraft, AuditHead, AuditObject},
    durable,
    error::{StoreError, StoreResult},
};

/// A finished restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// Epoch of the store from now on.
    pub epoch: u64,
    /// End of the audit chain, which is the entry about the restore.
    pub audit_head: AuditHead,
}

/// Puts the backup `from` in the place of the store `to`, which no process may have open.
pub async fn restore(from: &Path, to: &Path, by: By) -> StoreResult<RestoreReport> {
    by.validate()?;
    let _lock = lock(to)?;
    let Some(version) = migrate::inspect(from).await? else {
        return Err(StoreError::not_found("the backup"));
    };
    check(from).await?;
    let replaced_epoch = epoch_of(to).await?;
    let partial = durable::with_suffix(to, ".restoring");
    remove_with_log(&partial)?;
    copy(from, &partial).await?;
    let options = SqliteOptions::new(&partial);
    let mut connection = SqliteConnection::connect_with(&options.connect()).await?;
    let marked = async {
        migrate::migrate(&mut connection, &partial, Some(version)).await?;
        mark(&mut connection, replaced_epoch, &by).await
    };
    let report = marked.await;
    connection.close().await?;
    let report = report?;
    take_place(&partial, to)?;
    Ok(report)
}

/// Refuses a backup that is damaged in any way that can be seen.
async fn check(path: &Path) -> StoreResult<()> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    if said != "ok" {
        return Err(StoreError::corrupt("the backup", said));
    }
    let chain = verify::verify_chain_only(path).await?;
    match chain.findings.first() {
        Some(finding) => Err(StoreError::corrupt(
            "the backup's audit chain",
            finding.to_string(),
        )),
        None => Ok(()),
    }
}

/// Epoch of the store to be replaced; 0 if there is none or it can no longer be read, which is
/// a good reason to restore.
async fn epoch_of(path: &Path) -> StoreResult<u64> {
    match migrate::inspect(path).await {
        Ok(Some(_)) => {}
        Ok(None) | Err(StoreError::Corrupt { .. }) => return Ok(0),
        Err(other) => return Err(other),
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let chain = audit::chain_head(&mut connection).await;
    connection.close().await?;
    match chain {
        Ok(chain) => Ok(chain.epoch),
        Err(StoreError::Corrupt { .. }) => Ok(0),
        Err(other) => Err(other),
    }
}

async fn copy(from: &Path, to: &Path) -> StoreResult<()> {
    let options = SqliteConnectOptions::new().filename(from).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let copied = backup::copy_to(&mut connection, to).await;
    connection.close().await?;
    copied
}

async fn mark(
    connection: &mut SqliteConnection,
    replaced_epoch: u64,
    by: &By,
) -> StoreResult<RestoreReport> {
    let mut txn = connection.begin_with("BEGIN IMMEDIATE").await?;
    let own = audit::chain_head(&mut txn).await?;
    let epoch = own.epoch.max(replaced_epoch) + 1;
    sqlx::query(sql!("epoch_set"))
        .bind(signed(epoch))
        .execute(&mut *txn)
        .await?;
    let object = AuditObject::new("store", "state");
    let draft = AuditDraft::new("store.restore", Some(object), by);
    let audit_head = audit::append_in_txn(&mut txn, draft).await?;
    txn.commit().await.map_err(fault::of_commit)?;
    Ok(RestoreReport { epoch, audit_head })
}

/// Moves the replaced store aside and the finished one to its place.
///
/// The old log goes with the old file: beside the new file it would be replayed into it.
fn take_place(finished: &Path, to: &Path) -> StoreResult<()> {
    let aside = durable::with_suffix(to, ".before-restore");
    let moved = || -> std::io::Result<()> {
        for suffix in ["-wal", "-shm", ""] {
            let old = durable::with_suffix(to, suffix);
            if old.exists() {
                std::fs::rename(&old, durable::with_suffix(&aside, suffix))?;
            }
        }
        durable::replace(finished, to)
    };
    moved().map_err(|error| io_fault(&error))
}

fn remove_with_log(path: &Path) -> StoreResult<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = durable::with_suffix(path, suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_fault(&error));
            }
            _ => {}
        }
    }
    Ok(())
}
