//! Usage of a block: events and distinct units of each filter.
//!
//! A block is one day of one bucket, so nothing of a count reaches beyond it. Where many sorts of
//! event are asked for, the units are sorted by sort of event first, in two passes; then each sort
//! is counted over a set of bits that stays in the nearest cache.

use super::classify::Classifier;
use crate::columns::{Block, Column};
use tidegate_metrics::{DistinctUnits, UsageCell};

/// So many sorts are looked for one by one.
const FEW: usize = 4;

/// Memory that counting uses again for every block.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) distinct: DistinctUnits,
    narrow: Vec<u16>,
    wide: Vec<u32>,
    rows: Vec<u32>,
    ends: Vec<usize>,
}

impl Counting {
    /// Adds a block to the cells of its day, one per filter.
    pub(super) fn add(&mut self, classifier: &Classifier<'_>, block: &Block, of: &mut [UsageCell]) {
        let asked: Vec<&[usize]> = block
            .sorts()
            .iter()
            .map(|sort| classifier.filters_of(*sort))
            .collect();
        let codes: Vec<usize> = (0..asked.len())
            .filter(|code| asked.get(*code).is_some_and(|filters| !filters.is_empty()))
            .collect();
        if codes.len() > FEW {
            self.sort(block);
        }
        for code in &codes {
            let filters = asked.get(*code).copied().unwrap_or(&[]);
            let (tested, plain): (Vec<usize>, Vec<usize>) =
                filters.iter().partition(|f| classifier.has_tests(**f));
            if !plain.is_empty() {
                let found = match codes.len() > FEW {
                    true => self.sorted(block, *code),
                    false => self.looked_for(block, *code),
                };
                for filter in plain {
                    add_to(of, filter, found);
                }
            }
            if !tested.is_empty() {
                self.add_tested(classifier, block, (*code, &tested), of);
            }
        }
    }

    /// Sorts the units of a block by code; `ends` says where each code's units end.
    fn sort(&mut self, block: &Block) {
        let sorts = block.sorts().len();
        let Self {
            narrow, wide, ends, ..
        } = self;
        match (block.codes(), block.units()) {
            (Column::Narrow(codes), Column::Narrow(units)) => {
                by_code(codes, units, sorts, narrow, ends);
            }
            (Column::Narrow(codes), Column::Wide(units)) => {
                by_code(codes, units, sorts, wide, ends);
            }
            (Column::Wide(codes), Column::Narrow(units)) => {
                by_code(codes, units, sorts, narrow, ends);
            }
            (Column::Wide(codes), Column::Wide(units)) => {
                by_code(codes, units, sorts, wide, ends);
            }
        }
    }

    fn sorted(&mut self, block: &Block, code: usize) -> UsageCell {
        let before = code.checked_sub(1);
        let start = before.and_then(|at| self.ends.get(at)).copied();
        let end = self.ends.get(code).copied().unwrap_or(0);
        let rows = start.unwrap_or(0)..end;
        match block.units() {
            Column::Narrow(_) => {
                let units = self.narrow.get(rows).unwrap_or(&[]);
                self.distinct.count(units)
            }
            Column::Wide(_) => {
                let units = self.wide.get(rows).unwrap_or(&[]);
                self.distinct.count(units)
            }
        }
    }

    fn looked_for(&mut self, block: &Block, code: usize) -> UsageCell {
        block.rows_of(&only(code), &mut self.rows);
        self.wide.clear();
        let rows = self.rows.iter().map(|row| usize::try_from(*row));
        let units = rows.map(|row| block.unit(row.unwrap_or(usize::MAX)));
        self.wide.extend(units);
        self.distinct.count(&self.wide)
    }

    fn add_tested(
        &mut self,
        classifier: &Classifier<'_>,
        block: &Block,
        (code, filters): (usize, &[usize]),
        of: &mut [UsageCell],
    ) {
        let mut units: Vec<Vec<u32>> = vec![Vec::new(); filters.len()];
        block.rows_of(&only(code), &mut self.rows);
        for row in &self.rows {
            let row = usize::try_from(*row).unwrap_or(usize::MAX);
            for filter in classifier.confirmed(filters, block, row) {
                let of_filter = filters.iter().zip(&mut units);
                for (_, units) in of_filter.filter(|(number, _)| **number == filter) {
                    units.push(block.unit(row));
                }
            }
        }
        for (filter, units) in filters.iter().zip(&units) {
            add_to(of, *filter, self.distinct.count(units));
        }
    }
}

/// Which codes are wanted if it is one.
fn only(code: usize) -> Vec<bool> {
    (0..=code).map(|other| other == code).collect()
}

fn add_to(of: &mut [UsageCell], filter: usize, found: UsageCell) {
    if let Some(cell) = of.get_mut(filter) {
        cell.events += found.events;
        cell.units += found.units;
    }
}

fn by_code<C: Copy + Into<u32>, U: Copy + Default>(
    codes: &[C],
    units: &[U],
    sorts: usize,
    sorted: &mut Vec<U>,
    ends: &mut Vec<usize>,
) {
    let place = |code: C| usize::try_from(code.into()).unwrap_or(usize::MAX);
    ends.clear();
    ends.resize(sorts, 0);
    for code in codes {
        if let Some(count) = ends.get_mut(place(*code)) {
            *count += 1;
        }
    }
    let mut start = 0;
    for end in ends.iter_mut() {
        let count = std::mem::replace(end, start);
        start += count;
    }
    sorted.clear();
    sorted.resize(units.len(), U::default());
    for (code, unit) in codes.iter().zip(units) {
        if let Some(next) = ends.get_mut(place(*code)) {
            if let Some(to) = sorted.get_mut(*next) {
                *to = *unit;
            }
            *next += 1;
        }
    }
}
