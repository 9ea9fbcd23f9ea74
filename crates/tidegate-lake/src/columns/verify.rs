//! Verification: everything is read again and every promise checked.
//!
//! An event file that does not hold what was written is set apart, and one that was set apart and
//! holds it again is taken back (`damage`).

use super::ColumnError;
use super::aliases;
use super::file::{Wanted, checksum_of, read_batches};
use super::manifest::{DamagedFile, FileMeta, LakeState};
use super::schema::column;
use super::store::ColumnStore;
use super::units::{bucket_of, read_entries};
use crate::log::{Committed, EventLog};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type, UInt32Type};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tidegate_metrics::MissingFile;

const DAY_US: i64 = 86_400_000_000;
const IDS_PER_PASS: u64 = 32_000_000;

/// What verification found. No problems means: every checksum, count and order holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Distinct events, in files and in the log.
    pub events: u64,
    /// Further copies of these events, which no answer counts.
    pub duplicates: u64,
    /// Event files read, those set apart included.
    pub files: usize,
    /// Log segments read.
    pub log_segments: usize,
    /// Units merged into others.
    pub merged_units: u64,
    /// Everything that is wrong; empty if nothing is.
    pub problems: Vec<String>,
    /// Event files that are set apart, because they are damaged; each is a problem too.
    pub set_apart: Vec<MissingFile>,
    /// Event files that were set apart, hold again what was written, and were taken back.
    pub taken_back: Vec<String>,
    /// How many problems, the first ones, are not of files set apart.
    #[serde(skip)]
    pub(crate) elsewhere: usize,
}

impl VerifyReport {
    /// What is wrong besides the files set apart, which answers name themselves.
    #[must_use]
    pub fn elsewhere(&self) -> &[String] {
        self.problems.get(..self.elsewhere).unwrap_or(&[])
    }

    pub(crate) fn add_problems(&mut self, problems: Vec<String>) {
        self.elsewhere += problems.len();
        self.problems.splice(0..0, problems);
    }
}

