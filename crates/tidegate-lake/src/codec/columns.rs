//! Byte columns: varints in, varints out, every read checked.

use super::CodecError;

/// A batch that needs more than this is rare, and its memory is given back.
const KEPT_BYTES: usize = 4 << 20;

/// Empties bytes whose memory is used again.
pub(crate) fn clear(bytes: &mut Vec<u8>) {
    if bytes.capacity() > KEPT_BYTES {
        *bytes = Vec::new();
    }
    bytes.clear();
}

#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn unsigned(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    pub(super) fn signed(&mut self, value: i64) {
        self.unsigned((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    pub(super) fn column(&mut self, column: &Self) {
        self.unsigned(column.0.len() as u64);
        self.bytes(&column.0);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Keeps the memory, unless there is much of it.
    pub(super) fn clear(&mut self) {
        clear(&mut self.0);
    }
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    column: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8], column: &'static str) -> Self {
        Self { rest, column }
    }

    pub(super) fn damaged(&self) -> CodecError {
        CodecError::Damaged {
            column: self.column,
        }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.damaged())
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.damaged());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    pub(super) fn signed(&mut self) -> Result<i64, CodecError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn length(&mut self) -> Result<usize, CodecError> {
        let value = self.unsigned()?;
        usize::try_from(value).map_err(|_| self.damaged())
    }

    pub(super) fn text(&mut self, bytes: usize) -> Result<&'a str, CodecError> {
        let taken = self.take(bytes)?;
        std::str::from_utf8(taken).map_err(|_| self.damaged())
    }

    pub(super) fn column(&mut self, name: &'static str) -> Result<Reader<'a>, CodecError> {
        let length = self.length()?;
        self.take(length).map(|bytes| Reader::new(bytes, name))
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged())
        }
    }
}
