//! A stored webhook: what is kept of a request until it is read, and its bytes in the inbox.
//!
//! A frame is `length (u32, little endian), xxh3 of the payload (u64), payload`; the payload is one line of JSON with
//! project, source, time and headers, a line break, and the body byte for byte.
//! Only headers that say what a delivery *is* are kept; those that prove who sent it are not, because they are
//! secrets or made from them, and the proof is done.
//! A frame whose length or checksum does not hold ends the reading: it is the torn end of an unacknowledged write.

use serde::{Deserialize, Serialize};
use tidegate_delivery::Moment;
use tidegate_delivery::webhook::{
    MAX_BODY_BYTES, ParseError, Parsed, Request, WebhookSource, parse,
};
use xxhash_rust::xxh3::xxh3_64;

/// Headers that say what a delivery is.
const KEPT_HEADERS: [&str; 8] = [
    "content-type",
    "x-github-event",
    "x-github-delivery",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "idempotency-key",
    "webhook-id",
    "x-webhook-id",
];
/// Headers of which the first that is there names the delivery for people.
const NAMING_HEADERS: [&str; 5] = [
    "x-github-delivery",
    "webhook-id",
    "x-webhook-id",
    "x-gitlab-event-uuid",
    "idempotency-key",
];
/// Longest header value that is kept.
const MAX_HEADER_BYTES: usize = 1024;
const PREFIX_BYTES: usize = 12;
/// Longest payload: a body and its line.
const MAX_PAYLOAD_BYTES: usize = MAX_BODY_BYTES + 16 * 1024;

/// A webhook whose sender is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    about: About,
    body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    project: String,
    source: String,
    received_at: Moment,
    headers: Vec<(String, String)>,
}

impl Received {
    /// A request to be stored.
    #[must_use]
    pub fn new(project: &str, source: WebhookSource, request: &Request<'_>) -> Self {
        let headers = KEPT_HEADERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), request.header(name)?.to_owned())))
            .filter(|(_, value)| value.len() <= MAX_HEADER_BYTES)
            .collect();
        Self {
            about: About {
                project: project.to_owned(),
                source: source.name().to_owned(),
                received_at: request.received_at,
                headers,
            },
            body: request.body.to_vec(),
        }
    }

    pub(super) fn project(&self) -> &str {
        &self.about.project
    }

    pub(super) fn source(&self) -> &str {
        &self.about.source
    }

    pub(super) fn received_at(&self) -> Moment {
        self.about.received_at
    }

    /// The sender's name for the delivery, where its format has one in a header.
    pub(super) fn delivery(&self) -> Option<&str> {
        NAMING_HEADERS
            .iter()
            .find_map(|name| self.about.headers.iter().find(|(kept, _)| kept == name))
            .map(|(_, value)| value.as_str())
    }

    /// What it says.
    pub(super) fn parse(&self) -> Result<Parsed, ParseError> {
        let source = WebhookSource::named(&self.about.source).ok_or(ParseError::Unreadable {
            cause: format!("{:?} is no source", self.about.source),
        })?;
        let headers: Vec<(&str, &str)> = self
            .about
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let request = Request {
            headers: &headers,
            body: &self.body,
            received_at: self.about.received_at,
        };
        parse(source, &request)
    }

    /// Adds the frame to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX_BYTES]);
        serde_json::to_writer(&mut *out, &self.about)?;
        out.push(b'\n');
        out.extend_from_slice(&self.body);
        let payload = &out[start + PREFIX_BYTES..];
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let checksum = xxh3_64(payload);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + PREFIX_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

/// The whole frames at the start of `bytes`.
pub(super) fn decode_all(mut bytes: &[u8]) -> Vec<Received> {
    let mut found = Vec::new();
    while let Some((received, rest)) = decode(bytes) {
        found.push(received);
        bytes = rest;
    }
    found
}

fn decode(bytes: &[u8]) -> Option<(Received, &[u8])> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let checksum = u64::from_le_bytes(bytes.get(4..PREFIX_BYTES)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    if length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let end = PREFIX_BYTES + length;
    let payload = bytes.get(PREFIX_BYTES..end)?;
    if xxh3_64(payload) != checksum {
        return None;
    }
    let line = payload.iter().position(|&byte| byte == b'\n')?;
    let about = serde_json::from_slice(&payload[..line]).ok()?;
    let body = payload[line + 1..].to_vec();
    Some((Received { about, body }, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(body: &[u8]) -> Received {
        let headers = [
            ("X-GitHub-Event", "push"),
            ("X-GitHub-Delivery", "d-1"),
            ("X-Hub-Signature-256", "sha256=00"),
            ("Authorization", "Bearer secret"),
        ];
        let request = Request {
            headers: &headers,
            body,
            received_at: Moment::EARLIEST,
        };
        Received::new("default", WebhookSource::GitHub, &request)
    }

    #[test]
    fn frames_come_back_as_they_went_and_a_torn_end_is_nothing() {
        let all = [
            received(b"{\"a\":\n1}"),
            received(b""),
            received(&[0xff; 9]),
        ];
        let mut bytes = Vec::new();
        for one in &all {
            one.encode(&mut bytes).unwrap();
        }
        assert_eq!(decode_all(&bytes), all);
        for cut in 0..bytes.len() {
            let found = decode_all(&bytes[..cut]);
            assert!(found.len() < 3 && all.starts_with(&found), "cut at {cut}");
        }
        let mut damaged = bytes.clone();
        damaged[PREFIX_BYTES + 5] ^= 1;
        assert!(decode_all(&damaged).is_empty());
    }

    #[test]
    fn proof_is_not_kept() {
        let mut bytes = Vec::new();
        received(b"{}").encode(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("push") && text.contains("d-1"));
        assert!(
            !text.contains("sha256=") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(received(b"{}").delivery(), Some("d-1"));
    }
}
