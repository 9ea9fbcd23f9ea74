//! Counts against sets built from the same events.

use super::*;
use crate::exposure::Assignment;
use crate::journey::ClassifiedEvent;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

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
        let mut tally = UsageTally::new(2);
        let mut distinct = DistinctUnits::default();
        distinct.begin_bucket(5, &[]);
        for day in 0..10 {
            for filter in 0..2usize {
                let of_filter = |event: &&ClassifiedEvent| {
                    event.time_us.div_euclid(DAY_US) == day && event.matched >> filter & 1 == 1
                };
                let units: Vec<u32> = events.iter().filter(of_filter).map(|e| e.unit).collect();
                let cell = distinct.count(&units);
                prop_assert_eq!(distinct.count(&[7u16]), UsageCell::default());
                tally.day(day)[filter] = cell;
            }
        }
        let mut twice = tally.clone();
        twice.merge(&tally);
        let usage = tally.finish();
        let twice = twice.finish();
        for day in 0..10 {
            for filter in 0..2usize {
                let here = events.iter().filter(|event| {
                    event.time_us.div_euclid(DAY_US) == day && event.matched >> filter & 1 == 1
                });
                let units: BTreeSet<u32> = here.clone().map(|event| event.unit).collect();
                let found = usage.cells.get(&(day, filter)).copied().unwrap_or_default();
                prop_assert_eq!(found.events, here.count() as u64);
                prop_assert_eq!(found.units, units.len() as u64);
                let twice = twice.cells.get(&(day, filter)).copied().unwrap_or_default();
                prop_assert_eq!((twice.events, twice.units), (2 * found.events, 2 * found.units));
            }
        }
    }

    #[test]
    fn units_left_out_are_not_counted(units in prop::collection::vec(0u32..6, 0..40)) {
        let mut distinct = DistinctUnits::default();
        distinct.begin_bucket(5, &[false, true, false, true]);
        let kept: Vec<u32> = units.iter().copied().filter(|unit| [0, 2, 4].contains(unit)).collect();
        let cell = distinct.count(&units);
        let different: BTreeSet<&u32> = kept.iter().collect();
        prop_assert_eq!((cell.events, cell.units), (kept.len() as u64, different.len() as u64));
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
        let adoption = Adoption::of(&arms, 1, 3, 10..12, events.iter().copied());
        prop_assert_eq!(adoption.mixed_units, 1);
        let mut expected: BTreeMap<AdoptionKey, (u64, BTreeSet<u32>)> = BTreeMap::new();
        for event in &events {
            let day = event.time_us.div_euclid(DAY_US);
            let arm = arms[event.unit as usize];
            if event.unit >= 3 || day < 1 || event.time_us < arm.since_us.unwrap() {
                continue;
            }
            for filter in (0..2usize).filter(|filter| event.matched >> filter & 1 == 1) {
                let key = AdoptionKey { period: (day - 1) / 3, filter: 10 + filter, variant: arm.variant, segment: 0 };
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
        // Two buckets, of the units below 3 and of the others.
        let mut fold = RetentionFold::new(0, 2);
        for bucket in [0..3u32, 3..5] {
            fold.begin_bucket(5);
            for day in -1..10 {
                let active = events.iter().filter(|event| {
                    let is_here = bucket.contains(&event.unit) && event.matched != 0;
                    is_here && event.time_us.div_euclid(DAY_US) == day
                });
                fold.day(day, active.map(|event| event.unit));
            }
        }
        let retention = fold.finish();
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
