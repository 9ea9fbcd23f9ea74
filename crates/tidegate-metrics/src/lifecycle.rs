//! Lifecycle and stickiness: who is new, who stays, who leaves and comes back, and how often.
//!
//! Periods are spans of whole UTC days from a given start. A unit that is active in a period is
//! *new* if it never was before, *returning* if it was in the period before, and *resurrecting* if
//! it was only earlier; a unit that was active in the period before and is not in this one is
//! *dormant* in it. Activity before the start counts as earlier activity, so nobody is new twice:
//! whoever folds must be given everything there is. Stickiness is on how many days of a period its
//! active units were active. By arm, a unit's life begins with its first exposure: what it did
//! before counts nowhere, and it is new in the period in which it first does something after.
//! Both need events in the order of days per unit, and are sums over buckets.

use crate::exposure::{Arms, Assignment};
use crate::journey::ClassifiedEvent;
use crate::query::Days;
use std::collections::BTreeMap;

const DAY_US: i64 = 86_400_000_000;

/// One period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LifecycleCell {
    /// Units active for the first time.
    pub new: u64,
    /// Units active in the period before too.
    pub returning: u64,
    /// Units active earlier, and not in the period before.
    pub resurrecting: u64,
    /// Units active in the period before, and not in this one.
    pub dormant: u64,
    /// Active units by the days of the period they were active on.
    pub by_days: BTreeMap<u32, u64>,
}

impl LifecycleCell {
    /// Units active in the period.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.new + self.returning + self.resurrecting
    }

    fn merge(&mut self, other: &Self) {
        self.new += other.new;
        self.returning += other.returning;
        self.resurrecting += other.resurrecting;
        self.dormant += other.dormant;
        for (days, units) in &other.by_days {
            *self.by_days.entry(*days).or_default() += units;
        }
    }
}

/// Where a cell lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LifecycleKey {
    /// The period, counted from the start.
    pub period: i64,
    /// Number of the variant.
    pub variant: u32,
    /// Number of the segment.
    pub segment: u32,
}

/// Every period, of everyone or by arm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// The periods with active or dormant units.
    pub cells: BTreeMap<LifecycleKey, LifecycleCell>,
    /// Units excluded because they were exposed to two variants.
    pub mixed_units: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    period: i64,
    day: i64,
    days: u32,
}

impl Lifecycle {
    /// Counts one bucket. Events with `matched` other than 0 are activity, from when their unit
    /// counts on, and come in the order of days, those before the first of `days` included; periods
    /// are `period_days` long.
    #[must_use]
    pub fn of<'a>(
        arms: impl Into<Arms<'a>>,
        days: Days,
        period_days: u32,
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Self {
        let arms = arms.into();
        let length = i64::from(period_days.max(1));
        let period_of = |day: i64| day.saturating_sub(days.first).div_euclid(length);
        let last = period_of(days.last);
        let mut seen: Vec<Option<Seen>> = vec![None; arms.units()];
        let mut lifecycle = Self::default();
        for event in events.into_iter().filter(|event| event.matched != 0) {
            let day = event.time_us.div_euclid(DAY_US);
            let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
            let Some(unit) = seen.get_mut(at).filter(|_| day <= days.last) else {
                continue;
            };
            if arms.since_us(at).is_none_or(|since| event.time_us < since) {
                continue;
            }
            let period = period_of(day);
            match unit {
                Some(known) if known.period == period => {
                    known.days += u32::from(known.day != day);
                    known.day = day;
                }
                _ => {
                    let arm = arms.of(at).unwrap_or(Assignment::EVERYONE);
                    lifecycle.leave(arm, *unit, Some(period), last);
                    *unit = Some(Seen {
                        period,
                        day,
                        days: 1,
                    });
                }
            }
        }
        for (at, unit) in seen.into_iter().enumerate() {
            let arm = arms.of(at).unwrap_or(Assignment::EVERYONE);
            lifecycle.leave(arm, unit, None, last);
            lifecycle.mixed_units += u64::from(arm.is_mixed);
        }
        lifecycle
    }

