//! Events and distinct units per day and filter.

use serde::Serialize;
use std::collections::BTreeMap;

/// Events and units of one filter on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageCell {
    /// Events.
    pub events: u64,
    /// Distinct units.
    pub units: u64,
}

impl UsageCell {
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.units += other.units;
    }
}

/// Usage per (UTC day since 1970, filter).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The cells with events.
    pub cells: BTreeMap<(i64, usize), UsageCell>,
}

/// Counts distinct units of one bucket: a set of bits that is emptied by going over the same units
/// again, so that a count costs what it counts and nothing else.
#[derive(Debug, Default)]
pub struct DistinctUnits {
    bits: Vec<u64>,
    units: usize,
    /// Units whose events are not counted, if there are any.
    left_out: Vec<bool>,
}

impl DistinctUnits {
    /// A set for units below `units`; what is beyond is not counted, nor are units that
    /// `left_out` flags by ordinal.
    pub fn begin_bucket(&mut self, units: usize, left_out: &[bool]) {
        self.units = units;
        self.bits.clear();
        self.bits.resize(units.div_ceil(64), 0);
        self.left_out.clear();
        self.left_out.extend_from_slice(left_out);
    }

    /// How many events these are, one per entry, and of how many units.
    pub fn count<U: Copy + Into<u32>>(&mut self, of: &[U]) -> UsageCell {
        let mut cell = UsageCell::default();
        for unit in of {
            let at = usize::try_from((*unit).into()).unwrap_or(usize::MAX);
            let is_left_out = self.left_out.get(at).copied().unwrap_or(false);
            if at >= self.units || is_left_out {
                continue;
            }
            cell.events += 1;
            if let Some(word) = self.bits.get_mut(at / 64) {
                let bit = 1 << (at % 64);
                cell.units += u64::from(*word & bit == 0);
                *word |= bit;
            }
        }
        for unit in of {
            let at = usize::try_from((*unit).into()).unwrap_or(usize::MAX);
            if let Some(word) = self.bits.get_mut(at / 64) {
                *word = 0;
            }
        }
        cell
    }
}

/// Usage being counted, bucket after bucket.
#[derive(Debug, Clone)]
pub struct UsageTally {
    filters: usize,
    days: BTreeMap<i64, Vec<UsageCell>>,
}

impl UsageTally {
    /// Nothing counted yet, of so many filters.
    #[must_use]
    pub fn new(filters: usize) -> Self {
        Self {
            filters,
            days: BTreeMap::new(),
        }
    }

    /// The cells of a day by filter. A bucket adds all it has of a filter on a day at once,
    /// because distinct units of parts do not add up.
    pub fn day(&mut self, day: i64) -> &mut [UsageCell] {
        let filters = self.filters;
        let cells = self.days.entry(day);
        cells.or_insert_with(|| vec![UsageCell::default(); filters])
    }

    /// Adds what other buckets counted of the same filters.
    pub fn merge(&mut self, other: &Self) {
        for (day, cells) in &other.days {
            for (to, from) in self.day(*day).iter_mut().zip(cells) {
                to.add(*from);
            }
        }
    }

    /// What was counted.
    #[must_use]
    pub fn finish(self) -> Usage {
        let mut cells = BTreeMap::new();
        for (day, of_day) in self.days {
            for (filter, cell) in of_day.into_iter().enumerate() {
                if cell.events > 0 {
                    cells.insert((day, filter), cell);
                }
            }
        }
        Usage { cells }
    }
}
