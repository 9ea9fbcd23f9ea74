//! The hot tier: decoded rows kept in memory within a budget of bytes.
//!
//! Two kinds of entry share the budget. A *day* is one bucket of one day as a certain set of files
//! and erasures made it; a newer making takes the older one's place, so that a day that grows by
//! the second does not push the others out. A *part* is a row group that several buckets share,
//! decoded once for all of them; files never change, so it is never stale. The oldest entry goes
//! first. Skipping the decoding of Parquet is what makes a repeated question fast.
//!
//! Several lakes may share one budget; each numbers its keys, so that they never meet.

use super::manifest::{FileMeta, LakeState};
use super::rows::{Part, Rows};
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

/// A row group of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartKey {
    pub(super) lake: u64,
    pub(super) file: u64,
    pub(super) group: usize,
    pub(super) with_properties: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Day(DayKey),
    Part(PartKey),
}

#[derive(Debug)]
enum Entry {
    Day(Making, Arc<Rows>),
    Part(Arc<Part>),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Day(_, rows) => rows.heap_bytes(),
            Self::Part(part) => part.heap_bytes(),
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    held: FxHashMap<Key, Entry>,
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

    pub(super) fn day(&self, key: &DayKey, making: &Making) -> Option<Arc<Rows>> {
        match self.entries().held.get(&Key::Day(*key)) {
            Some(Entry::Day(made, rows)) if made == making => Some(Arc::clone(rows)),
            _ => None,
        }
    }

    pub(super) fn put_day(&self, key: DayKey, making: Making, rows: &Arc<Rows>) {
        self.put(Key::Day(key), Entry::Day(making, Arc::clone(rows)));
    }

    pub(super) fn part(&self, key: &PartKey) -> Option<Arc<Part>> {
        match self.entries().held.get(&Key::Part(*key)) {
            Some(Entry::Part(part)) => Some(Arc::clone(part)),
            _ => None,
        }
    }

    pub(super) fn put_part(&self, key: PartKey, part: &Arc<Part>) {
        self.put(Key::Part(key), Entry::Part(Arc::clone(part)));
    }

    fn put(&self, key: Key, entry: Entry) {
        let bytes = entry.bytes();
        if bytes > self.budget {
            return;
        }
        let mut entries = self.entries();
        match entries.held.insert(key, entry) {
            Some(before) => entries.bytes -= before.bytes(),
            None => entries.order.push_back(key),
        }
        entries.bytes += bytes;
        while entries.bytes > self.budget {
            let Some(oldest) = entries.order.pop_front() else {
                return;
            };
            if let Some(gone) = entries.held.remove(&oldest) {
                entries.bytes -= gone.bytes();
            }
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

    fn making(erased: usize) -> Making {
        Making {
            files: vec![],
            erased,
        }
    }

    fn rows(count: usize) -> Arc<Rows> {
        Arc::new(Rows {
            unit: vec![0; count],
            ..Rows::default()
        })
    }

    #[test]
    fn the_budget_holds_and_the_oldest_goes_first() {
        let rows_of_ten = rows(10);
        let hot = HotTier::new(rows_of_ten.heap_bytes() * 2);
        for day in 0..3 {
            hot.put_day(key(day), making(0), &rows_of_ten);
        }
        let is_held = |day| hot.day(&key(day), &making(0)).is_some();
        assert!(!is_held(0) && is_held(1) && is_held(2));
        hot.put_day(key(9), making(0), &rows(100));
        assert!(!is_held(9));
    }

    #[test]
    fn a_newer_making_of_a_day_takes_the_place_of_the_older() {
        let rows_of_ten = rows(10);
        let hot = HotTier::new(rows_of_ten.heap_bytes() * 2);
        hot.put_day(key(0), making(0), &rows_of_ten);
        for erased in 0..10 {
            hot.put_day(key(1), making(erased), &rows_of_ten);
        }
        assert!(hot.day(&key(0), &making(0)).is_some());
        assert!(hot.day(&key(1), &making(9)).is_some());
        assert!(hot.day(&key(1), &making(8)).is_none());
    }
}
