//! Rows packed as they are decoded, without being plain rows first.
//!
//! Whoever decodes numbers the sorts of event of its batch once, and each block translates those
//! numbers to its own: a row costs a look into a small table instead of a search for its name.

use super::{Block, Column, Sort, Span, Values};
use rustc_hash::FxHashMap;

/// A block being packed, in order.
#[derive(Debug, Default)]
pub(in crate::columns) struct Packing {
    block: Block,
    known: FxHashMap<Sort, u32>,
    /// Rows that have a value.
    values: Vec<(u32, f64)>,
}

/// Some columns of a batch, and which of its rows are meant, ascending.
pub(in crate::columns) struct Picked<'p> {
    pub(in crate::columns) rows: &'p [usize],
    pub(in crate::columns) unit: &'p [u32],
    pub(in crate::columns) time_us: &'p [i64],
    /// The number of each row's sort in `sorts`.
    pub(in crate::columns) codes: &'p [u32],
    pub(in crate::columns) sorts: &'p [Sort],
    /// Rows that have a value, ascending.
    pub(in crate::columns) values: &'p [(usize, f64)],
    /// Rows that have a variant, ascending.
    pub(in crate::columns) variants: &'p [(usize, u32)],
}

impl Packing {
    pub(in crate::columns) fn with_room_for(rows: usize) -> Self {
        let block = Block {
            units: Column::Narrow(Vec::with_capacity(rows)),
            codes: Column::Narrow(Vec::with_capacity(rows)),
            offsets: Vec::with_capacity(rows),
            ..Block::default()
        };
        Self {
            block,
            ..Self::default()
        }
    }

    /// Appends rows.
    pub(in crate::columns) fn push(&mut self, picked: &Picked<'_>) {
        let start = self.block.len();
        let unit = |row: &usize| picked.unit.get(*row).copied().unwrap_or(u32::MAX);
        self.block.units.extend(picked.rows.iter().map(unit));
        // Which code of the block's stands for each of the batch's; looked for when first met.
        let mut translated: Vec<Option<u32>> = vec![None; picked.sorts.len()];
        let (known, sorts) = (&mut self.known, &mut self.block.sorts);
        let code = |row: &usize| {
            let code = picked.codes.get(*row).copied().unwrap_or(u32::MAX);
            let at = usize::try_from(code).unwrap_or(usize::MAX);
            let (place, sort) = translated.get_mut(at).zip(picked.sorts.get(at))?;
            Some(*place.get_or_insert_with(|| {
                *known.entry(*sort).or_insert_with(|| {
                    sorts.push(*sort);
                    u32::try_from(sorts.len() - 1).unwrap_or(u32::MAX)
                })
            }))
        };
        let codes = picked.rows.iter().map(code);
        self.block
            .codes
            .extend(codes.map(|code| code.unwrap_or(u32::MAX)));
        for row in picked.rows {
            self.push_time(picked.time_us.get(*row).copied().unwrap_or(0));
        }
        let place = |to: usize| u32::try_from(start + to).unwrap_or(u32::MAX);
        let values = picked_of(picked.rows, picked.values);
        self.values
            .extend(values.map(|(to, value)| (place(to), value)));
        let variants = picked_of(picked.rows, picked.variants);
        self.block
            .variants
            .extend(variants.map(|(to, variant)| (place(to), variant)));
    }

    fn push_time(&mut self, time_us: i64) {
        let spans = &mut self.block.spans;
        let since = spans.last().and_then(|span| {
            let since = time_us.checked_sub(span.base_us)?;
            u32::try_from(since).ok()
        });
        let offset = since.unwrap_or_else(|| {
            spans.push(Span {
                first_row: self.block.offsets.len(),
                base_us: time_us,
            });
            0
        });
        self.block.offsets.push(offset);
    }

