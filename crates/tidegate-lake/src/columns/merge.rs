//! Several files' rows as one run: streamed bucket by bucket, copies and erased rows dropped.
//!
//! Every file is ordered by bucket, so all of them are read once, side by side; memory is one
//! bucket of the files and a batch of each.

use super::ColumnError;
use super::file::{Batches, Wanted};
use super::manifest::{FileMeta, LakeState};
use super::schema::{column, event_schema};
use crate::io::LakeIo;
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};

/// Rows of each file held at a time, besides those of the bucket in hand.
const BATCH_ROWS: usize = 8192;

/// One bucket's merged rows and the number of copies dropped.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) batch: RecordBatch,
    pub(super) duplicates: u64,
}

/// Files being merged.
pub(super) struct Merge<'m> {
    dir: PathBuf,
    state: &'m LakeState,
    cursors: Vec<Cursor>,
}

impl<'m> Merge<'m> {
    pub(super) fn open(
        io: &dyn LakeIo,
        dir: &Path,
        state: &'m LakeState,
        files: &[FileMeta],
    ) -> Result<Self, ColumnError> {
        let cursors = files.iter().map(|file| {
            let wanted = Wanted {
                batch_rows: Some(BATCH_ROWS),
                ..Wanted::default()
            };
            Ok(Cursor {
                batches: Batches::open(io, &dir.join(&file.name), wanted)?,
                current: None,
            })
        });
        Ok(Self {
            dir: dir.to_owned(),
            state,
            cursors: cursors.collect::<Result<_, ColumnError>>()?,
        })
    }

    /// The rows of a bucket; buckets are asked for in ascending order, each once.
    pub(super) fn bucket(&mut self, bucket: u16) -> Result<Merged, ColumnError> {
        let mut parts = Vec::new();
        for cursor in &mut self.cursors {
            cursor.take_bucket(bucket, &mut parts)?;
        }
        let refuse = |e: &dyn std::fmt::Display| ColumnError::parquet(&self.dir, e);
        let all = concat_batches(&event_schema(), &parts).map_err(|e| refuse(&e))?;
        let wrong = || ColumnError::damaged(&self.dir, "an event file has other columns");
        let keys = Keys::of(&all).ok_or_else(wrong)?;
        let (order, duplicates) = keys.order(bucket, self.state);
        let batch = take_record_batch(&all, &UInt32Array::from(order)).map_err(|e| refuse(&e))?;
        Ok(Merged { batch, duplicates })
    }
}

/// One file, read up to some row.
struct Cursor {
    batches: Batches,
    current: Option<RecordBatch>,
}

impl Cursor {
    fn take_bucket(
        &mut self,
        bucket: u16,
        parts: &mut Vec<RecordBatch>,
    ) -> Result<(), ColumnError> {
        loop {
            let batch = match self.current.take() {
                Some(batch) => batch,
                None => match self.batches.next() {
                    Some(batch) => batch?,
                    None => return Ok(()),
                },
            };
            let wrong = |detail| ColumnError::damaged(self.batches.path(), detail);
            let buckets = batch.columns().get(column::BUCKET);
            let buckets = buckets.and_then(|column| column.as_primitive_opt::<UInt16Type>());
            let buckets = buckets.ok_or_else(|| wrong("an event file has other columns"))?;
            let buckets = buckets.values();
            if buckets.first().is_some_and(|first| *first < bucket) {
                return Err(wrong("rows are not ordered by bucket"));
            }
            let ours = buckets.partition_point(|other| *other <= bucket);
            let rows = batch.num_rows();
            if ours > 0 {
                parts.push(batch.slice(0, ours));
            }
            if ours < rows {
                self.current = Some(batch.slice(ours, rows - ours));
                return Ok(());
            }
        }
    }
}

struct Keys<'b> {
    bucket: &'b [u16],
    unit: &'b [u32],
    time: &'b [i64],
    sequence: &'b [u64],
    ids: Vec<u128>,
}

impl<'b> Keys<'b> {
    fn of(batch: &'b RecordBatch) -> Option<Self> {
        let at = |index: usize| batch.columns().get(index);
        let ids = at(column::EVENT_ID)?.as_fixed_size_binary_opt()?;
        let ids = (0..ids.len()).map(|row| ids.value(row).try_into().ok().map(u128::from_be_bytes));
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
            ids: ids.collect::<Option<_>>()?,
        })
    }

    // Of copies the one that arrived first stays, so that the outcome does not depend on which
    // files were merged together.
    fn order(&self, bucket: u16, state: &LakeState) -> (Vec<u32>, u64) {
        let mut first: FxHashMap<u128, (u64, u32)> = FxHashMap::default();
        let mut duplicates = 0;
        for (row, (id, sequence)) in (0u32..).zip(self.ids.iter().zip(self.sequence)) {
            let at = usize::try_from(row).unwrap_or(usize::MAX);
            let unit = self.unit.get(at).copied().unwrap_or(0);
            let is_here = self.bucket.get(at) == Some(&bucket);
            if !is_here || state.erased.contains(&(bucket, unit)) {
                continue;
            }
            first
                .entry(*id)
                .and_modify(|kept| {
                    duplicates += 1;
                    *kept = (*kept).min((*sequence, row));
                })
                .or_insert((*sequence, row));
        }
        let mut order: Vec<u32> = first.into_values().map(|(_, row)| row).collect();
        order.sort_by_key(|row| {
            let at = usize::try_from(*row).unwrap_or(usize::MAX);
            (self.time.get(at).copied(), self.ids.get(at).copied())
        });
        (order, duplicates)
    }
}
