//! Several files' rows of one bucket, all columns, as one run: ordered, copies and erased dropped.

use super::ColumnError;
use super::file::{groups_of, read_batches};
use super::manifest::{FileMeta, LakeState};
use super::schema::{column, event_schema};
use crate::io::LakeIo;
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use rustc_hash::FxHashMap;
use std::path::Path;

/// One bucket's merged rows and the number of copies dropped.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) batch: RecordBatch,
    pub(super) duplicates: u64,
}

pub(super) fn merge_bucket(
    io: &dyn LakeIo,
    dir: &Path,
    state: &LakeState,
    files: &[FileMeta],
    bucket: u16,
) -> Result<Merged, ColumnError> {
    let mut batches = Vec::new();
    for file in files {
        let groups = groups_of(&file.groups, bucket);
        if !groups.is_empty() {
            let path = dir.join(&file.name);
            read_batches(io, &path, Some(groups), None, None, &mut |batch| {
                batches.push(batch);
                Ok(())
            })?;
        }
    }
    let refuse = |e: &dyn std::fmt::Display| ColumnError::parquet(dir, e);
    let all = concat_batches(&event_schema(), &batches).map_err(|e| refuse(&e))?;
    let wrong = || ColumnError::damaged(dir, "an event file has other columns");
    let keys = Keys::of(&all).ok_or_else(wrong)?;
    let (order, duplicates) = keys.order(bucket, state);
    let batch = take_record_batch(&all, &UInt32Array::from(order)).map_err(|e| refuse(&e))?;
    Ok(Merged { batch, duplicates })
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
