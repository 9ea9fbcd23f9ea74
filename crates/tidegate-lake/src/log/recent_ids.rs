//! The ids of the last events, for recognising duplicates at the door.
//!
//! Two generations: ids enter the young one; when it holds half the capacity it becomes the old
//! one and the former old one is forgotten. At least the last half of the capacity is always
//! remembered, memory is bounded, and forgetting costs nothing per id. 16 bytes an id, about
//! twice that with the table's slack.

use rustc_hash::FxHashSet;
use tidegate_metrics::EventId;

#[derive(Debug)]
pub(super) struct RecentIds {
    young: FxHashSet<u128>,
    old: FxHashSet<u128>,
    generation_size: usize,
}

impl RecentIds {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            young: FxHashSet::default(),
            old: FxHashSet::default(),
            generation_size: (capacity / 2).max(1),
        }
    }

    /// Remembers an id; false if it was known.
    pub(super) fn insert(&mut self, id: EventId) -> bool {
        if self.old.contains(&id.0) {
            return false;
        }
        if self.young.len() >= self.generation_size && !self.young.contains(&id.0) {
            std::mem::swap(&mut self.old, &mut self.young);
            // Room for as many at once: a table of millions that grows by itself keeps the writer
            // for a tenth of a second.
            self.young.clear();
            self.young.reserve(self.generation_size);
        }
        self.young.insert(id.0)
    }

    /// Takes back an id whose event was refused after all.
    pub(super) fn forget(&mut self, id: EventId) {
        self.young.remove(&id.0);
        self.old.remove(&id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_at_least_the_last_half_of_its_capacity() {
        let mut recent = RecentIds::new(10);
        for id in 0..100u128 {
            assert!(recent.insert(EventId(id)));
            for known in id.saturating_sub(4)..=id {
                assert!(!recent.insert(EventId(known)), "{known} after {id}");
            }
        }
        assert!(recent.insert(EventId(0)));
        assert!(recent.young.len() + recent.old.len() <= 10);
    }

    #[test]
    fn a_forgotten_id_is_new_again() {
        let mut recent = RecentIds::new(4);
        assert!(recent.insert(EventId(7)));
        recent.forget(EventId(7));
        assert!(recent.insert(EventId(7)));
    }
}
