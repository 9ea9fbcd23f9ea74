//! Which exposures are news.
//!
//! Instrumentation reports every evaluation; what is analysed is the first time a unit met a
//! variant. An exposure is passed over if one of the same (flag, set, version, unit, variant) at
//! the same time or earlier is already durable. So the earliest always gets through, in whatever
//! order records arrive, and the result does not depend on what is forgotten: a forgotten one
//! costs a row, never a wrong answer, because analysis takes the earliest row.
//!
//! Memory is bounded by two generations of [`GENERATION`] entries; the older is dropped whole.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

/// Entries of one generation: about 16 MiB each.
const GENERATION: usize = 400_000;

/// The earliest durable exposure of each thing met.
#[derive(Debug, Default)]
pub struct FirstExposures {
    young: HashMap<u128, i64, FxBuildHasher>,
    old: HashMap<u128, i64, FxBuildHasher>,
}

impl FirstExposures {
    /// Whether an exposure at `time_us` tells something that is not durable yet.
    #[must_use]
    pub fn is_news(&self, what: u128, time_us: i64) -> bool {
        let known = self.young.get(&what).or_else(|| self.old.get(&what));
        known.is_none_or(|known| time_us < *known)
    }

    /// Notes that an exposure at `time_us` is durable.
    pub fn note(&mut self, what: u128, time_us: i64) {
        if !self.is_news(what, time_us) {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(what, time_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order, the earliest time of each thing is let through, and nothing that
        /// is not earlier than all before it.
        #[test]
        fn the_earliest_gets_through_in_any_order(seen in prop::collection::vec((0u128..5, 0i64..20), 0..60)) {
            let mut first = FirstExposures::default();
            let mut passed: HashMap<u128, Vec<i64>> = HashMap::new();
            for (what, time) in &seen {
                if first.is_news(*what, *time) {
                    passed.entry(*what).or_default().push(*time);
                    first.note(*what, *time);
                }
            }
            for what in 0..5 {
                let all = seen.iter().filter(|(other, _)| *other == what).map(|(_, time)| *time);
                let times = passed.remove(&what).unwrap_or_default();
                prop_assert_eq!(all.min(), times.iter().copied().min());
                prop_assert!(times.is_sorted_by(|one, next| one > next));
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let mut first = FirstExposures::default();
        for what in 0..2 * GENERATION as u128 + 10 {
            first.note(what, 5);
        }
        assert!(first.young.len() + first.old.len() <= 2 * GENERATION);
        assert!(!first.is_news(2 * GENERATION as u128, 5));
        assert!(
            first.is_news(0, 5),
            "the oldest is forgotten, and told again"
        );
    }
}
