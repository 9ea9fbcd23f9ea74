//! Copying a live database to a file, so that the copy is whole or not there.
//!
//! SQLite writes a consistent copy while reads and writes go on; it goes to a temporary name,
//! is synced, gets its name, and its directory is synced.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{audit, io_fault};
use crate::{
    durable,
    error::{StoreError, StoreResult},
    store::BackupReport,
};

/// Copies the database of `connection` to `to`.
pub(super) async fn copy_to(connection: &mut SqliteConnection, to: &Path) -> StoreResult<()> {
    let partial = durable::with_suffix(to, ".partial");
    let name = partial
        .to_str()
        .ok_or_else(|| StoreError::invalid("path", "it is not UTF-8"))?;
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(|error| io_fault(&error))?;
    }
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(connection)
        .await?;
    durable::replace(&partial, to).map_err(|error| io_fault(&error))
}

/// Copies the database file `from` to `to` and reads the copy back.
pub(super) async fn back_up(from: &Path, to: &Path) -> StoreResult<BackupReport> {
    if to.exists() {
        return Err(StoreError::invalid("path", "there is a file already"));
    }
    let options = SqliteConnectOptions::new().filename(from);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let copied = copy_to(&mut connection, to).await;
    connection.close().await?;
    copied?;
    report(to).await
}

async fn report(path: &Path) -> StoreResult<BackupReport> {
    let options = SqliteConnectOptions::new().filename(path).immutable(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let chain = audit::chain_head(&mut connection).await?;
    connection.close().await?;
    let bytes = std::fs::metadata(path)
        .map_err(|error| io_fault(&error))?
        .len();
    Ok(BackupReport {
        bytes,
        epoch: chain.epoch,
        audit_head: chain.head,
    })
}
