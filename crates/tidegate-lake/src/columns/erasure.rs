//! Erasure of a unit: invisible at once, rewritten away, and proved by a rescan.
//!
//! First everything durable is flushed, then one manifest record hides the unit from every
//! question. Next, the days that hold its rows and the dictionary are rewritten without it, and
//! the log is trimmed. The receipt states what a rescan still finds, which must be nothing. The
//! receipt names the unit by bucket and ordinal only: it proves the erasure without undoing it.

use super::ColumnError;
use super::file::{groups_of, read_batches};
use super::manifest::{FileMeta, LakeState, Record, UnitsMeta};
use super::schema::column;
use super::store::ColumnStore;
use super::units::{read_entries, write_entries};
use crate::log::EventLog;
use arrow::array::AsArray;
use arrow::datatypes::{UInt16Type, UInt32Type};
use serde::Serialize;
use std::collections::BTreeSet;

/// Proof of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasureReceipt {
    /// The unit's bucket.
    pub bucket: u16,
    /// The unit's ordinal in the bucket, which is never used again.
    pub unit: u32,
    /// Rows the unit had.
    pub rows_erased: u64,
    /// Days rewritten.
    pub days_rewritten: usize,
    /// The first ingest sequence that may hold events of the same name again.
    pub effective_sequence: u64,
    /// The first sequence still in the log. The unit is gone from the log once this is at least
    /// `effective_sequence`; the segment being written to is trimmed when it is full.
    pub log_first_sequence: u64,
    /// Rows of the unit that a rescan of every file still found: zero.
    pub rows_found_by_rescan: u64,
}

impl ColumnStore {
    /// Erases a unit; `None` if the lake has never seen it.
    ///
    /// # Errors
    /// [`ColumnError`]. If it occurs after the unit was hidden, calling again completes it.
    pub fn erase_unit(
        &self,
        log: &EventLog,
        unit: &str,
    ) -> Result<Option<ErasureReceipt>, ColumnError> {
        while self.flush(log)?.events > 0 {}
        let Some((bucket, ordinal)) = self.hide(unit)? else {
            return Ok(None);
        };
        let state = self.state();
        let rows_erased = self.count_rows(&state, bucket, ordinal)?;
        let effective_sequence = state.flushed_sequence;
        let report = self.rewrite_days_with(&state, bucket, ordinal)?;
        self.rewrite_units()?;
        // A read-only log cannot be trimmed now; the receipt says so by its first sequence.
        let _ = log.trim(effective_sequence);
        let log_first_sequence = log.first_sequence()?;
        Ok(Some(ErasureReceipt {
            bucket,
            unit: ordinal,
            rows_erased,
            days_rewritten: report,
            effective_sequence,
            log_first_sequence,
            rows_found_by_rescan: self.count_rows(&self.state(), bucket, ordinal)?,
        }))
    }

    fn hide(&self, unit: &str) -> Result<Option<(u16, u32)>, ColumnError> {
        let mut inner = self.inner();
        let Some((bucket, ordinal)) = inner.units.find(unit) else {
            return Ok(None);
        };
        let record = Record::Erased {
            bucket,
            unit: ordinal,
        };
        inner.manifest.commit(record)?;
        inner.units.forget(unit);
        Ok(Some((bucket, ordinal)))
    }

    fn rewrite_days_with(
        &self,
        state: &LakeState,
        bucket: u16,
        unit: u32,
    ) -> Result<usize, ColumnError> {
        let mut days = BTreeSet::new();
        for file in state.files.values() {
            if self.rows_in(file, bucket, unit)? > 0 {
                days.insert(file.day);
            }
        }
        let report =
            self.compact_days(&|files| files.iter().any(|file| days.contains(&file.day)))?;
        Ok(report.days)
    }

    fn count_rows(&self, state: &LakeState, bucket: u16, unit: u32) -> Result<u64, ColumnError> {
        let mut rows = 0;
        for file in state.files.values() {
            rows += self.rows_in(file, bucket, unit)?;
        }
        Ok(rows)
    }

    fn rows_in(&self, file: &FileMeta, bucket: u16, unit: u32) -> Result<u64, ColumnError> {
        let groups = groups_of(&file.groups, bucket);
        if groups.is_empty() {
            return Ok(0);
        }
        let path = self.events_dir.join(&file.name);
        let columns = [column::BUCKET, column::UNIT];
        let mut rows = 0;
        let io = self.io.as_ref();
        read_batches(
            io,
            &path,
            Some(groups),
            Some(&columns),
            None,
            &mut |batch| {
                let wrong = || ColumnError::damaged(&path, "not an event file");
                let mut keys = batch.columns().iter();
                let buckets = keys.next().and_then(|c| c.as_primitive_opt::<UInt16Type>());
                let units = keys.next().and_then(|c| c.as_primitive_opt::<UInt32Type>());
                let (buckets, units) = buckets.zip(units).ok_or_else(wrong)?;
                let matching = buckets.values().iter().zip(units.values());
                rows += matching.filter(|found| *found == (&bucket, &unit)).count() as u64;
                Ok(())
            },
        )?;
        Ok(rows)
    }

    fn rewrite_units(&self) -> Result<(), ColumnError> {
        let mut inner = self.inner();
        let state = inner.manifest.state();
        let mut entries = Vec::new();
        for file in &state.units {
            read_entries(
                self.io.as_ref(),
                &self.units_dir.join(&file.name),
                &mut |entry| {
                    entries.push(entry);
                },
            )?;
        }
        for entry in &mut entries {
            if state.erased.contains(&(entry.bucket, entry.unit)) {
                entry.unit_id = None;
            }
        }
        let name = inner.new_name("units");
        let written = write_entries(self.io.as_ref(), &self.units_dir, &name, &entries)?;
        self.sync_dirs()?;
        let rewritten = UnitsMeta {
            name,
            units: entries.len() as u64,
            checksum: written.checksum,
            bytes: written.bytes,
        };
        let next_file = inner.next_file();
        inner.manifest.commit(Record::UnitsRewritten {
            units: vec![rewritten],
            next_file,
        })?;
        let old = state
            .units
            .iter()
            .map(|file| self.units_dir.join(&file.name));
        inner.discard(self.io.as_ref(), old.collect::<Vec<_>>());
        Ok(())
    }
}
