//! The event: one thing that happened to one unit at one time.
//!
//! This is the domain type. The wire form is read by [`crate::parse_events`], the stored forms
//! belong to the lake; neither is derived from this type, so that each may change alone.
//!
//! Clocks: `time_us` is when it happened by the client's clock and is semantics only (windows,
//! days, order inside a journey). `received_us` is when we took it. Order of processing is the
//! ingest sequence, which the lake assigns; no decision about completeness uses event time.

pub(crate) mod id;
pub(crate) mod rfc3339;

use id::{EventId, TraceId};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What sort of record an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// Something the application reports: a purchase, a page, a finished step.
    Track,
    /// The unit met a flag's variant: `name` is the flag key, `flags` holds the variant.
    Exposure,
    /// A request was served: `value` is the latency in milliseconds, property `status` the HTTP
    /// status, property `error` whether it failed.
    Request,
    /// A flag was evaluated, which says nothing about the unit having met the result.
    Evaluation,
}

/// A kind name outside the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event kind; use track, exposure, request or evaluation")]
pub struct UnknownEventKind;

impl EventKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Exposure => "exposure",
            Self::Request => "request",
            Self::Evaluation => "evaluation",
        }
    }
}

impl std::str::FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "track" => Ok(Self::Track),
            "exposure" => Ok(Self::Exposure),
            "request" => Ok(Self::Request),
            "evaluation" => Ok(Self::Evaluation),
            _ => Err(UnknownEventKind),
        }
    }
}

/// A property's value: a scalar, never nested.
#[derive(Debug, Clone, PartialEq)]
pub enum PropertyValue {
    /// A truth value.
    Bool(bool),
    /// A finite number; `-0` is stored as `0`.
    Number(f64),
    /// Text.
    Text(Box<str>),
}

/// Properties, sorted by key, keys unique.
pub type Properties = Vec<(Box<str>, PropertyValue)>;

/// Variants by flag key, sorted by key, keys unique.
pub type ServedFlags = Vec<(Box<str>, Box<str>)>;

/// One thing that happened to one unit at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What makes it the same event when it is delivered twice.
    pub id: EventId,
    /// When it happened by the client's clock, microseconds since 1970-01-01T00:00Z.
    pub time_us: i64,
    /// When it was received, microseconds since 1970-01-01T00:00Z.
    pub received_us: i64,
    /// When the client sent it by the client's clock, if it said so.
    pub sent_us: Option<i64>,
    /// Who it happened to.
    pub unit: Box<str>,
    /// What sort of record it is.
    pub kind: EventKind,
    /// What happened; for an exposure or evaluation the flag key.
    pub name: Box<str>,
    /// The number it carries: revenue, a latency in milliseconds, a count. Always finite.
    pub value: Option<f64>,
    /// Properties, sorted by key, keys unique.
    pub properties: Properties,
    /// The variants the unit was being served, sorted by flag key, keys unique.
    pub flags: ServedFlags,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// Set when the event claims a time too far ahead: stored and counted apart, never analysed.
    pub is_quarantined: bool,
}

impl Event {
    /// The value of a property.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&PropertyValue> {
        let found = self
            .properties
            .binary_search_by(|(k, _)| k.as_ref().cmp(key));
        found
            .ok()
            .and_then(|at| self.properties.get(at))
            .map(|(_, value)| value)
    }

    /// The variant of a flag the unit was being served.
    #[must_use]
    pub fn variant(&self, flag: &str) -> Option<&str> {
        let found = self.flags.binary_search_by(|(k, _)| k.as_ref().cmp(flag));
        found
            .ok()
            .and_then(|at| self.flags.get(at))
            .map(|(_, variant)| variant.as_ref())
    }

    /// Whether this is a request that failed: property `error` is true, or `status` is 500 or
    /// above. An explicit `error` decides; the status is read only where it is absent.
    #[must_use]
    pub fn is_failed_request(&self) -> bool {
        if self.kind != EventKind::Request {
            return false;
        }
        match (self.property("error"), self.property("status")) {
            (Some(PropertyValue::Bool(is_error)), _) => *is_error,
            (_, Some(PropertyValue::Number(status))) => *status >= 500.0,
            _ => false,
        }
    }

    /// Bytes this event holds on the heap and inline, for budgets of memory in flight.
    #[must_use]
    pub fn approximate_bytes(&self) -> usize {
        let properties: usize = self
            .properties
            .iter()
            .map(|(key, value)| {
                let text = match value {
                    PropertyValue::Text(text) => text.len(),
                    PropertyValue::Bool(_) | PropertyValue::Number(_) => 0,
                };
                size_of::<(Box<str>, PropertyValue)>() + key.len() + text
            })
            .sum();
        let flags: usize = self
            .flags
            .iter()
            .map(|(key, variant)| size_of::<(Box<str>, Box<str>)>() + key.len() + variant.len())
            .sum();
        size_of::<Self>() + self.unit.len() + self.name.len() + properties + flags
    }

    /// The id of an event that came without one: a hash over what it says. Two records that say
    /// exactly the same about one unit at one microsecond are therefore one event.
    #[must_use]
    pub fn derived_id(&self) -> EventId {
        let mut hash = Xxh3::new();
        let mut text = |part: &str| {
            hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part.as_bytes());
        };
        text(&self.unit);
        text(self.kind.as_str());
        text(&self.name);
        text(&self.time_us.to_string());
        text(&format!("{:?}", self.value.map(f64::to_bits)));
        for (key, value) in &self.properties {
            text(key);
            text(&format!("{value:?}"));
        }
        text("");
        for (key, variant) in &self.flags {
            text(key);
            text(variant);
        }
        EventId::derived(hash.digest128())
    }
}

/// The hash by which units are spread over buckets and counted in bounded sets: XXH3-64 of the
/// unit's text. It is part of the lake's file layout and must not change.
#[must_use]
pub fn unit_hash(unit: &str) -> u64 {
    xxh3_64(unit.as_bytes())
}
