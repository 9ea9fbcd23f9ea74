//! The unit dictionary: which unit is which dense ordinal in its bucket.
//!
//! Rows carry ordinals, so that per-unit state is an array access and a unit's name occurs once.
//! The dictionary is append-only and lives in Parquet files of its own; in memory it is one
//! [`Dictionary`] per bucket. An erased unit is forgotten here, so that the same name coming
//! back later is a new unit.
//!
//! A file is ordered by bucket and ordinal. At a start one thread reads and two learn, each every
//! second bucket.

use super::ColumnError;
use super::dictionary::Dictionary;
use super::file::{FileWriter, Finished, Wanted, read_batches};
use super::manifest::LakeState;
use super::schema::unit_schema;
use crate::io::LakeIo;
use arrow::array::{AsArray, RecordBatch, StringArray, UInt16Array, UInt32Array};
use arrow::datatypes::{UInt16Type, UInt32Type};
use rustc_hash::FxHashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tidegate_metrics::unit_hash;

/// The bucket of a unit. `buckets` is a power of two.
pub(super) fn bucket_of(unit: &str, buckets: u16) -> u16 {
    bucket_of_hash(unit_hash(unit), buckets)
}

fn bucket_of_hash(hash: u64, buckets: u16) -> u16 {
    let bucket = hash & u64::from(buckets.max(1) - 1);
    u16::try_from(bucket).unwrap_or(0)
}

/// One dictionary entry; the name is absent once erased for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitEntry {
    pub(super) bucket: u16,
    pub(super) unit: u32,
    pub(super) unit_id: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Bucket {
    names: Dictionary,
    next: u32,
}

/// Threads that learn names at a start, while another reads them.
const LEARNERS: usize = 2;
/// Batches read ahead of each.
const AHEAD: usize = 4;

/// Learns the names of every so-manieth bucket, so that all learners have to do at the same time
/// also where a file is ordered by bucket.
struct Learner<'l> {
    state: &'l LakeState,
    buckets: Vec<&'l mut Bucket>,
    leaving: FxHashMap<Box<str>, (u16, u32)>,
}

impl<'l> Learner<'l> {
    fn new(state: &'l LakeState) -> Self {
        Self {
            state,
            buckets: Vec::new(),
            leaving: FxHashMap::default(),
        }
    }

    fn learn(&mut self, number: u16, unit: u32, unit_id: Option<&str>) {
        let place = (number, unit);
        let at = usize::from(number) / LEARNERS;
        let Some(bucket) = self.buckets.get_mut(at) else {
            return;
        };
        bucket.next = bucket.next.max(unit.saturating_add(1));
        let Some(unit_id) = unit_id else {
            return;
        };
        if self.state.erasing.contains(&place) {
            self.leaving.insert(unit_id.into(), place);
        }
        if !self.state.erased.contains(&place) {
            let hash = unit_hash(unit_id);
            bucket.names.insert(hash, unit_id, unit, unit_hash);
        }
    }
}

/// Reads all names and has them learned meanwhile; says which are about to go.
fn learn_all(
    io: &dyn LakeIo,
    dir: &Path,
    learners: Vec<Learner<'_>>,
) -> Result<FxHashMap<Box<str>, (u16, u32)>, ColumnError> {
    let Some(state) = learners.first().map(|learner| learner.state) else {
        return Ok(FxHashMap::default());
    };
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for (share, mut learner) in learners.into_iter().enumerate() {
            let (sender, batches) = sync_channel::<RecordBatch>(AHEAD);
            senders.push(sender);
            threads.push(scope.spawn(move || {
                for batch in batches {
                    each_entry(&batch, &mut |bucket, unit, unit_id| {
                        if usize::from(bucket) % LEARNERS == share {
                            learner.learn(bucket, unit, unit_id);
                        }
                    })?;
                }
                Some(learner.leaving)
            }));
        }
        let mut read = Ok(());
        for file in &state.units {
            let path = dir.join(&file.name);
            read = read_batches(io, &path, Wanted::default(), &mut |batch| {
                // One that gave up says so in the end.
                for sender in &senders {
                    let _ = sender.send(batch.clone());
                }
                Ok(())
            });
            if read.is_err() {
                break;
            }
        }
        drop(senders);
        let mut leaving = FxHashMap::default();
        for thread in threads {
            match thread.join().ok().flatten() {
                Some(found) => leaving.extend(found),
                None if read.is_ok() => {
                    read = Err(ColumnError::damaged(dir, "a file is not a unit dictionary"));
                }
                None => {}
            }
        }
        read.map(|()| leaving)
    })
}

