//! One day's event file being written: a row group for each range of buckets, and what the manifest
//! is to say of the file.

use super::ColumnError;
use super::file::{FileWriter, Finished};
use super::manifest::{FileMeta, RowGroupMeta};
use super::schema::{column, event_schema};
use super::store::ColumnStore;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use std::ops::RangeInclusive;

/// A day's file being written, range of buckets by range in ascending order.
pub(super) struct DayWriter<'s> {
    writer: FileWriter<'s>,
    groups: Vec<RowGroupMeta>,
    open: Option<RowGroupMeta>,
    last_time_us: Option<i64>,
    sequences: (u64, u64),
}

impl<'s> DayWriter<'s> {
    pub(super) fn create(store: &'s ColumnStore, name: &str) -> Result<Self, ColumnError> {
        let writer =
            FileWriter::create(store.io.as_ref(), &store.events_dir, name, event_schema())?;
        Ok(Self {
            writer,
            groups: Vec::new(),
            open: None,
            last_time_us: None,
            sequences: (u64::MAX, 0),
        })
    }

    /// Writes rows of a range of buckets, in the order of time and id.
    pub(super) fn write(
        &mut self,
        buckets: &RangeInclusive<u16>,
        batch: &RecordBatch,
    ) -> Result<(), ColumnError> {
        let is_other = |open: &RowGroupMeta| open.first_bucket != *buckets.start();
        if self.open.as_ref().is_some_and(is_other) {
            self.end_group()?;
        }
        self.writer.write(batch)?;
        self.last_time_us = self.last_time_us.max(last_time_us(batch));
        if let Some((first, end)) = sequences(batch) {
            self.sequences.0 = self.sequences.0.min(first);
            self.sequences.1 = self.sequences.1.max(end);
        }
        let rows = batch.num_rows() as u64;
        let open = self.open.get_or_insert(RowGroupMeta {
            first_bucket: *buckets.start(),
            last_bucket: *buckets.end(),
            rows: 0,
        });
        open.rows += rows;
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), ColumnError> {
        if let Some(group) = self.open.take() {
            self.writer.end_row_group()?;
            self.groups.push(group);
        }
        Ok(())
    }

    pub(super) fn finish(mut self, day: i64, is_compacted: bool) -> Result<FileMeta, ColumnError> {
        self.end_group()?;
        let Finished {
            name,
            bytes,
            checksum,
        } = self.writer.finish()?;
        Ok(FileMeta {
            name,
            day,
            rows: self.groups.iter().map(|group| group.rows).sum(),
            bytes,
            checksum,
            groups: self.groups,
            last_time_us: self.last_time_us,
            is_compacted,
            first_sequence: self.sequences.0,
            end_sequence: self.sequences.1,
        })
    }
}

fn last_time_us(batch: &RecordBatch) -> Option<i64> {
    let time = batch.columns().get(column::TIME)?;
    let time = time.as_primitive_opt::<TimestampMicrosecondType>()?;
    let quarantined = batch.columns().get(column::QUARANTINED)?.as_boolean_opt()?;
    let counted = (0..batch.num_rows()).filter(|row| !quarantined.value(*row));
    counted.map(|row| time.value(row)).max()
}

/// The lowest sequence, and one more than the highest.
fn sequences(batch: &RecordBatch) -> Option<(u64, u64)> {
    let column = batch.columns().get(column::SEQUENCE)?;
    let values = column.as_primitive_opt::<UInt64Type>()?.values();
    let first = values.iter().min()?;
    let last = values.iter().max()?;
    Some((*first, last.saturating_add(1)))
}
