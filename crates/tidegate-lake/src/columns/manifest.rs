//! The manifest: which files are the lake. An append-only log of checksummed records.
//!
//! A record is: length (4), XXH3-64 of the text (8), JSON text. Every record is synced before the
//! next is written, so a damaged one with nothing good behind it is an unfinished commit and is
//! cut; a damaged one with a good one behind it is an error. At each start the manifest is
//! replaced by one record that states the whole, which also makes durable what was read.

use super::ColumnError;
use crate::io::{LakeFile, LakeIo, read_file, replace_file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const NAME: &str = "manifest";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const MAX_BYTES: u64 = 1 << 30;
/// Beyond this, and beyond some times the whole, the records are replaced by the whole.
const LONG_BYTES: u64 = 4 << 20;

/// One event file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its name in the lake's `events` directory.
    pub name: String,
    /// Days since 1970-01-01 (UTC) of every event in it.
    pub day: i64,
    /// Rows.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3-64 of the content.
    pub checksum: u64,
    /// Its row groups in order.
    pub groups: Vec<RowGroupMeta>,
    /// The latest time of an event that is not quarantined, microseconds since 1970.
    pub last_time_us: Option<i64>,
    /// True if it is the product of a compaction: no id occurs twice in it.
    pub is_compacted: bool,
    /// The lowest ingest sequence in it.
    #[serde(default)]
    pub first_sequence: u64,
    /// One more than the highest ingest sequence in it.
    #[serde(default = "unknown_end")]
    pub end_sequence: u64,
}

fn unknown_end() -> u64 {
    u64::MAX
}

/// One row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroupMeta {
    /// The lowest bucket with rows in it.
    pub first_bucket: u16,
    /// The highest bucket with rows in it.
    pub last_bucket: u16,
    /// Rows.
    pub rows: u64,
}

/// A file of the unit dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnitsMeta {
    pub(super) name: String,
    pub(super) units: u64,
    pub(super) checksum: u64,
    pub(super) bytes: u64,
}

/// What the manifest says in the end: the lake at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeState {
    version: u32,
    /// Buckets units are spread over; fixed for the life of the lake.
    pub buckets: u16,
    /// Every event below this ingest sequence is in the files.
    pub flushed_sequence: u64,
    /// The event files by name.
    pub files: BTreeMap<String, FileMeta>,
    pub(super) units: Vec<UnitsMeta>,
    /// Erased units as (bucket, ordinal); their rows are invisible.
    pub erased: BTreeSet<(u16, u32)>,
    /// Erased units whose rows or names may still be on disk; housekeeping rewrites them away.
    #[serde(default)]
    pub erasing: BTreeSet<(u16, u32)>,
    /// How often days were dropped for their age.
    #[serde(default)]
    pub expiries: u64,
    /// Copies of events removed for good so far.
    pub duplicates_removed: u64,
    pub(super) next_file: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Record {
    Whole(Box<LakeState>),
    Flushed {
        through_sequence: u64,
        files: Vec<FileMeta>,
        units: Option<UnitsMeta>,
        next_file: u64,
    },
    Compacted {
        removed: Vec<String>,
        added: Option<FileMeta>,
        duplicates: u64,
        next_file: u64,
    },
    UnitsReplaced {
        removed: Vec<String>,
        added: UnitsMeta,
        next_file: u64,
    },
    Erased {
        bucket: u16,
        unit: u32,
    },
    ErasuresCompleted {
        units: Vec<(u16, u32)>,
    },
    Expired {
        removed: Vec<String>,
    },
}

impl LakeState {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Whole(state) => *self = *state,
            Record::Flushed {
                through_sequence,
                files,
                units,
                next_file,
            } => {
                self.flushed_sequence = through_sequence;
                self.files
                    .extend(files.into_iter().map(|file| (file.name.clone(), file)));
                self.units.extend(units);
                self.next_file = self.next_file.max(next_file);
            }
            Record::Compacted {
                removed,
                added,
                duplicates,
                next_file,
            } => {
                for name in &removed {
                    self.files.remove(name);
                }
                self.files
                    .extend(added.map(|file| (file.name.clone(), file)));
                self.duplicates_removed += duplicates;
                self.next_file = self.next_file.max(next_file);
            }
            Record::UnitsReplaced {
                removed,
                added,
                next_file,
            } => {
                self.units.retain(|file| !removed.contains(&file.name));
                self.units.push(added);
                self.next_file = self.next_file.max(next_file);
            }
            Record::Erased { bucket, unit } => {
                self.erased.insert((bucket, unit));
                self.erasing.insert((bucket, unit));
            }
            Record::ErasuresCompleted { units } => {
                for unit in units {
                    self.erasing.remove(&unit);
                }
            }
            Record::Expired { removed } => {
                self.expiries += 1;
                for name in &removed {
                    self.files.remove(name);
                }
            }
        }
    }

    /// Event files by day, in order.
    #[must_use]
    pub fn days(&self) -> BTreeMap<i64, Vec<&FileMeta>> {
        let mut days: BTreeMap<i64, Vec<&FileMeta>> = BTreeMap::new();
        for file in self.files.values() {
            days.entry(file.day).or_default().push(file);
        }
        days
    }

    /// What the manifest in a lake's directory says, without changing anything; `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`ColumnError`] if it cannot be read or is damaged.
    pub fn read(io: &dyn LakeIo, dir: &Path) -> Result<Option<Self>, ColumnError> {
        let path = dir.join(NAME);
        let mut state = Self {
            version: VERSION,
            ..Self::default()
        };
        match read_file(io, &path, MAX_BYTES) {
            Ok(content) => replay(&path, &content, &mut state)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ColumnError::io(&path, error)),
        }
        if state.version != VERSION {
            let detail = format!("format version {} is not {VERSION}", state.version);
            return Err(ColumnError::damaged(&path, detail));
        }
        Ok((state.buckets > 0).then_some(state))
    }

    /// The event files of one day, by name.
    #[must_use]
    pub fn files_of(&self, day: i64) -> Vec<&FileMeta> {
        self.files.values().filter(|file| file.day == day).collect()
    }

    /// Rows in all event files, copies and erased ones included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.values().map(|file| file.rows).sum()
    }
}

