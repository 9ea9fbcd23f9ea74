//! The hot tier: decoded rows kept in memory within a budget of bytes.
//!
//! Two kinds of entry share the budget. A *part* is a row group of a file, decoded once for all
//! the buckets in it; files never change, so it is never stale, and a day that is one file is
//! answered from its parts as they are. A *day* is one bucket of a day whose files overlap, or of
//! which units were erased, as a certain set of files and erasures made it; a newer making takes
//! the older one's place, so that a day that grows by the second does not push the others out.
//! Besides, the footers of files are kept, which say where row groups lie. The oldest entry goes
//! first. Skipping the decoding of Parquet is what makes a repeated question fast.
//!
//! Whoever needs a part that another thread is decoding waits for it.
//!
//! Several lakes may share one budget; each numbers its keys, so that they never meet.

use super::block::Block;
use super::file::Footer;
use super::manifest::{FileMeta, LakeState};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory for decoded rows that several lakes share.
#[derive(Debug, Clone)]
pub struct HotMemory(pub(super) Arc<HotTier>);

impl HotMemory {
    /// Memory of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(HotTier::new(bytes)))
    }
}

/// One bucket of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DayKey {
    pub(super) lake: u64,
    pub(super) day: i64,
    pub(super) bucket: u16,
    pub(super) with_properties: bool,
}

/// What a day was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Making {
    files: Vec<u64>,
    erased: usize,
}

impl Making {
    pub(super) fn of(files: &[&FileMeta], state: &LakeState) -> Self {
        Self {
            files: files.iter().map(|file| file.checksum).collect(),
            erased: state.erased.len(),
        }
    }
}

/// A row group of a file, with properties and event ids or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartKey {
    pub(super) lake: u64,
    pub(super) file: u64,
    pub(super) group: usize,
    pub(super) with_properties: bool,
    pub(super) with_ids: bool,
}

/// A row group decoded: rows by bucket, ascending. Erased units are still in it.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) blocks: Vec<(u16, Arc<Block>)>,
}

impl Part {
    pub(super) fn block(&self, bucket: u16) -> Option<&Arc<Block>> {
        let at = self.blocks.binary_search_by_key(&bucket, |(of, _)| *of);
        at.ok()
            .and_then(|at| self.blocks.get(at))
            .map(|(_, block)| block)
    }

    fn heap_bytes(&self) -> usize {
        let blocks = self.blocks.iter();
        blocks
            .map(|(_, block)| block.heap_bytes() + size_of::<Block>())
            .sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Day(DayKey),
    Part(PartKey),
    /// Lake, and checksum of the file.
    Footer(u64, u64),
}

/// A part, or the place where one is being made.
type Slot = Arc<Mutex<Option<Arc<Part>>>>;

#[derive(Debug)]
enum Entry {
    Day(Making, Arc<Block>),
    Part(Slot),
    Footer(Footer),
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entries {
    held: FxHashMap<Key, Held>,
    order: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct HotTier {
    budget: usize,
    entries: Mutex<Entries>,
    lakes: AtomicU64,
}

impl HotTier {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            entries: Mutex::new(Entries::default()),
            lakes: AtomicU64::new(0),
        }
    }

