//! Several files' rows as one run: range of buckets by range of buckets, copies and erased rows
//! dropped.
//!
//! Row groups say which buckets are in them, so each range is read from the groups that have any
//! of it. Files that were written alike have the same ranges, and are read once; a file of one
//! group is small and is read at the start. Memory is one range of the files merged.

use super::ColumnError;
use super::file::{Footer, Wanted, read_batches};
use super::manifest::{FileMeta, LakeState};
use super::schema::{column, in_current_columns};
use crate::io::LakeIo;
use arrow::array::{AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Rows written at a time.
const BATCH_ROWS: usize = 1 << 16;

/// Files being merged.
pub(super) struct Merge<'m> {
    io: &'m dyn LakeIo,
    dir: PathBuf,
    state: &'m LakeState,
    inputs: Vec<Input<'m>>,
}

/// One file.
struct Input<'m> {
    file: &'m FileMeta,
    path: PathBuf,
    footer: Footer,
    /// All rows of a small file.
    small: Option<Vec<RecordBatch>>,
    /// The row groups read last: the next range may want them too.
    last: (Vec<usize>, Vec<RecordBatch>),
}

impl<'m> Merge<'m> {
    pub(super) fn open(
        io: &'m dyn LakeIo,
        dir: &Path,
        state: &'m LakeState,
        files: &'m [FileMeta],
    ) -> Result<Self, ColumnError> {
        let inputs = files.iter().map(|file| {
            let path = dir.join(&file.name);
            let mut input = Input {
                file,
                footer: Footer::read(io, &path, &|schema| schema.clone())?,
                path,
                small: None,
                last: (Vec::new(), Vec::new()),
            };
            if file.groups.len() == 1 {
                input.small = Some(input.read(io, None)?);
            }
            Ok(input)
        });
        Ok(Self {
            io,
            dir: dir.to_owned(),
            state,
            inputs: inputs.collect::<Result<_, ColumnError>>()?,
        })
    }

    /// Writes the rows of some buckets in the order of time and id; says how many copies were
    /// dropped.
    pub(super) fn range(
        &mut self,
        buckets: &RangeInclusive<u16>,
        write: &mut dyn FnMut(&RecordBatch) -> Result<(), ColumnError>,
    ) -> Result<u64, ColumnError> {
        let mut batches = Vec::new();
        for input in &mut self.inputs {
            batches.extend(input.batches(self.io, buckets)?);
        }
        let mut rows = Vec::new();
        for (part, batch) in (0u32..).zip(&batches) {
            let wrong = || ColumnError::damaged(&self.dir, "an event file has other columns");
            let keys = Keys::of(batch).ok_or_else(wrong)?;
            keys.collect(part, buckets, self.state, &mut rows)
                .ok_or_else(wrong)?;
        }
        let read = rows.len();
        drop_copies(&mut rows);
        let duplicates = read - rows.len();
        // Files are in this order already: the sort finds their runs and merges them.
        rows.sort_by_key(|row| (row.time_us, row.id));
        let parts: Vec<&RecordBatch> = batches.iter().collect();
        for stretch in rows.chunks(BATCH_ROWS) {
            let places: Vec<(usize, usize)> = stretch.iter().map(Row::place).collect();
            let batch = interleave_record_batch(&parts, &places);
            write(&batch.map_err(|e| ColumnError::parquet(&self.dir, &e))?)?;
        }
        Ok(u64::try_from(duplicates).unwrap_or(0))
    }
}

impl Input<'_> {
    fn batches(
        &mut self,
        io: &dyn LakeIo,
        buckets: &RangeInclusive<u16>,
    ) -> Result<Vec<RecordBatch>, ColumnError> {
        if let Some(batches) = &self.small {
            return Ok(batches.clone());
        }
        let groups = self.file.groups.iter().enumerate().filter(|(_, group)| {
            group.first_bucket <= *buckets.end() && group.last_bucket >= *buckets.start()
        });
        let groups: Vec<usize> = groups.map(|(at, _)| at).collect();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        if self.last.0 != groups {
            // What is no longer wanted makes room first.
            self.last = (Vec::new(), Vec::new());
            self.last = (groups.clone(), self.read(io, Some(groups))?);
        }
        Ok(self.last.1.clone())
    }

    fn read(
        &self,
        io: &dyn LakeIo,
        groups: Option<Vec<usize>>,
    ) -> Result<Vec<RecordBatch>, ColumnError> {
        let mut batches = Vec::new();
        let wanted = Wanted {
            groups,
            footer: Some(self.footer.clone()),
            ..Wanted::default()
        };
        read_batches(io, &self.path, wanted, &mut |batch| {
            let current = in_current_columns(batch);
            let wrong = || ColumnError::damaged(&self.path, "an event file has other columns");
            batches.push(current.ok_or_else(wrong)?);
            Ok(())
        })?;
        Ok(batches)
    }
}

/// A row to be written: its place in the order, when it was taken, and where it is.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: u128,
    time_us: i64,
    sequence: u64,
    part: u32,
    row: u32,
}

