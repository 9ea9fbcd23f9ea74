//! Opening a file of any age: new, current, older, newer, foreign.
//!
//! A new file gets all migrations; an older one is first copied aside
//! (`<file>.before-v<N>`) and then migrated; a newer one, or one that is not ours, is refused
//! with the reason and **without having been touched**.
//! Each migration and the raise of `user_version` are one transaction, so that a kill leaves
//! the old schema or the new one and both can be opened again.

use std::path::Path;

use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::fault;
use crate::{
    durable,
    error::{StoreError, StoreResult},
};

/// "TdGt" in the file's header, so that `file` and we know whose it is.
pub(super) const APPLICATION_ID: i64 = 0x5464_4774;

/// A migration: SQL that takes the schema from the version before to its own.
pub(super) type Migration = &'static str;

/// All migrations; the version of the schema is their number.
pub(super) const MIGRATIONS: &[Migration] =
    &[include_str!("../../migrations/sqlite/0001_init.sql")];

/// Newest schema version that this program knows.
pub const SCHEMA_VERSION: i64 = 1;

const _: () = assert!(
    MIGRATIONS.len() == 1,
    "SCHEMA_VERSION is the number of migrations"
);

/// Looks at a file without changing it; `None` if there is nothing in it yet.
pub(super) async fn inspect(path: &Path) -> StoreResult<Option<i64>> {
    let is_empty = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    if is_empty {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let found = inspect_connection(&mut connection).await;
    connection.close().await?;
    found
}

async fn inspect_connection(connection: &mut SqliteConnection) -> StoreResult<Option<i64>> {
    let application = pragma(connection, "PRAGMA application_id").await?;
    let version = pragma(connection, "PRAGMA user_version").await?;
    let tables = pragma(connection, "SELECT COUNT(*) FROM sqlite_schema").await?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(StoreError::invalid("path", "the file is no Tidegate store"));
    }
    if version > SCHEMA_VERSION {
        return Err(StoreError::SchemaTooNew {
            found: version,
            supported: SCHEMA_VERSION,
        });
    }
    Ok(Some(version))
}

/// Brings an inspected file to the newest schema.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    found: Option<i64>,
) -> StoreResult<()> {
    if let Some(version) = found.filter(|&version| version < SCHEMA_VERSION) {
        copy_aside(connection, path, version).await?;
    }
    apply(connection, MIGRATIONS, found.unwrap_or(0)).await
}

/// Applies the migrations after version `from`, each in its own transaction.
async fn apply(
    connection: &mut SqliteConnection,
    migrations: &[Migration],
    from: i64,
) -> StoreResult<()> {
    for (version, migration) in (1..).zip(migrations).filter(|&(version, _)| version > from) {
        let mut txn = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*migration).execute(&mut *txn).await?;
        set_header(&mut txn, version).await?;
        txn.commit().await.map_err(fault::of_commit)?;
    }
    Ok(())
}

/// Both numbers live in the file's header and take part in the transaction.
/// `PRAGMA` takes no bound parameters; the texts are made of our own numbers only.
async fn set_header(connection: &mut SqliteConnection, version: i64) -> StoreResult<()> {
    let statements =
        format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(connection)
        .await?;
    Ok(())
}

async fn copy_aside(
    connection: &mut SqliteConnection,
    path: &Path,
    version: i64,
) -> StoreResult<()> {
    let aside = durable::with_suffix(path, &format!(".before-v{}", version + 1));
    if aside.exists() {
        return Ok(());
    }
    super::backup::copy_to(connection, &aside).await
}

/// The single number that a statement returns.
pub(super) async fn pragma(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> StoreResult<i64> {
    let row: SqliteRow = sqlx::query(statement).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}
