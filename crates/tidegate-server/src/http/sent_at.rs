//! When the client says it sent a batch: `Tidegate-Sent-At`, RFC 3339, by the client's clock.
//!
//! Kept beside the time of receipt, and compared with it to estimate how far the client's clock is
//! off ([`crate::clock_skew`]). A header that cannot be read says nothing and costs nothing.

use axum::http::HeaderMap;
use tidegate_metrics::{Arrival, parse_rfc3339};

/// The header.
pub(crate) const SENT_AT: &str = "tidegate-sent-at";

/// The sender's own name for itself, where one token serves many devices: whose clock it is.
pub(crate) const SOURCE: &str = "tidegate-source";

/// The name a sender gives itself.
pub(crate) fn source_of(headers: &HeaderMap) -> &str {
    let said = headers.get(SOURCE).and_then(|value| value.to_str().ok());
    said.unwrap_or_default()
}

/// When a batch arrived, and when its headers say it was sent.
pub(crate) fn arrival(headers: &HeaderMap, received_us: i64) -> Arrival {
    let said = headers.get(SENT_AT).and_then(|value| value.to_str().ok());
    Arrival {
        received_us,
        sent_us: said.and_then(|text| parse_rfc3339(text).ok()),
    }
}
