//! Units by their first active period and the periods since.

use std::collections::BTreeMap;

/// Units by first active period and periods since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Units per (first period, periods later); (w, 0) is the size of cohort w.
    pub cells: BTreeMap<(i64, i64), u64>,
}

impl Retention {
    /// Adds another bucket.
    pub fn merge(&mut self, other: &Self) {
        for (key, units) in &other.cells {
            *self.cells.entry(*key).or_default() += units;
        }
    }
}

/// Counts retention, bucket after bucket, from the units that were active on each day.
///
/// Days of a bucket come in order. A unit's state is the period it was last seen in, so that an
/// event of a unit seen in this period already, which is nearly every event, is one comparison.
/// Periods are numbered as they are met, from 1; 0 is "never seen".
#[derive(Debug)]
pub struct RetentionFold {
    start_day: i64,
    period_days: i64,
    /// Periods by number less one.
    periods: Vec<i64>,
    last: Vec<u32>,
    first: Vec<u32>,
    /// By number of the period less one: units by number of their first period less one.
    counts: Vec<Vec<u64>>,
}

impl RetentionFold {
    /// Nothing counted yet; periods are `period_days` long and counted from the start.
    #[must_use]
    pub fn new(start_day: i64, period_days: u32) -> Self {
        Self {
            start_day,
            period_days: i64::from(period_days.max(1)),
            periods: Vec::new(),
            last: Vec::new(),
            first: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Goes on with another bucket, of so many units.
    pub fn begin_bucket(&mut self, units: usize) {
        for column in [&mut self.last, &mut self.first] {
            column.clear();
            column.resize(units, 0);
        }
    }

    /// Takes the units that were active on a day, in any order and as often as they were.
    pub fn day<U: Into<u32>>(&mut self, day: i64, units: impl IntoIterator<Item = U>) {
        let since = day.saturating_sub(self.start_day);
        let period = since.div_euclid(self.period_days);
        if period < 0 {
            return;
        }
        let at = self.place_of(period);
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let periods = self.periods.len();
        let Some(counts) = self.counts.get_mut(at) else {
            return;
        };
        counts.resize(periods, 0);
        for unit in units {
            let unit = usize::try_from(unit.into()).unwrap_or(usize::MAX);
            let Some(last) = self.last.get_mut(unit).filter(|last| **last != number) else {
                continue;
            };
            let is_new = std::mem::replace(last, number) == 0;
            let Some(first) = self.first.get_mut(unit) else {
                continue;
            };
            if is_new {
                *first = number;
            }
            let cohort = usize::try_from(*first).unwrap_or(0).saturating_sub(1);
            if let Some(count) = counts.get_mut(cohort) {
                *count += 1;
            }
        }
    }

    fn place_of(&mut self, period: i64) -> usize {
        let known = self.periods.iter().position(|known| *known == period);
        known.unwrap_or_else(|| {
            self.periods.push(period);
            self.counts.push(Vec::new());
            self.periods.len() - 1
        })
    }

    /// What was counted.
    #[must_use]
    pub fn finish(self) -> Retention {
        let mut retention = Retention::default();
        for (period, counts) in self.periods.iter().zip(&self.counts) {
            for (first, units) in self.periods.iter().zip(counts) {
                if *units > 0 {
                    let cell = (*first, period - first);
                    *retention.cells.entry(cell).or_default() += units;
                }
            }
        }
        retention
    }
}