#[derive(Debug)]
pub(super) struct Units {
    buckets: Vec<Bucket>,
    staged: Vec<UnitEntry>,
    /// Names of hidden units until nothing of them is left, so that asking for an erasure again
    /// finds the one under way.
    leaving: FxHashMap<Box<str>, (u16, u32)>,
}

impl Units {
    pub(super) fn load(
        io: &dyn LakeIo,
        dir: &Path,
        state: &LakeState,
    ) -> Result<Self, ColumnError> {
        let mut buckets: Vec<Bucket> = (0..state.buckets).map(|_| Bucket::default()).collect();
        let all: u64 = state.units.iter().map(|file| file.units).sum();
        let each = all / u64::from(state.buckets.max(1));
        let expected = usize::try_from(each + each / 8).unwrap_or(0);
        let mut learners: Vec<Learner<'_>> = Vec::new();
        learners.resize_with(LEARNERS, || Learner::new(state));
        for (number, bucket) in buckets.iter_mut().enumerate() {
            if let Some(learner) = learners.get_mut(number % LEARNERS) {
                bucket.names.reserve(expected);
                learner.buckets.push(bucket);
            }
        }
        let leaving = learn_all(io, dir, learners)?;
        // Most of what a lake will ever know is known at a start.
        for bucket in &mut buckets {
            bucket.names.shrink();
        }
        Ok(Self {
            buckets,
            staged: Vec::new(),
            leaving,
        })
    }

    pub(super) fn find(&self, unit: &str) -> Option<(u16, u32)> {
        let hash = unit_hash(unit);
        let bucket = bucket_of_hash(hash, self.bucket_count());
        let known = self.buckets.get(usize::from(bucket))?;
        Some((bucket, known.names.find(hash, unit)?))
    }

    fn bucket_count(&self) -> u16 {
        u16::try_from(self.buckets.len()).unwrap_or(u16::MAX)
    }

    /// Units of each bucket ever seen: one more than the highest ordinal.
    pub(super) fn count(&self, bucket: u16) -> u32 {
        let found = self.buckets.get(usize::from(bucket));
        found.map_or(0, |bucket| bucket.next)
    }

    /// The place of a unit, new or known. New ones are staged until committed or rolled back.
    pub(super) fn place(&mut self, unit: &str) -> (u16, u32) {
        let hash = unit_hash(unit);
        let number = bucket_of_hash(hash, self.bucket_count());
        let Some(bucket) = self.buckets.get_mut(usize::from(number)) else {
            return (number, 0);
        };
        if let Some(ordinal) = bucket.names.find(hash, unit) {
            return (number, ordinal);
        }
        let ordinal = bucket.next;
        bucket.next += 1;
        bucket.names.insert(hash, unit, ordinal, unit_hash);
        self.staged.push(UnitEntry {
            bucket: number,
            unit: ordinal,
            unit_id: Some(unit.into()),
        });
        (number, ordinal)
    }

    pub(super) fn staged(&self) -> Vec<UnitEntry> {
        self.staged.clone()
    }

    /// The names of a bucket's units by ordinal; erased ones have none.
    pub(super) fn names(&self, bucket: u16) -> Vec<Option<Box<str>>> {
        let Some(bucket) = self.buckets.get(usize::from(bucket)) else {
            return Vec::new();
        };
        let count = usize::try_from(bucket.next).unwrap_or(0);
        let mut names = vec![None; count];
        for (name, ordinal) in bucket.names.iter() {
            let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
            if let Some(place) = names.get_mut(at) {
                *place = Some(name.into());
            }
        }
        names
    }

