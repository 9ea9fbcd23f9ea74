//! The store: which files are the lake, and rows out of them.
//!
//! Locks, in the order in which they are taken; none but the first two is held during more than
//! one record's write. `rewriting`: one at a time among those who replace files (compaction,
//! erasure, expiry). `flushing`: one at a time among those who add events or change the
//! dictionary or the aliases. `manifest`, then `aliases`: the order of commits. `view` and `units`: memory. So a flush goes on
//! during a compaction, and a question during both.

use super::ColumnError;
use super::aliases::{AliasLog, Aliases};
use super::block::Block;
use super::hot::{HotMemory, HotTier};
use super::manifest::{FileMeta, LakeState, Manifest, Record};
use super::ranges::{PartOfDay, Ranges};
use super::rows::{Rows, Texts};
use super::scan::Scan;
use super::units::Units;
use crate::io::LakeIo;
use crate::query::KeptMemory;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// How the files are laid out. `buckets` is fixed when a lake is made; later values are ignored.
#[derive(Debug, Clone)]
pub struct ColumnOptions {
    /// Unit buckets, a power of two. More buckets mean less state per bucket: with 65,536 units or
    /// fewer in one, a row's unit takes two bytes in memory and a unit's state stays in the cache.
    pub buckets: u16,
    /// Rows that a range of buckets should not exceed by more than twice: memory of merges.
    pub group_rows: u64,
    /// The same in files of a day that is still growing, which are merged again soon, many at a
    /// time and a row group of each in memory.
    pub growing_group_rows: u64,
    /// Events taken from the log in one flush.
    pub flush_events: usize,
    /// Bytes of decoded columns kept in memory, where nothing is shared.
    pub hot_bytes: usize,
    /// Rows of merged units gathered at a time for an answer, at about 40 bytes each.
    pub gathered_rows: usize,
    /// Memory for decoded columns shared with other lakes.
    pub hot_memory: Option<HotMemory>,
    /// Memory for metrics kept up shared with other lakes.
    pub kept_memory: Option<KeptMemory>,
}

impl Default for ColumnOptions {
    fn default() -> Self {
        Self {
            buckets: 128,
            group_rows: 1 << 20,
            growing_group_rows: 1 << 15,
            flush_events: 200_000,
            hot_bytes: 896 << 20,
            gathered_rows: 6_000_000,
            hot_memory: None,
            kept_memory: None,
        }
    }
}

/// The lake as questions see it, and what they may still be reading.
#[derive(Debug)]
struct View {
    state: Arc<LakeState>,
    snapshots: Vec<Weak<LakeState>>,
    garbage: BTreeSet<PathBuf>,
}

/// The columnar files of one project.
#[derive(Debug)]
pub struct ColumnStore {
    pub(super) io: Arc<dyn LakeIo>,
    pub(super) events_dir: PathBuf,
    pub(super) units_dir: PathBuf,
    pub(super) damaged_dir: PathBuf,
    pub(super) options: ColumnOptions,
    texts: Mutex<Texts>,
    hot: Arc<HotTier>,
    lake: u64,
    rewriting: Mutex<()>,
    flushing: Mutex<()>,
    manifest: Mutex<Manifest>,
    aliases: Mutex<AliasLog>,
    view: Mutex<View>,
    units: Mutex<Units>,
    next_file: AtomicU64,
}

