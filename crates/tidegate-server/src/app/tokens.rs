//! Tokens: minted, shown once, listed without their secret, disabled without deletion.

use tidegate_store::{By, MintedCredential, ProjectKey, TokenKind, TokenRecord};

use super::objects::refusal;
use super::{App, AppError, actor_of};
use crate::access::Principal;

/// A token to be made.
#[derive(Debug)]
pub struct NewToken {
    /// What it is for, in a person's words.
    pub name: String,
    /// Its row of the permission table.
    pub kind: TokenKind,
    /// Unix microseconds after which it is refused.
    pub expires_at_us: Option<i64>,
}

/// A new token with its secret, which nobody can read a second time.
#[derive(Debug)]
pub struct MintedToken {
    /// The whole credential.
    pub text: String,
    /// What is kept of it.
    pub record: TokenRecord,
}

/// Mints a token of `project`.
///
/// # Errors
/// A project that does not exist, or storage.
pub async fn create(
    app: &App,
    principal: &Principal,
    project: &str,
    wanted: NewToken,
) -> Result<MintedToken, AppError> {
    let project = project_key(project)?;
    let minted = MintedCredential::mint(wanted.kind.as_str())
        .map_err(|error| AppError::Internal(error.to_string()))?;
    let now_us = app.clock.now_us();
    let actor = actor_of(principal);
    let record = TokenRecord {
        selector: minted.selector,
        kind: wanted.kind,
        project,
        name: wanted.name,
        roles: Vec::new(),
        hash: minted.hash,
        created_at: now_us,
        created_by: actor.clone(),
        expires_at: wanted.expires_at_us,
        last_used_at: None,
        disabled_at: None,
    };
    async {
        app.store()?
            .token_put(record.clone(), By::new(actor, now_us))
            .await
    }
    .await
    .map_err(|error| refusal(&error, "the token"))?;
    // The caller may use the token at once: the book is reloaded before the answer, not after.
    crate::reconcile::load_credentials(app)
        .await
        .map_err(|error| refusal(&error, "tokens"))?;
    Ok(MintedToken {
        text: minted.text.expose().to_owned(),
        record,
    })
}

/// The tokens of `project`, newest first.
///
/// # Errors
/// Storage.
pub async fn list(app: &App, project: &str) -> Result<Vec<TokenRecord>, AppError> {
    let project = project_key(project)?;
    crate::token_uses::tell(app).await;
    async { app.store()?.token_list(&project).await }
        .await
        .map_err(|error| refusal(&error, "tokens"))
}

/// Disables a token of `project`; it is refused from the moment this returns.
///
/// # Errors
/// `NotFound` for a selector of another project too, which is none of the caller's business.
pub async fn disable(
    app: &App,
    principal: &Principal,
    project: &str,
    selector: &str,
) -> Result<(), AppError> {
    let known = list(app, project)
        .await?
        .iter()
        .any(|token| token.selector == selector);
    if !known {
        return Err(AppError::NotFound(format!("token {selector:?}")));
    }
    let by = By::new(actor_of(principal), app.clock.now_us());
    async { app.store()?.token_disable(selector, by).await }
        .await
        .map_err(|error| refusal(&error, "the token"))?;
    crate::reconcile::load_credentials(app)
        .await
        .map_err(|error| refusal(&error, "tokens"))
}

fn project_key(project: &str) -> Result<ProjectKey, AppError> {
    ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))
}
