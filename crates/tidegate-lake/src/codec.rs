//! The stored form of a batch: columns, so that like stands beside like and compresses.
//!
//! Layout, version 1, before compression: one version byte, then the columns in a fixed order,
//! each preceded by its length in bytes. Texts are interned once per batch. Integers are LEB128
//! varints, signed ones zigzag; times are differences from the event before. The bytes are then
//! compressed by zstd level 1.
//!
//! Decoding trusts nothing: every length, index and tag is checked, and the size after
//! decompression is bounded by the caller before anything is allocated.

mod columns;

pub(crate) use columns::clear;
use columns::{Reader, Writer};
use rustc_hash::FxHashMap;
use tidegate_metrics::{
    Event, EventId, EventKind, Properties, PropertyValue, ServedFlags, TraceId,
};

const VERSION: u8 = 1;
const COMPRESSION_LEVEL: i32 = 1;

const HAS_SENT: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_TRACE: u8 = 4;
const IS_QUARANTINED: u8 = 8;
const KIND_SHIFT: u32 = 4;

const TAG_FALSE: u8 = 0;
const TAG_TRUE: u8 = 1;
const TAG_NUMBER: u8 = 2;
const TAG_TEXT: u8 = 3;

/// Why stored bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Compression failed, or the bytes do not decompress to the stated length.
    #[error("compressed batch is damaged: {detail}")]
    Compression {
        /// What the compressor said.
        detail: String,
    },
    /// Written by a newer program.
    #[error("batch has format version {version}, this program reads up to {VERSION}; upgrade it")]
    Version {
        /// The version found.
        version: u8,
    },
    /// A length, index or tag that cannot be.
    #[error("batch is damaged in column {column}")]
    Damaged {
        /// The column being read.
        column: &'static str,
    },
}

/// An encoded batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded<'a> {
    /// The compressed columns.
    pub(crate) body: &'a [u8],
    /// Bytes before compression, which the reader needs to bound its allocation.
    pub(crate) raw_bytes: usize,
}

struct Interner<'e, 'w> {
    index: FxHashMap<&'e str, u64>,
    lengths: &'w mut Writer,
    text: &'w mut Writer,
    /// What stood at each place of the event before: events of one program say the same things in
    /// the same order, and comparing is cheaper than looking up.
    before: Vec<(&'e str, u64)>,
}

impl<'e, 'w> Interner<'e, 'w> {
    fn new(lengths: &'w mut Writer, text: &'w mut Writer) -> Self {
        Self {
            index: FxHashMap::default(),
            lengths,
            text,
            before: Vec::new(),
        }
    }

    /// The same as [`Self::intern`], for a text that often stands at this place.
    fn intern_at(&mut self, place: usize, text: &'e str) -> u64 {
        match self.before.get(place) {
            Some((known, number)) if *known == text => *number,
            Some(_) => {
                let number = self.intern(text);
                if let Some(before) = self.before.get_mut(place) {
                    *before = (text, number);
                }
                number
            }
            None => {
                let number = self.intern(text);
                self.before.push((text, number));
                number
            }
        }
    }

