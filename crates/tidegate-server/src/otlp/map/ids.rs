//! What makes a record the same record when it is exported twice.
//!
//! OTLP has no idempotency key, and an exporter whose answer was lost sends again. So the id of an
//! event is a hash over what the record says: resource, scope, time, span, trace, name, body and
//! attributes. The hash is over meaning, not bytes: attributes count in any order, and protobuf
//! and JSON give the same id except where a value is nested. Two records that say exactly the
//! same at the same nanosecond are one event. A record may bring its own id instead
//! (`tidegate.event.id`, `log.record.uid`).

use tidegate_metrics::EventId;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::otlp::read::{Attributes, Value};

/// A digest that grows by what is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Identity(u128);

impl Identity {
    fn with(self, parts: &[&[u8]]) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&self.0.to_le_bytes());
        for part in parts {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        Self(hash.digest128())
    }

    /// And this text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.with(&[text.as_bytes()])
    }

    /// And this number.
    pub(crate) fn number(self, number: u64) -> Self {
        self.with(&[&number.to_le_bytes()])
    }

    /// And this trace and span.
    pub(crate) fn span(self, trace_id: Option<u128>, span_id: Option<u64>) -> Self {
        let trace = trace_id.unwrap_or_default().to_le_bytes();
        let span = span_id.unwrap_or_default().to_le_bytes();
        self.with(&[&trace, &span])
    }

    /// And these attributes, in whatever order they came: their digests are added up.
    pub(crate) fn attributes(self, attributes: &Attributes<'_>) -> Self {
        let digest = |(key, value): &(std::borrow::Cow<'_, str>, Value<'_>)| {
            Self::default().text(key).value(value).0
        };
        let sum = attributes
            .list
            .iter()
            .map(digest)
            .fold(0u128, u128::wrapping_add);
        self.with(&[&sum.to_le_bytes()])
    }

    /// And this value.
    pub(crate) fn value(self, value: &Value<'_>) -> Self {
        match value {
            Value::Text(text) => self.with(&[b"t", text.as_bytes()]),
            Value::Bool(truth) => self.with(&[b"b", &[u8::from(*truth)]]),
            Value::Int(number) => self.with(&[b"i", &number.to_le_bytes()]),
            Value::Double(number) => self.with(&[b"d", &number.to_bits().to_le_bytes()]),
            Value::Nested(bytes) => self.with(&[b"n", bytes]),
            Value::Empty => self.with(&[b"e"]),
        }
    }

    /// The same record as this kind of event: one record may become several.
    pub(crate) fn of_kind(self, kind: &str) -> Self {
        self.text(kind)
    }

    /// The id, marked as derived.
    pub(crate) fn id(self) -> EventId {
        EventId::derived(self.0)
    }
}

/// The identity a record brings along, if it does.
pub(crate) fn own(attributes: &Attributes<'_>) -> Option<Identity> {
    let text = attributes.text(&["tidegate.event.id", "log.record.uid"])?;
    let id = text.parse::<EventId>().map(|id| id.0);
    Some(Identity(id.unwrap_or_else(|_| xxh3_128(text.as_bytes()))))
}
