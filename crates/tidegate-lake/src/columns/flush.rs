//! Flushing: what is in the log and not yet in files becomes one file per day, and is then part
//! of the lake.

use super::ColumnError;
use super::day_writer::DayWriter;
use super::manifest::{FileMeta, Record, UnitsMeta};
use super::ranges::PartOfDay;
use super::schema::{PlacedEvent, event_batch};
use super::store::ColumnStore;
use super::units::write_entries;
use crate::log::{Committed, EventLog};
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_metrics::EventId;

const DAY_US: i64 = 86_400_000_000;

/// What a flush did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FlushReport {
    /// Events written.
    pub events: u64,
    /// Files written.
    pub files: usize,
    /// Everything below this sequence is in files now, and the log may be trimmed to it.
    pub through_sequence: u64,
}

impl ColumnStore {
    /// Writes events that are in the log and not yet in files, up to one flush's worth.
    ///
    /// # Errors
    /// [`ColumnError`]; the lake is as before, and the log still holds everything.
    pub fn flush(&self, log: &EventLog) -> Result<FlushReport, ColumnError> {
        let _turn = self.flushing();
        let from = self.peek().flushed_sequence;
        let nothing = FlushReport {
            through_sequence: from,
            ..FlushReport::default()
        };
        if log.next_sequence() <= from {
            return Ok(nothing);
        }
        let taken = self.take(log, from)?;
        let Some(through_sequence) = taken.last().map(|last| last.end_sequence()) else {
            return Ok(nothing);
        };
        let written = self.write_flush(&taken, from, through_sequence);
        match &written {
            Ok(_) => log.forget_recent(through_sequence),
            Err(_) => self.units().roll_back(),
        }
        written
    }

    fn take(&self, log: &EventLog, from: u64) -> Result<Vec<Arc<Committed>>, ColumnError> {
        let limit = self.options.flush_events;
        let mut taken = log.recent_from(from, limit);
        if !taken.is_empty() {
            return Ok(taken);
        }
        let mut count = 0;
        log.read_from(from, &mut |stretch| {
            count += stretch.events.len();
            taken.push(Arc::new(stretch));
            count < limit
        })?;
        match taken.first() {
            Some(first) if first.first_sequence > from => {
                let detail = format!(
                    "files end at sequence {from}, but the log begins at {}",
                    first.first_sequence
                );
                Err(ColumnError::damaged(&self.events_dir, detail))
            }
            _ => Ok(taken),
        }
    }

    fn write_flush(
        &self,
        taken: &[Arc<Committed>],
        from: u64,
        through_sequence: u64,
    ) -> Result<FlushReport, ColumnError> {
        let days = self.place(taken, from);
        let units = self.write_units()?;
        let mut report = FlushReport {
            through_sequence,
            ..FlushReport::default()
        };
        let mut files = Vec::new();
        for (day, rows) in days {
            report.events += rows.len() as u64;
            files.push(self.write_day(day, &rows)?);
        }
        self.sync_dirs()?;
        report.files = files.len();
        self.commit(Record::Flushed {
            through_sequence,
            files,
            units,
            next_file: self.next_file(),
        })?;
        self.units().commit();
        Ok(report)
    }

    fn place<'t>(
        &self,
        taken: &'t [Arc<Committed>],
        from: u64,
    ) -> BTreeMap<i64, Vec<PlacedEvent<'t>>> {
        let mut days: BTreeMap<i64, Vec<PlacedEvent<'_>>> = BTreeMap::new();
        let mut units = self.units();
        for stretch in taken {
            for (sequence, event) in (stretch.first_sequence..).zip(&stretch.events) {
                if sequence < from {
                    continue;
                }
                let (bucket, unit) = units.place(&event.unit);
                let day = event.time_us.div_euclid(DAY_US);
                days.entry(day).or_default().push(PlacedEvent {
                    bucket,
                    unit,
                    sequence,
                    time_us: event.time_us,
                    event,
                });
            }
        }
        days
    }

    pub(super) fn write_units(&self) -> Result<Option<UnitsMeta>, ColumnError> {
        let staged = self.units().staged();
        if staged.is_empty() {
            return Ok(None);
        }
        let name = self.new_name("units");
        let written = write_entries(self.io.as_ref(), &self.units_dir, &name, &staged)?;
        Ok(Some(UnitsMeta {
            name,
            units: staged.len() as u64,
            checksum: written.checksum,
            bytes: written.bytes,
        }))
    }

    // Events lie in memory as they came, in many pieces each. So they are made columns in that
    // order, and put into the order of files as columns, of which a row is a few places.
    fn write_day(&self, day: i64, rows: &[PlacedEvent<'_>]) -> Result<FileMeta, ColumnError> {
        let name = self.new_name(&day_text(day));
        let refuse =
            |e: &dyn std::fmt::Display| ColumnError::parquet(&self.events_dir.join(&name), e);
        let arrived = event_batch(rows).map_err(|e| refuse(&e))?;
        let ranges = self.ranges_of(rows.len() as u64, PartOfDay::Some);
        let number = |row: &PlacedEvent<'_>| ranges.of_bucket(row.bucket);
        let mut order: Vec<(u16, i64, EventId, u64, u32)> = (0u32..)
            .zip(rows)
            .map(|(at, row)| (number(row), row.time_us, row.event.id, row.sequence, at))
            .collect();
        order.sort_unstable();
        let places = UInt32Array::from_iter_values(order.iter().map(|(.., at)| *at));
        let ordered = take_record_batch(&arrived, &places).map_err(|e| refuse(&e))?;
        drop(arrived);
        let mut file = DayWriter::create(self, &name)?;
        let mut from = 0;
        for range_rows in order.chunk_by(|a, b| a.0 == b.0) {
            if let Some((number, ..)) = range_rows.first() {
                let batch = ordered.slice(from, range_rows.len());
                file.write(&ranges.numbered(*number), &batch)?;
            }
            from += range_rows.len();
        }
        file.finish(day, false)
    }
}

/// A day as files are named by it.
pub(super) fn day_text(day: i64) -> String {
    let text = tidegate_metrics::format_rfc3339(day.saturating_mul(DAY_US));
    text.chars().take(10).collect()
}