    fn intern(&mut self, text: &'e str) -> u64 {
        let next = self.index.len() as u64;
        *self.index.entry(text).or_insert_with(|| {
            self.lengths.unsigned(text.len() as u64);
            self.text.bytes(text.as_bytes());
            next
        })
    }
}

/// Columns on their way to the disk, and the compressor. Kept from one batch to the next, because
/// memory of this size goes back to the system when it is freed and is paid for anew.
pub(crate) struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    columns: [Writer; 8],
    raw: Writer,
    body: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder that holds nothing yet.
    ///
    /// # Errors
    /// [`CodecError::Compression`] for lack of memory.
    pub(crate) fn new() -> Result<Self, CodecError> {
        let compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).map_err(compression)?;
        Ok(Self {
            compressor,
            columns: Default::default(),
            raw: Writer::default(),
            body: Vec::new(),
        })
    }

    /// Encodes events in their order.
    ///
    /// # Errors
    /// [`CodecError::Compression`] if the compressor fails, which only lack of memory makes it do.
    pub(crate) fn encode(&mut self, events: &[Event]) -> Result<Encoded<'_>, CodecError> {
        self.columns.iter_mut().for_each(Writer::clear);
        let [lengths, text, ids, clocks, marks, names, values, pairs] = &mut self.columns;
        let mut texts = Interner::new(lengths, text);
        let (mut last_time, mut last_received) = (0i64, 0i64);
        for event in events {
            ids.bytes(&event.id.0.to_le_bytes());
            clocks.signed(event.time_us.wrapping_sub(last_time));
            clocks.signed(event.received_us.wrapping_sub(last_received));
            (last_time, last_received) = (event.time_us, event.received_us);
            marks.byte(mark(event));
            if let Some(sent_us) = event.sent_us {
                clocks.signed(sent_us.wrapping_sub(event.received_us));
            }
            if let Some(trace) = event.trace_id {
                ids.bytes(&trace.0.to_le_bytes());
            }
            if let Some(value) = event.value {
                values.bytes(&value.to_le_bytes());
            }
            names.unsigned(texts.intern(&event.unit));
            names.unsigned(texts.intern_at(0, &event.name));
            encode_pairs(event, &mut texts, pairs);
        }
        let text_count = texts.index.len() as u64;
        self.raw.clear();
        self.raw.byte(VERSION);
        self.raw.unsigned(events.len() as u64);
        self.raw.unsigned(text_count);
        for column in &self.columns {
            self.raw.column(column);
        }
        let raw = self.raw.as_bytes();
        clear(&mut self.body);
        self.body
            .reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let compressed = self.compressor.compress_to_buffer(raw, &mut self.body);
        compressed.map_err(compression)?;
        Ok(Encoded {
            body: &self.body,
            raw_bytes: raw.len(),
        })
    }
}

fn compression(error: impl std::fmt::Display) -> CodecError {
    CodecError::Compression {
        detail: error.to_string(),
    }
}

fn mark(event: &Event) -> u8 {
    let kind: u8 = match event.kind {
        EventKind::Track => 0,
        EventKind::Exposure => 1,
        EventKind::Request => 2,
        EventKind::Evaluation => 3,
    };
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    (kind << KIND_SHIFT)
        | bit(event.sent_us.is_some(), HAS_SENT)
        | bit(event.value.is_some(), HAS_VALUE)
        | bit(event.trace_id.is_some(), HAS_TRACE)
        | bit(event.is_quarantined, IS_QUARANTINED)
}

fn encode_pairs<'e>(event: &'e Event, texts: &mut Interner<'e, '_>, pairs: &mut Writer) {
    let mut places = 1..;
    let mut place = || places.next().unwrap_or_default();
    pairs.unsigned(event.properties.len() as u64);
    for (key, value) in &event.properties {
        pairs.unsigned(texts.intern_at(place(), key));
        match value {
            PropertyValue::Bool(false) => pairs.byte(TAG_FALSE),
            PropertyValue::Bool(true) => pairs.byte(TAG_TRUE),
            PropertyValue::Number(number) => {
                pairs.byte(TAG_NUMBER);
                pairs.bytes(&number.to_le_bytes());
            }
            PropertyValue::Text(text) => {
                pairs.byte(TAG_TEXT);
                pairs.unsigned(texts.intern(text));
            }
        }
    }
    pairs.unsigned(event.flags.len() as u64);
    for (key, variant) in &event.flags {
        pairs.unsigned(texts.intern_at(place(), key));
        pairs.unsigned(texts.intern_at(place(), variant));
    }
}

/// Decodes a batch of `raw_bytes` bytes before compression. The caller bounds `raw_bytes`.
///
/// # Errors
/// [`CodecError`] if the bytes are not exactly one batch.
pub(crate) fn decode(body: &[u8], raw_bytes: usize) -> Result<Vec<Event>, CodecError> {
    let raw = zstd::bulk::decompress(body, raw_bytes).map_err(compression)?;
    if raw.len() != raw_bytes {
        return Err(compression("length differs from the one stated"));
    }
    let mut head = Reader::new(&raw, "head");
    let version = head.byte()?;
    if version != VERSION {
        return Err(CodecError::Version { version });
    }
    let count = head.length()?;
    let text_count = head.length()?;
    let mut lengths = head.column("text lengths")?;
    let mut text = head.column("texts")?;
    let mut columns = Columns {
        texts: Vec::new(),
        ids: head.column("ids")?,
        clocks: head.column("clocks")?,
        marks: head.column("marks")?,
        names: head.column("names")?,
        values: head.column("values")?,
        pairs: head.column("pairs")?,
        last_time: 0,
        last_received: 0,
    };
    head.end()?;
    for _ in 0..text_count {
        let length = lengths.length()?;
        columns.texts.push(text.text(length)?);
    }
    lengths.end()?;
    text.end()?;
    let mut events = Vec::with_capacity(count.min(raw_bytes));
    for _ in 0..count {
        events.push(columns.event()?);
    }
    columns.end()?;
    Ok(events)
}

