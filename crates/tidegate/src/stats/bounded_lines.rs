//! A reader that refuses endless lines, so that memory stays bounded whatever comes in.

use std::io::{Error, ErrorKind, Read};

/// Passes bytes through until a line is longer than its limit.
pub(crate) struct BoundedLines<R> {
    source: R,
    line_bytes_max: u64,
    since_newline: u64,
}

impl<R: Read> BoundedLines<R> {
    /// Lines of at most `line_bytes_max` bytes.
    pub(crate) fn new(source: R, line_bytes_max: u64) -> Self {
        Self {
            source,
            line_bytes_max,
            since_newline: 0,
        }
    }
}

impl<R: Read> Read for BoundedLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.source.read(buffer)?;
        let fresh = &buffer[..count];
        match fresh.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => self.since_newline = (count - last - 1) as u64,
            None => self.since_newline += count as u64,
        }
        if self.since_newline > self.line_bytes_max {
            let text = format!("a line is longer than {} bytes", self.line_bytes_max);
            return Err(Error::new(ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}
