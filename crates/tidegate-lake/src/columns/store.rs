//! The store: takes events out of the log into files, and answers with rows.

use super::ColumnError;
use super::file::{FileWriter, Finished};
use super::hot::{HotKey, HotTier};
use super::manifest::{FileMeta, LakeState, Manifest, Record, RowGroupMeta};
use super::rows::{Rows, Scan, Texts};
use super::schema::{PlacedEvent, column, event_batch, event_schema};
use super::units::{Units, write_entries};
use crate::io::LakeIo;
use crate::log::{Committed, EventLog};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const DAY_US: i64 = 86_400_000_000;

/// How the files are laid out. `buckets` is fixed when a lake is made; later values are ignored.
#[derive(Debug, Clone)]
pub struct ColumnOptions {
    /// Unit buckets, a power of two. More buckets mean less state per bucket.
    pub buckets: u16,
    /// Rows after which a row group ends at the next bucket boundary.
    pub group_rows: u64,
    /// Events taken from the log in one flush.
    pub flush_events: usize,
    /// Bytes of decoded columns kept in memory.
    pub hot_bytes: usize,
}

impl Default for ColumnOptions {
    fn default() -> Self {
        Self {
            buckets: 64,
            group_rows: 32_768,
            flush_events: 500_000,
            hot_bytes: 768 << 20,
        }
    }
}

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

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) manifest: Manifest,
    pub(super) units: Units,
    next_file: u64,
    snapshots: Vec<Weak<LakeState>>,
    garbage: BTreeSet<PathBuf>,
}

/// The columnar files of one project.
#[derive(Debug)]
pub struct ColumnStore {
    pub(super) io: Arc<dyn LakeIo>,
    pub(super) events_dir: PathBuf,
    pub(super) units_dir: PathBuf,
    pub(super) options: ColumnOptions,
    texts: Mutex<Texts>,
    hot: HotTier,
    inner: Mutex<Inner>,
}

impl ColumnStore {
    /// Opens or makes the files under a directory: `manifest`, `events/` and `units/`. Files that
    /// no manifest record names are deleted.
    ///
    /// # Errors
    /// [`ColumnError`] if the disk fails or what is stored is damaged.
    pub fn open(
        io: Arc<dyn LakeIo>,
        dir: &Path,
        options: ColumnOptions,
    ) -> Result<Self, ColumnError> {
        let (events_dir, units_dir) = (dir.join("events"), dir.join("units"));
        for path in [dir, &events_dir, &units_dir] {
            io.create_dir_all(path)
                .map_err(|e| ColumnError::io(path, e))?;
        }
        let buckets = options.buckets.max(1).next_power_of_two();
        let manifest = Manifest::open(io.as_ref(), dir, buckets)?;
        let state = manifest.state();
        let units = Units::load(io.as_ref(), &units_dir, &state)?;
        let store = Self {
            io,
            events_dir,
            units_dir,
            texts: Mutex::new(Texts::default()),
            hot: HotTier::new(options.hot_bytes),
            options,
            inner: Mutex::new(Inner {
                manifest,
                units,
                next_file: state.next_file,
                snapshots: Vec::new(),
                garbage: BTreeSet::new(),
            }),
        };
        store.delete_orphans(&state)?;
        Ok(store)
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delete_orphans(&self, state: &LakeState) -> Result<(), ColumnError> {
        let units: BTreeSet<&str> = state.units.iter().map(|file| file.name.as_str()).collect();
        self.delete_unnamed(&self.events_dir, &|name| state.files.contains_key(name))?;
        self.delete_unnamed(&self.units_dir, &|name| units.contains(name))
    }

    fn delete_unnamed(
        &self,
        dir: &Path,
        is_named: &dyn Fn(&str) -> bool,
    ) -> Result<(), ColumnError> {
        for name in self.io.list(dir).map_err(|e| ColumnError::io(dir, e))? {
            if !is_named(&name) {
                let path = dir.join(name);
                let removed = self.io.remove(&path);
                removed.map_err(|e| ColumnError::io(&path, e))?;
            }
        }
        self.io.sync_dir(dir).map_err(|e| ColumnError::io(dir, e))
    }

    /// The lake as it is now. Files it names stay readable while the value is held.
    #[must_use]
    pub fn state(&self) -> Arc<LakeState> {
        let mut inner = self.inner();
        let state = inner.manifest.state();
        inner.snapshots.retain(|held| held.strong_count() > 0);
        inner.snapshots.push(Arc::downgrade(&state));
        state
    }

    /// Whether a commit failed so that nothing is known of what the disk holds. Nothing more is
    /// committed then; opening the files anew reads back what is there.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner().manifest.has_failed()
    }