    pub(in crate::columns) fn finish(self) -> Block {
        let Self {
            mut block, values, ..
        } = self;
        block.units.shrink();
        block.codes.shrink();
        block.offsets.shrink_to_fit();
        block.values = match values.len().saturating_mul(2) > block.len() {
            true => {
                let mut all = vec![f64::NAN; block.len()];
                for (row, value) in values {
                    let at = usize::try_from(row).unwrap_or(usize::MAX);
                    if let Some(place) = all.get_mut(at) {
                        *place = value;
                    }
                }
                Values::All(all)
            }
            false => Values::Some(values),
        };
        block
    }
}

/// Of what some rows have, what the picked ones have, with their places among those.
fn picked_of<T: Copy>(rows: &[usize], has: &[(usize, T)]) -> impl Iterator<Item = (usize, T)> {
    let mut has = has.iter().peekable();
    rows.iter().enumerate().filter_map(move |(to, row)| {
        while has.next_if(|(other, _)| other < row).is_some() {}
        has.next_if(|(other, _)| other == row)
            .map(|(_, value)| (to, *value))
    })
}

impl<N: Copy + Into<u32> + TryFrom<u32>> Column<N> {
    fn extend(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            match self {
                Self::Wide(wide) => wide.push(number),
                Self::Narrow(narrow) => match N::try_from(number) {
                    Ok(number) => narrow.push(number),
                    Err(_) => {
                        let mut wide: Vec<u32> = narrow.iter().map(|n| (*n).into()).collect();
                        wide.push(number);
                        *self = Self::Wide(wide);
                    }
                },
            }
        }
    }

    fn shrink(&mut self) {
        match self {
            Self::Narrow(numbers) => numbers.shrink_to_fit(),
            Self::Wide(numbers) => numbers.shrink_to_fit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::rows::Rows;
    use proptest::prelude::*;
    use tidegate_metrics::EventKind;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Packed in parts as they are decoded, rows are what they are packed at once.
        #[test]
        fn packed_on_the_way_is_as_packed_afterwards(
            drawn in prop::collection::vec(
                (any::<bool>(), 0u32..90_000, 0i64..3, 0u32..300, prop::option::of(0.0..9.0)),
                0..400,
            ),
            part in 1usize..100,
        ) {
            let mut plain = Rows::default();
            let mut packing = Packing::with_room_for(3);
            let mut time_us = 0;
            for batch in drawn.chunks(part) {
                let mut sorts: Vec<Sort> = Vec::new();
                let (mut rows, mut unit, mut times, mut codes) = (vec![], vec![], vec![], vec![]);
                let (mut values, mut variants) = (vec![], vec![]);
                for (row, (is_ours, of, gap, name, value)) in batch.iter().enumerate() {
                    time_us += [0, 5, 3_000_000_000][usize::try_from(*gap).unwrap()];
                    let sort = Sort { kind: EventKind::Track, name: *name };
                    let known = sorts.iter().position(|other| *other == sort);
                    let code = known.unwrap_or(sorts.len());
                    if known.is_none() {
                        sorts.push(sort);
                    }
                    unit.push(*of);
                    times.push(time_us);
                    codes.push(u32::try_from(code).unwrap());
                    values.extend(value.map(|value| (row, value)));
                    if name % 3 == 0 {
                        variants.push((row, *name));
                    }
                    if *is_ours {
                        rows.push(row);
                        if name % 3 == 0 {
                            plain.variants.push((plain.unit.len(), *name));
                        }
                        plain.unit.push(*of);
                        plain.time_us.push(time_us);
                        plain.kind.push(sort.kind);
                        plain.name.push(*name);
                        plain.value.push(value.unwrap_or(f64::NAN));
                    }
                }
                packing.push(&Picked {
                    rows: &rows,
                    unit: &unit,
                    time_us: &times,
                    codes: &codes,
                    sorts: &sorts,
                    values: &values,
                    variants: &variants,
                });
            }
            let (packed, expected) = (packing.finish(), Block::pack(plain));
            let shown = |block: &Block| format!("{block:?}");
            prop_assert_eq!(shown(&packed), shown(&expected));
        }
    }
}
