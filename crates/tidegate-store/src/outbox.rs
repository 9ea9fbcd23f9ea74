//! Outbox: messages that leave exactly when the change they tell of is committed.
//!
//! Rows of one (project, topic) are taken in the order in which they were written: a message
//! that waits for its next attempt holds back the later ones of its topic and of no other.
//! A message that is given up goes to the dead letters and holds back nothing.
//! Delivery is at least once; [`OutboxRow::id`] lets the receiver discard repetitions.

use serde_json::Value;

use crate::{
    error::{StoreError, StoreResult},
    key::ProjectKey,
    object::{json_text, within},
};

/// Longest topic, in bytes.
pub const TOPIC_MAX: usize = 200;
/// Largest payload, in bytes of its JSON text.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// How much of a failed attempt's error is kept, in bytes.
pub const LAST_ERROR_MAX: usize = 500;

/// A message to be sent after the commit.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxMessage {
    /// Where it goes, such as `webhook:deploys` or `config`.
    pub topic: String,
    /// What it says.
    pub payload: Value,
}

impl OutboxMessage {
    pub(crate) fn validate(&self) -> StoreResult<()> {
        within("outbox.topic", Some(&self.topic), TOPIC_MAX)?;
        let len = json_text(&self.payload).len();
        if len > PAYLOAD_BYTES_MAX {
            return Err(StoreError::invalid(
                "outbox.payload",
                format!("it has {len} bytes as JSON, {PAYLOAD_BYTES_MAX} are allowed"),
            ));
        }
        Ok(())
    }
}

/// A message taken for delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Identity, growing in the order of writing.
    pub id: u64,
    /// Project it belongs to.
    pub project: ProjectKey,
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Value,
    /// When it was written, microseconds since the Unix epoch.
    pub created_at: i64,
    /// How many attempts failed before.
    pub attempts: u32,
    /// What the last failed attempt said.
    pub last_error: Option<String>,
}
