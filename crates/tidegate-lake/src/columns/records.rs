//! A file of checksummed records that only grows: the manifest, and the log of aliases.
//!
//! A record is: length (4), XXH3-64 of the text (8), JSON text. Every record is synced before the
//! next is written, so a damaged one with nothing good behind it is an unfinished commit and is
//! cut; a damaged one with a good one behind it is an error. What is read at a start is written
//! anew, which also makes durable what was only in the system's memory.

use super::ColumnError;
use crate::io::{LakeFile, LakeIo, read_file, replace_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const HEADER_BYTES: usize = 12;
const MAX_BYTES: u64 = 1 << 30;

/// A record as it is written.
pub(super) fn frame(record: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(record)?;
    let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + text.len());
    frame.extend(length.to_le_bytes());
    frame.extend(xxh3_64(&text).to_le_bytes());
    frame.extend(text);
    Ok(frame)
}

/// The record at the start of the bytes and its length, if it is good.
fn good_record<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let text = rest.get(..length).filter(|_| length > 0)?;
    if xxh3_64(text) != u64::from_le_bytes(*sum) {
        return None;
    }
    let record = serde_json::from_slice(text).ok()?;
    Some((record, HEADER_BYTES + length))
}

/// Reads a file's records in order and returns its good bytes; `None` if there is no such file.
///
/// # Errors
/// [`ColumnError`] if it cannot be read, or a record before the last is damaged.
pub(super) fn read<T: DeserializeOwned>(
    io: &dyn LakeIo,
    path: &Path,
    each: &mut dyn FnMut(T),
) -> Result<Option<Vec<u8>>, ColumnError> {
    let mut content = match read_file(io, path, MAX_BYTES) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ColumnError::io(path, error)),
    };
    let mut offset = 0;
    while let Some((record, length)) = content.get(offset..).and_then(good_record) {
        each(record);
        offset += length;
    }
    let is_damaged = (offset + 1..content.len())
        .any(|later| content.get(later..).and_then(good_record::<T>).is_some());
    if is_damaged || (offset == 0 && !content.is_empty()) {
        let detail = format!("record at byte {offset} is damaged");
        return Err(ColumnError::damaged(path, detail));
    }
    if offset < content.len() {
        tracing::warn!(
            path = %path.display(),
            offset,
            "cut an unfinished record at the end"
        );
        content.truncate(offset);
    }
    Ok(Some(content))
}

/// An open file of records.
#[derive(Debug)]
pub(super) struct RecordFile {
    dir: PathBuf,
    name: &'static str,
    path: PathBuf,
    file: Arc<dyn LakeFile>,
    end: u64,
    has_failed: bool,
}

impl RecordFile {
    /// Makes the file anew with a content, and opens it.
    pub(super) fn create(
        io: &dyn LakeIo,
        dir: &Path,
        name: &'static str,
        content: &[u8],
    ) -> Result<Self, ColumnError> {
        let path = dir.join(name);
        let opened = replace_file(io, dir, name, content).and_then(|()| io.open(&path));
        Ok(Self {
            file: opened.map_err(|e| ColumnError::io(&path, e))?,
            dir: dir.to_owned(),
            name,
            path,
            end: content.len() as u64,
            has_failed: false,
        })
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(super) fn byte_len(&self) -> u64 {
        self.end
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a record durable. After a failure other than a full disk nothing is known of what
    /// the disk holds, so nothing more is written until the files are opened anew.
    pub(super) fn append(&mut self, record: &impl Serialize) -> Result<(), ColumnError> {
        if self.has_failed {
            let detail = "an earlier commit failed; open the lake again to read what is there";
            return Err(ColumnError::damaged(&self.path, detail));
        }
        let bytes = frame(record).map_err(|e| ColumnError::io(&self.path, e))?;
        let written = self
            .file
            .write_all_at(&bytes, self.end)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.has_failed = error.kind() != io::ErrorKind::StorageFull;
            return Err(ColumnError::io(&self.path, error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the records by a content that says the same.
    pub(super) fn replace(&mut self, io: &dyn LakeIo, content: &[u8]) -> Result<(), ColumnError> {
        if self.has_failed {
            return Ok(());
        }
        let replaced = replace_file(io, &self.dir, self.name, content);
        match replaced.and_then(|()| io.open(&self.path)) {
            Ok(file) => {
                self.file = file;
                self.end = content.len() as u64;
                Ok(())
            }
            // Without room nothing was renamed, and the longer file still says everything.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => {
                self.has_failed = true;
                Err(ColumnError::io(&self.path, error))
            }
        }
    }
}
