//! Events and distinct units per period, of everyone or by arm.

use super::{DAY_US, UsageCell};
use crate::exposure::Arms;
use crate::journey::ClassifiedEvent;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

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

/// The cells of one period, arm by arm and in each by filter.
struct Period {
    number: i64,
    cells: Vec<UsageCell>,
}

impl Adoption {
    /// Counts one bucket; bit `i` of an event's `matched` is the filter `filters.start + i`, of
    /// which there are at most 64. Events come in time order; periods are `period_days` long and
    /// numbered from the start.
    #[must_use]
    pub fn of<'a>(
        arms: impl Into<Arms<'a>>,
        start_day: i64,
        period_days: u32,
        filters: Range<usize>,
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Self {
        let arms = arms.into();
        let length_us = DAY_US * i64::from(period_days.max(1));
        let start_us = start_day.saturating_mul(DAY_US);
        let mut adoption = Self::default();
        let (groups, group_of) = adoption.groups(arms);
        let mut open: Option<Period> = None;
        // Per unit: the period it was last seen in, and by which filters.
        let mut seen = vec![(i64::MIN, 0u64); arms.units()];
        for event in events.into_iter().filter(|event| event.matched != 0) {
            let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
            let Some((seen, since_us)) = seen.get_mut(at).zip(arms.since_us(at)) else {
                continue;
            };
            let number = event.time_us.saturating_sub(start_us).div_euclid(length_us);
            if event.time_us < since_us || number < 0 {
                continue;
            }
            if seen.0 != number {
                *seen = (number, 0);
            }
            if open.as_ref().is_none_or(|period| period.number != number) {
                let cells = vec![UsageCell::default(); groups.len() * filters.len()];
                let before = open.replace(Period { number, cells });
                adoption.keep(before, &groups, &filters);
            }
            let first = group_of.get(at).copied().unwrap_or(0) * filters.len();
            let mut left = event.matched;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let place = first + usize::try_from(bit).unwrap_or(usize::MAX);
                let cells = open.as_mut().map(|period| &mut period.cells);
                if let Some(cell) = cells.and_then(|cells| cells.get_mut(place)) {
                    cell.events += 1;
                    cell.units += u64::from(seen.1 >> bit & 1 == 0);
                }
            }
            seen.1 |= event.matched;
        }
        adoption.keep(open, &groups, &filters);
        adoption
    }

    /// The arms that units belong to, and the place of each unit's among them; counts who was
    /// exposed on the way.
    fn groups(&mut self, arms: Arms<'_>) -> (Vec<(u32, u32)>, Vec<usize>) {
        let Arms::Exposed(assignments) = arms else {
            return (vec![(0, 0)], Vec::new());
        };
        let mut groups = Vec::new();
        let mut known: FxHashMap<(u32, u32), usize> = FxHashMap::default();
        let group_of = assignments.iter().map(|assignment| {
            self.mixed_units += u64::from(assignment.is_mixed);
            let Some(since_us) = assignment.counts_since_us() else {
                return 0;
            };
            let arm = (assignment.variant, assignment.segment);
            if since_us != i64::MIN {
                *self.exposed.entry(arm).or_default() += 1;
            }
            *known.entry(arm).or_insert_with(|| {
                groups.push(arm);
                groups.len() - 1
            })
        });
        let group_of = group_of.collect();
        (groups, group_of)
    }

    fn keep(&mut self, period: Option<Period>, groups: &[(u32, u32)], filters: &Range<usize>) {
        let Some(Period { number, cells }) = period else {
            return;
        };
        let by_group = cells.chunks(filters.len().max(1));
        for ((variant, segment), cells) in groups.iter().zip(by_group) {
            for (filter, cell) in filters.clone().zip(cells) {
                if cell.events > 0 {
                    let key = AdoptionKey {
                        period: number,
                        filter,
                        variant: *variant,
                        segment: *segment,
                    };
                    self.cells.entry(key).or_default().add(*cell);
                }
            }
        }
    }

    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        self.mixed_units += other.mixed_units;
        for (arm, units) in &other.exposed {
            *self.exposed.entry(*arm).or_default() += units;
        }
        self.merge_cells(other);
    }

    /// Adds the cells of other filters of the same bucket.
    pub fn merge_cells(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            self.cells.entry(*key).or_default().add(*cell);
        }
    }
}