/// A lock whose holder panicked guards nothing that is half done: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (manifest, mut state) = Manifest::open(io.as_ref(), dir, buckets)?;
        let (alias_log, aliases) = AliasLog::open(io.as_ref(), dir)?;
        state.aliases = Arc::new(aliases.without(&state.erased));
        let units = Units::load(io.as_ref(), &units_dir, &state)?;
        let next_file = AtomicU64::new(state.next_file);
        let shared = options.hot_memory.clone();
        let hot = shared
            .unwrap_or_else(|| HotMemory::new(options.hot_bytes))
            .0;
        let store = Self {
            io,
            events_dir,
            units_dir,
            damaged_dir: dir.join("damaged"),
            texts: Mutex::new(Texts::default()),
            lake: hot.new_lake(),
            hot,
            options,
            rewriting: Mutex::default(),
            flushing: Mutex::default(),
            manifest: Mutex::new(manifest),
            aliases: Mutex::new(alias_log),
            view: Mutex::new(View {
                state: Arc::new(state),
                snapshots: Vec::new(),
                garbage: BTreeSet::new(),
            }),
            units: Mutex::new(units),
            next_file,
        };
        store.delete_orphans(&store.peek())?;
        Ok(store)
    }

    pub(super) fn rewriting(&self) -> MutexGuard<'_, ()> {
        lock(&self.rewriting)
    }

    pub(super) fn flushing(&self) -> MutexGuard<'_, ()> {
        lock(&self.flushing)
    }

    pub(super) fn units(&self) -> MutexGuard<'_, Units> {
        lock(&self.units)
    }

    /// The lake as it is now, for those who hold a lock that keeps its files from being deleted.
    pub(super) fn peek(&self) -> Arc<LakeState> {
        Arc::clone(&lock(&self.view).state)
    }

    /// Makes a record durable, then visible.
    pub(super) fn commit(&self, record: Record) -> Result<(), ColumnError> {
        self.commit_if(record, &|_| true).map(|_| ())
    }

    /// The same, if the lake is then as `holds` wants it; says whether it was.
    pub(super) fn commit_if(
        &self,
        record: Record,
        holds: &dyn Fn(&LakeState) -> bool,
    ) -> Result<bool, ColumnError> {
        let mut manifest = lock(&self.manifest);
        if !holds(&self.peek()) {
            return Ok(false);
        }
        manifest.append(&record)?;
        let state = {
            let mut view = lock(&self.view);
            let gone = record.removed_files().iter();
            let gone = gone.filter_map(|name| Some(view.state.files.get(name)?.checksum));
            self.hot.forget(self.lake, &gone.collect());
            let mut state = LakeState::clone(&view.state);
            let erased = state.erased.len();
            state.apply(record);
            if state.erased.len() > erased && !state.aliases.is_empty() {
                state.aliases = Arc::new(state.aliases.without(&state.erased));
            }
            view.state = Arc::new(state);
            Arc::clone(&view.state)
        };
        manifest.shorten(self.io.as_ref(), &state)?;
        Ok(true)
    }

    pub(super) fn alias_log(&self) -> MutexGuard<'_, AliasLog> {
        lock(&self.aliases)
    }

    /// Makes aliases visible that are durable.
    pub(super) fn publish_aliases(&self, aliases: Arc<Aliases>) {
        let mut view = lock(&self.view);
        let mut state = LakeState::clone(&view.state);
        state.aliases = aliases;
        view.state = Arc::new(state);
    }

    fn delete_orphans(&self, state: &LakeState) -> Result<(), ColumnError> {
        let units: BTreeSet<&str> = state.units.iter().map(|file| file.name.as_str()).collect();
        // What is set apart is moved aside before anybody looks, and kept.
        state.damaged.keys().for_each(|name| self.move_aside(name));
        let is_named =
            |name: &str| state.files.contains_key(name) || state.damaged.contains_key(name);
        self.delete_unnamed(&self.events_dir, &is_named)?;
        self.delete_unnamed(&self.units_dir, &|name| units.contains(name))?;
        if state.damaged.is_empty() && self.io.list(&self.damaged_dir).is_err() {
            return Ok(());
        }
        self.delete_unnamed(&self.damaged_dir, &|name| state.damaged.contains_key(name))
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
        let mut view = lock(&self.view);
        let state = Arc::clone(&view.state);
        view.snapshots.retain(|held| held.strong_count() > 0);
        view.snapshots.push(Arc::downgrade(&state));
        state
    }

    /// Whether a commit failed so that nothing is known of what the disk holds. Nothing more is
    /// committed then; opening the files anew reads back what is there.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        lock(&self.manifest).has_failed() || self.alias_log().has_failed()
    }

    /// The rows of a bucket on one day (days since 1970 in UTC).
    ///
    /// # Errors
    /// [`ColumnError`] if the disk fails or what is stored is damaged.
    pub fn day_rows(
        &self,
        state: &LakeState,
        day: i64,
        bucket: u16,
        with_properties: bool,
    ) -> Result<Rows, ColumnError> {
        let files = state.files_of(day);
        let block = self.day_block(state, day, &files, bucket, with_properties)?;
        Ok(block.unpack())
    }

    /// The same as it is held in memory; `files` are those of the day.
    pub(crate) fn day_block(
        &self,
        state: &LakeState,
        day: i64,
        files: &[&FileMeta],
        bucket: u16,
        with_properties: bool,
    ) -> Result<Arc<Block>, ColumnError> {
        self.scan(state, with_properties).day(day, files, bucket)
    }

    /// The event ids of the rows that [`Self::day_block`] answers, in the same order: what orders
    /// events of one person that units in several buckets had at the same time.
    pub(crate) fn day_ids(
        &self,
        state: &LakeState,
        day: i64,
        files: &[&FileMeta],
        bucket: u16,
        with_properties: bool,
    ) -> Result<Vec<[u8; 16]>, ColumnError> {
        self.scan(state, with_properties)
            .day_ids(day, files, bucket)
    }

    pub(super) fn scan<'s>(&'s self, state: &'s LakeState, with_properties: bool) -> Scan<'s> {
        Scan {
            io: self.io.as_ref(),
            dir: &self.events_dir,
            state,
            with_properties,
            hot: &self.hot,
            lake: self.lake,
            texts: &self.texts,
        }
    }

    /// Forgets what was decoded of a file that may not hold what was written.
    pub(super) fn forget_decoded(&self, checksum: u64) {
        let gone = std::iter::once(checksum).collect();
        self.hot.forget(self.lake, &gone);
    }

    /// Looks at the interned names and variants.
    pub fn with_texts<T>(&self, look: impl FnOnce(&Texts) -> T) -> T {
        look(&lock(&self.texts))
    }

    /// Units ever seen in a bucket; ordinals are below.
    #[must_use]
    pub fn unit_count(&self, bucket: u16) -> u32 {
        self.units().count(bucket)
    }

    /// How the buckets of a file of so many rows are taken together.
    pub(super) fn ranges_of(&self, rows: u64, part: PartOfDay) -> Ranges {
        let range_rows = match part {
            PartOfDay::Some => self.options.growing_group_rows,
            PartOfDay::All => self.options.group_rows,
        };
        Ranges::of(rows, self.peek().buckets, range_rows)
    }

    pub(crate) fn gathered_rows(&self) -> usize {
        self.options.gathered_rows
    }

    /// A file name never used before, also if an earlier attempt failed.
    pub(super) fn new_name(&self, prefix: &str) -> String {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{number:010}.parquet")
    }

    pub(super) fn next_file(&self) -> u64 {
        self.next_file.load(Ordering::Relaxed)
    }

    pub(super) fn sync_dirs(&self) -> Result<(), ColumnError> {
        for dir in [&self.events_dir, &self.units_dir] {
            let synced = self.io.sync_dir(dir);
            synced.map_err(|e| ColumnError::io(dir, e))?;
        }
        Ok(())
    }

    /// Notes files that are no longer part of the lake and deletes those nobody reads any more.
    pub(super) fn discard(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let unread = {
            let mut view = lock(&self.view);
            view.garbage.extend(paths);
            let current = Arc::clone(&view.state);
            let is_old = |held: &Weak<LakeState>| {
                held.upgrade()
                    .is_some_and(|held| !Arc::ptr_eq(&held, &current))
            };
            view.snapshots.retain(|held| held.strong_count() > 0);
            if view.snapshots.iter().any(is_old) {
                return;
            }
            std::mem::take(&mut view.garbage)
        };
        // What cannot be deleted now is deleted as an orphan when the files are opened next.
        let kept = unread
            .into_iter()
            .filter(|path| self.io.remove(path).is_err());
        let kept: Vec<PathBuf> = kept.collect();
        lock(&self.view).garbage.extend(kept);
    }
}
