//! The hot tier: decoded rows kept in memory within a budget of bytes.
//!
//! An entry belongs to one bucket of one day as a certain set of files and erasures made it, so
//! it is never stale: what changes gets another key, and the old entry ages out. The oldest entry
//! goes first. Skipping the decoding of Parquet is what makes a repeated question fast.

use super::manifest::{FileMeta, LakeState};
use super::rows::Rows;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HotKey {
    day: i64,
    bucket: u16,
    with_properties: bool,
    files: Vec<u64>,
    erased: usize,
}

impl HotKey {
    pub(super) fn new(
        day: i64,
        bucket: u16,
        with_properties: bool,
        files: &[&FileMeta],
        state: &LakeState,
    ) -> Self {
        Self {
            day,
            bucket,
            with_properties,
            files: files.iter().map(|file| file.checksum).collect(),
            erased: state.erased.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    rows: FxHashMap<HotKey, Arc<Rows>>,
    order: VecDeque<HotKey>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct HotTier {
    budget: usize,
    entries: Mutex<Entries>,
}

impl HotTier {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            entries: Mutex::new(Entries::default()),
        }
    }

    pub(super) fn get(&self, key: &HotKey) -> Option<Arc<Rows>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.rows.get(key).map(Arc::clone)
    }

    pub(super) fn put(&self, key: HotKey, rows: &Arc<Rows>) {
        let bytes = rows.heap_bytes();
        if bytes > self.budget {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.rows.insert(key.clone(), Arc::clone(rows)).is_some() {
            return;
        }
        entries.order.push_back(key);
        entries.bytes += bytes;
        while entries.bytes > self.budget {
            let Some(oldest) = entries.order.pop_front() else {
                return;
            };
            if let Some(gone) = entries.rows.remove(&oldest) {
                entries.bytes -= gone.heap_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_and_the_oldest_goes_first() {
        let key = |day| HotKey {
            day,
            bucket: 0,
            with_properties: false,
            files: vec![],
            erased: 0,
        };
        let rows = Arc::new(Rows {
            unit: vec![0; 10],
            ..Rows::default()
        });
        let hot = HotTier::new(rows.heap_bytes() * 2);
        for day in 0..3 {
            hot.put(key(day), &rows);
        }
        assert!(hot.get(&key(0)).is_none());
        assert!(hot.get(&key(1)).is_some() && hot.get(&key(2)).is_some());
        let large = Arc::new(Rows {
            unit: vec![0; 100],
            ..Rows::default()
        });
        hot.put(key(9), &large);
        assert!(hot.get(&key(9)).is_none());
    }
}
