//! Use cases: what can be done, whoever asks and over whatever transport.
//!
//! A use case authorises nothing by itself (the route's declaration did, see
//! [`crate::http::routes`]) and knows no transport. It validates, applies a pure change, commits it
//! in one transaction with its audit entry, and wakes the reconciler, which is the only part that
//! turns stored definitions into what is served.

pub mod changes;
mod definition;
mod difference;
mod error;
pub(crate) mod exposure;
pub mod objects;
mod owned;
pub mod people;
pub mod stop;
pub mod tokens;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tidegate_flags::Limits;
use tidegate_store::{Actor, Store, StoreError};
use tokio::sync::Notify;

pub(crate) use difference::difference;
pub use error::{AppError, Violation};

use crate::access::{AccessBook, Principal, PrincipalKind};
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::events::Events;
use crate::kept_credentials::KeptCredentials;
use crate::live::Live;
use crate::operations::Operations;
use crate::otlp::Otlp;
use crate::rate_limit::RateLimits;
use crate::rollouts::Rollouts;
use crate::stops::Stops;
use crate::streams::Streams;

/// Handles to everything a use case or a handler needs. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts an [`App`] is made of.
pub struct Parts {
    /// Control-plane state, once it is open. Never touched on the read path.
    pub storage: OnceLock<Arc<dyn Store>>,
    /// The durable log of events, and the live aggregates over it.
    pub events: Events,
    /// What OTLP keeps between requests.
    pub otlp: Otlp,
    /// The delivery logs, and the webhooks on their way into them.
    pub delivery: Delivery,
    /// What is served.
    pub live: Live,
    /// Live credentials.
    pub access: ArcSwap<AccessBook>,
    /// The caller everybody is, where no credential is asked: `tidegate dev` on loopback.
    pub open_door: Option<Principal>,
    /// Requests per credential.
    pub limits: RateLimits,
    /// Limits of definitions and contexts.
    pub flag_limits: Limits,
    /// The running rollouts.
    pub rollouts: Rollouts,
    /// Stops that work without the store.
    pub stops: Stops,
    /// Who is connected, and when all of them are to go.
    pub streams: Streams,
    /// Counters, the signing key, and which web pages may call.
    pub operations: Operations,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Taken in turns by those who load configuration, so that waiting writers share one load.
    pub loading: tokio::sync::Mutex<()>,
    /// Wakes the reconciler; carries no data, so waking twice is waking once.
    pub changed: Notify,
    /// The token book as a file, for a start without storage.
    pub kept_credentials: Option<KeptCredentials>,
    /// Held while this server uses its data folder.
    pub data_dir_lock: Option<std::fs::File>,
}

impl App {
    /// An application of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Control-plane state.
    ///
    /// # Errors
    /// `Unavailable` until it could be opened; what was served last is served meanwhile.
    pub fn store(&self) -> Result<&dyn Store, StoreError> {
        self.storage
            .get()
            .map(AsRef::as_ref)
            .ok_or_else(|| StoreError::Unavailable {
                retryable: true,
                not_applied: true,
                reason: if self.operations.serves_a_file {
                    "this server serves a file and keeps nothing".to_owned()
                } else {
                    "it could not be opened yet; the log says why".to_owned()
                },
            })
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The principal as the audit trail names it.
#[must_use]
pub fn actor_of(principal: &Principal) -> Actor {
    match principal.kind {
        PrincipalKind::Token | PrincipalKind::Installation => Actor::token(principal.id.clone()),
        PrincipalKind::Person => Actor::user(principal.id.clone()),
        PrincipalKind::LocalDeveloper | PrincipalKind::FlagdPort => {
            Actor::system(principal.id.clone())
        }
    }
}
