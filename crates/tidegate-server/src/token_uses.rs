//! Tells storage when tokens were last used, so that a list of tokens shows which nobody needs.
//!
//! A request only notes the time in memory ([`AccessBook`](crate::access::AccessBook)); storage is told each minute, before a
//! list is made, and at the end. A use is kept to the second, and those of the last minute are lost in
//! a crash: this is for people who tidy up, not evidence of what was done, which is in the audit trail.

use std::time::Duration;

use tidegate_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::app::App;

const TELL_EVERY: Duration = Duration::from_secs(60);

/// Runs until `shutdown`. Whoever shuts down calls [`tell`] once more when nobody is let in any longer.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TELL_EVERY) => {}
        }
        tell(&app).await;
    }
}

/// Tells storage every use that it has not been told; what it does not take is told the next time.
pub(crate) async fn tell(app: &App) {
    if app.storage.get().is_none() {
        return;
    }
    let book = app.access.load_full();
    let mut untold = book.take_uses();
    while let Some((selector, used_at_us)) = untold.pop() {
        let told: Result<(), StoreError> =
            async { app.store()?.token_touch(&selector, used_at_us).await }.await;
        if let Err(error) = told {
            tracing::warn!(%error, "the last use of tokens could not be stored this time");
            untold.push((selector, used_at_us));
            break;
        }
    }
    app.access.load().give_back_uses(untold);
}
