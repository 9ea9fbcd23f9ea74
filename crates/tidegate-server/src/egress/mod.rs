//! The one way out: every request this server makes to somebody else goes through here.
//!
//! Nothing is contacted unless an object or the configuration says so, and what is contacted is
//! decided by one policy ([`policy`]) over one table of addresses ([`address`]), on the addresses
//! the name resolved to, right before the connection, which goes to one of those addresses and to
//! no other. Redirects are not followed: an answer that sends elsewhere is an answer that failed.
//! Time and size of every exchange are bounded, and so is how many run at once, by purpose, so
//! that a slow receiver of notices cannot starve the sources that rollouts are judged by.
//!
//! `make check` refuses any other code of the server that opens a connection.

pub mod address;
mod client;
pub mod credentials;
pub mod destination;
pub mod policy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use client::{Names, SystemNames};
use credentials::{Credentials, NoCredential};
use destination::{BadUrl, Destination, Host};
use policy::{EgressPolicy, Refusal};

/// Exchanges of one purpose that run at once.
const AT_ONCE: usize = 8;
/// How much longer than its own limit an exchange may take before it is given up from outside.
const GRACE: Duration = Duration::from_millis(250);

/// What an exchange is for; each purpose has room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading a metric source.
    Measure,
    /// Telling somebody what happened.
    Tell,
    /// Asking whether something may happen.
    Ask,
}

/// What one exchange may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the name to the last byte of the answer.
    pub time: Duration,
    /// The largest body that is read.
    pub bytes: usize,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub to: Destination,
    /// Header names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The name of a configured credential to present.
    pub credential: Option<String>,
    /// `Some` is a `POST` of these bytes, `None` a `GET`.
    pub body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The HTTP status; never one of a redirect.
    pub status: u16,
    /// The body, complete.
    pub body: Vec<u8>,
}

/// Why nothing usable came back. Words for a report: they name hosts and never paths or values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The address cannot be read.
    #[error("the address cannot be used: {0}")]
    BadUrl(#[from] BadUrl),
    /// The policy refuses the destination.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The credential is not there or not for this destination.
    #[error("refused: {0}")]
    Credential(#[from] NoCredential),
    /// The name has no address.
    #[error("{host} could not be resolved: {reason}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// The answer sends elsewhere.
    #[error("it answered {status}, and redirects are not followed")]
    Redirect {
        /// The status.
        status: u16,
    },
    /// Not in time.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// More than is read.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// As many exchanges of this purpose as may run at once are under way.
    #[error("too many exchanges are under way")]
    Busy,
    /// Connection, TLS or protocol.
    #[error("the exchange failed: {0}")]
    Failed(String),
}

impl EgressError {
    /// Whether the destination itself is not allowed, so that trying again changes nothing until
    /// somebody changes the configuration or the destination.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::BadUrl(_) | Self::Refused(_) | Self::Credential(_)
        )
    }
}

/// The way out. Cheap to clone; with the defaults it reaches the public Internet over HTTPS only.
#[derive(Debug, Clone, Default)]
pub struct Egress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: EgressPolicy,
    credentials: Credentials,
    names: Box<dyn Names>,
    measure: Arc<Semaphore>,
    tell: Arc<Semaphore>,
    ask: Arc<Semaphore>,
}

impl Default for Inner {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(AT_ONCE));
        Self {
            policy: EgressPolicy::default(),
            credentials: Credentials::default(),
            names: Box::new(SystemNames),
            measure: room(),
            tell: room(),
            ask: room(),
        }
    }
}

impl Egress {
    /// A way out under `policy`, presenting `credentials` where they are asked for.
    #[must_use]
    pub fn new(policy: EgressPolicy, credentials: Credentials) -> Self {
        Self::with_names(policy, credentials, Box::new(SystemNames))
    }

    /// The same with another way of resolving names.
    #[must_use]
    pub fn with_names(
        policy: EgressPolicy,
        credentials: Credentials,
        names: Box<dyn Names>,
    ) -> Self {
        Self(Arc::new(Inner {
            policy,
            credentials,
            names,
            ..Inner::default()
        }))
    }

    /// Whether an address could ever be used: what is wrong with its form, or with the address it
    /// writes out. A name is judged when it is connected to, and again each time.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, url: &str) -> Result<Destination, EgressError> {
        let destination = Destination::parse(url)?;
        if let Host::Address(address) = destination.host() {
            self.0.policy.permit(&destination, *address)?;
        }
        Ok(destination)
    }

    /// Sends and returns the answer.
    ///
    /// # Errors
    /// Everything but a complete answer that is no redirect.
    pub async fn send(
        &self,
        purpose: Purpose,
        request: Outgoing,
        limits: Limits,
    ) -> Result<Incoming, EgressError> {
        let room = match purpose {
            Purpose::Measure => &self.0.measure,
            Purpose::Tell => &self.0.tell,
            Purpose::Ask => &self.0.ask,
        };
        let turn = tokio::time::timeout(limits.time, Arc::clone(room).acquire_owned());
        let Ok(Ok(turn)) = turn.await else {
            return Err(EgressError::Busy);
        };
        let inner = Arc::clone(&self.0);
        // The turn belongs to the thread: one that hangs in the resolver keeps it until it is back,
        // so that hanging threads have a bound too.
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            inner.exchange(&request, limits)
        });
        match tokio::time::timeout(limits.time + GRACE, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(EgressError::Failed(error.to_string())),
            Err(_) => Err(EgressError::Timeout(limits.time)),
        }
    }
}

impl Inner {
    fn exchange(&self, request: &Outgoing, limits: Limits) -> Result<Incoming, EgressError> {
        let addresses = self.addresses(&request.to)?;
        let credential = request
            .credential
            .as_deref()
            .map(|name| self.credentials.header_for(name, &request.to))
            .transpose()?;
        client::exchange(request, credential, addresses, limits)
    }

    /// The addresses the destination resolves to, every one of them allowed.
    fn addresses(&self, to: &Destination) -> Result<Vec<SocketAddr>, EgressError> {
        let found = match to.host() {
            Host::Address(address) => vec![SocketAddr::new(*address, to.port())],
            Host::Name(name) => {
                let unresolved = |reason: String| EgressError::Unresolved {
                    host: name.clone(),
                    reason,
                };
                let found = self.names.resolve(name, to.port());
                let found = found.map_err(|error| unresolved(error.to_string()))?;
                if found.is_empty() {
                    return Err(unresolved("it has no address".to_owned()));
                }
                found
            }
        };
        for address in &found {
            self.policy.permit(to, address.ip())?;
        }
        Ok(found)
    }
}
