//! Others' webhooks: is it really theirs, and what does it say.
//!
//! Both answers are pure functions of the request's headers, its raw body and the moment it was received.
//! [`verify`] runs first, over the bytes as they came; [`parse`] turns them into rows of the log.
//! A request that is genuine but says nothing about delivery yields no rows and a note, never an error: senders
//! disable webhooks that are answered with errors.
//!
//! | source | signature | tells deliveries apart by |
//! |---|---|---|
//! | `github` | `X-Hub-Signature-256`, HMAC-SHA-256 over the body | `X-GitHub-Delivery` |
//! | `gitlab` | `webhook-signature` (Standard Webhooks, 5 minutes), else `X-Gitlab-Token` | `webhook-id`, `Idempotency-Key`, `X-Gitlab-Event-UUID` |
//! | `pagerduty` | `X-PagerDuty-Signature`, any `v1=` of several | event id |
//! | `alertmanager` | `Authorization`, bearer or basic | fingerprint, start, status |
//! | `cdevents` | `webhook-signature`, else `Authorization: Bearer` | CDEvents context id and source |
//! | `generic` | `webhook-signature`, else `X-Signature-256`, else `Authorization: Bearer` | `id` of each row |
//!
//! Replays: a signed timestamp more than five minutes off is refused. Senders without one (GitHub, PagerDuty) are
//! protected by the log, which holds each delivery once.
//! Rotation: several secrets may be valid at a time, each until a moment of its own.
//!
//! Must not know: sockets, storage, who the sender's users are.

mod alertmanager;
mod cdevents;
mod generic;
mod github;
mod gitlab;
mod hmac;
mod pagerduty;
mod signature;
mod told;

use crate::event::DeliveryEvent;
use crate::event_checks::problems_of;
use crate::moment::Moment;

pub use cdevents::to_cdevent;
pub use hmac::hmac_sha256;
pub use signature::{MIN_SECRET_BYTES, REPLAY_WINDOW_SECONDS, Secret, VerifyError, verify};

/// Largest body read. GitHub caps its own at 25 MB; deliveries of changes are far smaller.
pub const MAX_BODY_BYTES: usize = 5 * 1024 * 1024;
/// Most rows one request may become.
pub const MAX_EVENTS: usize = 10_000;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookSource {
    /// GitHub and GitHub Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// PagerDuty v3.
    PagerDuty,
    /// Prometheus Alertmanager and Grafana.
    Alertmanager,
    /// CDEvents over CloudEvents HTTP.
    CdEvents,
    /// Anyone: rows of the log as JSON.
    Generic,
}

impl WebhookSource {
    /// By its name in the request path.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "github" => Self::GitHub,
            "gitlab" => Self::GitLab,
            "pagerduty" => Self::PagerDuty,
            "alertmanager" => Self::Alertmanager,
            "cdevents" => Self::CdEvents,
            "generic" => Self::Generic,
            _ => return None,
        })
    }

    /// Its name in the request path, which is also the rows' source.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::PagerDuty => "pagerduty",
            Self::Alertmanager => "alertmanager",
            Self::CdEvents => "cdevents",
            Self::Generic => "generic",
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Header names and values; names compare without case.
    pub headers: &'r [(&'r str, &'r str)],
    /// The body, byte for byte.
    pub body: &'r [u8],
    /// When it came.
    pub received_at: Moment,
}

impl<'r> Request<'r> {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'r str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|&(_, value)| value)
    }
}

/// What a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Rows for the log.
    pub events: Vec<DeliveryEvent>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Parsed {
    fn nothing(why: impl Into<String>) -> Self {
        Self {
            events: Vec::new(),
            notes: vec![why.into()],
        }
    }
}

/// Why a request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Too large.
    #[error("the body has {bytes} bytes, more than {MAX_BODY_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not what the sender's format says.
    #[error("the body is not readable: {cause}")]
    Unreadable {
        /// Where and why.
        cause: String,
    },
    /// A header without which the body means nothing.
    #[error("the header {name} is missing")]
    MissingHeader {
        /// Its name.
        name: &'static str,
    },
    /// Too many rows.
    #[error("the body holds {events} events, more than {MAX_EVENTS}")]
    TooMany {
        /// Their number.
        events: usize,
    },
}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable {
            cause: error.to_string(),
        }
    }
}

/// A header that requests of `source` must have and this one has not: it could be proven, and never read.
#[must_use]
pub fn missing_header(source: WebhookSource, request: &Request<'_>) -> Option<&'static str> {
    let needed: &[&'static str] = match source {
        WebhookSource::GitHub => &github::NEEDED_HEADERS,
        _ => &[],
    };
    let is_missing = |name: &&&'static str| request.header(name).is_none();
    needed.iter().find(is_missing).copied()
}

/// Reads a request that [`verify`] let through.
///
/// # Errors
/// [`ParseError`]; rows that may not enter the log are left out with a note instead.
pub fn parse(source: WebhookSource, request: &Request<'_>) -> Result<Parsed, ParseError> {
    if request.body.len() > MAX_BODY_BYTES {
        return Err(ParseError::TooLarge {
            bytes: request.body.len(),
        });
    }
    let mut parsed = match source {
        WebhookSource::GitHub => github::parse(request)?,
        WebhookSource::GitLab => gitlab::parse(request)?,
        WebhookSource::PagerDuty => pagerduty::parse(request)?,
        WebhookSource::Alertmanager => alertmanager::parse(request)?,
        WebhookSource::CdEvents => cdevents::parse(request)?,
        WebhookSource::Generic => generic::parse(request)?,
    };
    if parsed.events.len() > MAX_EVENTS {
        return Err(ParseError::TooMany {
            events: parsed.events.len(),
        });
    }
    let notes = &mut parsed.notes;
    parsed.events.retain(|event| {
        let problems = problems_of(event);
        notes.extend(
            problems
                .iter()
                .map(|problem| format!("a row was left out: {problem}")),
        );
        problems.is_empty()
    });
    Ok(parsed)
}