    /// A number that no other lake has here.
    pub(super) fn new_lake(&self) -> u64 {
        self.lakes.fetch_add(1, Ordering::Relaxed)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn day(&self, key: &DayKey, making: &Making) -> Option<Arc<Block>> {
        match self.entries().held.get(&Key::Day(*key)) {
            Some(Held {
                entry: Entry::Day(made, block),
                ..
            }) if made == making => Some(Arc::clone(block)),
            _ => None,
        }
    }

    /// Keeps a day. One that is a part as it stands takes no room of its own.
    pub(super) fn put_day(&self, key: DayKey, making: Making, block: &Arc<Block>, is_part: bool) {
        let bytes = if is_part { 0 } else { block.heap_bytes() };
        self.put(Key::Day(key), Entry::Day(making, Arc::clone(block)), bytes);
    }

    /// A part, made by whoever asks for it first.
    pub(super) fn part<E>(
        &self,
        key: PartKey,
        make: impl FnOnce() -> Result<Part, E>,
    ) -> Result<Arc<Part>, E> {
        let slot = self.slot(key);
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = held.as_ref() {
            return Ok(Arc::clone(part));
        }
        let part = Arc::new(make()?);
        *held = Some(Arc::clone(&part));
        drop(held);
        self.put(Key::Part(key), Entry::Part(slot), part.heap_bytes());
        Ok(part)
    }

    fn slot(&self, key: PartKey) -> Slot {
        let mut entries = self.entries();
        if let Some(Held {
            entry: Entry::Part(slot),
            ..
        }) = entries.held.get(&Key::Part(key))
        {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        let entry = Entry::Part(Arc::clone(&slot));
        entries.put(Key::Part(key), entry, 0);
        slot
    }

    pub(super) fn footer<E>(
        &self,
        lake: u64,
        file: u64,
        read: impl FnOnce() -> Result<Footer, E>,
    ) -> Result<Footer, E> {
        let key = Key::Footer(lake, file);
        if let Some(Held {
            entry: Entry::Footer(footer),
            ..
        }) = self.entries().held.get(&key)
        {
            return Ok(footer.clone());
        }
        let footer = read()?;
        let bytes = footer.heap_bytes();
        self.put(key, Entry::Footer(footer.clone()), bytes);
        Ok(footer)
    }

    /// Drops everything that was made of a file.
    pub(super) fn forget(&self, lake: u64, file: u64) {
        let mut entries = self.entries();
        let is_of = |key: &Key, held: &Held| match (key, &held.entry) {
            (Key::Day(key), Entry::Day(making, _)) => {
                key.lake == lake && making.files.contains(&file)
            }
            (Key::Part(key), _) => (key.lake, key.file) == (lake, file),
            (Key::Footer(of_lake, of_file), _) => (*of_lake, *of_file) == (lake, file),
            (Key::Day(_), _) => false,
        };
        let held = entries.held.iter();
        let gone: Vec<Key> = held
            .filter_map(|(key, held)| is_of(key, held).then_some(*key))
            .collect();
        for key in &gone {
            entries.remove(key);
        }
        entries.order.retain(|key| !gone.contains(key));
    }

    fn put(&self, key: Key, entry: Entry, bytes: usize) {
        let mut entries = self.entries();
        if bytes > self.budget {
            entries.remove(&key);
            entries.order.retain(|other| *other != key);
            return;
        }
        entries.put(key, entry, bytes);
        while entries.bytes > self.budget {
            let Some(oldest) = entries.order.pop_front() else {
                return;
            };
            entries.remove(&oldest);
        }
    }
}

impl Entries {
    fn put(&mut self, key: Key, entry: Entry, bytes: usize) {
        match self.held.insert(key, Held { entry, bytes }) {
            Some(before) => self.bytes -= before.bytes,
            None => self.order.push_back(key),
        }
        self.bytes += bytes;
    }

    /// Its place in the order is for the caller to take back.
    fn remove(&mut self, key: &Key) {
        if let Some(gone) = self.held.remove(key) {
            self.bytes -= gone.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::rows::Rows;

    fn key(day: i64) -> DayKey {
        DayKey {
            lake: 0,
            day,
            bucket: 0,
            with_properties: false,
        }
    }

    fn making(erased: usize) -> Making {
        Making {
            files: vec![],
            erased,
        }
    }

    fn rows(count: usize) -> Arc<Block> {
        Arc::new(Block::pack(Rows {
            unit: vec![0; count],
            time_us: vec![0; count],
            ..Rows::default()
        }))
    }

    #[test]
    fn the_budget_holds_and_the_oldest_goes_first() {
        let rows_of_ten = rows(10);
        let hot = HotTier::new(rows_of_ten.heap_bytes() * 2);
        for day in 0..3 {
            hot.put_day(key(day), making(0), &rows_of_ten, false);
        }
        let is_held = |day| hot.day(&key(day), &making(0)).is_some();
        assert!(!is_held(0) && is_held(1) && is_held(2));
        hot.put_day(key(9), making(0), &rows(100), false);
        assert!(!is_held(9));
    }

    #[test]
    fn a_newer_making_of_a_day_takes_the_place_of_the_older() {
        let rows_of_ten = rows(10);
        let hot = HotTier::new(rows_of_ten.heap_bytes() * 2);
        hot.put_day(key(0), making(0), &rows_of_ten, false);
        for erased in 0..10 {
            hot.put_day(key(1), making(erased), &rows_of_ten, false);
        }
        assert!(hot.day(&key(0), &making(0)).is_some());
        assert!(hot.day(&key(1), &making(9)).is_some());
        assert!(hot.day(&key(1), &making(8)).is_none());
    }

    #[test]
    fn a_part_is_made_once_and_again_after_it_was_pushed_out() {
        let part_key = |group| PartKey {
            lake: 0,
            file: 1,
            group,
            with_properties: false,
            with_ids: false,
        };
        let part = || Part {
            blocks: vec![(3, rows(10))],
        };
        let hot = HotTier::new(part().heap_bytes() * 2);
        let made = std::cell::Cell::new(0);
        let ask = |group| {
            let make = || -> Result<Part, ()> {
                made.set(made.get() + 1);
                Ok(part())
            };
            hot.part(part_key(group), make).unwrap()
        };
        assert!(ask(0).block(3).is_some() && ask(0).block(2).is_none());
        assert_eq!(made.get(), 1);
        ask(1);
        ask(2);
        assert_eq!(made.get(), 3);
        ask(0);
        assert_eq!(made.get(), 4);
        let failed: Result<Arc<Part>, i32> = hot.part(part_key(9), || Err(7));
        assert_eq!(failed.unwrap_err(), 7);
        assert!(ask(9).block(3).is_some());
    }
}