    /// Counts what a unit was in the period it leaves, and what it is until the next it is active
    /// in.
    fn leave(&mut self, arm: Assignment, seen: Option<Seen>, next: Option<i64>, last: i64) {
        if let Some(seen) = seen {
            if let Some(cell) = self.within(arm, seen.period, last) {
                *cell.by_days.entry(seen.days).or_default() += 1;
            }
            let after = seen.period + 1;
            if next != Some(after)
                && let Some(cell) = self.within(arm, after, last)
            {
                cell.dormant += 1;
            }
        }
        let Some(next) = next else { return };
        let Some(cell) = self.within(arm, next, last) else {
            return;
        };
        match seen {
            None => cell.new += 1,
            Some(seen) if seen.period + 1 == next => cell.returning += 1,
            Some(_) => cell.resurrecting += 1,
        }
    }

    fn within(&mut self, arm: Assignment, period: i64, last: i64) -> Option<&mut LifecycleCell> {
        let key = LifecycleKey {
            period,
            variant: arm.variant,
            segment: arm.segment,
        };
        (0..=last)
            .contains(&period)
            .then(|| self.cells.entry(key).or_default())
    }

    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            self.cells.entry(*key).or_default().merge(cell);
        }
        self.mixed_units += other.mixed_units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::{ExposureEvent, assign_units};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against sets of active days per unit.
        #[test]
        fn lifecycle_equals_sets(
            events in prop::collection::vec((0u32..6, 0i64..30, 0u64..3), 0..90),
            first in 0i64..12,
            length in 1u32..5,
            count in 1i64..14,
            split in 0u32..6,
            exposures in prop::collection::vec((0u32..6, 0i64..30, 1u32..3), 0..9),
            is_by_arm in any::<bool>(),
        ) {
            let exposures = exposures.into_iter().map(|(unit, half_day, variant)| ExposureEvent {
                unit,
                time_us: half_day * DAY_US / 2,
                variant,
                segment: 7,
            });
            let assignments = assign_units(6, exposures);
            let arms = match is_by_arm {
                true => Arms::Exposed(&assignments),
                false => Arms::Everyone(6),
            };
            let mut events = events;
            events.sort_by_key(|(_, half_day, _)| *half_day);
            let classified = |is_first: bool| {
                let these = events.iter().filter(move |(unit, _, _)| (*unit < split) == is_first);
                these.map(|(unit, half_day, matched)| ClassifiedEvent {
                    unit: *unit,
                    time_us: half_day * DAY_US / 2,
                    matched: *matched,
                    value: f64::NAN,
                })
            };
            let days = Days { first, last: first + count - 1 };
            let mut found = Lifecycle::of(arms, days, length, classified(true));
            found.merge(&Lifecycle::of(arms, days, length, classified(false)));
            let mixed = assignments.iter().filter(|unit| is_by_arm && unit.is_mixed).count();
            prop_assert_eq!(std::mem::take(&mut found.mixed_units), 2 * mixed as u64);
            let length = i64::from(length);
            let period = |day: i64| (day - first).div_euclid(length);
            let mut expected = Lifecycle::default();
            for unit in 0..6 {
                let at = usize::try_from(unit).unwrap();
                let Some(since_us) = arms.since_us(at) else { continue };
                let arm = arms.of(at).unwrap();
                let active: BTreeSet<i64> = events
                    .iter()
                    .filter(|event| event.0 == unit && event.2 != 0)
                    .filter(|event| event.1 * DAY_US / 2 >= since_us)
                    .map(|event| event.1 / 2)
                    .filter(|day| *day <= days.last)
                    .collect();
                let periods: BTreeSet<i64> = active.iter().map(|day| period(*day)).collect();
                for here in 0..=period(days.last) {
                    let is_active = periods.contains(&here);
                    let was_active = periods.contains(&(here - 1));
                    let was_ever = periods.iter().any(|before| *before < here);
                    if !is_active && !was_active {
                        continue;
                    }
                    let key = LifecycleKey {
                        period: here,
                        variant: arm.variant,
                        segment: arm.segment,
                    };
                    let cell = expected.cells.entry(key).or_default();
                    match (is_active, was_active, was_ever) {
                        (false, _, _) => cell.dormant += 1,
                        (true, true, _) => cell.returning += 1,
                        (true, false, true) => cell.resurrecting += 1,
                        (true, false, false) => cell.new += 1,
                    }
                    if is_active {
                        let days = active.iter().filter(|day| period(**day) == here).count();
                        *cell.by_days.entry(u32::try_from(days).unwrap()).or_default() += 1;
                    }
                }
            }
            prop_assert_eq!(&found, &expected);
            for cell in found.cells.values() {
                prop_assert_eq!(cell.by_days.values().sum::<u64>(), cell.active());
            }
        }
    }
}
