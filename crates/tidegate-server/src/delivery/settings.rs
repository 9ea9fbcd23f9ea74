//! What people set for delivery: secrets of webhooks and targets of services, each change audited.
//!
//! The audit entry is written first. If what follows fails, the trail tells of an attempt; the other way round a
//! change could be in force that no trail tells of.

use tidegate_delivery::Moment;
use tidegate_delivery::target::ServiceTargets;
use tidegate_delivery::webhook::WebhookSource;
use tidegate_store::{AuditDraft, AuditObject, By, ProjectKey};

use super::secrets::{Minted, SecretError, Wanted};
use crate::access::Principal;
use crate::app::objects::refusal;
use crate::app::{App, AppError, actor_of};

/// Makes a secret for the webhooks of a source.
///
/// # Errors
/// Two are live already; a given secret of a wrong length; storage or the disk.
pub async fn create_secret(
    app: &App,
    principal: &Principal,
    project: &str,
    source: WebhookSource,
    wanted: Wanted,
) -> Result<Minted, AppError> {
    audit(
        app,
        principal,
        project,
        "webhook-secret.create",
        source.name(),
    )
    .await?;
    let now = moment(app.clock.now_us());
    app.delivery
        .secrets()
        .mint(project, source, wanted, now)
        .map_err(|error| refused(&error))
}

/// Ends a secret at once.
///
/// # Errors
/// There is none of that name; storage or the disk.
pub async fn revoke_secret(
    app: &App,
    principal: &Principal,
    project: &str,
    id: &str,
) -> Result<(), AppError> {
    audit(app, principal, project, "webhook-secret.revoke", id).await?;
    app.delivery
        .secrets()
        .revoke(project, id)
        .map_err(|error| refused(&error))
}

/// What services aim at, as it was set; the starting values where nothing was.
///
/// # Errors
/// Storage.
pub async fn targets(app: &App, project: &str) -> Result<ServiceTargets, AppError> {
    let kept = async { app.store()?.kv_get(&targets_key(project)).await }
        .await
        .map_err(|error| refusal(&error, "the targets"))?;
    let Some(bytes) = kept else {
        return Ok(ServiceTargets::default());
    };
    serde_json::from_slice(&bytes).map_err(|error| AppError::Internal(error.to_string()))
}

/// Sets what services aim at.
///
/// # Errors
/// Storage.
pub async fn set_targets(
    app: &App,
    principal: &Principal,
    project: &str,
    targets: &ServiceTargets,
) -> Result<(), AppError> {
    let text =
        serde_json::to_vec(targets).map_err(|error| AppError::Internal(error.to_string()))?;
    audit(app, principal, project, "delivery-targets.set", "targets").await?;
    async { app.store()?.kv_put(&targets_key(project), &text).await }
        .await
        .map_err(|error| refusal(&error, "the targets"))
}

fn targets_key(project: &str) -> String {
    format!("delivery-targets/{project}")
}

async fn audit(
    app: &App,
    principal: &Principal,
    project: &str,
    action: &str,
    key: &str,
) -> Result<(), AppError> {
    let project = ProjectKey::parse(project)
        .map_err(|error| AppError::invalid("/project", "bad-key", error.to_string()))?;
    let by = By::new(actor_of(principal), app.clock.now_us());
    let (kind, _) = action.split_once('.').unwrap_or((action, ""));
    let mut draft = AuditDraft::new(action, Some(AuditObject::new(kind, key)), &by);
    draft.project = Some(project);
    async { app.store()?.audit_append(draft).await }
        .await
        .map(|_| ())
        .map_err(|error| refusal(&error, "the audit trail"))
}

fn refused(error: &SecretError) -> AppError {
    match error {
        SecretError::TooManyLive | SecretError::Full => AppError::Conflict(error.to_string()),
        SecretError::Length { .. } => {
            AppError::invalid("/secret", "out-of-range", error.to_string())
        }
        SecretError::NoSuchSecret { id } => AppError::NotFound(format!("webhook secret {id:?}")),
        SecretError::Io(_) => AppError::Internal(error.to_string()),
    }
}

/// The server's time as delivery counts it.
#[must_use]
pub fn moment(now_us: i64) -> Moment {
    Moment::from_millis(now_us.div_euclid(1000))
}
