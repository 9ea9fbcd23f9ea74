//! People, their sign-ins and one-time links in SQLite.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, Statement, audit, row::Columns as _, sql};
use crate::{
    access::{
        By, NewUser, OneTimeLink, RoleGrant, Scope, SessionRecord, UserChange, UserRecord,
        validate_selector,
    },
    audit::{AuditDraft, AuditObject},
    credential::CredentialHash,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    secret::Secret,
    store::{PAGE_LIMIT_MAX, PeopleStore},
};

async fn user(connection: &mut SqliteConnection, row: &SqliteRow) -> StoreResult<UserRecord> {
    let id = row.text("id")?;
    let grants = sqlx::query(sql!("grant_list"))
        .bind(&id)
        .fetch_all(connection)
        .await?;
    Ok(UserRecord {
        email: row.maybe_text("email")?,
        name: row.maybe_text("name")?,
        password: row.maybe_text("password")?.map(Secret::new),
        grants: grants.iter().map(grant).collect::<StoreResult<_>>()?,
        created_at: row.time("created_at")?,
        disabled_at: row.maybe_time("disabled_at")?,
        id,
    })
}

fn grant(row: &SqliteRow) -> StoreResult<RoleGrant> {
    let project = || -> StoreResult<_> { Ok(ProjectKey::parse(&row.text("project")?)?) };
    let scope = match row.text("scope")?.as_str() {
        "organisation" => Scope::Organisation,
        "project" => Scope::Project(project()?),
        "tag" => Scope::Tag(project()?, row.text("tag")?),
        other => return Err(StoreError::corrupt("column scope", other)),
    };
    Ok(RoleGrant {
        role: row.word("role")?,
        scope,
    })
}

