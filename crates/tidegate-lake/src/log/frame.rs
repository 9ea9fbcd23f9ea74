//! A frame: one commit on disk.
//!
//! Header of 32 bytes, little-endian: magic (4), body bytes (4), bytes before compression (4),
//! events (4), sequence of the first event (8), XXH3-64 over everything else in the frame (8).
//! The body follows and is padded with zeros to a multiple of 8.

use crate::codec::{self, CodecError, Encoder, clear};
use tidegate_metrics::Event;
use xxhash_rust::xxh3::Xxh3;

pub(super) const HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 8;
const MAGIC: [u8; 4] = *b"TGF1";

/// More than any frame decodes to; a larger claim is damage.
const MAX_RAW_BYTES: u32 = 1 << 30;

#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: u32,
    pub(super) raw_bytes: u32,
    pub(super) events: u32,
    pub(super) sequence: u64,
    checksum: u64,
}

impl FrameHeader {
    /// The header, if these bytes are one; whether it is intact shows only with the body.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (body_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (raw_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (events, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let checksum = rest.first_chunk::<8>()?;
        let header = Self {
            body_bytes: u32::from_le_bytes(*body_bytes),
            raw_bytes: u32::from_le_bytes(*raw_bytes),
            events: u32::from_le_bytes(*events),
            sequence: u64::from_le_bytes(*sequence),
            checksum: u64::from_le_bytes(*checksum),
        };
        (*magic == MAGIC && header.raw_bytes <= MAX_RAW_BYTES).then_some(header)
    }

    fn fields(&self) -> [u8; 24] {
        let mut fields = [0; 24];
        let parts = MAGIC
            .iter()
            .copied()
            .chain(self.body_bytes.to_le_bytes())
            .chain(self.raw_bytes.to_le_bytes())
            .chain(self.events.to_le_bytes())
            .chain(self.sequence.to_le_bytes());
        for (to, from) in fields.iter_mut().zip(parts) {
            *to = from;
        }
        fields
    }

    fn checksum_of(&self, body: &[u8]) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.fields());
        hash.update(body);
        hash.digest()
    }

    pub(super) fn is_intact(&self, body: &[u8]) -> bool {
        self.checksum_of(body) == self.checksum
    }

    pub(super) fn frame_bytes(&self) -> u64 {
        let unpadded = u64::from(self.body_bytes) + HEADER_BYTES as u64;
        unpadded.next_multiple_of(ALIGNMENT as u64)
    }

    pub(super) fn decode(&self, body: &[u8]) -> Result<Vec<Event>, CodecError> {
        let raw_bytes = usize::try_from(self.raw_bytes).unwrap_or(usize::MAX);
        let events = codec::decode(body, raw_bytes)?;
        if u32::try_from(events.len()) == Ok(self.events) {
            Ok(events)
        } else {
            Err(CodecError::Damaged { column: "count" })
        }
    }
}

/// Makes frames, in memory that it keeps from one to the next.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    encoder: Option<Encoder>,
    frame: Vec<u8>,
}

impl FrameWriter {
    /// The bytes of the frame made last, padding included.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.frame
    }

    /// Makes a frame.
    pub(super) fn make(&mut self, sequence: u64, events: &[Event]) -> Result<(), CodecError> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new()?,
        };
        let encoded = self.encoder.insert(encoder).encode(events)?;
        let too_large = || CodecError::Compression {
            detail: "batch exceeds four gigabytes".to_owned(),
        };
        let mut header = FrameHeader {
            body_bytes: u32::try_from(encoded.body.len()).map_err(|_| too_large())?,
            raw_bytes: u32::try_from(encoded.raw_bytes).map_err(|_| too_large())?,
            events: u32::try_from(events.len()).map_err(|_| too_large())?,
            sequence,
            checksum: 0,
        };
        if header.raw_bytes > MAX_RAW_BYTES {
            return Err(too_large());
        }
        header.checksum = header.checksum_of(encoded.body);
        clear(&mut self.frame);
        self.frame.extend(header.fields());
        self.frame.extend(header.checksum.to_le_bytes());
        self.frame.extend(encoded.body);
        let padded = self.frame.len().next_multiple_of(ALIGNMENT);
        self.frame.resize(padded, 0);
        Ok(())
    }
}
