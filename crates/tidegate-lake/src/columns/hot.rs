//! The hot tier: decoded rows kept in memory within a budget of bytes.
//!
//! Two kinds of entry share the budget. A *part* is a row group of a file, decoded once for all
//! the buckets in it; files never change, so it is never stale, and a day that is one file is
//! answered from its parts as they are. A *day* is one bucket of a day whose files overlap, or of
//! which units were erased, as the lake was at a certain moment. When more has come to it since,
//! it grows by that alone: which files hold the day does not matter, since merging files changes
//! no row. Besides, the footers of files are kept, which say where row groups lie, and for the
//! time of one growth what is to be merged into days, which neighbouring buckets share. An entry
//! that nobody asked for since the last time round goes first. Skipping the decoding of Parquet is
//! what makes a repeated question fast.
//!
//! Whoever needs a part or a day that another thread is making waits for it.
//!
//! Several lakes may share one budget; each numbers its keys, so that they never meet.

use super::block::Block;
use super::file::Footer;
use super::manifest::LakeState;
use super::rows::Rows;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a row of a day takes with its id, where most have a value.
const BYTES_OF_A_DAYS_ROW: usize = 31;

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

/// The moment of a lake that a day was made at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Everything below this ingest sequence was there.
    pub(super) sequence: u64,
    erased: usize,
    upheavals: u64,
}

impl Moment {
    pub(super) fn of(state: &LakeState) -> Self {
        Self {
            sequence: state.flushed_sequence,
            erased: state.erased.len(),
            upheavals: state.upheavals,
        }
    }

    /// Whether events came since and none went.
    pub(super) fn only_grew_until(&self, later: &Self) -> bool {
        let is_same = (self.erased, self.upheavals) == (later.erased, later.upheavals);
        is_same && self.sequence <= later.sequence
    }
}

/// A day as it was made last.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) at: Moment,
    pub(super) block: Arc<Block>,
}

/// The place of a day, locked while it is made.
pub(super) type DaySlot = Arc<Mutex<Option<Made>>>;

/// A row group of a file, with properties or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartKey {
    pub(super) lake: u64,
    pub(super) file: u64,
    pub(super) group: usize,
    pub(super) with_properties: bool,
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

/// Rows of a row group that are to be merged, each bucket's to be taken by whoever merges it.
#[derive(Debug)]
pub(super) struct Unmerged(Mutex<BTreeMap<u16, Option<Rows>>>);

/// What is there for a bucket.
#[derive(Debug)]
pub(super) enum Taken {
    /// Its rows, and whether other buckets' are left.
    Rows(Box<Rows>, Left),
    /// Somebody else has taken them.
    Gone,
}

/// Whether anything is left to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Some,
    Nothing,
}

impl Unmerged {
    pub(super) fn new(by_bucket: BTreeMap<u16, Rows>) -> Self {
        // Gathered row by row, they have room for as many again.
        let by_bucket = by_bucket.into_iter().map(|(bucket, mut rows)| {
            rows.shrink_to_fit();
            (bucket, rows)
        });
        Self(Mutex::new(
            by_bucket.map(|(b, rows)| (b, Some(rows))).collect(),
        ))
    }

    pub(super) fn take(&self, bucket: u16) -> Taken {
        let mut by_bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = match by_bucket.get_mut(&bucket) {
            None => Rows::default(),
            Some(held) => match held.take() {
                Some(rows) => rows,
                None => return Taken::Gone,
            },
        };
        match by_bucket.values().any(Option::is_some) {
            true => Taken::Rows(Box::new(rows), Left::Some),
            false => Taken::Rows(Box::new(rows), Left::Nothing),
        }
    }

    fn heap_bytes(&self) -> usize {
        let by_bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_bucket.values().flatten().map(Rows::heap_bytes).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Day(DayKey),
    Part(PartKey),
    /// Rows at or above an ingest sequence.
    Unmerged(PartKey, u64),
    /// Lake, and checksum of the file.
    Footer(u64, u64),
}

/// Something, or the place where it is being made.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

#[derive(Debug, Clone)]
enum Entry {
    Day(DaySlot),
    Part(Slot<Part>),
    Unmerged(Slot<Unmerged>),
    Footer(Footer),
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    bytes: usize,
    /// Whether it was asked for since the last time round.
    is_wanted: bool,
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

    /// The place of a day. Whoever makes it says what it weighs.
    pub(super) fn day(&self, key: DayKey) -> DaySlot {
        match self
            .entries()
            .get_or(Key::Day(key), || Entry::Day(Arc::default()))
        {
            Entry::Day(slot) => slot,
            Entry::Part(_) | Entry::Unmerged(_) | Entry::Footer(_) => DaySlot::default(),
        }
    }

