//! Tokens in SQLite.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, audit, projects, row::Columns as _, sql};
use crate::{
    access::{By, Role, TokenRecord},
    audit::{AuditDraft, AuditObject},
    credential::CredentialHash,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    store::TokenStore,
};

fn token(row: &SqliteRow) -> StoreResult<TokenRecord> {
    let words = row.text("roles")?;
    let roles = words
        .split(',')
        .filter(|word| !word.is_empty())
        .map(str::parse::<Role>);
    let roles = roles
        .collect::<Result<_, _>>()
        .map_err(|_| StoreError::corrupt("column roles", words.clone()))?;
    Ok(TokenRecord {
        selector: row.text("selector")?,
        kind: row.word("kind")?,
        project: ProjectKey::parse(&row.text("project")?)?,
        name: row.text("name")?,
        roles,
        hash: CredentialHash::from_bytes(row.fixed("hash")?),
        created_at: row.time("created_at")?,
        created_by: row.actor("created_by_kind", "created_by_id")?,
        expires_at: row.maybe_time("expires_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
        disabled_at: row.maybe_time("disabled_at")?,
    })
}

async fn put_in_txn(
    connection: &mut SqliteConnection,
    token: &TokenRecord,
    by: &By,
) -> StoreResult<()> {
    if projects::get(connection, &token.project).await?.is_none() {
        return Err(projects::missing(&token.project));
    }
    let roles: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
    let inserted = sqlx::query(sql!("token_insert"))
        .bind(&token.selector)
        .bind(token.kind.as_str())
        .bind(token.project.as_str())
        .bind(&token.name)
        .bind(roles.join(","))
        .bind(token.hash.as_bytes().to_vec())
        .bind(token.created_at)
        .bind(token.created_by.kind.as_str())
        .bind(&token.created_by.id)
        .bind(token.expires_at)
        .bind(token.last_used_at)
        .bind(token.disabled_at)
        .execute(&mut *connection)
        .await?;
    if inserted.rows_affected() == 0 {
        return Err(StoreError::Exists {
            what: format!("token {}", token.selector),
            current: 1,
        });
    }
    audit_token(
        connection,
        "token.create",
        (&token.project, &token.selector),
        by,
    )
    .await
}

async fn disable_in_txn(
    connection: &mut SqliteConnection,
    selector: &str,
    by: &By,
) -> StoreResult<()> {
    let disabled = sqlx::query(sql!("token_disable"))
        .bind(selector)
        .bind(by.now_us)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = disabled else {
        return match get(connection, selector).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::not_found(format!("token {selector}"))),
        };
    };
    let project = ProjectKey::parse(&row.text("project")?)?;
    audit_token(connection, "token.disable", (&project, selector), by).await
}

async fn audit_token(
    connection: &mut SqliteConnection,
    action: &str,
    (project, selector): (&ProjectKey, &str),
    by: &By,
) -> StoreResult<()> {
    let mut draft = AuditDraft::new(action, Some(AuditObject::new("token", selector)), by);
    draft.project = Some(project.clone());
    audit::append_in_txn(connection, draft).await?;
    Ok(())
}

async fn get(
    connection: &mut SqliteConnection,
    selector: &str,
) -> StoreResult<Option<TokenRecord>> {
    let row = sqlx::query(sql!("token_get"))
        .bind(selector)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(token).transpose()
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn token_put(&self, token: TokenRecord, by: By) -> StoreResult<()> {
        token.validate()?;
        by.validate()?;
        let mut txn = self.begin().await?;
        let put = put_in_txn(&mut txn, &token, &by).await;
        self.finish(txn, put).await
    }

    async fn token_find_by_selector(&self, selector: &str) -> StoreResult<Option<TokenRecord>> {
        let mut connection = self.readers.acquire().await?;
        get(&mut connection, selector).await
    }

    async fn token_list(&self, project: &ProjectKey) -> StoreResult<Vec<TokenRecord>> {
        let rows = sqlx::query(sql!("token_list"))
            .bind(project.as_str())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(token).collect()
    }

    async fn token_disable(&self, selector: &str, by: By) -> StoreResult<()> {
        by.validate()?;
        let mut txn = self.begin().await?;
        let disabled = disable_in_txn(&mut txn, selector, &by).await;
        self.finish(txn, disabled).await
    }

    async fn token_touch(&self, selector: &str, used_at: i64) -> StoreResult<()> {
        self.run(
            sqlx::query(sql!("token_touch"))
                .bind(selector.to_owned())
                .bind(used_at),
        )
        .await?;
        Ok(())
    }
}
