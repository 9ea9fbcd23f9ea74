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

/// How a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Undoing first what a killed process left half done; what is committed stays as it is.
    Recovering,
    /// Not writing at all, as for a backup on a read-only medium.
    Only,
}

/// Looks at a file without changing what it says; `None` if there is nothing in it yet.
pub(super) async fn inspect(path: &Path, look: Look) -> StoreResult<Option<i64>> {
    let is_empty = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    if is_empty {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(look == Look::Only);
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
    migrate_with(connection, path, found, MIGRATIONS).await
}

async fn migrate_with(
    connection: &mut SqliteConnection,
    path: &Path,
    found: Option<i64>,
    migrations: &[Migration],
) -> StoreResult<()> {
    let is_older = |version: i64| usize::try_from(version).is_ok_and(|n| n < migrations.len());
    if let Some(version) = found.filter(|&version| is_older(version)) {
        copy_aside(connection, path, version).await?;
    }
    apply(connection, migrations, found.unwrap_or(0)).await
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect(path: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    const FIRST: Migration = "CREATE TABLE a (n INTEGER) STRICT; INSERT INTO a VALUES (7)";
    const SECOND: Migration = "ALTER TABLE a ADD COLUMN m INTEGER";
    const BROKEN: Migration = "DELETE FROM a; CREATE TABLE b (n INTEGER); SELECT nothing";

    #[tokio::test]
    async fn an_older_file_is_copied_aside_before_it_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut connection = connect(&path).await;
        migrate_with(&mut connection, &path, None, &[FIRST])
            .await
            .unwrap();
        let aside = durable::with_suffix(&path, ".before-v2");
        assert!(!aside.exists());
        migrate_with(&mut connection, &path, Some(1), &[FIRST, SECOND])
            .await
            .unwrap();
        assert_eq!(
            pragma(&mut connection, "PRAGMA user_version")
                .await
                .unwrap(),
            2
        );
        assert_eq!(
            pragma(&mut connection, "SELECT SUM(n) FROM a")
                .await
                .unwrap(),
            7
        );
        let mut aside = connect(&aside).await;
        assert_eq!(pragma(&mut aside, "PRAGMA user_version").await.unwrap(), 1);
        assert_eq!(
            pragma(&mut aside, "PRAGMA application_id").await.unwrap(),
            APPLICATION_ID
        );
        assert_eq!(pragma(&mut aside, "SELECT SUM(n) FROM a").await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_failing_migration_leaves_the_version_before_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut connection = connect(&path).await;
        migrate_with(&mut connection, &path, None, &[FIRST, BROKEN])
            .await
            .unwrap_err();
        connection.close().await.unwrap();
        let mut connection = connect(&path).await;
        assert_eq!(
            pragma(&mut connection, "PRAGMA user_version")
                .await
                .unwrap(),
            1
        );
        assert_eq!(
            pragma(&mut connection, "SELECT SUM(n) FROM a")
                .await
                .unwrap(),
            7
        );
        let tables = pragma(&mut connection, "SELECT COUNT(*) FROM sqlite_schema")
            .await
            .unwrap();
        assert_eq!(tables, 1);
    }

    /// More than the page cache holds, so that much of it is in the log before the commit.
    const LARGE: Migration = "ALTER TABLE a ADD COLUMN m INTEGER; \
        WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 50000) \
        INSERT INTO a SELECT 0, n FROM k";

    /// The files as a kill leaves them: what was written so far, and nobody to finish it.
    fn crash_image(path: &Path, into: &Path) -> std::path::PathBuf {
        let image = into.join("store.db");
        for suffix in ["", "-wal"] {
            let from = durable::with_suffix(path, suffix);
            std::fs::copy(from, durable::with_suffix(&image, suffix)).unwrap();
        }
        image
    }

    #[tokio::test]
    async fn a_kill_in_the_middle_of_a_migration_leaves_a_file_that_old_and_new_open() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("store.db");
        let mut connection = connect(&path).await;
        sqlx::raw_sql("PRAGMA cache_size = 10; PRAGMA journal_mode = WAL")
            .execute(&mut connection)
            .await
            .unwrap();
        migrate_with(&mut connection, &path, None, &[FIRST])
            .await
            .unwrap();
        copy_aside(&mut connection, &path, 1).await.unwrap();
        let mut txn = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::raw_sql(LARGE).execute(&mut *txn).await.unwrap();
        set_header(&mut txn, 2).await.unwrap();
        let image = crash_image(&path, other.path());
        let log = std::fs::metadata(durable::with_suffix(&image, "-wal")).unwrap();
        assert!(log.len() > 100_000, "the kill comes in the middle of it");
        txn.rollback().await.unwrap();

        let mut old = connect(&image).await;
        assert_eq!(inspect_connection(&mut old).await, Ok(Some(1)));
        assert_eq!(pragma(&mut old, "SELECT SUM(n) FROM a").await, Ok(7));
        old.close().await.unwrap();
        let mut new = connect(&image).await;
        migrate_with(&mut new, &image, Some(1), &[FIRST, LARGE])
            .await
            .unwrap();
        assert_eq!(pragma(&mut new, "PRAGMA user_version").await, Ok(2));
        assert_eq!(pragma(&mut new, "SELECT COUNT(*) FROM a").await, Ok(50_001));
        let mut aside = connect(&durable::with_suffix(&path, ".before-v2")).await;
        assert_eq!(pragma(&mut aside, "SELECT SUM(n) FROM a").await, Ok(7));
    }
}
