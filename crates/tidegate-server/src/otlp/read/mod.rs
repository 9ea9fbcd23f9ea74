//! What a request says, record by record, in the words of OTLP and nothing judged yet.
//!
//! Both encodings end here. Texts are borrowed from the request wherever they need no unescaping.
//! Nested values are kept as their bytes: nothing of ours looks inside, and identity hashes them.

pub mod json;
mod json_text;
pub mod protobuf;
pub mod wire;

use std::borrow::Cow;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// A list, map or byte string, as its bytes in the request's own encoding.
    Nested(&'a [u8]),
    /// Nothing.
    Empty,
}

impl Value<'_> {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            // Whole numbers beyond 2^53 are rounded; nothing that is counted by them is so large.
            Self::Int(number) => Some(rounded(*number)),
            _ => None,
        }
    }
}

/// The nearest double.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement beyond 2^53 loses digits nobody measured"
)]
pub(crate) fn rounded(number: i64) -> f64 {
    number as f64
}

/// A name and its value.
pub type Attribute<'a> = (Cow<'a, str>, Value<'a>);

/// Attributes of one record, cut off at a limit.
#[derive(Debug, Clone, Default)]
pub struct Attributes<'a> {
    /// Those within the limit.
    pub list: Vec<Attribute<'a>>,
    /// Whether there were more.
    pub is_cut: bool,
}

impl<'a> Attributes<'a> {
    /// Adds one, unless there are `limit` already.
    pub fn push(&mut self, attribute: Attribute<'a>, limit: usize) {
        if self.list.len() < limit {
            self.list.push(attribute);
        } else {
            self.is_cut = true;
        }
    }

    /// The value of the first attribute of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let mut found = self.list.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value)
    }

    /// The text of the first of `names` that has a text with content.
    #[must_use]
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        let mut texts = names
            .iter()
            .filter_map(|name| self.get(name).and_then(Value::as_text));
        texts.find(|text| !text.is_empty())
    }
}

/// A log record.
#[derive(Debug, Clone, Default)]
pub struct LogRecord<'a> {
    /// When it happened, nanoseconds since 1970; 0 is unknown.
    pub time_ns: u64,
    /// When it was seen, nanoseconds since 1970; 0 is unknown.
    pub observed_ns: u64,
    /// What happened; empty for a plain log line.
    pub event_name: Cow<'a, str>,
    /// What was said.
    pub body: Option<Value<'a>>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// The trace, if it belongs to one.
    pub trace_id: Option<u128>,
    /// The span, if it belongs to one.
    pub span_id: Option<u64>,
}

impl LogRecord<'_> {
    /// When it happened, or else when it was seen, nanoseconds since 1970; 0 is unknown.
    #[must_use]
    pub fn known_ns(&self) -> u64 {
        if self.time_ns > 0 {
            self.time_ns
        } else {
            self.observed_ns
        }
    }
}

/// A span.
#[derive(Debug, Clone, Default)]
pub struct Span<'a> {
    /// The trace; a span without one is invalid.
    pub trace_id: Option<u128>,
    /// Itself; a span without one is invalid.
    pub span_id: Option<u64>,
    /// What was done.
    pub name: Cow<'a, str>,
    /// `SpanKind` as a number.
    pub kind: i64,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// Those of its events that tell of flags.
    pub evaluations: Vec<SpanEvent<'a>>,
    /// Whether there were more of them than may be.
    pub is_cut: bool,
    /// `StatusCode` as a number.
    pub status: i64,
}

/// An event of a span.
#[derive(Debug, Clone, Default)]
pub struct SpanEvent<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// What happened.
    pub name: Cow<'a, str>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

/// How a metric's points are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// A number as of now, or what was added since the last point.
    Number,
    /// A running total, whose differences only its source knows.
    RunningTotal,
    /// A distribution.
    Distribution,
}

/// A data point of a metric.
#[derive(Debug, Clone)]
pub struct Point<'a> {
    /// The metric.
    pub metric: Cow<'a, str>,
    /// How to read it.
    pub kind: PointKind,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The number, if it is one.
    pub value: Option<f64>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

/// Whether a span event tells of a flag, by its name.
#[must_use]
pub(crate) fn is_evaluation_name(name: &str) -> bool {
    matches!(name, "feature_flag.evaluation" | "feature_flag")
}