impl Row {
    fn place(&self) -> (usize, usize) {
        let narrow = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        (narrow(self.part), narrow(self.row))
    }
}

struct Keys<'b> {
    bucket: &'b [u16],
    unit: &'b [u32],
    time: &'b [i64],
    sequence: &'b [u64],
    ids: &'b FixedSizeBinaryArray,
}

impl<'b> Keys<'b> {
    fn of(batch: &'b RecordBatch) -> Option<Self> {
        let at = |index: usize| batch.columns().get(index);
        Some(Self {
            bucket: at(column::BUCKET)?
                .as_primitive_opt::<UInt16Type>()?
                .values(),
            unit: at(column::UNIT)?.as_primitive_opt::<UInt32Type>()?.values(),
            time: at(column::TIME)?
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .values(),
            sequence: at(column::SEQUENCE)?
                .as_primitive_opt::<UInt64Type>()?
                .values(),
            ids: at(column::EVENT_ID)?.as_fixed_size_binary_opt()?,
        })
    }

    /// Appends the rows of some buckets, but for those of erased units.
    fn collect(
        &self,
        part: u32,
        buckets: &RangeInclusive<u16>,
        state: &LakeState,
        rows: &mut Vec<Row>,
    ) -> Option<()> {
        let has_erased = !state.erased.is_empty();
        let columns = self.bucket.iter().zip(self.unit);
        let columns = columns.zip(self.time.iter().zip(self.sequence));
        for (at, ((bucket, unit), (time_us, sequence))) in columns.enumerate() {
            let is_erased = has_erased && state.erased.contains(&(*bucket, *unit));
            if is_erased || !buckets.contains(bucket) {
                continue;
            }
            rows.push(Row {
                id: u128::from_be_bytes(self.ids.value(at).try_into().ok()?),
                time_us: *time_us,
                sequence: *sequence,
                part,
                row: u32::try_from(at).ok()?,
            });
        }
        Some(())
    }
}

/// Bits for each row by which ids are told apart before they are compared.
const MARKS_PER_ROW: usize = 16;

/// Keeps of each id the copy that arrived first, so that the outcome does not depend on which files
/// were merged together.
///
/// Hardly any id is there twice. So each leaves a mark in a small set of bits, and only those that
/// find theirs taken are looked up.
fn drop_copies(rows: &mut Vec<Row>) {
    let bits = (rows.len() * MARKS_PER_ROW).next_power_of_two().max(64);
    let mask = u64::try_from(bits - 1).unwrap_or(u64::MAX);
    let mark_of = |id: u128| {
        let folded = (id ^ (id >> 64)) & u128::from(u64::MAX);
        let folded = u64::try_from(folded).unwrap_or(0);
        let spread = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let at = usize::try_from(spread & mask).unwrap_or(0);
        (at / 64, 1u64 << (at % 64))
    };
    let mut marks = vec![0u64; bits / 64];
    let mut suspects: FxHashSet<(usize, u64)> = FxHashSet::default();
    for row in rows.iter() {
        let (word, bit) = mark_of(row.id);
        if let Some(word_of_marks) = marks.get_mut(word) {
            if *word_of_marks & bit != 0 {
                suspects.insert((word, bit));
            }
            *word_of_marks |= bit;
        }
    }
    let mut first: FxHashMap<u128, (u64, u32, u32)> = FxHashMap::default();
    marks.fill(0);
    for (word, bit) in suspects {
        if let Some(word) = marks.get_mut(word) {
            *word |= bit;
        }
    }
    let is_suspect = |row: &Row| {
        let (word, bit) = mark_of(row.id);
        marks.get(word).is_some_and(|word| word & bit != 0)
    };
    let arrival = |row: &Row| (row.sequence, row.part, row.row);
    for row in rows.iter().filter(|row| is_suspect(row)) {
        let kept = first.entry(row.id).or_insert_with(|| arrival(row));
        *kept = (*kept).min(arrival(row));
    }
    rows.retain(|row| {
        !is_suspect(row) || first.get(&row.id).is_none_or(|kept| *kept == arrival(row))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn of_copies_the_first_to_arrive_stays(
            drawn in prop::collection::vec((0u128..200, any::<u64>()), 0..300)
        ) {
            let mut rows = Vec::new();
            let mut expected: BTreeMap<u128, (u64, u32)> = BTreeMap::new();
            for (at, (id, sequence)) in (0u32..).zip(drawn) {
                let id = id << 60 | id;
                let row = Row { id, time_us: 0, sequence, part: 0, row: at };
                let kept = expected.entry(id).or_insert((sequence, at));
                *kept = (*kept).min((sequence, at));
                rows.push(row);
            }
            drop_copies(&mut rows);
            let kept: BTreeMap<u128, (u64, u32)> =
                rows.iter().map(|row| (row.id, (row.sequence, row.row))).collect();
            prop_assert_eq!(kept.len(), rows.len());
            prop_assert_eq!(kept, expected);
        }
    }
}