    /// Whether a day of so many rows can be kept with its ids. Of one that cannot, no bucket is: by
    /// the time it is asked for again, the others would have pushed it out.
    pub(super) fn fits_day(&self, rows: u64) -> bool {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        rows.saturating_mul(BYTES_OF_A_DAYS_ROW) <= self.budget
    }

    /// Gives up a day that has outgrown the budget.
    pub(super) fn drop_day(&self, key: DayKey) {
        let mut entries = self.entries();
        let key = Key::Day(key);
        if entries.held.contains_key(&key) {
            entries.remove_all(|other| *other == key);
        }
    }

    /// Keeps a day of so many bytes.
    pub(super) fn keep_day(&self, key: DayKey, slot: &DaySlot, bytes: usize) {
        self.put(Key::Day(key), Entry::Day(Arc::clone(slot)), bytes);
    }

    /// A part, made by whoever asks for it first.
    pub(super) fn part<E>(
        &self,
        key: PartKey,
        make: impl FnOnce() -> Result<Part, E>,
    ) -> Result<Arc<Part>, E> {
        let key = Key::Part(key);
        let entry = self.entries().get_or(key, || Entry::Part(Slot::default()));
        let slot = match entry {
            Entry::Part(slot) => slot,
            Entry::Day(_) | Entry::Unmerged(_) | Entry::Footer(_) => Slot::default(),
        };
        let (part, is_new) = made(&slot, make)?;
        if is_new {
            self.put(key, Entry::Part(slot), part.heap_bytes());
        }
        Ok(part)
    }

    /// Rows to be merged, decoded by whoever asks for them first.
    pub(super) fn unmerged<E>(
        &self,
        key: PartKey,
        from_sequence: u64,
        make: impl FnOnce() -> Result<Unmerged, E>,
    ) -> Result<Arc<Unmerged>, E> {
        let key = Key::Unmerged(key, from_sequence);
        let entry = self
            .entries()
            .get_or(key, || Entry::Unmerged(Slot::default()));
        let slot = match entry {
            Entry::Unmerged(slot) => slot,
            Entry::Day(_) | Entry::Part(_) | Entry::Footer(_) => Slot::default(),
        };
        let (unmerged, is_new) = made(&slot, make)?;
        if is_new {
            self.put(key, Entry::Unmerged(slot), unmerged.heap_bytes());
        }
        Ok(unmerged)
    }

    /// Gives up rows that have all been taken.
    pub(super) fn drop_unmerged(&self, key: PartKey, from_sequence: u64) {
        let gone = Key::Unmerged(key, from_sequence);
        self.entries().remove_all(|key| *key == gone);
    }

    pub(super) fn footer<E>(
        &self,
        lake: u64,
        file: u64,
        read: impl FnOnce() -> Result<Footer, E>,
    ) -> Result<Footer, E> {
        let key = Key::Footer(lake, file);
        if let Some(Entry::Footer(footer)) = self.entries().get(&key) {
            return Ok(footer);
        }
        let footer = read()?;
        let bytes = footer.heap_bytes();
        self.put(key, Entry::Footer(footer.clone()), bytes);
        Ok(footer)
    }

    /// Gives up what was read from files that are no longer part of a lake: nobody asks for it
    /// again, and it would push out what is asked for.
    pub(super) fn forget(&self, lake: u64, files: &FxHashSet<u64>) {
        self.entries().remove_all(|key| match key {
            Key::Part(part) | Key::Unmerged(part, _) => {
                part.lake == lake && files.contains(&part.file)
            }
            Key::Footer(of, file) => *of == lake && files.contains(file),
            Key::Day(_) => false,
        });
    }

    fn put(&self, key: Key, entry: Entry, bytes: usize) {
        let mut entries = self.entries();
        if bytes > self.budget {
            entries.remove_all(|other| *other == key);
            return;
        }
        entries.put(key, entry, bytes);
        while entries.bytes > self.budget {
            let Some(oldest) = entries.order.pop_front() else {
                return;
            };
            if entries.is_wanted_again(&oldest) {
                entries.order.push_back(oldest);
            } else {
                entries.remove(&oldest);
            }
        }
    }
}

/// What a slot holds, made if there is nothing yet; and whether it was.
fn made<T, E>(slot: &Slot<T>, make: impl FnOnce() -> Result<T, E>) -> Result<(Arc<T>, bool), E> {
    let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = held.as_ref() {
        return Ok((Arc::clone(known), false));
    }
    let new = Arc::new(make()?);
    *held = Some(Arc::clone(&new));
    Ok((new, true))
}

impl Entries {
    fn get(&mut self, key: &Key) -> Option<Entry> {
        let held = self.held.get_mut(key)?;
        held.is_wanted = true;
        Some(held.entry.clone())
    }

    fn get_or(&mut self, key: Key, new: impl FnOnce() -> Entry) -> Entry {
        if let Some(entry) = self.get(&key) {
            return entry;
        }
        let entry = new();
        self.put(key, entry.clone(), 0);
        entry
    }

