//! Rows that come into a block which is in order already: each column is opened where they belong,
//! so that a day of many rows is not put into order again for the few that are new.
//!
//! The block must hold the ids of its rows: they say which of the new rows are copies, and which
//! goes first of two at the same time. What is in the block arrived first, so its copy stays.
//!
//! Cost: a look at every id of the block, a search for each new row, and moving what lies behind
//! the first of them.

use super::{Block, Column, Sort, Span, Values};
use crate::columns::rows::Rows;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// New rows, and before which of the block's rows each goes.
struct Placed {
    rows: Rows,
    places: Vec<usize>,
}

impl Block {
    /// Whether the ids of the rows are held.
    pub(in crate::columns) fn has_ids(&self) -> bool {
        self.ids.len() == self.len()
    }

    /// The ids of the rows, where they are held.
    pub(in crate::columns) fn ids(&self) -> &[[u8; 16]] {
        &self.ids
    }

    /// Takes rows in, of which copies are dropped. Both must hold their ids.
    pub(in crate::columns) fn grow(&mut self, mut rows: Rows) {
        self.drop_known(&mut rows);
        rows.merge(0);
        if rows.is_empty() {
            return;
        }
        let places = self.places_of(&rows);
        let placed = Placed { rows, places };
        self.take_times(&placed);
        self.take_sorts(&placed);
        self.take_values(&placed);
        let Placed { rows, places } = &placed;
        self.units.insert(places, &rows.unit);
        let variants = rows.variants.iter().map(|(row, v)| (*row, *v));
        insert_sparse(&mut self.variants, places, variants.collect());
        self.take_properties(&placed);
        insert(&mut self.ids, places, &rows.ids);
    }

    fn drop_known(&self, rows: &mut Rows) {
        let wanted: FxHashSet<[u8; 16]> = rows.ids.iter().copied().collect();
        let sieve = Sieve::of(&wanted);
        let known = self.ids.iter().filter(|id| sieve.may_hold(id));
        let known: FxHashSet<[u8; 16]> = known.filter(|id| wanted.contains(*id)).copied().collect();
        if !known.is_empty() {
            rows.retain(|rows, row| rows.ids.get(row).is_some_and(|id| !known.contains(id)));
        }
    }

    /// Both are in order, so each search begins where the one before ended.
    fn places_of(&self, rows: &Rows) -> Vec<usize> {
        let mut from = 0;
        let keys = rows.time_us.iter().zip(&rows.ids);
        let places = keys.map(|key| {
            from = self.first_behind(from, key);
            from
        });
        places.collect()
    }

