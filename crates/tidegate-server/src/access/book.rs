//! The token book: every live credential, in memory, swapped as a whole by the reconciler.
//!
//! The form and the hash of a credential are the store's (`tidegate_store::PresentedCredential`).
//! The bootstrap token has no fixed form and is compared the same way, by its whole text.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use tidegate_store::{CredentialHash, PresentedCredential, Secret};

use super::ticket;
use super::{Principal, PrincipalKind, Role};

/// The longest credential that is looked at; anything longer is garbage.
const MAX_CREDENTIAL_BYTES: usize = 300;

/// The id of whoever presents the bootstrap token. Selectors are longer.
const BOOTSTRAP: &str = "bootstrap";

/// One credential as the book keeps it: never the secret, only its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookEntry {
    /// Hash of the verifier (or of the whole bootstrap token).
    pub hash: CredentialHash,
    /// The project the token belongs to.
    pub project: String,
    /// The row of the permission table.
    pub role: Role,
    /// Unix microseconds after which the token is refused.
    pub expires_at_us: Option<i64>,
    /// Disabled without deletion, so that its history stays readable.
    pub disabled: bool,
}

impl BookEntry {
    fn refuse_if_over(&self, now_us: i64) -> Result<(), Refusal> {
        if self.disabled {
            return Err(Refusal::Disabled);
        }
        if self.expires_at_us.is_some_and(|expiry| now_us >= expiry) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

/// Why a credential was refused. The caller learns only that it was (401); the reason is for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential where one is needed.
    #[error("no credential was sent")]
    Missing,
    /// Not of a form any credential has.
    #[error("the credential has no known form")]
    Malformed,
    /// No such selector, or the wrong verifier.
    #[error("the credential is not known")]
    Unknown,
    /// Past its expiry.
    #[error("the credential has expired")]
    Expired,
    /// Switched off by an administrator.
    #[error("the credential is disabled")]
    Disabled,
}

/// Every live credential by selector, and the bootstrap token if one was configured.
#[derive(Debug, Default)]
pub struct AccessBook {
    callers: HashMap<String, Caller>,
    bootstrap: Option<Caller>,
}

/// How much later a use has to be to be noted: requests that come thick share one note, so that
/// they do not write to the same memory.
const NOTED_APART_US: i64 = 1_000_000;

/// An entry, and whom it lets in: made once, so that a request only looks it up.
#[derive(Debug)]
struct Caller {
    entry: BookEntry,
    principal: Principal,
    /// Unix microseconds of a late use that storage has not been told; 0 for none.
    used_at_us: AtomicI64,
}

impl Caller {
    fn new(id: &str, entry: BookEntry) -> Self {
        let kind = match id {
            BOOTSTRAP => PrincipalKind::Installation,
            _ => PrincipalKind::Token,
        };
        let principal = Principal::new(
            kind,
            id.to_owned(),
            Some(entry.project.clone()),
            vec![entry.role],
        );
        Self {
            entry,
            principal,
            used_at_us: AtomicI64::new(0),
        }
    }

    fn let_in(&self, now_us: i64) -> Result<Principal, Refusal> {
        self.entry.refuse_if_over(now_us)?;
        if now_us.saturating_sub(self.used_at_us.load(Ordering::Relaxed)) >= NOTED_APART_US {
            self.used_at_us.store(now_us, Ordering::Relaxed);
        }
        Ok(self.principal.clone())
    }
}

impl AccessBook {
    /// A book of `entries` by selector.
    #[must_use]
    pub fn new(entries: HashMap<String, BookEntry>, bootstrap: Option<BookEntry>) -> Self {
        let callers = entries
            .into_iter()
            .map(|(selector, entry)| {
                let caller = Caller::new(&selector, entry);
                (selector, caller)
            })
            .collect();
        Self {
            callers,
            bootstrap: bootstrap.map(|entry| Caller::new(BOOTSTRAP, entry)),
        }
    }

