//! Usage, adoption and retention: who was there when.
//!
//! Usage counts events and distinct units per UTC day and event filter. Retention takes the first
//! period of a unit's activity and counts in which later periods it was active again. Periods are
//! spans of whole UTC days from a given start. Both need events in time order per unit, and both
//! are sums over buckets. Adoption is usage per period instead of per day, of everyone or by arm:
//! a unit's arm is that of its first exposure, and its events count from there.

use crate::exposure::Assignment;
use crate::journey::ClassifiedEvent;
use serde::Serialize;
use std::collections::BTreeMap;

const DAY_US: i64 = 86_400_000_000;

/// Events and units of one filter on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageCell {
    /// Events.
    pub events: u64,
    /// Distinct units.
    pub units: u64,
}

/// Usage per (UTC day since 1970, filter).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The cells with events.
    pub cells: BTreeMap<(i64, usize), UsageCell>,
}

impl Usage {
    /// Counts one bucket of `units` units with at most 64 filters. Events come in time order.
    #[must_use]
    pub fn of(units: usize, events: impl IntoIterator<Item = ClassifiedEvent>) -> Self {
        let mut usage = Self::default();
        let mut seen = vec![0u64; units];
        let mut today = [UsageCell::default(); 64];
        let mut day = None;
        for event in events {
            let of_event = event.time_us.div_euclid(DAY_US);
            if day != Some(of_event) {
                usage.keep(day, &mut today);
                seen.fill(0);
                day = Some(of_event);
            }
            let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
            let Some(seen) = seen.get_mut(at) else {
                continue;
            };
            let mut left = event.matched;
            while left != 0 {
                let filter = left.trailing_zeros();
                let bit = left & left.wrapping_neg();
                left &= left - 1;
                let at = usize::try_from(filter).unwrap_or(usize::MAX);
                if let Some(cell) = today.get_mut(at) {
                    cell.events += 1;
                    cell.units += u64::from(*seen & bit == 0);
                }
            }
            *seen |= event.matched;
        }
        usage.keep(day, &mut today);
        usage
    }

    fn keep(&mut self, day: Option<i64>, today: &mut [UsageCell; 64]) {
        for (filter, cell) in today.iter_mut().enumerate() {
            if let Some(day) = day
                && cell.events > 0
            {
                let kept = self.cells.entry((day, filter)).or_default();
                kept.events += cell.events;
                kept.units += cell.units;
            }
            *cell = UsageCell::default();
        }
    }

    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            let kept = self.cells.entry(*key).or_default();
            kept.events += cell.events;
            kept.units += cell.units;
        }
    }
}

/// Where an adoption cell lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AdoptionKey {
    /// The period, counted from the start.
    pub period: i64,
    /// The filter.
    pub filter: usize,
    /// Number of the variant.
    pub variant: u32,
    /// Number of the segment.
    pub segment: u32,
}

/// Events and distinct units per period, filter and arm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// The cells with events.
    pub cells: BTreeMap<AdoptionKey, UsageCell>,
    /// Units exposed to each (variant, segment); empty where no flag groups them.
    pub exposed: BTreeMap<(u32, u32), u64>,
    /// Units excluded because they were exposed to two variants.
    pub mixed_units: u64,
}

impl Adoption {
    /// Counts one bucket with at most 64 filters. Events come in time order; periods are
    /// `period_days` long and numbered from the start.
    #[must_use]
    pub fn of(
        assignments: &[Assignment],
        start_day: i64,
        period_days: u32,
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Self {
        let length_us = DAY_US * i64::from(period_days.max(1));
        let start_us = start_day.saturating_mul(DAY_US);
        let mut adoption = Self::default();
        for assignment in assignments {
            adoption.mixed_units += u64::from(assignment.is_mixed);
            if assignment
                .counts_since_us()
                .is_some_and(|since| since != i64::MIN)
            {
                let arm = (assignment.variant, assignment.segment);
                *adoption.exposed.entry(arm).or_default() += 1;
            }
        }
        // Per unit: the period it was last seen in, and by which filters.
        let mut seen = vec![(i64::MIN, 0u64); assignments.len()];
        for event in events.into_iter().filter(|event| event.matched != 0) {
            let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
            let Some((assignment, seen)) = assignments.get(at).zip(seen.get_mut(at)) else {
                continue;
            };
            let since = assignment.counts_since_us();
            let period = event.time_us.saturating_sub(start_us).div_euclid(length_us);
            if since.is_none_or(|since| event.time_us < since) || period < 0 {
                continue;
            }
            if seen.0 != period {
                *seen = (period, 0);
            }
            let mut left = event.matched;
            while left != 0 {
                let bit = left & left.wrapping_neg();
                let key = AdoptionKey {
                    period,
                    filter: usize::try_from(left.trailing_zeros()).unwrap_or(usize::MAX),
                    variant: assignment.variant,
                    segment: assignment.segment,
                };
                left &= left - 1;
                let cell = adoption.cells.entry(key).or_default();
                cell.events += 1;
                cell.units += u64::from(seen.1 & bit == 0);
            }
            seen.1 |= event.matched;
        }
        adoption
    }

    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        self.mixed_units += other.mixed_units;
        for (arm, units) in &other.exposed {
            *self.exposed.entry(*arm).or_default() += units;
        }
        for (key, cell) in &other.cells {
            let kept = self.cells.entry(*key).or_default();
            kept.events += cell.events;
            kept.units += cell.units;
        }
    }
}

