//! Compaction: a day's files become one run; copies and erased rows go for good.
//!
//! Memory is one bucket of one day. The set of visible events does not change.

use super::ColumnError;
use super::manifest::{FileMeta, LakeState, Record};
use super::merge::merge_bucket;
use super::store::{ColumnStore, CompactionReport, DayWriter, Inner, day_text};

impl ColumnStore {
    /// Compacts every day that has more than one file, or one that was never compacted.
    ///
    /// # Errors
    /// [`ColumnError`]; days done before stay done.
    pub fn compact(&self) -> Result<CompactionReport, ColumnError> {
        self.compact_days(&|files| !matches!(files, [file] if file.is_compacted))
    }

    pub(super) fn compact_days(
        &self,
        needs_it: &dyn Fn(&[FileMeta]) -> bool,
    ) -> Result<CompactionReport, ColumnError> {
        let mut inner = self.inner();
        let mut report = CompactionReport::default();
        let state = inner.manifest.state();
        for (day, files) in state.days() {
            let files: Vec<FileMeta> = files.into_iter().cloned().collect();
            if needs_it(&files) {
                self.compact_day(&mut inner, &state, day, &files, &mut report)?;
            }
        }
        // Our own view of the lake before counts as a reader; it ends here.
        drop(state);
        inner.discard(self.io.as_ref(), []);
        Ok(report)
    }

    fn compact_day(
        &self,
        inner: &mut Inner,
        state: &LakeState,
        day: i64,
        files: &[FileMeta],
        report: &mut CompactionReport,
    ) -> Result<(), ColumnError> {
        let name = inner.new_name(&day_text(day));
        let mut writer = DayWriter::create(self, &name)?;
        let mut duplicates = 0;
        for bucket in 0..state.buckets {
            let merged = merge_bucket(self.io.as_ref(), &self.events_dir, state, files, bucket)?;
            duplicates += merged.duplicates;
            if merged.batch.num_rows() > 0 {
                writer.write(bucket, &merged.batch)?;
            }
        }
        let file = writer.finish(day, true)?;
        self.sync_dirs()?;
        report.days += 1;
        report.files += files.len();
        report.duplicates += duplicates;
        report.bytes += file.bytes;
        let removed: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let paths: Vec<_> = removed
            .iter()
            .map(|name| self.events_dir.join(name))
            .chain((file.rows == 0).then(|| self.events_dir.join(&file.name)))
            .collect();
        let next_file = inner.next_file();
        inner.manifest.commit(Record::Compacted {
            removed,
            added: (file.rows > 0).then_some(file),
            duplicates,
            next_file,
        })?;
        inner.discard(self.io.as_ref(), paths);
        Ok(())
    }

    /// Drops every day before `first_day` (days since 1970 in UTC). Returns the files dropped.
    ///
    /// # Errors
    /// [`ColumnError`] if the manifest cannot be written.
    pub fn expire_before(&self, first_day: i64) -> Result<usize, ColumnError> {
        let mut inner = self.inner();
        let state = inner.manifest.state();
        let expired = state.files.values().filter(|file| file.day < first_day);
        let removed: Vec<String> = expired.map(|file| file.name.clone()).collect();
        if removed.is_empty() {
            return Ok(0);
        }
        let count = removed.len();
        let paths: Vec<_> = removed
            .iter()
            .map(|name| self.events_dir.join(name))
            .collect();
        inner.manifest.commit(Record::Expired { removed })?;
        inner.discard(self.io.as_ref(), paths);
        Ok(count)
    }
}
