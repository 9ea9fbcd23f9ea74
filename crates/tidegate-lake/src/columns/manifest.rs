//! The manifest: which files are the lake. An append-only log of checksummed records.
//!
//! At each start the manifest is replaced by one record that states the whole, which also makes
//! durable what was read.

use super::ColumnError;
use super::aliases::Aliases;
use super::erasure::Place;
use super::file::groups_of;
use super::flush::day_text;
use super::records::{self, RecordFile, frame};
use crate::io::LakeIo;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tidegate_metrics::MissingFile;

const NAME: &str = "manifest";
/// A program that does not know a version leaves the lake alone. From 2 on, files may be set apart,
/// which an older one would delete; from 3 on, the buckets of an event file lie beside each other.
const VERSION: u32 = 3;
const OLDEST_VERSION: u32 = 1;
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

impl FileMeta {
    /// Whether it may hold events of a range of ingest sequences.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.first_sequence < range.end && self.end_sequence > range.start
    }
}

fn unknown_end() -> u64 {
    u64::MAX
}

/// An event file that is set apart because it does not hold what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// The file as it was written.
    pub file: FileMeta,
    /// What was found wrong with it.
    pub reason: String,
}

impl DamagedFile {
    /// What answers lack without it.
    #[must_use]
    pub fn missing(&self) -> MissingFile {
        MissingFile {
            file: self.file.name.clone(),
            day: day_text(self.file.day),
            rows: self.file.rows,
            reason: self.reason.clone(),
        }
    }
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
    /// Event files that are set apart because they are damaged, by name; in no answer.
    #[serde(default)]
    pub damaged: BTreeMap<String, DamagedFile>,
    /// How often events went or came back otherwise than by being taken or erased: days dropped for
    /// their age, files set apart and taken back. Whatever is kept up from before is made anew.
    #[serde(default, rename = "expiries")]
    pub upheavals: u64,
    /// Copies of events removed for good so far.
    pub duplicates_removed: u64,
    pub(super) next_file: u64,
    /// Which units are one person; kept in a log of its own.
    #[serde(skip)]
    pub(crate) aliases: Arc<Aliases>,
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
    /// Several units that were one person.
    ErasedTogether {
        units: Vec<(u16, u32)>,
    },
    ErasuresCompleted {
        units: Vec<(u16, u32)>,
    },
    Expired {
        removed: Vec<String>,
    },
    SetApart {
        name: String,
        reason: String,
    },
    TakenBack {
        name: String,
    },
}

impl Record {
    /// Event files that are no longer part of the lake once the record is.
    pub(super) fn removed_files(&self) -> &[String] {
        match self {
            Self::Compacted { removed, .. } | Self::Expired { removed } => removed,
            Self::Whole(_)
            | Self::Flushed { .. }
            | Self::UnitsReplaced { .. }
            | Self::Erased { .. }
            | Self::ErasedTogether { .. }
            | Self::ErasuresCompleted { .. }
            | Self::SetApart { .. }
            | Self::TakenBack { .. } => &[],
        }
    }
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
            Record::ErasedTogether { units } => {
                self.erased.extend(&units);
                self.erasing.extend(units);
            }
            Record::ErasuresCompleted { units } => {
                for unit in units {
                    self.erasing.remove(&unit);
                }
            }
            Record::Expired { removed } => {
                for name in &removed {
                    self.files.remove(name);
                    self.damaged.remove(name);
                }
                self.upheaved();
            }
            Record::SetApart { name, reason } => {
                if let Some(file) = self.files.remove(&name) {
                    self.damaged.insert(name, DamagedFile { file, reason });
                }
                self.upheaved();
            }
            Record::TakenBack { name } => {
                if let Some(DamagedFile { file, .. }) = self.damaged.remove(&name) {
                    // What was erased meanwhile is rewritten away from it too.
                    self.erasing.extend(self.erased_in(&file));
                    self.files.insert(name, file);
                }
                self.upheaved();
            }
        }
    }

    /// Events went or came back.
    fn upheaved(&mut self) {
        self.upheavals += 1;
    }

    /// Files set apart that may hold rows of some units.
    pub(super) fn set_apart_of(&self, units: &[Place]) -> Vec<String> {
        let damaged = self.damaged.iter();
        let may_hold = damaged.filter(|(_, damaged)| {
            let mut units = units.iter();
            units.any(|(bucket, _)| !groups_of(&damaged.file.groups, *bucket).is_empty())
        });
        may_hold.map(|(name, _)| name.clone()).collect()
    }

    /// Erased units that may have rows in a file.
    fn erased_in(&self, file: &FileMeta) -> Vec<Place> {
        let is_in = |place: &&Place| !groups_of(&file.groups, place.0).is_empty();
        self.erased.iter().filter(is_in).copied().collect()
    }

    /// Which units are one person.
    #[must_use]
    pub fn aliases(&self) -> &Aliases {
        &self.aliases
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
        let apply = &mut |record| state.apply(record);
        if records::read(io, &path, apply)?.is_none() {
            return Ok(None);
        }
        if !(OLDEST_VERSION..=VERSION).contains(&state.version) {
            let detail = format!("format version {} is not known", state.version);
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
    records: RecordFile,
    whole_bytes: u64,
}

impl Manifest {
    /// Opens or makes the manifest; returns what it says too.
    pub(super) fn open(
        io: &dyn LakeIo,
        dir: &Path,
        buckets: u16,
    ) -> Result<(Self, LakeState), ColumnError> {
        let state = match LakeState::read(io, dir)? {
            Some(state) => LakeState {
                version: VERSION,
                ..state
            },
            None => LakeState {
                version: VERSION,
                buckets,
                ..LakeState::default()
            },
        };
        let whole = frame(&Record::Whole(Box::new(state.clone())));
        let whole = whole.map_err(|e| ColumnError::io(&dir.join(NAME), e))?;
        let manifest = Self {
            records: RecordFile::create(io, dir, NAME, &whole)?,
            whole_bytes: whole.len() as u64,
        };
        Ok((manifest, state))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.records.has_failed()
    }

    /// Makes a record durable; see [`RecordFile::append`].
    pub(super) fn append(&mut self, record: &Record) -> Result<(), ColumnError> {
        self.records.append(record)
    }

    /// Replaces many records by the whole they add up to; cheap where there is no need.
    pub(super) fn shorten(
        &mut self,
        io: &dyn LakeIo,
        state: &LakeState,
    ) -> Result<(), ColumnError> {
        if self.records.byte_len() < LONG_BYTES.max(8 * self.whole_bytes) {
            return Ok(());
        }
        let whole = frame(&Record::Whole(Box::new(state.clone())));
        let whole = whole.map_err(|e| ColumnError::io(self.records.path(), e))?;
        self.records.replace(io, &whole)?;
        self.whole_bytes = whole.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedDisk;

    #[test]
    fn a_lake_of_before_gets_the_version_of_now_and_one_of_later_is_refused() {
        for (version, is_known) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
            let disk = SimulatedDisk::new();
            let dir = Path::new("/lake");
            let state = LakeState {
                version,
                buckets: 4,
                ..LakeState::default()
            };
            let whole = frame(&Record::Whole(Box::new(state))).unwrap();
            RecordFile::create(&disk, dir, NAME, &whole).unwrap();
            let opened = Manifest::open(&disk, dir, 8);
            assert_eq!(opened.is_ok(), is_known, "version {version}");
            if is_known {
                let read = LakeState::read(&disk, dir).unwrap().unwrap();
                assert_eq!((read.version, read.buckets), (VERSION, 4));
            }
        }
    }

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
