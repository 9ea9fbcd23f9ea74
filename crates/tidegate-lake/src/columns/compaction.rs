//! Compaction: files of a day become one; copies and erased rows go for good.
//!
//! The set of visible events does not change. Files are merged in tiers: when several files of a
//! day are of like size they become one of the next size, so that a row is rewritten about once
//! per factor of sixteen and a growing day never has more than a few dozen files. A day that has
//! ended is made one file. Memory is one range of buckets of the files merged. Before a merge the
//! checksums of its files are looked at, so that damage the format does not notice is never written
//! anew.

use super::ColumnError;
use super::day_writer::DayWriter;
use super::flush::day_text;
use super::manifest::{FileMeta, LakeState, Record, UnitsMeta};
use super::merge::Merge;
use super::ranges::PartOfDay;
use super::store::ColumnStore;
use super::units::{UnitEntry, read_entries, write_entries};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::MutexGuard;

/// Files of like size that are merged into one.
const TIER_FILES: usize = 16;
/// A day that has ended is merged whole when its smaller files hold this share of the largest.
const LATE_SHARE: u64 = 8;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompactionReport {
    /// Days rewritten.
    pub days: usize,
    /// Files replaced.
    pub files: usize,
    /// Copies of events removed.
    pub duplicates: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Which files of a day become one: groups of files, by day and the files there are.
pub(super) type Merges<'p> = dyn Fn(i64, &[FileMeta]) -> Vec<Vec<FileMeta>> + 'p;

impl ColumnStore {
    /// Compacts every day that has more than one file, or one that was never compacted.
    ///
    /// # Errors
    /// The first [`ColumnError`]; other days are compacted all the same.
    pub fn compact(&self) -> Result<CompactionReport, ColumnError> {
        self.rewrite_days(&self.rewriting(), &|_, files| match files {
            [file] if file.is_compacted => Vec::new(),
            files => vec![files.to_vec()],
        })
    }

    /// Merges what has piled up: files of like size, whole days before `first_open_day` (days
    /// since 1970 in UTC) that have enough beside their main file, and small files of the
    /// dictionary.
    ///
    /// # Errors
    /// The first [`ColumnError`]; what can be merged is merged all the same.
    pub fn tidy(&self, first_open_day: i64) -> Result<CompactionReport, ColumnError> {
        let turn = self.rewriting();
        let report = self.rewrite_days(&turn, &|day, files| {
            let is_due = day < first_open_day && has_enough_late(files);
            match is_due {
                true => vec![files.to_vec()],
                false => tiers_of(files),
            }
        })?;
        self.merge_dictionary(&turn)?;
        Ok(report)
    }

    /// Rewrites files as `plan` says, day by day; the caller holds the turn to.
    pub(super) fn rewrite_days(
        &self,
        _turn: &MutexGuard<'_, ()>,
        plan: &Merges<'_>,
    ) -> Result<CompactionReport, ColumnError> {
        let mut report = CompactionReport::default();
        let mut failed = None;
        let days: Vec<i64> = self.peek().days().into_keys().collect();
        for day in days {
            // Looked at anew for each day: flushes and erasures go on meanwhile.
            let state = self.peek();
            let files: Vec<FileMeta> = state.files_of(day).into_iter().cloned().collect();
            let merges = plan(day, &files);
            report.days += usize::from(!merges.is_empty());
            for files in merges {
                // One damaged file keeps no other from being merged; the first failure is told.
                let rewritten = self.rewrite(&state, day, &files, &mut report);
                failed = failed.or(rewritten.err());
            }
        }
        self.discard([]);
        failed.map_or(Ok(report), Err)
    }

    fn rewrite(
        &self,
        state: &LakeState,
        day: i64,
        files: &[FileMeta],
        report: &mut CompactionReport,
    ) -> Result<(), ColumnError> {
        if self.have_damage(files)? {
            // Merged, damage would get a checksum that holds. The next round goes without the file.
            return Ok(());
        }
        let name = self.new_name(&day_text(day));
        let mut writer = DayWriter::create(self, &name)?;
        let part = match state.files_of(day).len() == files.len() {
            true => PartOfDay::All,
            false => PartOfDay::Some,
        };
        let rows = files.iter().map(|file| file.rows).sum();
        let mut merge = Merge::open(self.io.as_ref(), &self.events_dir, state, files)?;
        let mut duplicates = 0;
        for buckets in self.ranges_of(rows, part).all() {
            duplicates += merge.range(&buckets, &mut |batch| writer.write(&buckets, batch))?;
        }
        let file = writer.finish(day, true)?;
        self.sync_dirs()?;
        let (bytes, written) = (file.bytes, self.events_dir.join(&file.name));
        let removed: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let paths: Vec<_> = removed
            .iter()
            .map(|name| self.events_dir.join(name))
            .chain((file.rows == 0).then(|| written.clone()))
            .collect();
        let record = Record::Compacted {
            removed,
            added: (file.rows > 0).then_some(file),
            duplicates,
            next_file: self.next_file(),
        };
        let are_there = |state: &LakeState| {
            files
                .iter()
                .all(|file| state.files.contains_key(&file.name))
        };
        if !self.commit_if(record, &are_there)? {
            // One was set apart meanwhile: what was read of it is not to be trusted.
            self.discard([written]);
            return Ok(());
        }
        self.discard(paths);
        report.files += files.len();
        report.duplicates += duplicates;
        report.bytes += bytes;
        Ok(())
    }

    /// Sets apart what is damaged among files that are to be merged; says whether any is.
    fn have_damage(&self, files: &[FileMeta]) -> Result<bool, ColumnError> {
        let mut have_damage = false;
        for file in files {
            if let Some(reason) = self.damage_of(file)? {
                have_damage |= self.set_apart(&file.name, &reason)?;
            }
        }
        Ok(have_damage)
    }

    /// Drops every day before `first_day` (days since 1970 in UTC). Returns the files dropped.
    ///
    /// # Errors
    /// [`ColumnError`] if the manifest cannot be written.
    pub fn expire_before(&self, first_day: i64) -> Result<usize, ColumnError> {
        let _turn = self.rewriting();
        let state = self.peek();
        let is_old = |file: &&FileMeta| file.day < first_day;
        let name = |file: &FileMeta| file.name.clone();
        let sound: Vec<String> = state.files.values().filter(is_old).map(name).collect();
        let damaged = state.damaged.values().map(|damaged| &damaged.file);
        let damaged: Vec<String> = damaged.filter(is_old).map(name).collect();
        let removed = [sound.as_slice(), &damaged].concat();
        if removed.is_empty() {
            return Ok(0);
        }
        let count = removed.len();
        // Held, it would look like a reader of the files.
        drop(state);
        self.commit(Record::Expired { removed })?;
        self.discard(sound.iter().map(|name| self.events_dir.join(name)));
        damaged.iter().for_each(|name| self.remove_aside(name));
        Ok(count)
    }

    /// Makes one of the small dictionary files when there are many of like size.
    fn merge_dictionary(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), ColumnError> {
        let files = self.peek().units.clone();
        let many = by_size(files, |file| file.units);
        for files in many {
            self.replace_units(&files)?;
        }
        Ok(())
    }

    /// Writes some dictionary files anew as one, without the names of erased units.
    pub(super) fn replace_units(&self, files: &[UnitsMeta]) -> Result<(), ColumnError> {
        let io = self.io.as_ref();
        let mut entries: Vec<UnitEntry> = Vec::new();
        for file in files {
            let path = self.units_dir.join(&file.name);
            read_entries(io, &path, &mut |entry| entries.push(entry))?;
        }
        let erased = &self.peek().erased;
        for entry in &mut entries {
            if erased.contains(&(entry.bucket, entry.unit)) {
                entry.unit_id = None;
            }
        }
        let name = self.new_name("units");
        let written = write_entries(io, &self.units_dir, &name, &entries)?;
        self.sync_dirs()?;
        let removed: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let paths: Vec<_> = removed
            .iter()
            .map(|name| self.units_dir.join(name))
            .collect();
        self.commit(Record::UnitsReplaced {
            removed,
            added: UnitsMeta {
                name,
                units: entries.len() as u64,
                checksum: written.checksum,
                bytes: written.bytes,
            },
            next_file: self.next_file(),
        })?;
        self.discard(paths);
        Ok(())
    }
}

/// Groups of like size with enough members to merge.
fn by_size<T>(files: Vec<T>, rows: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut tiers: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for file in files {
        let tier = rows(&file).max(1).ilog2() / TIER_FILES.ilog2();
        tiers.entry(tier).or_default().push(file);
    }
    let full = tiers
        .into_values()
        .filter(|files| files.len() >= TIER_FILES);
    full.collect()
}

fn tiers_of(files: &[FileMeta]) -> Vec<Vec<FileMeta>> {
    by_size(files.to_vec(), |file| file.rows)
}

fn has_enough_late(files: &[FileMeta]) -> bool {
    let largest = files.iter().map(|file| file.rows).max().unwrap_or(0);
    let all: u64 = files.iter().map(|file| file.rows).sum();
    match files {
        [file] => !file.is_compacted,
        _ => (all - largest).saturating_mul(LATE_SHARE) >= largest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(rows: &[u64]) -> Vec<FileMeta> {
        let file = |(number, rows): (usize, &u64)| FileMeta {
            name: number.to_string(),
            day: 0,
            rows: *rows,
            bytes: 0,
            checksum: 0,
            groups: Vec::new(),
            last_time_us: None,
            is_compacted: false,
            first_sequence: 0,
            end_sequence: 0,
        };
        rows.iter().enumerate().map(file).collect()
    }

    #[test]
    fn a_growing_day_keeps_few_files_and_rewrites_each_row_a_few_times() {
        let (mut held, mut written, mut most) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            held.push(1000);
            let merges = tiers_of(&files(&held));
            for merge in merges {
                let rows = merge.iter().map(|file| file.rows).sum();
                for file in merge {
                    let at = held.iter().position(|rows| *rows == file.rows).unwrap();
                    held.swap_remove(at);
                }
                held.push(rows);
                written += rows;
            }
            most = most.max(held.len());
        }
        assert!(most <= 60, "{most} files");
        let amplification = written / 10_000_000;
        assert!(
            amplification <= 3,
            "each row is rewritten {amplification} times"
        );
    }

    #[test]
    fn a_closed_day_waits_until_its_late_events_are_worth_a_rewrite() {
        for (rows, is_due) in [
            (&[1000u64][..], true),
            (&[1000, 100], false),
            (&[1000, 100, 25], true),
            (&[5, 5], true),
        ] {
            assert_eq!(has_enough_late(&files(rows)), is_due, "{rows:?}");
        }
    }
}
