//! Table files, opened for streaming: gzip is recognised, and a record that does not end is refused
//! before it is held.
//!
//! An unclosed quote swallows the rest of a CSV file. [`RecordBudget`] bounds what may be read before
//! the current record must end, so that memory stays constant whatever comes in.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;

const MAX_RECORD_BYTES: u64 = 1024 * 1024;
/// The reader fetches this much ahead of the record it is in.
const READ_AHEAD_BYTES: u64 = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Opens a file, undoing gzip.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    plain(file).with_context(|| format!("reading {}", path.display()))
}

/// The content of a stream, with gzip undone if its first bytes say so.
pub(crate) fn plain(source: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut buffered = BufReader::with_capacity(1 << 18, source);
    let head = buffered.fill_buf()?;
    if head.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)))
    } else {
        Ok(Box::new(buffered))
    }
}

/// How much may be read before the current record must end.
#[derive(Debug, Clone)]
pub(crate) struct RecordBudget(Rc<Cell<u64>>);

impl Default for RecordBudget {
    fn default() -> Self {
        Self(Rc::new(Cell::new(MAX_RECORD_BYTES + READ_AHEAD_BYTES)))
    }
}

impl RecordBudget {
    /// To be called before each record.
    pub(crate) fn renew(&self) {
        self.0.set(MAX_RECORD_BYTES + READ_AHEAD_BYTES);
    }
}

/// A reader that fails once a budget is spent.
pub(crate) struct Budgeted<R> {
    /// What is read.
    pub(crate) inner: R,
    /// What may be read.
    pub(crate) budget: RecordBudget,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.0.get();
        if left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record is longer than 1 MiB; a quote is probably not closed",
            ));
        }
        let read = self.inner.read(buffer)?;
        self.budget.0.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}
