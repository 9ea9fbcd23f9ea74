//! The native wire form, read into events: a JSON array or one JSON object per line.
//!
//! Nothing is trusted and nothing is dropped without a word: each event is either accepted or
//! named with a position, a JSON pointer, a code and the cure, all violations of one event at
//! once. Limits are checked before anything is allocated for them. One bad event never costs
//! its neighbours; only a batch whose frame cannot be found (too large, a broken array) is
//! refused whole.
//!
//! An event more than [`Limits::max_future_us`] ahead of its arrival is accepted with
//! `is_quarantined` set: it is stored and counted apart, and no analysis reads it. Events of any
//! age are accepted.

mod draft;
mod event_reader;
mod rejection;

#[cfg(test)]
mod tests;

use crate::Event;
use event_reader::read_event;
pub use rejection::{Rejection, RejectionCode};
use serde_json::value::RawValue;

/// Ceilings on what one batch may hold. Lengths are in bytes of UTF-8.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The whole batch, after decompression.
    pub max_batch_bytes: usize,
    /// Events in a batch.
    pub max_events: usize,
    /// The JSON text of one event.
    pub max_event_bytes: usize,
    /// A unit id.
    pub max_unit_bytes: usize,
    /// An event name, property key, flag key or variant.
    pub max_name_bytes: usize,
    /// A text property's value.
    pub max_text_bytes: usize,
    /// Properties of one event.
    pub max_properties: usize,
    /// Flags of one event.
    pub max_flags: usize,
    /// How far ahead of its arrival an event may claim to be before it is quarantined.
    pub max_future_us: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch_bytes: 16 << 20,
            max_events: 50_000,
            max_event_bytes: 64 << 10,
            max_unit_bytes: 256,
            max_name_bytes: 200,
            max_text_bytes: 1024,
            max_properties: 64,
            max_flags: 64,
            max_future_us: 24 * 3_600_000_000,
        }
    }
}

/// When a batch arrived and when its client says it sent it, microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Our clock at receipt.
    pub received_us: i64,
    /// The client's clock at sending, if known.
    pub sent_us: Option<i64>,
}

impl Arrival {
    /// A batch received now, from a client that did not say when it sent it.
    #[must_use]
    pub fn at(received_us: i64) -> Self {
        Self {
            received_us,
            sent_us: None,
        }
    }
}

/// A batch taken apart.
#[derive(Debug, Clone, Default)]
pub struct ParsedBatch {
    /// The events, in the order of the batch, quarantined ones included.
    pub accepted: Vec<Event>,
    /// Every violation, in the order of the batch.
    pub rejected: Vec<Rejection>,
}

impl ParsedBatch {
    /// How many events were refused; one event may have several violations.
    #[must_use]
    pub fn rejected_events(&self) -> usize {
        let mut indexes: Vec<usize> = self.rejected.iter().map(|r| r.index).collect();
        indexes.dedup();
        indexes.len()
    }

    /// How many accepted events are quarantined.
    #[must_use]
    pub fn quarantined(&self) -> usize {
        self.accepted.iter().filter(|e| e.is_quarantined).count()
    }
}

/// Why a batch was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// More bytes than [`Limits::max_batch_bytes`].
    #[error("batch of {bytes} bytes exceeds the limit of {limit}; send smaller batches")]
    TooManyBytes {
        /// Bytes in the batch.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More events than [`Limits::max_events`].
    #[error("batch exceeds the limit of {limit} events; send smaller batches")]
    TooManyEvents {
        /// Events allowed.
        limit: usize,
    },
    /// The array is not JSON, so its events cannot be told apart.
    #[error("batch is not a JSON array: {detail}; or send one JSON object per line")]
    Malformed {
        /// The JSON reader's message with line and column.
        detail: String,
    },
}

/// Reads a batch. A first byte `[` means an array, anything else one object per line; blank
/// lines are skipped but counted as positions.
///
/// # Errors
/// [`BatchError`] if the batch is too large or a broken array. Faults of single events are in
/// [`ParsedBatch::rejected`].
pub fn parse_events(
    bytes: &[u8],
    limits: &Limits,
    arrival: Arrival,
) -> Result<ParsedBatch, BatchError> {
    if bytes.len() > limits.max_batch_bytes {
        return Err(BatchError::TooManyBytes {
            bytes: bytes.len(),
            limit: limits.max_batch_bytes,
        });
    }
    let mut batch = BatchReader {
        limits,
        arrival,
        parsed: ParsedBatch::default(),
        seen: 0,
    };
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        batch.read_array(bytes)?;
    } else {
        batch.read_lines(bytes)?;
    }
    Ok(batch.parsed)
}

struct BatchReader<'l> {
    limits: &'l Limits,
    arrival: Arrival,
    parsed: ParsedBatch,
    seen: usize,
}

impl BatchReader<'_> {
    fn read_lines(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() {
                self.count_one()?;
                self.read_one(index, line);
            }
        }
        Ok(())
    }

    fn read_array(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        use serde::Deserializer as _;
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let mut too_many = false;
        let outcome = reader
            .deserialize_seq(ElementVisitor {
                batch: self,
                too_many: &mut too_many,
            })
            .and_then(|()| reader.end());
        if too_many {
            return Err(BatchError::TooManyEvents {
                limit: self.limits.max_events,
            });
        }
        outcome.map_err(|error| BatchError::Malformed {
            detail: error.to_string(),
        })
    }

    fn count_one(&mut self) -> Result<(), BatchError> {
        self.seen += 1;
        if self.seen > self.limits.max_events {
            return Err(BatchError::TooManyEvents {
                limit: self.limits.max_events,
            });
        }
        Ok(())
    }

    fn read_one(&mut self, index: usize, json: &[u8]) {
        match read_event(json, self.limits, self.arrival) {
            Ok(event) => self.parsed.accepted.push(event),
            Err(violations) => self
                .parsed
                .rejected
                .extend(violations.into_iter().map(|v| v.at(index))),
        }
    }
}

// Each element is first cut out as raw text, so that a number out of range or a wrong type in
// one event is that event's fault and not the batch's.
struct ElementVisitor<'b, 'l> {
    batch: &'b mut BatchReader<'l>,
    too_many: &'b mut bool,
}

impl<'de> serde::de::Visitor<'de> for ElementVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if self.batch.count_one().is_err() {
                *self.too_many = true;
                return Err(serde::de::Error::custom("too many events"));
            }
            self.batch.read_one(index, element.get().as_bytes());
            index += 1;
        }
        Ok(())
    }
}