    pub(super) fn commit(&mut self) {
        self.staged.clear();
    }

    pub(super) fn roll_back(&mut self) {
        for entry in self.staged.drain(..).rev() {
            if let Some(bucket) = self.buckets.get_mut(usize::from(entry.bucket)) {
                bucket.next = entry.unit;
                if let Some(unit_id) = &entry.unit_id {
                    bucket.names.undo(unit_hash(unit_id));
                }
            }
        }
    }

    /// Forgets units that were hidden.
    pub(super) fn forget(&mut self, places: &[(u16, u32)]) {
        for place in places {
            let Some(bucket) = self.buckets.get_mut(usize::from(place.0)) else {
                continue;
            };
            let mut names = bucket.names.iter();
            let name = names.find(|(_, ordinal)| *ordinal == place.1);
            let name: Option<Box<str>> = name.map(|(name, _)| name.into());
            drop(names);
            if let Some(name) = name {
                bucket.names.forget(unit_hash(&name), &name);
                self.leaving.insert(name, *place);
            }
        }
    }

    /// The place of a unit that is hidden and not yet rewritten away.
    pub(super) fn leaving(&self, unit: &str) -> Option<(u16, u32)> {
        self.leaving.get(unit).copied()
    }

    /// Forgets even that units were hidden: nothing of them is left.
    pub(super) fn completed(&mut self, places: &[(u16, u32)]) {
        self.leaving.retain(|_, place| !places.contains(place));
    }
}

pub(super) fn write_entries(
    io: &dyn LakeIo,
    dir: &Path,
    name: &str,
    entries: &[UnitEntry],
) -> Result<Finished, ColumnError> {
    let schema = unit_schema();
    let mut writer = FileWriter::create(io, dir, name, Arc::clone(&schema))?;
    // Neighbours in the file are neighbours in memory when it is read at a start.
    let mut entries: Vec<&UnitEntry> = entries.iter().collect();
    entries.sort_by_key(|entry| (entry.bucket, entry.unit));
    for part in entries.chunks(1 << 16) {
        let bucket = UInt16Array::from_iter_values(part.iter().map(|entry| entry.bucket));
        let unit = UInt32Array::from_iter_values(part.iter().map(|entry| entry.unit));
        let unit_id: StringArray = part.iter().map(|entry| entry.unit_id.as_deref()).collect();
        let columns = vec![
            Arc::new(bucket) as _,
            Arc::new(unit) as _,
            Arc::new(unit_id) as _,
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        writer.write(&batch.map_err(|e| ColumnError::parquet(&dir.join(name), &e))?)?;
    }
    writer.finish()
}

pub(super) fn read_entries(
    io: &dyn LakeIo,
    path: &Path,
    each: &mut dyn FnMut(UnitEntry),
) -> Result<(), ColumnError> {
    read_batches(io, path, Wanted::default(), &mut |batch| {
        let read = each_entry(&batch, &mut |bucket, unit, unit_id| {
            each(UnitEntry {
                bucket,
                unit,
                unit_id: unit_id.map(Into::into),
            });
        });
        read.ok_or_else(|| ColumnError::damaged(path, "not a unit dictionary"))
    })
}

/// Bucket, ordinal and name of each entry in a batch; `None` if it is not of a dictionary.
fn each_entry(batch: &RecordBatch, each: &mut dyn FnMut(u16, u32, Option<&str>)) -> Option<()> {
    let mut columns = batch.columns().iter();
    let buckets = columns.next()?.as_primitive_opt::<UInt16Type>()?.values();
    let units = columns.next()?.as_primitive_opt::<UInt32Type>()?.values();
    let names = columns.next()?.as_string_opt::<i32>()?;
    for ((bucket, unit), name) in buckets.iter().zip(units).zip(names) {
        each(*bucket, *unit, name);
    }
    Some(())
}