/// The open manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    dir: PathBuf,
    path: PathBuf,
    file: Arc<dyn LakeFile>,
    end: u64,
    whole_bytes: u64,
    has_failed: bool,
}

fn frame(record: &Record) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(record)?;
    let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + text.len());
    frame.extend(length.to_le_bytes());
    frame.extend(xxh3_64(&text).to_le_bytes());
    frame.extend(text);
    Ok(frame)
}

/// The record at the start of the bytes and its length, if it is good.
fn good_record(bytes: &[u8]) -> Option<(Record, usize)> {
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

impl Manifest {
    /// Opens or makes the manifest; returns what it says too.
    pub(super) fn open(
        io: &dyn LakeIo,
        dir: &Path,
        buckets: u16,
    ) -> Result<(Self, LakeState), ColumnError> {
        let path = dir.join(NAME);
        let failed = |e: io::Error| ColumnError::io(&path, e);
        let state = match LakeState::read(io, dir)? {
            Some(state) => state,
            None => LakeState {
                version: VERSION,
                buckets,
                ..LakeState::default()
            },
        };
        let whole = frame(&Record::Whole(Box::new(state.clone()))).map_err(failed)?;
        replace_file(io, dir, NAME, &whole).map_err(failed)?;
        let file = io.open(&path).map_err(failed)?;
        let manifest = Self {
            dir: dir.to_owned(),
            path,
            file,
            end: whole.len() as u64,
            whole_bytes: whole.len() as u64,
            has_failed: false,
        };
        Ok((manifest, state))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Makes a record durable. After a failure other than a full disk nothing is known of what
    /// the disk holds, so nothing more is committed until the files are opened anew.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), ColumnError> {
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

    /// Replaces many records by the whole they add up to; cheap where there is no need.
    pub(super) fn shorten(
        &mut self,
        io: &dyn LakeIo,
        state: &LakeState,
    ) -> Result<(), ColumnError> {
        if self.has_failed || self.end < LONG_BYTES.max(8 * self.whole_bytes) {
            return Ok(());
        }
        let failed = |e: io::Error| ColumnError::io(&self.path, e);
        let whole = frame(&Record::Whole(Box::new(state.clone()))).map_err(failed)?;
        let replaced = replace_file(io, &self.dir, NAME, &whole).and_then(|()| io.open(&self.path));
        match replaced {
            Ok(file) => {
                self.file = file;
                self.end = whole.len() as u64;
                self.whole_bytes = self.end;
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

fn replay(path: &Path, content: &[u8], state: &mut LakeState) -> Result<(), ColumnError> {
    let mut offset = 0;
    while let Some((record, length)) = content.get(offset..).and_then(good_record) {
        state.apply(record);
        offset += length;
    }
    let is_damaged = (offset + 1..content.len())
        .any(|later| content.get(later..).and_then(good_record).is_some());
    if is_damaged || (offset == 0 && !content.is_empty()) {
        let detail = format!("record at byte {offset} is damaged");
        return Err(ColumnError::damaged(path, detail));
    }
    if offset < content.len() {
        tracing::warn!(
            manifest.offset = offset,
            "cut an unfinished record at the end of the manifest"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedDisk;

    #[test]
    fn a_long_manifest_is_replaced_by_what_it_adds_up_to() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/lake");
        let (mut manifest, mut state) = Manifest::open(&disk, dir, 4).unwrap();
        let long = "x".repeat(200_000);
        for sequence in 1..=50 {
            let flushed = Record::Flushed {
                through_sequence: sequence,
                files: Vec::new(),
                units: None,
                next_file: sequence,
            };
            let expired = Record::Expired {
                removed: vec![long.clone()],
            };
            for record in [flushed, expired] {
                manifest.append(&record).unwrap();
                state.apply(record);
                manifest.shorten(&disk, &state).unwrap();
            }
        }
        let length = disk.open(&dir.join(NAME)).unwrap().byte_len().unwrap();
        assert!(length < LONG_BYTES + 500_000, "{length} bytes");
        disk.crash(7);
        assert_eq!(LakeState::read(&disk, dir).unwrap(), Some(state));
    }
}
