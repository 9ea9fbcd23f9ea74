//! How long an open stream may go on: for as long as its caller would be let in again.
//!
//! A credential is looked at when a stream opens, and a stream can stay open for days. So each
//! stream holds a lease, which is over as soon as the token book no longer lets the caller in:
//! disabled or gone, at the moment the book is swapped; expired, at the moment it expires.
//! Nothing is asked of storage. A person's session is looked up in storage at each request and not
//! here, so a person's stream is simply short: the browser opens it anew and is asked again.
//! Where nobody is asked for a credential, a stream has no end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::access::{Principal, PrincipalKind, Refusal};
use crate::app::App;

/// How long a person's stream lasts.
const OF_A_PERSON: Duration = Duration::from_secs(60);

/// The longest that a lease goes unlooked at: the wall clock, by which tokens expire, may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// One stream's lease.
pub struct Lease {
    app: App,
    terms: Terms,
    book_changed: watch::Receiver<()>,
}

#[derive(Debug)]
enum Terms {
    /// Nobody is asked who he is.
    Endless,
    /// As long as the book lets this caller in.
    Token(Principal),
    /// Until then.
    Person(Instant),
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Lease");
        shown.field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl Lease {
    /// The lease of a stream that `principal` opens now.
    pub(crate) fn of(principal: &Principal, app: &App) -> Self {
        let terms = match principal.kind {
            PrincipalKind::LocalDeveloper | PrincipalKind::FlagdPort => Terms::Endless,
            PrincipalKind::Token | PrincipalKind::Installation => Terms::Token(principal.clone()),
            PrincipalKind::Person => Terms::Person(Instant::now() + OF_A_PERSON),
        };
        Self {
            app: app.clone(),
            terms,
            book_changed: app.streams.book_changed.subscribe(),
        }
    }

    /// Waits until it is over. Safe to drop while waiting.
    pub(crate) async fn over(&mut self) -> Refusal {
        let principal = match &self.terms {
            Terms::Endless => return std::future::pending().await,
            Terms::Person(until) => {
                sleep_until(*until).await;
                return Refusal::Expired;
            }
            Terms::Token(principal) => principal,
        };
        loop {
            self.book_changed.mark_unchanged();
            let now_us = self.app.clock.now_us();
            let until = match self.app.access.load().let_in_until(&principal.id, now_us) {
                Ok(until) => until,
                Err(refusal) => return refusal,
            };
            let left = until.map_or(LOOK_AGAIN, |until| {
                let left_us = u64::try_from(until.saturating_sub(now_us)).unwrap_or(0);
                Duration::from_micros(left_us).min(LOOK_AGAIN)
            });
            tokio::select! {
                // The sender lives as long as the process.
                _ = self.book_changed.changed() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}