/// Units by first active period and periods since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Units per (first period, periods later); (w, 0) is the size of cohort w.
    pub cells: BTreeMap<(i64, i64), u64>,
}

impl Retention {
    /// Counts one bucket of `units` units. Events with `matched` other than 0 are activity and
    /// come in time order. Periods are numbered from the start, `period_days` long.
    #[must_use]
    pub fn of(
        units: usize,
        start_day: i64,
        period_days: u32,
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Self {
        let length_us = DAY_US * i64::from(period_days.max(1));
        let start_us = start_day.saturating_mul(DAY_US);
        let mut seen: Vec<Option<(i64, i64)>> = vec![None; units];
        let mut retention = Self::default();
        for event in events.into_iter().filter(|event| event.matched != 0) {
            let period = event.time_us.saturating_sub(start_us).div_euclid(length_us);
            let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
            let Some(unit) = seen.get_mut(at).filter(|_| period >= 0) else {
                continue;
            };
            let first = unit.map_or(period, |(first, _)| first);
            if unit.is_none_or(|(_, last)| last < period) {
                *retention.cells.entry((first, period - first)).or_default() += 1;
            }
            *unit = Some((first, period));
        }
        retention
    }

    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        for (key, units) in &other.cells {
            *self.cells.entry(*key).or_default() += units;
        }
    }

    /// Whether a cell's period had ended at a time; others may still grow.
    #[must_use]
    pub fn is_complete(cell: (i64, i64), start_day: i64, period_days: u32, end_us: i64) -> bool {
        let periods = cell.0.saturating_add(cell.1).saturating_add(1);
        let days = periods.saturating_mul(i64::from(period_days.max(1)));
        start_day.saturating_add(days).saturating_mul(DAY_US) <= end_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn events() -> impl Strategy<Value = Vec<ClassifiedEvent>> {
        let event = (0u32..5, 0i64..20, 0u64..4);
        prop::collection::vec(event, 0..80).prop_map(|mut events| {
            events.sort_by_key(|(_, half_day, _)| *half_day);
            let made = events
                .into_iter()
                .map(|(unit, half_day, matched)| ClassifiedEvent {
                    unit,
                    time_us: half_day * DAY_US / 2,
                    matched,
                    value: f64::NAN,
                });
            made.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn usage_equals_sets(events in events()) {
            let usage = Usage::of(5, events.iter().copied());
            for day in 0..10 {
                for filter in 0..2usize {
                    let here = events.iter().filter(|event| {
                        event.time_us.div_euclid(DAY_US) == day && event.matched >> filter & 1 == 1
                    });
                    let units: BTreeSet<u32> = here.clone().map(|event| event.unit).collect();
                    let found = usage.cells.get(&(day, filter)).copied().unwrap_or_default();
                    prop_assert_eq!(found.events, here.count() as u64);
                    prop_assert_eq!(found.units, units.len() as u64);
                }
            }
        }

        #[test]
        fn adoption_equals_sets(events in events(), since in prop::collection::vec(0i64..12, 5)) {
            let arms: Vec<Assignment> = (0u32..)
                .zip(&since)
                .map(|(unit, day)| Assignment {
                    since_us: (unit != 4).then_some(day * DAY_US),
                    variant: unit % 2,
                    segment: 0,
                    is_mixed: unit == 3,
                })
                .collect();
            let adoption = Adoption::of(&arms, 1, 3, events.iter().copied());
            prop_assert_eq!(adoption.mixed_units, 1);
            let mut expected: BTreeMap<AdoptionKey, (u64, BTreeSet<u32>)> = BTreeMap::new();
            for event in &events {
                let day = event.time_us.div_euclid(DAY_US);
                let arm = arms[event.unit as usize];
                if event.unit >= 3 || day < 1 || event.time_us < arm.since_us.unwrap() {
                    continue;
                }
                for filter in (0..2usize).filter(|filter| event.matched >> filter & 1 == 1) {
                    let key = AdoptionKey { period: (day - 1) / 3, filter, variant: arm.variant, segment: 0 };
                    let cell = expected.entry(key).or_default();
                    cell.0 += 1;
                    cell.1.insert(event.unit);
                }
            }
            let found: BTreeMap<AdoptionKey, (u64, u64)> =
                adoption.cells.iter().map(|(key, cell)| (*key, (cell.events, cell.units))).collect();
            let expected: BTreeMap<AdoptionKey, (u64, u64)> =
                expected.into_iter().map(|(key, (n, units))| (key, (n, units.len() as u64))).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn retention_equals_sets(events in events()) {
            let retention = Retention::of(5, 0, 2, events.iter().copied());
            let mut expected: BTreeMap<(i64, i64), u64> = BTreeMap::new();
            for unit in 0..5 {
                let active: BTreeSet<i64> = events
                    .iter()
                    .filter(|event| event.unit == unit && event.matched != 0)
                    .map(|event| event.time_us.div_euclid(2 * DAY_US))
                    .collect();
                if let Some(first) = active.first() {
                    for period in &active {
                        *expected.entry((*first, period - first)).or_default() += 1;
                    }
                }
            }
            prop_assert_eq!(retention.cells, expected);
        }
    }

    #[test]
    fn a_cell_is_complete_when_its_period_has_ended() {
        assert!(Retention::is_complete((0, 1), 10, 7, 24 * DAY_US));
        assert!(!Retention::is_complete((0, 1), 10, 7, 24 * DAY_US - 1));
    }
}
