//! Verifying the audit chain of a database file, with no server running.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{audit, migrate, row::signed, sql};
use crate::{
    audit::{ChainVerifier, Checkpoint, PublicKey, VerifyReport},
    error::{StoreError, StoreResult},
    store::PAGE_LIMIT_MAX,
};

/// Verifies the chain of the database file at `path` against the checkpoints in it and those
/// that were published elsewhere, trusting only `keys`.
pub async fn verify_file(
    path: &Path,
    keys: &[PublicKey],
    published: Vec<Checkpoint>,
) -> StoreResult<VerifyReport> {
    let mut connection = open(path).await?;
    let report = verify(&mut connection, Some((keys, published))).await;
    connection.close().await?;
    report
}

/// Verifies the links of the chain alone, where no key is at hand.
pub(super) async fn verify_chain_only(path: &Path) -> StoreResult<VerifyReport> {
    let mut connection = open(path).await?;
    let report = verify(&mut connection, None).await;
    connection.close().await?;
    report
}

async fn open(path: &Path) -> StoreResult<SqliteConnection> {
    if migrate::inspect(path).await?.is_none() {
        return Err(StoreError::not_found("the store's file"));
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    Ok(SqliteConnection::connect_with(&options).await?)
}

async fn verify(
    connection: &mut SqliteConnection,
    trusted: Option<(&[PublicKey], Vec<Checkpoint>)>,
) -> StoreResult<VerifyReport> {
    let mut unreadable = Vec::new();
    let mut verifier = match trusted {
        None => ChainVerifier::new(&[], []),
        Some((keys, mut checkpoints)) => {
            checkpoints.extend(own_checkpoints(connection, &mut unreadable).await?);
            ChainVerifier::new(keys, checkpoints)
        }
    };
    for (place, reason) in unreadable {
        verifier.unreadable(place, reason);
    }
    feed(connection, &mut verifier).await?;
    Ok(verifier.finish())
}

async fn feed(connection: &mut SqliteConnection, verifier: &mut ChainVerifier) -> StoreResult<()> {
    let mut after = i64::MIN;
    loop {
        let rows = sqlx::query(sql!("audit_list"))
            .bind(after)
            .bind(PAGE_LIMIT_MAX)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        for row in &rows {
            match audit::entry(row) {
                Ok(entry) => verifier.entry(&entry),
                Err(error) => verifier.unreadable("an audit entry", error.to_string()),
            }
        }
        after = sqlx::Row::try_get(last, "sequence")?;
    }
}

async fn own_checkpoints(
    connection: &mut SqliteConnection,
    unreadable: &mut Vec<(&'static str, String)>,
) -> StoreResult<Vec<Checkpoint>> {
    let rows = sqlx::query(sql!("checkpoint_list"))
        .bind(i64::MIN)
        .bind(signed(u64::MAX))
        .fetch_all(connection)
        .await?;
    let mut checkpoints = Vec::with_capacity(rows.len());
    for row in &rows {
        match audit::checkpoint(row) {
            Ok(checkpoint) => checkpoints.push(checkpoint),
            Err(error) => unreadable.push(("a checkpoint", error.to_string())),
        }
    }
    Ok(checkpoints)
}