async fn put_grants(
    connection: &mut SqliteConnection,
    id: &str,
    grants: &[RoleGrant],
) -> StoreResult<()> {
    sqlx::query(sql!("grant_clear"))
        .bind(id)
        .execute(&mut *connection)
        .await?;
    for grant in grants {
        let (scope, project, tag) = match &grant.scope {
            Scope::Organisation => ("organisation", "", ""),
            Scope::Project(project) => ("project", project.as_str(), ""),
            Scope::Tag(project, tag) => ("tag", project.as_str(), tag.as_str()),
        };
        sqlx::query(sql!("grant_insert"))
            .bind(id)
            .bind(grant.role.as_str())
            .bind(scope)
            .bind(project)
            .bind(tag)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn put_in_txn(connection: &mut SqliteConnection, user: &NewUser, by: &By) -> StoreResult<()> {
    let inserted = sqlx::query(sql!("person_insert"))
        .bind(&user.id)
        .bind(user.email.to_lowercase())
        .bind(&user.name)
        .bind(by.now_us)
        .execute(&mut *connection)
        .await?;
    if inserted.rows_affected() == 0 {
        let what = "a user with this id or address".to_owned();
        return Err(StoreError::Exists { what, current: 1 });
    }
    put_grants(connection, &user.id, &user.grants).await?;
    audit_user(connection, "user.create", &user.id, by).await
}

async fn change_in_txn(
    connection: &mut SqliteConnection,
    id: &str,
    change: &UserChange,
    by: &By,
) -> StoreResult<()> {
    let found = sqlx::query(sql!("person_get"))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    if found.is_none() {
        return Err(missing(id));
    }
    match change {
        UserChange::Grants(grants) => put_grants(connection, id, grants).await?,
        UserChange::Erase => erase(connection, id, by).await?,
        UserChange::Name(name) => {
            run(
                connection,
                sqlx::query(sql!("person_rename")).bind(id).bind(name),
            )
            .await?;
        }
        UserChange::Password(hash) => {
            let statement = sqlx::query(sql!("person_password"))
                .bind(id)
                .bind(hash.expose());
            run(connection, statement).await?;
        }
        UserChange::Disabled(true) => {
            run(
                connection,
                sqlx::query(sql!("person_disable")).bind(id).bind(by.now_us),
            )
            .await?;
        }
        UserChange::Disabled(false) => {
            run(connection, sqlx::query(sql!("person_enable")).bind(id)).await?;
        }
    }
    if change.ends_sessions() {
        run(connection, sqlx::query(sql!("session_end_all")).bind(id)).await?;
        run(connection, sqlx::query(sql!("link_delete_all")).bind(id)).await?;
    }
    audit_user(connection, change.action(), id, by).await
}

async fn erase(connection: &mut SqliteConnection, id: &str, by: &By) -> StoreResult<()> {
    run(
        connection,
        sqlx::query(sql!("person_erase")).bind(id).bind(by.now_us),
    )
    .await?;
    run(connection, sqlx::query(sql!("grant_clear")).bind(id)).await?;
    Ok(())
}

async fn run(connection: &mut SqliteConnection, statement: Statement<'_>) -> StoreResult<u64> {
    Ok(statement.execute(connection).await?.rows_affected())
}

async fn audit_user(
    connection: &mut SqliteConnection,
    action: &str,
    id: &str,
    by: &By,
) -> StoreResult<()> {
    let draft = AuditDraft::new(action, Some(AuditObject::new("user", id)), by);
    audit::append_in_txn(connection, draft).await?;
    Ok(())
}

fn missing(id: &str) -> StoreError {
    StoreError::not_found(format!("user {id}"))
}

fn session(row: &SqliteRow) -> StoreResult<SessionRecord> {
    Ok(SessionRecord {
        selector: row.text("selector")?,
        hash: CredentialHash::from_bytes(row.fixed("hash")?),
        user_id: row.text("person_id")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        last_seen_at: row.time("last_seen_at")?,
    })
}

async fn put_session(
    connection: &mut SqliteConnection,
    session: &SessionRecord,
) -> StoreResult<()> {
    refuse_stranger(connection, &session.user_id).await?;
    let statement = sqlx::query(sql!("session_insert"))
        .bind(&session.selector)
        .bind(session.hash.as_bytes().to_vec())
        .bind(&session.user_id)
        .bind(session.created_at)
        .bind(session.expires_at)
        .bind(session.last_seen_at);
    refuse_reuse(run(connection, statement).await?, "a sign-in")
}

fn link(row: &SqliteRow) -> StoreResult<OneTimeLink> {
    Ok(OneTimeLink {
        selector: row.text("selector")?,
        hash: CredentialHash::from_bytes(row.fixed("hash")?),
        user_id: row.text("person_id")?,
        purpose: row.word("purpose")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

async fn put_link(connection: &mut SqliteConnection, link: &OneTimeLink) -> StoreResult<()> {
    refuse_stranger(connection, &link.user_id).await?;
    let statement = sqlx::query(sql!("link_insert"))
        .bind(&link.selector)
        .bind(link.hash.as_bytes().to_vec())
        .bind(&link.user_id)
        .bind(link.purpose.as_str())
        .bind(link.created_at)
        .bind(link.expires_at);
    refuse_reuse(run(connection, statement).await?, "a one-time link")
}

async fn take_link(
    connection: &mut SqliteConnection,
    selector: &str,
    verifier: &Secret,
    now_us: i64,
) -> StoreResult<Option<OneTimeLink>> {
    let row = sqlx::query(sql!("link_get"))
        .bind(selector)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let link = link(&row)?;
    if now_us >= link.expires_at || !link.hash.matches(verifier) {
        return Ok(None);
    }
    run(connection, sqlx::query(sql!("link_delete")).bind(selector)).await?;
    Ok(Some(link))
}

async fn refuse_stranger(connection: &mut SqliteConnection, id: &str) -> StoreResult<()> {
    let found = sqlx::query(sql!("person_get"))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    found.map(drop).ok_or_else(|| missing(id))
}

fn refuse_reuse(inserted: u64, what: &str) -> StoreResult<()> {
    if inserted == 0 {
        let what = format!("{what} with this selector");
        return Err(StoreError::Exists { what, current: 1 });
    }
    Ok(())
}

impl SqliteStore {
    async fn one_user(&self, statement: Statement<'_>) -> StoreResult<Option<UserRecord>> {
        let mut txn = self.readers.begin().await?;
        match statement.fetch_optional(&mut *txn).await? {
            Some(row) => user(&mut txn, &row).await.map(Some),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl PeopleStore for SqliteStore {
    async fn user_put(&self, user: NewUser, by: By) -> StoreResult<()> {
        user.validate()?;
        by.validate()?;
        let mut txn = self.begin().await?;
        let put = put_in_txn(&mut txn, &user, &by).await;
        self.finish(txn, put).await
    }

    async fn user_get(&self, id: &str) -> StoreResult<Option<UserRecord>> {
        self.one_user(sqlx::query(sql!("person_get")).bind(id.to_owned()))
            .await
    }

    async fn user_find_by_email(&self, email: &str) -> StoreResult<Option<UserRecord>> {
        self.one_user(sqlx::query(sql!("person_find")).bind(email.to_lowercase()))
            .await
    }

    async fn user_list(&self, after_id: Option<&str>, limit: u32) -> StoreResult<Vec<UserRecord>> {
        let mut txn = self.readers.begin().await?;
        let rows = sqlx::query(sql!("person_list"))
            .bind(after_id.unwrap_or(""))
            .bind(limit.min(PAGE_LIMIT_MAX))
            .fetch_all(&mut *txn)
            .await?;
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            users.push(user(&mut txn, row).await?);
        }
        Ok(users)
    }

    async fn user_change(&self, id: &str, change: UserChange, by: By) -> StoreResult<()> {
        change.validate()?;
        by.validate()?;
        let mut txn = self.begin().await?;
        let changed = change_in_txn(&mut txn, id, &change, &by).await;
        self.finish(txn, changed).await
    }

    async fn session_put(&self, session: SessionRecord) -> StoreResult<()> {
        validate_selector(&session.selector)?;
        let mut txn = self.begin().await?;
        let put = put_session(&mut txn, &session).await;
        self.finish(txn, put).await
    }

    async fn session_find_by_selector(&self, selector: &str) -> StoreResult<Option<SessionRecord>> {
        let row = sqlx::query(sql!("session_get"))
            .bind(selector)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(session).transpose()
    }

    async fn session_touch(&self, selector: &str, seen_at: i64) -> StoreResult<()> {
        self.run(
            sqlx::query(sql!("session_touch"))
                .bind(selector.to_owned())
                .bind(seen_at),
        )
        .await?;
        Ok(())
    }

    async fn session_end(&self, selector: &str) -> StoreResult<()> {
        self.run(sqlx::query(sql!("session_end")).bind(selector.to_owned()))
            .await?;
        Ok(())
    }

    async fn session_end_all(&self, user_id: &str) -> StoreResult<u64> {
        self.run(sqlx::query(sql!("session_end_all")).bind(user_id.to_owned()))
            .await
    }

    async fn one_time_link_put(&self, link: OneTimeLink) -> StoreResult<()> {
        validate_selector(&link.selector)?;
        let mut txn = self.begin().await?;
        let put = put_link(&mut txn, &link).await;
        self.finish(txn, put).await
    }

    async fn one_time_link_take(
        &self,
        selector: &str,
        verifier: &Secret,
        now_us: i64,
    ) -> StoreResult<Option<OneTimeLink>> {
        let mut txn = self.begin().await?;
        let taken = take_link(&mut txn, selector, verifier, now_us).await;
        self.finish(txn, taken).await
    }
}
