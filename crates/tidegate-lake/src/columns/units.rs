//! The unit dictionary: which unit is which dense ordinal in its bucket.
//!
//! Rows carry ordinals, so that per-unit state is an array access and a unit's name occurs once.
//! The dictionary is append-only and lives in Parquet files of its own; in memory it is one
//! [`Dictionary`] per bucket. An erased unit is forgotten here, so that the same name coming
//! back later is a new unit.

use super::ColumnError;
use super::dictionary::Dictionary;
use super::file::{FileWriter, Finished, Wanted, read_batches};
use super::manifest::LakeState;
use super::schema::unit_schema;
use crate::io::LakeIo;
use arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt16Array, UInt32Array};
use arrow::datatypes::{UInt16Type, UInt32Type};
use rustc_hash::FxHashMap;
use std::path::Path;
use std::sync::Arc;
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
        let mut units = Self {
            buckets: (0..state.buckets).map(|_| Bucket::default()).collect(),
            staged: Vec::new(),
            leaving: FxHashMap::default(),
        };
        for file in &state.units {
            read_entries(io, &dir.join(&file.name), &mut |entry| {
                units.learn(entry, state);
            })?;
        }
        // Most of what a lake will ever know is known at a start.
        for bucket in &mut units.buckets {
            bucket.names.shrink();
        }
        Ok(units)
    }

    fn learn(&mut self, entry: UnitEntry, state: &LakeState) {
        let place = (entry.bucket, entry.unit);
        let is_erased = state.erased.contains(&place);
        if state.erasing.contains(&place)
            && let Some(unit_id) = &entry.unit_id
        {
            self.leaving.insert(unit_id.clone(), place);
        }
        if let Some(bucket) = self.buckets.get_mut(usize::from(entry.bucket)) {
            bucket.next = bucket.next.max(entry.unit + 1);
            if let Some(unit_id) = entry.unit_id.filter(|_| !is_erased) {
                let hash = unit_hash(&unit_id);
                bucket.names.insert(hash, &unit_id, entry.unit, unit_hash);
            }
        }
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
        let wrong = || ColumnError::damaged(path, "not a unit dictionary");
        let bucket = batch.columns().first().ok_or_else(wrong)?;
        let unit = batch.columns().get(1).ok_or_else(wrong)?;
        let unit_id = batch.columns().get(2).ok_or_else(wrong)?;
        let bucket = bucket.as_primitive_opt::<UInt16Type>().ok_or_else(wrong)?;
        let unit = unit.as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?;
        let unit_id = unit_id.as_string_opt::<i32>().ok_or_else(wrong)?;
        for row in 0..batch.num_rows() {
            each(UnitEntry {
                bucket: bucket.value(row),
                unit: unit.value(row),
                unit_id: unit_id.is_valid(row).then(|| unit_id.value(row).into()),
            });
        }
        Ok(())
    })
}