    /// The rows of a bucket on one day (days since 1970 in UTC), from the hot tier if they are
    /// there.
    ///
    /// # Errors
    /// [`ColumnError`] if the disk fails or what is stored is damaged.
    pub fn day_rows(
        &self,
        state: &LakeState,
        day: i64,
        bucket: u16,
        with_properties: bool,
    ) -> Result<Arc<Rows>, ColumnError> {
        let files = state.files_of(day);
        let key = HotKey::new(day, bucket, with_properties, &files, state);
        if let Some(rows) = self.hot.get(&key) {
            return Ok(rows);
        }
        let scan = Scan {
            io: self.io.as_ref(),
            dir: &self.events_dir,
            state,
            with_properties,
        };
        let rows = Arc::new(scan.day(&files, bucket, &self.texts)?);
        self.hot.put(key, &rows);
        Ok(rows)
    }

    /// Looks at the interned names and variants.
    pub fn with_texts<T>(&self, look: impl FnOnce(&Texts) -> T) -> T {
        look(&self.texts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Units ever seen in a bucket; ordinals are below.
    #[must_use]
    pub fn unit_count(&self, bucket: u16) -> u32 {
        self.inner().units.count(bucket)
    }

    /// Writes events that are in the log and not yet in files, up to one flush's worth.
    ///
    /// # Errors
    /// [`ColumnError`]; the lake is as before, and the log still holds everything.
    pub fn flush(&self, log: &EventLog) -> Result<FlushReport, ColumnError> {
        let mut inner = self.inner();
        let from = inner.manifest.state().flushed_sequence;
        let mut taken: Vec<Committed> = Vec::new();
        let (mut count, mut through_sequence) = (0, from);
        let limit = self.options.flush_events;
        log.read_from(from, &mut |stretch| {
            count += stretch.events.len();
            through_sequence = stretch.end_sequence();
            taken.push(stretch);
            count < limit
        })?;
        if through_sequence <= from {
            return Ok(FlushReport {
                through_sequence: from,
                ..FlushReport::default()
            });
        }
        if let Some(first) = taken.first()
            && first.first_sequence > from
        {
            let detail = format!(
                "files end at sequence {from}, but the log begins at {}",
                first.first_sequence
            );
            return Err(ColumnError::damaged(&self.events_dir, detail));
        }
        let written = self.write_flush(&mut inner, &taken, from, through_sequence);
        if written.is_err() {
            inner.units.roll_back();
        }
        written
    }

    fn write_flush(
        &self,
        inner: &mut Inner,
        taken: &[Committed],
        from: u64,
        through_sequence: u64,
    ) -> Result<FlushReport, ColumnError> {
        let mut days: BTreeMap<i64, Vec<PlacedEvent<'_>>> = BTreeMap::new();
        let mut report = FlushReport {
            through_sequence,
            ..FlushReport::default()
        };
        for stretch in taken {
            for (sequence, event) in (stretch.first_sequence..).zip(&stretch.events) {
                if sequence < from {
                    continue;
                }
                let (bucket, unit) = inner.units.place(&event.unit);
                let day = event.time_us.div_euclid(DAY_US);
                days.entry(day).or_default().push(PlacedEvent {
                    bucket,
                    unit,
                    sequence,
                    event,
                });
                report.events += 1;
            }
        }
        let units = self.write_units(inner)?;
        let mut files = Vec::new();
        for (day, mut rows) in days {
            rows.sort_by_key(|row| (row.bucket, row.event.time_us, row.event.id));
            files.push(self.write_day(inner, day, &rows)?);
        }
        self.sync_dirs()?;
        report.files = files.len();
        let next_file = inner.next_file;
        inner.manifest.commit(Record::Flushed {
            through_sequence,
            files,
            units,
            next_file,
        })?;
        inner.units.commit();
        Ok(report)
    }

    fn write_units(
        &self,
        inner: &mut Inner,
    ) -> Result<Option<super::manifest::UnitsMeta>, ColumnError> {
        if inner.units.staged().is_empty() {
            return Ok(None);
        }
        let name = inner.new_name("units");
        let written = write_entries(
            self.io.as_ref(),
            &self.units_dir,
            &name,
            inner.units.staged(),
        )?;
        Ok(Some(super::manifest::UnitsMeta {
            name,
            units: inner.units.staged().len() as u64,
            checksum: written.checksum,
            bytes: written.bytes,
        }))
    }

    fn write_day(
        &self,
        inner: &mut Inner,
        day: i64,
        rows: &[PlacedEvent<'_>],
    ) -> Result<FileMeta, ColumnError> {
        let name = inner.new_name(&day_text(day));
        let mut file = DayWriter::create(self, &name)?;
        for bucket_rows in rows.chunk_by(|a, b| a.bucket == b.bucket) {
            if let Some(first) = bucket_rows.first() {
                let batch = event_batch(bucket_rows)
                    .map_err(|e| ColumnError::parquet(&self.events_dir.join(&name), &e))?;
                file.write(first.bucket, &batch)?;
            }
        }
        file.finish(day, false)
    }

    pub(super) fn sync_dirs(&self) -> Result<(), ColumnError> {
        for dir in [&self.events_dir, &self.units_dir] {
            let synced = self.io.sync_dir(dir);
            synced.map_err(|e| ColumnError::io(dir, e))?;
        }
        Ok(())
    }
}

impl Inner {
    /// A file name never used before, also if an earlier attempt failed.
    pub(super) fn new_name(&mut self, prefix: &str) -> String {
        let number = self.next_file;
        self.next_file += 1;
        format!("{prefix}-{number:010}.parquet")
    }

    pub(super) fn next_file(&self) -> u64 {
        self.next_file
    }

    /// Notes files that are no longer part of the lake and deletes those nobody reads any more.
    pub(super) fn discard(&mut self, io: &dyn LakeIo, paths: impl IntoIterator<Item = PathBuf>) {
        self.garbage.extend(paths);
        let current = self.manifest.state();
        let is_old = |held: &Weak<LakeState>| {
            held.upgrade()
                .is_some_and(|held| !Arc::ptr_eq(&held, &current))
        };
        self.snapshots.retain(|held| held.strong_count() > 0);
        if self.snapshots.iter().any(is_old) {
            return;
        }
        // What cannot be deleted now is deleted as an orphan at the next start.
        self.garbage.retain(|path| io.remove(path).is_err());
    }
}

/// A day's file being written, bucket by bucket in ascending order.
pub(super) struct DayWriter<'s> {
    writer: FileWriter<'s>,
    group_rows: u64,
    groups: Vec<RowGroupMeta>,
    open: Option<RowGroupMeta>,
    last_time_us: Option<i64>,
}

impl<'s> DayWriter<'s> {
    pub(super) fn create(store: &'s ColumnStore, name: &str) -> Result<Self, ColumnError> {
        let writer =
            FileWriter::create(store.io.as_ref(), &store.events_dir, name, event_schema())?;
        Ok(Self {
            writer,
            group_rows: store.options.group_rows,
            groups: Vec::new(),
            open: None,
            last_time_us: None,
        })
    }

    pub(super) fn write(&mut self, bucket: u16, batch: &RecordBatch) -> Result<(), ColumnError> {
        self.writer.write(batch)?;
        self.last_time_us = self.last_time_us.max(last_time_us(batch));
        let rows = batch.num_rows() as u64;
        let open = self.open.get_or_insert(RowGroupMeta {
            first_bucket: bucket,
            last_bucket: bucket,
            rows: 0,
        });
        open.last_bucket = bucket;
        open.rows += rows;
        if open.rows >= self.group_rows {
            self.end_group()?;
        }
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

pub(super) fn day_text(day: i64) -> String {
    let text = tidegate_metrics::format_rfc3339(day.saturating_mul(DAY_US));
    text.chars().take(10).collect()
}
