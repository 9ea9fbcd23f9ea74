//! Projects in SQLite.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    audit,
    row::{Columns as _, signed},
    sql,
};
use crate::{
    audit::{AuditDraft, AuditObject},
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::{Committed, ConfigVersion, Expected},
    project::{Project, ProjectPut},
};

/// A project from its row.
pub(super) fn project(row: &SqliteRow) -> StoreResult<Project> {
    Ok(Project {
        key: ProjectKey::parse(&row.text("key")?)?,
        name: row.text("name")?,
        revision: row.number("revision")?,
        config_version: row.number("config_version")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// Reads a project.
pub(super) async fn get(
    connection: &mut SqliteConnection,
    key: &ProjectKey,
) -> StoreResult<Option<Project>> {
    let row = sqlx::query(sql!("project_get"))
        .bind(key.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(project).transpose()
}

/// Raises the configuration version of a project.
pub(super) async fn bump_in_txn(
    connection: &mut SqliteConnection,
    key: &ProjectKey,
) -> StoreResult<u64> {
    let row = sqlx::query(sql!("project_bump"))
        .bind(key.as_str())
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| missing(key))?;
    row.number("config_version")
}

/// Reads the version of a project's configuration.
pub(super) async fn version(
    connection: &mut SqliteConnection,
    key: &ProjectKey,
) -> StoreResult<ConfigVersion> {
    let row = sqlx::query(sql!("project_version"))
        .bind(key.as_str())
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| missing(key))?;
    Ok(ConfigVersion {
        epoch: row.number("epoch")?,
        version: row.number("config_version")?,
    })
}

/// Makes or renames a project.
pub(super) async fn put_in_txn(
    connection: &mut SqliteConnection,
    put: ProjectPut,
) -> StoreResult<Committed> {
    let current = get(connection, &put.key).await?;
    let (revision, verb) = match (&current, put.expected) {
        (None, Expected::Absent) => (1, "project.create"),
        (None, _) => return Err(missing(&put.key)),
        (Some(found), Expected::Absent) => {
            let what = format!("project {}", put.key);
            return Err(StoreError::Exists {
                what,
                current: found.revision,
            });
        }
        (Some(found), Expected::Revision(expected)) if expected != found.revision => {
            return Err(StoreError::Stale {
                current: found.revision,
            });
        }
        (Some(found), _) => (found.revision + 1, "project.rename"),
    };
    write(connection, &put, revision).await?;
    let object = AuditObject::new("project", put.key.as_str());
    let mut draft = AuditDraft::new(verb, Some(object), &put.by);
    draft.project = Some(put.key);
    draft.revision = Some(revision);
    let audited = audit::append_in_txn(connection, draft).await?;
    Ok(Committed {
        revision,
        config_version: current.map_or(0, |found| found.config_version),
        epoch: audited.epoch,
        audit_sequence: audited.sequence,
    })
}

async fn write(
    connection: &mut SqliteConnection,
    put: &ProjectPut,
    revision: u64,
) -> StoreResult<()> {
    let (key, name, now) = (put.key.as_str(), &put.name, put.by.now_us);
    let statement = if revision == 1 {
        sqlx::query(sql!("project_insert"))
            .bind(key)
            .bind(name)
            .bind(now)
    } else {
        sqlx::query(sql!("project_rename"))
            .bind(key)
            .bind(name)
            .bind(signed(revision))
            .bind(now)
    };
    statement.execute(connection).await?;
    Ok(())
}

/// There is no such project.
pub(super) fn missing(key: &ProjectKey) -> StoreError {
    StoreError::not_found(format!("project {key}"))
}