impl ColumnStore {
    /// Reads every file, and the log if it can be read, again. `progress` is told files done and files in all.
    ///
    /// # Errors
    /// [`ColumnError::Log`] if the log cannot be listed. Everything else is a problem in the
    /// report, so that one damaged file does not hide the next.
    pub fn verify(
        &self,
        log: Option<&EventLog>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VerifyReport, ColumnError> {
        let state = self.state();
        let mut report = VerifyReport {
            files: state.files.len() + state.damaged.len(),
            log_segments: log.map_or(Ok(0), EventLog::segments)?,
            ..VerifyReport::default()
        };
        self.verify_units(&state, &mut report.problems);
        self.verify_aliases(&mut report);
        let (mut done, files) = (0, report.files);
        let mut progress = || {
            progress(done, files);
            done += 1;
        };
        progress();
        for file in state.files.values() {
            if let Err(error) = self.verify_file(&state, file, &mut report.problems) {
                report.problems.push(error_text(&error));
            }
            progress();
        }
        for damaged in state.damaged.values() {
            match self.verify_damaged(&state, &damaged.file) {
                Ok(true) => report.taken_back.push(damaged.file.name.clone()),
                Ok(false) => {}
                Err(error) => report.problems.push(error_text(&error)),
            }
            progress();
        }
        drop(state);
        let state = self.state();
        self.count_events(log, &state, &mut report);
        report.elsewhere = report.problems.len();
        report.problems.extend(self.damage(&state));
        report.set_apart = state.damaged.values().map(DamagedFile::missing).collect();
        Ok(report)
    }

    fn verify_units(&self, state: &LakeState, problems: &mut Vec<String>) {
        for file in &state.units {
            let path = self.units_dir.join(&file.name);
            match checksum_of(self.io.as_ref(), &path) {
                Ok(found) if found == (file.bytes, file.checksum) => {}
                Ok(_) => problems.push(format!("{}: checksum differs", path.display())),
                Err(error) => problems.push(format!("{}: {error}", path.display())),
            }
            let mut misplaced = 0u64;
            let read = read_entries(self.io.as_ref(), &path, &mut |entry| {
                let is_right = entry
                    .unit_id
                    .is_none_or(|unit| bucket_of(&unit, state.buckets) == entry.bucket);
                misplaced += u64::from(!is_right);
            });
            if let Err(error) = read {
                problems.push(error_text(&error));
            }
            if misplaced > 0 {
                problems.push(format!(
                    "{}: {misplaced} units in a wrong bucket",
                    path.display()
                ));
            }
        }
    }

    /// Reads the log of aliases again: every entry follows from those before it, every unit is
    /// known to the dictionary, and it adds up to what questions are answered by.
    fn verify_aliases(&self, report: &mut VerifyReport) {
        // Nobody merges or erases meanwhile.
        let _turn = self.flushing();
        let state = self.peek();
        report.merged_units = state.aliases.merged_units();
        let dir = self.events_dir.parent().unwrap_or(&self.events_dir);
        let stored = match aliases::check(self.io.as_ref(), dir) {
            Ok(stored) => stored,
            Err(error) => return report.problems.push(error_text(&error)),
        };
        let is_known = |(bucket, unit): (u16, u32)| unit < self.unit_count(bucket);
        let mut units = stored.persons().flat_map(|(_, units)| units);
        if !units.all(is_known) {
            let problem = "aliases: a unit the dictionary does not know";
            report.problems.push(problem.to_owned());
        }
        if stored.without(&state.erased) != *state.aliases {
            let problem = "aliases: the log says otherwise than what answers go by";
            report.problems.push(problem.to_owned());
        }
    }

    fn verify_file(
        &self,
        state: &LakeState,
        file: &FileMeta,
        problems: &mut Vec<String>,
    ) -> Result<(), ColumnError> {
        let path = self.events_dir.join(&file.name);
        let reason = match self.damage_of(file)? {
            Some(reason) => reason,
            None => match self.faults_in(state, file, &path)? {
                faults if faults.is_empty() => return Ok(()),
                faults => faults.join(", "),
            },
        };
        let path = path.display();
        match self.set_apart(&file.name, &reason) {
            Ok(true) => {}
            Ok(false) => problems.push(format!("{path}: {reason}; it was replaced meanwhile")),
            Err(error) => {
                let error = error_text(&error);
                problems.push(format!("{path}: {reason}; it cannot be set apart: {error}"));
            }
        }
        Ok(())
    }

    /// Takes a file that was set apart back, if it holds again what was written.
    fn verify_damaged(&self, state: &LakeState, file: &FileMeta) -> Result<bool, ColumnError> {
        self.take_back(file, &mut |path| {
            Ok(self.damage_at(path, file)?.is_none()
                && self.faults_in(state, file, path)?.is_empty())
        })
    }

    /// What is wrong with the rows of a file whose checksum holds.
    fn faults_in(
        &self,
        state: &LakeState,
        file: &FileMeta,
        path: &Path,
    ) -> Result<Vec<String>, ColumnError> {
        let mut check = OrderCheck::new(file.day);
        let columns = [column::BUCKET, column::UNIT, column::TIME, column::EVENT_ID];
        let read = read_batches(
            self.io.as_ref(),
            path,
            Wanted {
                columns: Some(&columns),
                ..Wanted::default()
            },
            &mut |batch| {
                let units = |bucket| self.unit_count(bucket);
                check
                    .batch(&batch, &units)
                    .ok_or_else(|| ColumnError::damaged(path, "not an event file"))
            },
        );
        match read {
            Err(ColumnError::Parquet { detail, .. } | ColumnError::Damaged { detail, .. }) => {
                return Ok(vec![detail]);
            }
            read => read?,
        }
        let mut faults = Vec::new();
        if check.rows != file.rows {
            faults.push(format!("{} rows instead of {}", check.rows, file.rows));
        }
        if check
            .last
            .keys()
            .next_back()
            .is_some_and(|bucket| *bucket >= state.buckets)
        {
            faults.push("a bucket beyond the last".to_owned());
        }
        for (wrong, what) in [
            (check.out_of_order, "out of order"),
            (check.out_of_day, "outside the file's day"),
            (check.unknown_unit, "of units the dictionary does not know"),
        ] {
            if wrong > 0 {
                faults.push(format!("{wrong} rows {what}"));
            }
        }
        Ok(faults)
    }

    // Ids are counted in passes over their residues, so that memory is bounded however many
    // there are.
    fn count_events(&self, log: Option<&EventLog>, state: &LakeState, report: &mut VerifyReport) {
        let passes = u128::from(state.rows() / IDS_PER_PASS + 1);
        for pass in 0..passes {
            let mut ids: Vec<u128> = Vec::new();
            let mut keep = |id: u128| {
                if id % passes == pass {
                    ids.push(id);
                }
            };
            for file in state.files.values() {
                // A file that cannot be read has been reported already.
                let _ = self.each_id(file, &mut keep);
            }
            let mut each = |stretch: Committed| {
                let sequenced = (stretch.first_sequence..).zip(&stretch.events);
                for (sequence, event) in sequenced {
                    if sequence >= state.flushed_sequence {
                        keep(event.id.0);
                    }
                }
                true
            };
            let read = log.map(|log| log.read_from(state.flushed_sequence, &mut each));
            if let Some(Err(error)) = read
                && pass == 0
            {
                report.problems.push(error_text(&error));
            }
            let all = ids.len() as u64;
            ids.sort_unstable();
            ids.dedup();
            report.events += ids.len() as u64;
            report.duplicates += all - ids.len() as u64;
        }
    }

    fn each_id(&self, file: &FileMeta, each: &mut dyn FnMut(u128)) -> Result<(), ColumnError> {
        let path = self.events_dir.join(&file.name);
        let columns = [column::EVENT_ID];
        read_batches(
            self.io.as_ref(),
            &path,
            Wanted {
                columns: Some(&columns),
                ..Wanted::default()
            },
            &mut |batch| {
                let wrong = || ColumnError::damaged(&path, "not an event file");
                let ids = batch.columns().first().ok_or_else(wrong)?;
                let ids = ids.as_fixed_size_binary_opt().ok_or_else(wrong)?;
                for row in 0..ids.len() {
                    let id = ids.value(row).try_into().map_err(|_| wrong())?;
                    each(u128::from_be_bytes(id));
                }
                Ok(())
            },
        )
    }
}

struct OrderCheck {
    day: i64,
    /// The last row of each bucket. Buckets may lie beside each other, each in order.
    last: BTreeMap<u16, (i64, [u8; 16])>,
    rows: u64,
    out_of_order: u64,
    out_of_day: u64,
    unknown_unit: u64,
    /// Units of each bucket.
    known: BTreeMap<u16, u32>,
}

impl OrderCheck {
    fn new(day: i64) -> Self {
        Self {
            day,
            last: BTreeMap::new(),
            rows: 0,
            out_of_order: 0,
            out_of_day: 0,
            unknown_unit: 0,
            known: BTreeMap::new(),
        }
    }

    fn batch(&mut self, batch: &RecordBatch, units: &dyn Fn(u16) -> u32) -> Option<()> {
        let mut columns = batch.columns().iter();
        let bucket = columns.next()?.as_primitive_opt::<UInt16Type>()?;
        let unit = columns.next()?.as_primitive_opt::<UInt32Type>()?;
        let time = columns.next()?;
        let time = time.as_primitive_opt::<TimestampMicrosecondType>()?;
        let ids = columns.next()?.as_fixed_size_binary_opt()?;
        for row in 0..batch.num_rows() {
            let id = ids.value(row).try_into().ok()?;
            let (bucket, key) = (bucket.value(row), (time.value(row), id));
            self.rows += 1;
            let last = self.last.insert(bucket, key);
            self.out_of_order += u64::from(last.is_some_and(|last| last > key));
            self.out_of_day += u64::from(key.0.div_euclid(DAY_US) != self.day);
            let known = *self.known.entry(bucket).or_insert_with(|| units(bucket));
            self.unknown_unit += u64::from(unit.value(row) >= known);
        }
        Some(())
    }
}

/// An error with its causes, as one line.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
