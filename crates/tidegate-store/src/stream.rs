//! Append-only streams: what happened, one record after another, under (project, stream).
//!
//! Rollout plans and delivery events live here.
//! A record has a sequence from 1 without gaps and the SHA-256 of its JSON text.
//! A writer may say which sequence it believes to be the last ([`StreamAppend::expected_head`]),
//! and a delivery that comes twice under the same (source, delivery id) is stored once.

use serde_json::Value;

use crate::{
    digest::Digest,
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::{SPEC_BYTES_MAX, validate_json, within},
    outbox::OutboxMessage,
};

/// Longest stream name, in bytes.
pub const STREAM_NAME_MAX: usize = 300;
/// Longest source or delivery id, in bytes.
pub const DELIVERY_ID_MAX: usize = 300;

/// Where a record came from, unique in its project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryId {
    /// Who delivered it.
    pub source: String,
    /// What the source calls it.
    pub id: String,
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamAppend {
    /// Project.
    pub project: ProjectKey,
    /// Stream in the project, such as `rollout/new-checkout`.
    pub stream: String,
    /// The record.
    pub payload: Value,
    /// Where it came from, if it may come twice.
    pub delivery: Option<DeliveryId>,
    /// Sequence that the writer believes to be the last one; 0 for an empty stream.
    pub expected_head: Option<u64>,
    /// Messages that leave if, and only if, the record is appended and is no duplicate.
    pub outbox: Vec<OutboxMessage>,
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
}

impl StreamAppend {
    pub(crate) fn validate(&self) -> StoreResult<()> {
        within("stream", Some(&self.stream), STREAM_NAME_MAX)?;
        if let Some(delivery) = &self.delivery {
            within("delivery.source", Some(&delivery.source), DELIVERY_ID_MAX)?;
            within("delivery.id", Some(&delivery.id), DELIVERY_ID_MAX)?;
        }
        validate_json("payload", &self.payload, SPEC_BYTES_MAX)?;
        self.outbox.iter().try_for_each(OutboxMessage::validate)
    }
}

/// Result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence of the record.
    pub sequence: u64,
    /// SHA-256 of its JSON text.
    pub digest: Digest,
    /// Whether it had been delivered before: sequence and digest are then those of the first.
    pub is_duplicate: bool,
}

/// A record as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamRecord {
    /// Sequence, from 1.
    pub sequence: u64,
    /// The record.
    pub payload: Value,
    /// SHA-256 of its JSON text.
    pub digest: Digest,
    /// Where it came from.
    pub delivery: Option<DeliveryId>,
    /// When it was appended, microseconds since the Unix epoch.
    pub appended_at: i64,
}

/// Largest named value, in bytes.
pub const NAMED_VALUE_MAX: usize = 64 * 1024;

/// Checks a named value of the server's own.
pub(crate) fn validate_named_value(name: &str, value: &[u8]) -> StoreResult<()> {
    within("key", Some(name), STREAM_NAME_MAX)?;
    if value.len() > NAMED_VALUE_MAX {
        return Err(StoreError::invalid(
            "value",
            format!(
                "it has {} bytes, {NAMED_VALUE_MAX} are allowed",
                value.len()
            ),
        ));
    }
    Ok(())
}