struct Columns<'a> {
    texts: Vec<&'a str>,
    ids: Reader<'a>,
    clocks: Reader<'a>,
    marks: Reader<'a>,
    names: Reader<'a>,
    values: Reader<'a>,
    pairs: Reader<'a>,
    last_time: i64,
    last_received: i64,
}

impl Columns<'_> {
    fn event(&mut self) -> Result<Event, CodecError> {
        let mark = self.marks.byte()?;
        let id = EventId(u128::from_le_bytes(self.ids.array()?));
        self.last_time = self.last_time.wrapping_add(self.clocks.signed()?);
        self.last_received = self.last_received.wrapping_add(self.clocks.signed()?);
        let sent_us = if mark & HAS_SENT != 0 {
            Some(self.clocks.signed()?.wrapping_add(self.last_received))
        } else {
            None
        };
        let trace_id = if mark & HAS_TRACE != 0 {
            Some(TraceId(u128::from_le_bytes(self.ids.array()?)))
        } else {
            None
        };
        let value = if mark & HAS_VALUE != 0 {
            Some(f64::from_le_bytes(self.values.array()?))
        } else {
            None
        };
        let kind = match mark >> KIND_SHIFT {
            0 => EventKind::Track,
            1 => EventKind::Exposure,
            2 => EventKind::Request,
            3 => EventKind::Evaluation,
            _ => return Err(CodecError::Damaged { column: "marks" }),
        };
        Ok(Event {
            id,
            time_us: self.last_time,
            received_us: self.last_received,
            sent_us,
            unit: text_of(&self.texts, &mut self.names)?,
            kind,
            name: text_of(&self.texts, &mut self.names)?,
            value,
            properties: self.properties()?,
            flags: self.flags()?,
            trace_id,
            is_quarantined: mark & IS_QUARANTINED != 0,
        })
    }

    fn properties(&mut self) -> Result<Properties, CodecError> {
        let count = self.pairs.length()?;
        let mut properties = Vec::with_capacity(count.min(self.pairs.remaining()));
        for _ in 0..count {
            let key = text_of(&self.texts, &mut self.pairs)?;
            let value = match self.pairs.byte()? {
                TAG_FALSE => PropertyValue::Bool(false),
                TAG_TRUE => PropertyValue::Bool(true),
                TAG_NUMBER => PropertyValue::Number(f64::from_le_bytes(self.pairs.array()?)),
                TAG_TEXT => PropertyValue::Text(text_of(&self.texts, &mut self.pairs)?),
                _ => return Err(CodecError::Damaged { column: "pairs" }),
            };
            properties.push((key, value));
        }
        Ok(properties)
    }

    fn flags(&mut self) -> Result<ServedFlags, CodecError> {
        let count = self.pairs.length()?;
        let mut flags = Vec::with_capacity(count.min(self.pairs.remaining()));
        for _ in 0..count {
            let key = text_of(&self.texts, &mut self.pairs)?;
            flags.push((key, text_of(&self.texts, &mut self.pairs)?));
        }
        Ok(flags)
    }

    fn end(&self) -> Result<(), CodecError> {
        for column in [
            &self.ids,
            &self.clocks,
            &self.marks,
            &self.names,
            &self.values,
            &self.pairs,
        ] {
            column.end()?;
        }
        Ok(())
    }
}

fn text_of(texts: &[&str], column: &mut Reader<'_>) -> Result<Box<str>, CodecError> {
    let index = column.length()?;
    let text = texts.get(index).ok_or_else(|| column.damaged())?;
    Ok((*text).into())
}
