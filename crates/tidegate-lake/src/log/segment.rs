//! A segment: a pre-allocated file of frames.
//!
//! Header of 32 bytes: magic (8), sequence of the first frame (8), reserved zeros (8), XXH3-64
//! over the first 24 bytes (8). The name is `<first sequence, 20 digits>.log`; an emptied one
//! waits as `<number>.free`.
//!
//! A segment takes its name only after its header is durable, and the directory is synced before
//! the first frame is written. So a named segment always has a good header, unless the disk
//! damaged it.

use super::LogError;
use super::frame::{FrameHeader, HEADER_BYTES};
use crate::io::{LakeFile, LakeIo};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"TGLOG\0\0\x01";
pub(super) const FIRST_FRAME: u64 = 32;
const LOG_SUFFIX: &str = ".log";
const FREE_SUFFIX: &str = ".free";

#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn LakeFile>,
    pub(super) first_sequence: u64,
    pub(super) bytes: u64,
}

/// The names a log directory holds.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) segments: Vec<u64>,
    pub(super) free: Vec<String>,
}

pub(super) fn list(io: &dyn LakeIo, dir: &Path) -> Result<Names, LogError> {
    let mut names = Names::default();
    for name in io.list(dir).map_err(|e| LogError::io(dir, e))? {
        if let Some(number) = name.strip_suffix(LOG_SUFFIX) {
            names.segments.extend(number.parse::<u64>());
        } else if name.ends_with(FREE_SUFFIX) {
            names.free.push(name);
        }
    }
    names.segments.sort_unstable();
    Ok(names)
}

pub(super) fn path_of(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(format!("{first_sequence:020}{LOG_SUFFIX}"))
}

fn header_of(first_sequence: u64) -> [u8; 32] {
    let mut header = [0; 32];
    let parts = MAGIC.into_iter().chain(first_sequence.to_le_bytes());
    for (to, from) in header.iter_mut().zip(parts) {
        *to = from;
    }
    if let Some((fields, checksum)) = header.split_first_chunk_mut::<24>() {
        let sum = xxh3_64(fields).to_le_bytes();
        checksum.copy_from_slice(&sum);
    }
    header
}

impl Segment {
    /// Starts a segment, in a recycled file if one is given. `bytes` is its least size.
    pub(super) fn start(
        io: &dyn LakeIo,
        dir: &Path,
        recycled: Option<&str>,
        first_sequence: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let aside = match recycled {
            Some(name) => dir.join(name),
            None => dir.join(format!("{first_sequence:020}{FREE_SUFFIX}")),
        };
        let file = match recycled {
            Some(_) => io.open(&aside)?,
            None => io.create(&aside)?,
        };
        let bytes = bytes.max(file.byte_len()?);
        let prepared = file
            .allocate(bytes)
            .and_then(|()| file.write_all_at(&header_of(first_sequence), 0));
        if let Err(error) = prepared {
            if recycled.is_none() {
                // Best effort: a leftover is only a free file, found at the next start.
                let _ = io.remove(&aside);
            }
            return Err(error);
        }
        file.sync_data()?;
        let path = path_of(dir, first_sequence);
        io.rename(&aside, &path)?;
        io.sync_dir(dir)?;
        Ok(Self {
            path,
            file,
            first_sequence,
            bytes,
        })
    }

    pub(super) fn open(io: &dyn LakeIo, dir: &Path, first_sequence: u64) -> Result<Self, LogError> {
        let path = path_of(dir, first_sequence);
        let file = io.open(&path).map_err(|e| LogError::io(&path, e))?;
        let bytes = file.byte_len().map_err(|e| LogError::io(&path, e))?;
        let segment = Self {
            path,
            file,
            first_sequence,
            bytes,
        };
        let mut header = [0; 32];
        match segment.file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(LogError::io(&segment.path, e)),
        }
        if header == header_of(first_sequence) {
            Ok(segment)
        } else {
            Err(segment.corrupt(0, first_sequence, "segment header is damaged"))
        }
    }

    pub(super) fn corrupt(&self, offset: u64, sequence: u64, detail: &str) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            offset,
            sequence,
            detail: detail.to_owned(),
        }
    }

    /// The frame header at a position, if the bytes there can be one and its body fits.
    pub(super) fn header_at(&self, offset: u64) -> Result<Option<FrameHeader>, LogError> {
        if offset + HEADER_BYTES as u64 > self.bytes {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        self.read(&mut bytes, offset)?;
        let header = FrameHeader::read(&bytes);
        Ok(header.filter(|header| offset + header.frame_bytes() <= self.bytes))
    }

    /// The body of a frame; `None` if the checksum does not hold.
    pub(super) fn intact_body(
        &self,
        header: &FrameHeader,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, LogError> {
        let length = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        let mut body = vec![0; length];
        self.read(&mut body, offset + HEADER_BYTES as u64)?;
        Ok(header.is_intact(&body).then_some(body))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), LogError> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|e| LogError::io(&self.path, e))
    }
}
