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
    /// The value of each row, NaN for none; empty if no row has any.
    pub(in crate::columns) values: &'p [f64],
    /// The variant of each row, 0 for none; empty if no row has any.
    pub(in crate::columns) variants: &'p [u32],
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
        self.block.units.extend_from(picked.rows, picked.unit);
        let codes = self.translated(picked);
        self.block.codes.extend_from_all(&codes);
        self.push_times(picked);
        let place = |to: usize| u32::try_from(start + to).unwrap_or(u32::MAX);
        for (to, row) in picked.rows.iter().enumerate() {
            if let Some(value) = picked.values.get(*row).filter(|value| !value.is_nan()) {
                self.values.push((place(to), *value));
            }
        }
        for (to, row) in picked.rows.iter().enumerate() {
            if let Some(variant) = picked.variants.get(*row).filter(|variant| **variant != 0) {
                self.block.variants.push((place(to), *variant));
            }
        }
    }

    /// The block's own code of each picked row.
    fn translated(&mut self, picked: &Picked<'_>) -> Vec<u32> {
        const UNKNOWN: u32 = u32::MAX;
        let mut table: Vec<u32> = vec![UNKNOWN; picked.sorts.len()];
        let mut translate = |row: &usize| {
            let code = picked.codes.get(*row).copied().unwrap_or(UNKNOWN);
            let at = usize::try_from(code).unwrap_or(usize::MAX);
            let Some((place, sort)) = table.get_mut(at).zip(picked.sorts.get(at)) else {
                return UNKNOWN;
            };
            if *place == UNKNOWN {
                let sorts = &mut self.block.sorts;
                *place = *self.known.entry(*sort).or_insert_with(|| {
                    sorts.push(*sort);
                    u32::try_from(sorts.len() - 1).unwrap_or(UNKNOWN)
                });
            }
            *place
        };
        picked.rows.iter().map(&mut translate).collect()
    }

    fn push_times(&mut self, picked: &Picked<'_>) {
        let time = |row: &usize| picked.time_us.get(*row).copied().unwrap_or(0);
        let base_us = self.block.spans.last().map(|span| span.base_us);
        let ends = picked.rows.first().zip(picked.rows.last());
        // Times ascend: if the first and the last fit, all do.
        let fits = |base_us: i64, time_us: i64| {
            let since = time_us.checked_sub(base_us)?;
            u32::try_from(since).ok()
        };
        let one_span = base_us.zip(ends).filter(|(base_us, (first, last))| {
            fits(*base_us, time(first)).is_some() && fits(*base_us, time(last)).is_some()
        });
        match one_span {
            Some((base_us, _)) => {
                let offsets = picked.rows.iter().map(|row| fits(base_us, time(row)));
                self.block
                    .offsets
                    .extend(offsets.map(|offset| offset.unwrap_or(0)));
            }
            None => {
                for row in picked.rows {
                    self.push_time(time(row));
                }
            }
        }
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

impl<N: Copy + Default + Into<u32> + TryFrom<u32>> Column<N> {
    fn extend_from(&mut self, rows: &[usize], numbers: &[u32]) {
        let picked = rows.iter().map(|row| numbers.get(*row).copied());
        let picked: Vec<u32> = picked.map(|number| number.unwrap_or(u32::MAX)).collect();
        self.extend_from_all(&picked);
    }

    fn extend_from_all(&mut self, numbers: &[u32]) {
        if let Self::Narrow(narrow) = self {
            let highest = numbers.iter().copied().max().unwrap_or(0);
            if N::try_from(highest).is_ok() {
                let numbers = numbers.iter().map(|number| N::try_from(*number));
                narrow.extend(numbers.map(Result::unwrap_or_default));
                return;
            }
            *self = Self::Wide(narrow.iter().map(|number| (*number).into()).collect());
        }
        if let Self::Wide(wide) = self {
            wide.extend_from_slice(numbers);
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
                    values.push(value.unwrap_or(f64::NAN));
                    variants.push(if name % 3 == 1 { *name } else { 0 });
                    if *is_ours {
                        rows.push(row);
                        if name % 3 == 1 {
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