    /// Whether the stored credentials are exactly `entries`.
    #[must_use]
    pub fn has_exactly(&self, entries: &HashMap<String, BookEntry>) -> bool {
        self.callers.len() == entries.len()
            && entries
                .iter()
                .all(|(selector, entry)| self.entry(selector) == Some(entry))
    }

    /// The entry that lets `token` in as administrator of the default project.
    #[must_use]
    pub fn bootstrap_entry(token: &str) -> BookEntry {
        BookEntry {
            hash: CredentialHash::of(token),
            project: crate::DEFAULT_PROJECT.to_owned(),
            role: Role::Admin,
            expires_at_us: None,
            disabled: false,
        }
    }

    /// Who presents `credential` at `now_us`, or why nobody does.
    ///
    /// # Errors
    /// The [`Refusal`], from the cheapest check to the dearest.
    pub fn authenticate(&self, credential: &str, now_us: i64) -> Result<Principal, Refusal> {
        if credential.is_empty() || credential.len() > MAX_CREDENTIAL_BYTES {
            return Err(Refusal::Malformed);
        }
        let stored = PresentedCredential::parse(credential)
            .map_err(|_| Refusal::Malformed)
            .and_then(|presented| {
                let caller = self.callers.get(&presented.selector);
                caller
                    .filter(|caller| caller.entry.hash.matches(&presented.verifier))
                    .ok_or(Refusal::Unknown)
            });
        match (stored, &self.bootstrap) {
            (Ok(caller), _) => caller.let_in(now_us),
            (Err(_), Some(caller)) if caller.entry.hash.matches(&Secret::new(credential)) => {
                caller.let_in(now_us)
            }
            (Err(refusal), _) => Err(refusal),
        }
    }

    /// When stored credentials were used since this was last asked: selector and Unix microseconds.
    #[must_use]
    pub fn take_uses(&self) -> Vec<(String, i64)> {
        self.callers
            .iter()
            .map(|(selector, caller)| (selector, caller.used_at_us.swap(0, Ordering::Relaxed)))
            .filter(|(_, used_at_us)| *used_at_us != 0)
            .map(|(selector, used_at_us)| (selector.clone(), used_at_us))
            .collect()
    }

    /// Notes uses that could not be told, or that an earlier book had noted.
    pub fn give_back_uses(&self, uses: Vec<(String, i64)>) {
        for (selector, used_at_us) in uses {
            if let Some(caller) = self.callers.get(&selector) {
                caller.used_at_us.fetch_max(used_at_us, Ordering::Relaxed);
            }
        }
    }

    /// Until when the caller `id` is let in, in Unix microseconds; `None` without an end.
    ///
    /// # Errors
    /// Why it is not let in at `now_us`, whatever it was before.
    pub fn let_in_until(&self, id: &str, now_us: i64) -> Result<Option<i64>, Refusal> {
        let entry = self.entry(id).ok_or(Refusal::Unknown)?;
        entry.refuse_if_over(now_us)?;
        Ok(entry.expires_at_us)
    }

    /// The ticket that lets the caller `id` in to its event stream without headers; `None` for a
    /// caller that has no credential to derive it from.
    #[must_use]
    pub fn ticket_of(&self, id: &str) -> Option<String> {
        Some(ticket::issue(id, self.entry(id)?.hash.as_bytes()))
    }

    /// Who presents `ticket` at `now_us`, or why nobody does.
    ///
    /// # Errors
    /// The [`Refusal`]; a ticket is refused when its token would be.
    pub fn redeem(&self, ticket: &str, now_us: i64) -> Result<Principal, Refusal> {
        if ticket.len() > MAX_CREDENTIAL_BYTES {
            return Err(Refusal::Malformed);
        }
        let id = ticket::selector_of(ticket).ok_or(Refusal::Malformed)?;
        let caller = self.caller(id).ok_or(Refusal::Unknown)?;
        if !ticket::is_genuine(ticket, id, caller.entry.hash.as_bytes()) {
            return Err(Refusal::Unknown);
        }
        caller.let_in(now_us)
    }

