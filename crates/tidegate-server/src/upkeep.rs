//! What the house does for itself at set times: signing where the audit chain stands, and removing
//! what nobody needs any more.
//!
//! Both take no input and may run twice. A failure is logged and tried again at the next time:
//! neither serving nor writing waits for it.

use std::path::Path;
use std::time::Duration;

use tidegate_store::audit::CheckpointSigner;
use tidegate_store::{AuditHead, StoreError};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// The file of the signing key, in the data folder.
pub const KEY_FILE: &str = "audit-signing.key";

const CHECKPOINT_EVERY: Duration = Duration::from_secs(60 * 60);
/// How soon it is tried again while storage is not open.
const UNTIL_STORAGE_OPENS: Duration = Duration::from_secs(5);
const KEEP_FOR_US: i64 = 7 * 24 * 60 * 60 * 1_000_000;

/// Opens the signing key of a data folder, or makes one.
pub(crate) fn open_signer(data_dir: &Path) -> Option<CheckpointSigner> {
    match CheckpointSigner::open_or_create(&data_dir.join(KEY_FILE)) {
        Ok(signer) => Some(signer),
        Err(error) => {
            tracing::error!(%error, "audit checkpoints will not be signed");
            None
        }
    }
}

/// Runs until `shutdown`: at once, then each hour. Whoever shuts down calls [`checkpoint`] once
/// more when the last writer is gone.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    loop {
        let pause = once(&app).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round; says how long to wait for the next.
pub async fn once(app: &App) -> Duration {
    if app.storage.get().is_none() {
        return UNTIL_STORAGE_OPENS;
    }
    checkpoint(app).await;
    prune(app).await;
    CHECKPOINT_EVERY
}

/// Signs the head of the audit chain, unless it is signed already.
pub(crate) async fn checkpoint(app: &App) {
    let Some(signer) = &app.operations.signer else {
        return;
    };
    let signed = async {
        let store = app.store()?;
        let head = store.audit_head().await?;
        if head.sequence == 0 || is_signed(app, &head).await? {
            return Ok(());
        }
        let checkpoint = signer.sign(&head, app.clock.now_us());
        store.audit_checkpoint_put(checkpoint).await
    };
    let outcome: Result<(), StoreError> = signed.await;
    if let Err(error) = outcome {
        tracing::warn!(%error, "the audit chain could not be signed this time");
    }
}

async fn is_signed(app: &App, head: &AuditHead) -> Result<bool, StoreError> {
    let before = head.sequence - 1;
    let known = app.store()?.audit_checkpoint_list(before, 1).await?;
    Ok(known.iter().any(|checkpoint| checkpoint.hash == head.hash))
}

async fn prune(app: &App) {
    // What tells a stop that was made ordinary from one that was not is among what is removed.
    if !app.stops.are_settled() {
        return;
    }
    let before_us = app.clock.now_us().saturating_sub(KEEP_FOR_US);
    match async { app.store()?.prune(before_us).await }.await {
        Ok(pruned) => tracing::debug!(?pruned, "what nobody needs any more is removed"),
        Err(error) => tracing::warn!(%error, "old rows could not be removed this time"),
    }
}