    /// Whether it was asked for since the last time round; it is spared once for that.
    fn is_wanted_again(&mut self, key: &Key) -> bool {
        let held = self.held.get_mut(key);
        held.is_some_and(|held| std::mem::take(&mut held.is_wanted))
    }

    fn put(&mut self, key: Key, entry: Entry, bytes: usize) {
        let held = Held {
            entry,
            bytes,
            is_wanted: false,
        };
        match self.held.insert(key, held) {
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

    fn remove_all(&mut self, is_gone: impl Fn(&Key) -> bool) {
        let order = std::mem::take(&mut self.order);
        let (gone, left): (VecDeque<Key>, VecDeque<Key>) = order.into_iter().partition(is_gone);
        self.order = left;
        for key in &gone {
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(day: i64) -> DayKey {
        DayKey {
            lake: 0,
            day,
            bucket: 0,
            with_properties: false,
        }
    }

    fn part_key(group: usize) -> PartKey {
        PartKey {
            lake: 0,
            file: 1,
            group,
            with_properties: false,
        }
    }

    fn rows(count: usize) -> Rows {
        Rows {
            unit: vec![0; count],
            time_us: vec![0; count],
            ..Rows::default()
        }
    }

    fn block(count: usize) -> Arc<Block> {
        Arc::new(Block::pack(rows(count)))
    }

    fn put(hot: &HotTier, day: i64, block: &Arc<Block>) {
        let slot = hot.day(key(day));
        *slot.lock().unwrap() = Some(Made {
            at: Moment::of(&LakeState::default()),
            block: Arc::clone(block),
        });
        hot.keep_day(key(day), &slot, block.heap_bytes());
    }

    /// Looks without asking.
    fn is_held(hot: &HotTier, day: i64) -> bool {
        hot.entries().held.contains_key(&Key::Day(key(day)))
    }

    #[test]
    fn the_budget_holds_and_what_nobody_asked_for_again_goes_first() {
        let ten = block(10);
        let hot = HotTier::new(ten.heap_bytes() * 2);
        put(&hot, 0, &ten);
        put(&hot, 1, &ten);
        hot.day(key(0));
        put(&hot, 2, &ten);
        assert!(is_held(&hot, 0) && !is_held(&hot, 1) && is_held(&hot, 2));
        put(&hot, 3, &ten);
        put(&hot, 4, &ten);
        assert!(!is_held(&hot, 0), "it is spared once");
        put(&hot, 9, &block(100));
        assert!(!is_held(&hot, 9));
        assert!(hot.entries().bytes <= hot.budget);
    }

    #[test]
    fn a_day_made_again_weighs_once() {
        let ten = block(10);
        let hot = HotTier::new(ten.heap_bytes() * 2);
        put(&hot, 0, &ten);
        for _ in 0..10 {
            put(&hot, 1, &ten);
        }
        assert!(is_held(&hot, 0) && is_held(&hot, 1));
        assert_eq!(hot.entries().bytes, ten.heap_bytes() * 2);
    }

    #[test]
    fn a_part_is_made_once_and_again_after_it_was_pushed_out() {
        let part = || Part {
            blocks: vec![(3, block(10))],
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
        ask(3);
        assert_eq!(made.get(), 4);
        ask(1);
        assert_eq!(made.get(), 5, "number 0 was asked for twice, and spared");
        let failed: Result<Arc<Part>, i32> = hot.part(part_key(9), || Err(7));
        assert_eq!(failed.unwrap_err(), 7);
        assert!(ask(9).block(3).is_some());
    }

    #[test]
    fn what_was_read_from_files_that_are_gone_makes_room() {
        let hot = HotTier::new(1 << 20);
        let part = Part {
            blocks: vec![(3, block(10))],
        };
        hot.part::<()>(part_key(0), || Ok(part)).unwrap();
        hot.forget(7, &FxHashSet::from_iter([1]));
        hot.forget(0, &FxHashSet::from_iter([2]));
        assert!(
            hot.entries().bytes > 0,
            "another lake's, and another file's"
        );
        hot.forget(0, &FxHashSet::from_iter([1]));
        assert_eq!(hot.entries().bytes, 0);
        assert!(hot.entries().order.is_empty());
    }

    #[test]
    fn rows_to_be_merged_are_taken_once_each() {
        let unmerged = Unmerged::new([(3, rows(2)), (5, rows(1))].into());
        assert!(matches!(unmerged.take(4), Taken::Rows(rows, Left::Some) if rows.is_empty()));
        assert!(matches!(unmerged.take(3), Taken::Rows(rows, Left::Some) if rows.len() == 2));
        assert!(matches!(unmerged.take(3), Taken::Gone));
        assert!(matches!(unmerged.take(5), Taken::Rows(rows, Left::Nothing) if rows.len() == 1));
    }
}
