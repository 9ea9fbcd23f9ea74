//! Is a request really its sender's: signatures over raw bytes, compared in constant time.
//!
//! Tokens are compared by their SHA-256, so neither content nor length shows in the time taken.
//! All valid secrets are tried, and all of them always, for the same reason.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::hmac::hmac_sha256;
use super::{Request, WebhookSource};
use crate::moment::{Moment, span_millis};

/// How far a signed timestamp may be off, either way.
pub const REPLAY_WINDOW_SECONDS: i64 = 300;
/// Shortest secret accepted, bytes.
pub const MIN_SECRET_BYTES: usize = 8;
/// Most signatures looked at in one header.
const MAX_SIGNATURES: usize = 16;
/// Marks a base64 secret in Standard Webhooks.
const ENCODED_SECRET_PREFIX: &str = "whsec_";

/// A shared secret.
#[derive(Clone)]
pub struct Secret {
    text: String,
    not_after: Option<Moment>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret that is valid up to `not_after`, or without end. `None` if it is too short to keep anyone out.
    #[must_use]
    pub fn new(text: &str, not_after: Option<Moment>) -> Option<Self> {
        (text.len() >= MIN_SECRET_BYTES).then(|| Self {
            text: text.to_owned(),
            not_after,
        })
    }

    fn is_valid(&self, now: Moment) -> bool {
        self.not_after.is_none_or(|end| now < end)
    }

    /// The key that signs: the text's bytes, or what a `whsec_` text encodes.
    fn key(&self) -> Vec<u8> {
        self.text
            .strip_prefix(ENCODED_SECRET_PREFIX)
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .unwrap_or_else(|| self.text.clone().into_bytes())
    }
}

/// Why a request is not let in. What exactly did not match is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No secret is configured, or none is valid any more.
    #[error("no valid secret is configured for this source")]
    NoSecret,
    /// The header that proves the sender is missing or malformed.
    #[error("the header {name} is missing or malformed")]
    Missing {
        /// Header.
        name: &'static str,
    },
    /// A signature or token is there and fits no secret.
    #[error("the signature does not match")]
    Mismatch,
    /// Signed too long ago, or ahead of time.
    #[error("the signed timestamp is more than {REPLAY_WINDOW_SECONDS} seconds off")]
    Replayed,
}

/// Checks that a request comes from who knows one of the secrets.
///
/// # Errors
/// [`VerifyError`]; nothing of the body may be used then.
pub fn verify(
    source: WebhookSource,
    request: &Request<'_>,
    secrets: &[Secret],
) -> Result<(), VerifyError> {
    let valid: Vec<&Secret> = secrets
        .iter()
        .filter(|secret| secret.is_valid(request.received_at))
        .collect();
    if valid.is_empty() {
        return Err(VerifyError::NoSecret);
    }
    match source {
        WebhookSource::GitHub => hexadecimal(request, &valid, "X-Hub-Signature-256", "sha256="),
        WebhookSource::PagerDuty => hexadecimal(request, &valid, "X-PagerDuty-Signature", "v1="),
        WebhookSource::GitLab if is_standard(request) => standard(request, &valid),
        WebhookSource::GitLab => {
            let token = request
                .header("X-Gitlab-Token")
                .ok_or(VerifyError::Missing {
                    name: "X-Gitlab-Token",
                })?;
            token_matches(token.as_bytes(), &valid)
        }
        WebhookSource::Alertmanager => authorization(request, &valid),
        WebhookSource::CdEvents | WebhookSource::Generic if is_standard(request) => {
            standard(request, &valid)
        }
        WebhookSource::Generic if request.header("X-Signature-256").is_some() => {
            hexadecimal(request, &valid, "X-Signature-256", "sha256=")
        }
        WebhookSource::CdEvents | WebhookSource::Generic => authorization(request, &valid),
    }
}

fn decide(matched: Choice) -> Result<(), VerifyError> {
    if bool::from(matched) {
        Ok(())
    } else {
        Err(VerifyError::Mismatch)
    }
}

/// `prefix<hex>` signatures over the body, separated by commas.
fn hexadecimal(
    request: &Request<'_>,
    secrets: &[&Secret],
    name: &'static str,
    prefix: &str,
) -> Result<(), VerifyError> {
    let header = request.header(name).ok_or(VerifyError::Missing { name })?;
    let given: Vec<[u8; 32]> = header
        .split(',')
        .take(MAX_SIGNATURES)
        .filter_map(|part| digest_of(part.trim().strip_prefix(prefix)?))
        .collect();
    if given.is_empty() {
        return Err(VerifyError::Missing { name });
    }
    let mut matched = Choice::from(0);
    for secret in secrets {
        let expected = hmac_sha256(secret.text.as_bytes(), &[request.body]);
        for signature in &given {
            matched |= expected.ct_eq(signature);
        }
    }
    decide(matched)
}

fn digest_of(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (
            char::from(pair[0]).to_digit(16)?,
            char::from(pair[1]).to_digit(16)?,
        );
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(digest)
}

fn is_standard(request: &Request<'_>) -> bool {
    request.header("webhook-signature").is_some()
}

/// Standard Webhooks: `v1,<base64>` signatures over `id.timestamp.body`, separated by spaces.
fn standard(request: &Request<'_>, secrets: &[&Secret]) -> Result<(), VerifyError> {
    let header = |name: &'static str| request.header(name).ok_or(VerifyError::Missing { name });
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let given: Vec<[u8; 32]> = header("webhook-signature")?
        .split_whitespace()
        .take(MAX_SIGNATURES)
        .filter_map(|part| {
            STANDARD
                .decode(part.strip_prefix("v1,")?)
                .ok()?
                .try_into()
                .ok()
        })
        .collect();
    if given.is_empty() {
        return Err(VerifyError::Missing {
            name: "webhook-signature",
        });
    }
    let mut matched = Choice::from(0);
    for secret in secrets {
        let parts = [
            id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            request.body,
        ];
        let expected = hmac_sha256(&secret.key(), &parts);
        for signature in &given {
            matched |= expected.ct_eq(signature);
        }
    }
    decide(matched)?;
    // The timestamp is believed only now that it is known to be signed.
    let signed = timestamp.parse().map_err(|_| VerifyError::Missing {
        name: "webhook-timestamp",
    })?;
    let off = span_millis(Moment::from_seconds(signed), request.received_at);
    if off.unsigned_abs() > REPLAY_WINDOW_SECONDS.unsigned_abs() * 1000 {
        return Err(VerifyError::Replayed);
    }
    Ok(())
}

/// `Bearer <secret>`, or `Basic` with the secret as `user:password` or as the password alone.
fn authorization(request: &Request<'_>, secrets: &[&Secret]) -> Result<(), VerifyError> {
    let missing = VerifyError::Missing {
        name: "Authorization",
    };
    let (scheme, credentials) = request
        .header("Authorization")
        .and_then(|header| header.split_once(' '))
        .ok_or(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return token_matches(credentials.trim().as_bytes(), secrets);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing);
    }
    let pair = STANDARD.decode(credentials.trim()).map_err(|_| missing)?;
    let colon = pair.iter().position(|&byte| byte == b':').ok_or(missing)?;
    token_matches(&pair, secrets).or_else(|_| token_matches(&pair[colon + 1..], secrets))
}

fn token_matches(token: &[u8], secrets: &[&Secret]) -> Result<(), VerifyError> {
    let given = Sha256::digest(token);
    let mut matched = Choice::from(0);
    for secret in secrets {
        matched |= Sha256::digest(secret.text.as_bytes())
            .as_slice()
            .ct_eq(given.as_slice());
    }
    decide(matched)
}