    fn caller(&self, id: &str) -> Option<&Caller> {
        match id {
            BOOTSTRAP => self.bootstrap.as_ref(),
            selector => self.callers.get(selector),
        }
    }

    fn entry(&self, id: &str) -> Option<&BookEntry> {
        Some(&self.caller(id)?.entry)
    }

    /// The configured bootstrap credential, which a reload of the book keeps.
    #[must_use]
    pub fn bootstrap(&self) -> Option<&BookEntry> {
        self.entry(BOOTSTRAP)
    }

    /// Every stored credential by selector.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &BookEntry)> {
        self.callers
            .iter()
            .map(|(selector, caller)| (selector.as_str(), &caller.entry))
    }

    /// How many stored credentials there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// Whether no credential is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Permission;
    use tidegate_store::MintedCredential;

    struct Shop {
        book: AccessBook,
        live: String,
        off: String,
    }

    /// A live token that expires at 1,000 and a disabled one.
    fn shop() -> Shop {
        let mut entries = HashMap::new();
        let mut mint = |expires_at_us, disabled| {
            let minted = MintedCredential::mint("server").unwrap();
            let entry = BookEntry {
                hash: minted.hash,
                project: "shop".to_owned(),
                role: Role::Server,
                expires_at_us,
                disabled,
            };
            entries.insert(minted.selector, entry);
            minted.text.expose().to_owned()
        };
        let (live, off) = (mint(Some(1_000), false), mint(None, true));
        let bootstrap = AccessBook::bootstrap_entry(&"b".repeat(32));
        Shop {
            book: AccessBook::new(entries, Some(bootstrap)),
            live,
            off,
        }
    }

    #[test]
    fn credentials_are_let_in_or_refused_with_the_reason() {
        let Shop { book, live, off } = shop();
        let forged = format!(
            "{}{}",
            &live[..live.len() - 1],
            if live.ends_with('0') { 1 } else { 0 }
        );
        let stranger = MintedCredential::mint("server").unwrap().text;
        let huge = "x".repeat(1_000_000);
        let cases = [
            (live.as_str(), 999, None),
            (live.as_str(), 1_000, Some(Refusal::Expired)),
            (forged.as_str(), 0, Some(Refusal::Unknown)),
            (stranger.expose(), 0, Some(Refusal::Unknown)),
            (off.as_str(), 0, Some(Refusal::Disabled)),
            ("tg_server_live", 0, Some(Refusal::Malformed)),
            ("garbage", 0, Some(Refusal::Malformed)),
            ("", 0, Some(Refusal::Malformed)),
            (huge.as_str(), 0, Some(Refusal::Malformed)),
        ];
        for (credential, now, refusal) in cases {
            let outcome = book.authenticate(credential, now);
            assert_eq!(
                outcome.err(),
                refusal,
                "{} at {now}",
                &credential[..credential.len().min(40)]
            );
        }
    }

    #[test]
    fn a_token_has_the_rights_of_its_kind_in_its_project_only() {
        let Shop { book, live, .. } = shop();
        let principal = book.authenticate(&live, 0).unwrap();
        assert!(principal.may(Permission::Evaluate, "shop"));
        assert!(!principal.may(Permission::ConfigWrite, "shop"));
        assert!(principal.belongs_to("shop") && !principal.belongs_to("default"));
    }

    #[test]
    fn the_bootstrap_token_may_do_everything_in_the_default_project() {
        let principal = shop().book.authenticate(&"b".repeat(32), 0).unwrap();
        assert!(
            Permission::ALL
                .into_iter()
                .all(|permission| principal.may(permission, crate::DEFAULT_PROJECT))
        );
        assert_eq!(principal.default_project(), crate::DEFAULT_PROJECT);
        assert!(!principal.belongs_to("other"));
    }
}