    /// The first row from `from` on that goes behind a time and id.
    fn first_behind(&self, from: usize, (time_us, id): (&i64, &[u8; 16])) -> usize {
        let is_before = |row: usize| {
            let key = (self.time_at(row), self.ids.get(row));
            key < (*time_us, Some(id))
        };
        let (mut low, mut step) = (from, 1);
        while low < self.len() && is_before((low + step - 1).min(self.len() - 1)) {
            low = (low + step).min(self.len());
            step *= 2;
        }
        let mut high = (low + step).min(self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match is_before(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn time_at(&self, row: usize) -> i64 {
        let span = self.span_of(row).and_then(|at| self.spans.get(at));
        let base_us = span.map_or(0, |span| span.base_us);
        base_us + i64::from(self.offsets.get(row).copied().unwrap_or(0))
    }

    fn span_of(&self, row: usize) -> Option<usize> {
        let behind = self.spans.partition_point(|span| span.first_row <= row);
        behind.checked_sub(1)
    }

    /// A new row belongs to the span of the row before it, or begins one where its offset would
    /// not fit.
    fn take_times(&mut self, placed: &Placed) {
        let mut offsets = Vec::with_capacity(placed.places.len());
        let mut begun: Vec<Span> = Vec::new();
        let mut last: Option<(usize, i64)> = None;
        for ((added, place), time_us) in placed.places.iter().enumerate().zip(&placed.rows.time_us)
        {
            let own = place.checked_sub(1).and_then(|row| self.span_of(row));
            let own = own.and_then(|at| self.spans.get(at));
            // A span begun for a row before this one, at the same place, is nearer.
            let base_us = match last {
                Some((at, base_us)) if at == *place => Some(base_us),
                _ => own.map(|span| span.base_us),
            };
            let offset = base_us.and_then(|base_us| {
                let since = time_us.checked_sub(base_us)?;
                u32::try_from(since).ok()
            });
            offsets.push(offset.unwrap_or_else(|| {
                begun.push(Span {
                    first_row: place + added,
                    base_us: *time_us,
                });
                last = Some((*place, *time_us));
                0
            }));
        }
        for span in &mut self.spans {
            let before = placed.places.partition_point(|at| *at <= span.first_row);
            span.first_row += before;
        }
        self.spans.extend(begun);
        self.spans.sort_by_key(|span| span.first_row);
        insert(&mut self.offsets, &placed.places, &offsets);
    }

    fn take_sorts(&mut self, placed: &Placed) {
        let sorts = (0u32..).zip(&self.sorts).map(|(code, sort)| (*sort, code));
        let mut known: FxHashMap<Sort, u32> = sorts.collect();
        let rows = &placed.rows;
        let kinds = rows.kind.iter().zip(&rows.name);
        let codes = kinds.map(|(kind, name)| {
            let sort = Sort {
                kind: *kind,
                name: *name,
            };
            *known.entry(sort).or_insert_with(|| {
                self.sorts.push(sort);
                u32::try_from(self.sorts.len() - 1).unwrap_or(u32::MAX)
            })
        });
        let codes: Vec<u32> = codes.collect();
        self.codes.insert(&placed.places, &codes);
    }

    fn take_values(&mut self, placed: &Placed) {
        let values = &placed.rows.value;
        let there = values.iter().enumerate();
        let there: Vec<(usize, f64)> = there
            .filter(|(_, value)| !value.is_nan())
            .map(|(row, value)| (row, *value))
            .collect();
        match &mut self.values {
            Values::All(all) => insert(all, &placed.places, values),
            Values::Some(some) => insert_sparse(some, &placed.places, there),
        }
        // The offsets have the new rows already.
        let rows = self.len();
        if let Values::Some(some) = &self.values
            && some.len().saturating_mul(2) > rows
        {
            let mut all = vec![f64::NAN; rows];
            for (row, value) in some {
                let row = usize::try_from(*row).unwrap_or(usize::MAX);
                if let Some(place) = all.get_mut(row) {
                    *place = *value;
                }
            }
            self.values = Values::All(all);
        }
    }

    fn take_properties(&mut self, placed: &Placed) {
        let rows = &placed.rows;
        let known = u32::try_from(self.property_texts.len()).unwrap_or(u32::MAX);
        let texts = rows.property_texts.iter().map(Arc::clone);
        self.property_texts.extend(texts);
        let numbers = rows.properties.iter().map(|number| match number {
            0 => 0,
            number => number.saturating_add(known),
        });
        let numbers: Vec<u32> = numbers.collect();
        if !numbers.is_empty() {
            insert(&mut self.properties, &placed.places, &numbers);
        }
    }
}

impl<N: Copy + Into<u32> + TryFrom<u32>> Column<N> {
    fn insert(&mut self, places: &[usize], numbers: &[u32]) {
        if let Self::Narrow(held) = self {
            let narrow = numbers.iter().map(|number| N::try_from(*number).ok());
            match narrow.collect::<Option<Vec<N>>>() {
                Some(narrow) => return insert(held, places, &narrow),
                None => *self = Self::Wide(self.to_vec()),
            }
        }
        if let Self::Wide(held) = self {
            insert(held, places, numbers);
        }
    }
}

/// Opens a column before some of its rows, ascending, for a value each. Everything moves once,
/// from the end.
fn insert<T: Copy>(column: &mut Vec<T>, places: &[usize], values: &[T]) {
    let Some(filler) = values.first().copied() else {
        return;
    };
    let (added, mut end) = (places.len(), column.len());
    if column.capacity() < end + added {
        // Room for some more, and not for as much again: days grow large.
        column.reserve_exact(added + end / 16);
    }
    column.resize(end + added, filler);
    for (before, (place, value)) in places.iter().zip(values).enumerate().rev() {
        let place = (*place).min(end);
        column.copy_within(place..end, place + before + 1);
        if let Some(opened) = column.get_mut(place + before) {
            *opened = *value;
        }
        end = place;
    }
}

/// The same for a column that names its rows; `values` are of new rows by their number.
fn insert_sparse<T: Copy>(column: &mut Vec<(u32, T)>, places: &[usize], values: Vec<(usize, T)>) {
    let narrow = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
    let first = places.first().map_or(usize::MAX, |first| *first);
    let first = column.partition_point(|(row, _)| *row < narrow(first));
    let mut before = 0;
    for (row, _) in column.iter_mut().skip(first) {
        let at = usize::try_from(*row).unwrap_or(usize::MAX);
        while places.get(before).is_some_and(|place| *place <= at) {
            before += 1;
        }
        *row = row.saturating_add(narrow(before));
    }
    let added = values.into_iter().filter_map(|(number, value)| {
        let place = places.get(number)?;
        Some((narrow(place + number), value))
    });
    column.extend(added);
    if let Some(unsorted) = column.get_mut(first..) {
        unsorted.sort_by_key(|(row, _)| *row);
    }
}

/// Says of most ids that they are not in a set, at the cost of one bit's look.
struct Sieve {
    bits: Vec<u64>,
    shift: u32,
}

impl Sieve {
    fn of(ids: &FxHashSet<[u8; 16]>) -> Self {
        let bits = (ids.len().max(8) * 64).next_power_of_two();
        let mut sieve = Self {
            bits: vec![0; bits / 64],
            shift: 64 - bits.ilog2(),
        };
        for id in ids {
            let (word, bit) = sieve.place(id);
            if let Some(word) = sieve.bits.get_mut(word) {
                *word |= bit;
            }
        }
        sieve
    }

    /// Ids differ in different places, so all of their bits take part.
    fn place(&self, id: &[u8; 16]) -> (usize, u64) {
        let id = u128::from_be_bytes(*id);
        let [high, low] = [id >> 64, id].map(|half| u64::try_from(half & u128::from(u64::MAX)));
        let mixed = high.unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low.unwrap_or(0);
        let bit = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> self.shift;
        (
            usize::try_from(bit / 64).unwrap_or(usize::MAX),
            1 << (bit % 64),
        )
    }

    fn may_hold(&self, id: &[u8; 16]) -> bool {
        let (word, bit) = self.place(id);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_metrics::EventKind;

    /// A row by what makes it: unit, minutes, microseconds, name, kind, value, property.
    type Drawn = (u32, i64, i64, u32, u8, Option<u8>, u8);

    fn rows_of(drawn: &[(u128, u64, Drawn)], with_properties: bool) -> Rows {
        let mut rows = Rows::default();
        for (id, sequence, (unit, minutes, us, name, kind, value, property)) in drawn {
            if *kind == 0 {
                rows.variants.push((rows.len(), *name));
            }
            rows.unit.push(*unit);
            rows.time_us.push(minutes * 60_000_000 + us);
            rows.kind.push(match kind {
                0 => EventKind::Exposure,
                _ => EventKind::Track,
            });
            rows.name.push(*name);
            rows.value.push(value.map_or(f64::NAN, f64::from));
            rows.ids.push(id.to_be_bytes());
            rows.sequences.push(*sequence);
            if with_properties {
                rows.property_texts.push(property.to_string().into());
                let number = u32::try_from(rows.property_texts.len()).unwrap();
                rows.properties
                    .push(if *property == 0 { 0 } else { number });
            }
        }
        rows
    }

    /// What each row says, whatever it is held as.
    fn said(block: &Block) -> Vec<String> {
        let rows = block.unpack();
        let variants: FxHashMap<usize, u32> = rows.variants.iter().copied().collect();
        let say = |row: usize| {
            format!(
                "{} {} {:?} {} {:?} {:?} {:?} {:x?}",
                rows.unit[row],
                rows.time_us[row],
                rows.kind[row],
                rows.name[row],
                rows.value[row],
                variants.get(&row),
                rows.property_text(row),
                rows.ids[row],
            )
        };
        (0..rows.len()).map(say).collect()
    }

    fn any_row() -> impl Strategy<Value = (u128, Drawn)> {
        let unit = prop_oneof![4 => 0u32..9, 1 => 60_000u32..70_000];
        // Times lie together, apart, or too far apart for one span.
        let minutes = prop_oneof![4 => 0i64..3, 2 => 0i64..1500, 1 => -200_000i64..200_000];
        let name = prop_oneof![4 => 0u32..5, 1 => 0u32..600];
        let value = prop_oneof![Just(None), any::<u8>().prop_map(Some)];
        let row = (unit, minutes, 0i64..4, name, 0u8..3, value, 0u8..4);
        (0u128..300, row)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn growing_in_steps_is_the_same_as_being_put_in_order_at_once(
            drawn in prop::collection::vec(any_row(), 0..300),
            cuts in prop::collection::vec(0usize..300, 0..5),
            with_properties: bool,
        ) {
            let drawn: Vec<(u128, u64, Drawn)> =
                (0..).zip(drawn).map(|(sequence, (id, row))| (id, sequence, row)).collect();
            let mut at_once = rows_of(&drawn, with_properties);
            at_once.merge(0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(drawn.len())).collect();
            cuts.extend([0, drawn.len()]);
            cuts.sort_unstable();
            let mut grown = Block::default();
            for step in cuts.windows(2) {
                grown.grow(rows_of(&drawn[step[0]..step[1]], with_properties));
            }
            prop_assert_eq!(said(&grown), said(&Block::pack(at_once)));
        }
    }
}
