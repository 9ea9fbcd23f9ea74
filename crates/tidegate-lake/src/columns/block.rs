//! Rows of one bucket and day as they are held in memory: about seven bytes each.
//!
//! A question asks which rows are of certain names, then who and when. So the *sorts* of event
//! (kind and name) are numbered within the block and a row has the number in one byte; the unit is
//! its ordinal in two bytes where the bucket is small enough, else in four; the time is an offset
//! in four bytes from the beginning of a *span*, and a span ends where an offset would no longer
//! fit, after 71 minutes. Values are held for the rows that have one, unless most have. Nothing is
//! packed below a byte: any row is read by itself, and a scan runs at the speed of memory.
//!
//! Looking for one or two sorts compares eight rows at a time.

mod grow;
mod packing;

pub(super) use packing::{Packing, Picked};

use super::rows::Rows;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tidegate_metrics::EventKind;

/// What a row is: kind and interned name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sort {
    pub(crate) kind: EventKind,
    pub(crate) name: u32,
}

/// Small numbers, in as few bytes as they need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column<N> {
    Narrow(Vec<N>),
    Wide(Vec<u32>),
}

impl<N> Default for Column<N> {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl<N: Copy + Into<u32> + TryFrom<u32>> Column<N> {
    fn of(numbers: &[u32]) -> Self {
        let mut narrow = Vec::with_capacity(numbers.len());
        for number in numbers {
            match N::try_from(*number) {
                Ok(number) => narrow.push(number),
                Err(_) => return Self::Wide(numbers.to_vec()),
            }
        }
        Self::Narrow(narrow)
    }

    fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Narrow(numbers) => numbers.get(at).map(|number| (*number).into()),
            Self::Wide(numbers) => numbers.get(at).copied(),
        }
    }

    fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::Narrow(numbers) => numbers.iter().map(|number| (*number).into()).collect(),
            Self::Wide(numbers) => numbers.clone(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Narrow(numbers) => numbers.len() * size_of::<N>(),
            Self::Wide(numbers) => numbers.len() * size_of::<u32>(),
        }
    }
}

/// Rows from here on have their times from this base.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    first_row: usize,
    base_us: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// Of every row; NaN for none.
    All(Vec<f64>),
    /// Of these rows, ascending.
    Some(Vec<(u32, f64)>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// Rows of one bucket on one day; see [`Rows`] for what each is.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Block {
    units: Column<u16>,
    codes: Column<u8>,
    sorts: Vec<Sort>,
    offsets: Vec<u32>,
    spans: Vec<Span>,
    values: Values,
    variants: Vec<(u32, u32)>,
    properties: Vec<u32>,
    property_texts: Vec<Arc<str>>,
    ids: Vec<[u8; 16]>,
}

impl Block {
    pub(super) fn pack(rows: Rows) -> Self {
        let (codes, sorts) = codes_of(&rows);
        let (offsets, spans) = offsets_of(&rows.time_us);
        let narrow = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
        let variants = rows.variants.iter();
        Self {
            units: Column::of(&rows.unit),
            codes: Column::of(&codes),
            sorts,
            offsets,
            spans,
            values: values_of(&rows.value),
            variants: variants.map(|(row, v)| (narrow(*row), *v)).collect(),
            properties: rows.properties,
            property_texts: rows.property_texts,
            ids: rows.ids,
        }
    }

    pub(super) fn unpack(&self) -> Rows {
        let codes = self.codes.to_vec();
        let sort_of = |code: &u32| {
            let at = usize::try_from(*code).unwrap_or(usize::MAX);
            self.sorts.get(at).copied()
        };
        let sorts: Vec<Sort> = codes.iter().filter_map(sort_of).collect();
        let mut times = self.times();
        let mut value = self.values();
        Rows {
            unit: self.units.to_vec(),
            time_us: (0..self.len()).map(|row| times.of(row)).collect(),
            kind: sorts.iter().map(|sort| sort.kind).collect(),
            name: sorts.iter().map(|sort| sort.name).collect(),
            value: (0..self.len()).map(|row| value.of(row)).collect(),
            variants: self.variants().collect(),
            properties: self.properties.clone(),
            property_texts: self.property_texts.clone(),
            ids: self.ids.clone(),
            sequences: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let texts: usize = self.property_texts.iter().map(|text| text.len() + 16).sum();
        let values = match &self.values {
            Values::All(values) => values.len() * 8,
            Values::Some(values) => values.len() * 16,
        };
        self.units.heap_bytes()
            + self.codes.heap_bytes()
            + self.offsets.len() * 4
            + self.sorts.len() * size_of::<Sort>()
            + self.spans.len() * size_of::<Span>()
            + values
            + self.variants.len() * 8
            + self.properties.len() * 4
            + texts
            + self.ids.len() * 16
    }

    /// The sorts of event, by code.
    pub(crate) fn sorts(&self) -> &[Sort] {
        &self.sorts
    }

    /// The unit of each row.
    pub(crate) fn units(&self) -> &Column<u16> {
        &self.units
    }

    /// The code of each row.
    pub(crate) fn codes(&self) -> &Column<u8> {
        &self.codes
    }

    pub(crate) fn unit(&self, row: usize) -> u32 {
        self.units.get(row).unwrap_or(u32::MAX)
    }

    pub(crate) fn code(&self, row: usize) -> usize {
        let code = self.codes.get(row).unwrap_or(u32::MAX);
        usize::try_from(code).unwrap_or(usize::MAX)
    }

    /// Times, for rows asked for in ascending order.
    pub(crate) fn times(&self) -> Times<'_> {
        Times {
            block: self,
            next: 0,
            ends: 0,
            base_us: 0,
        }
    }

    /// Values, for rows asked for in ascending order.
    pub(crate) fn values(&self) -> ValuesInOrder<'_> {
        ValuesInOrder {
            values: &self.values,
            next: 0,
        }
    }

    /// Exposures and evaluations: row, and interned variant of the flag in the name.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (usize, u32)> {
        let variants = self.variants.iter();
        variants.map(|(row, variant)| (usize::try_from(*row).unwrap_or(usize::MAX), *variant))
    }

    /// The JSON text of a row's properties, if it has any and they were asked for.
    pub(crate) fn property_text(&self, row: usize) -> Option<&str> {
        let number = usize::try_from(*self.properties.get(row)?).ok()?;
        self.property_texts
            .get(number.checked_sub(1)?)
            .map(AsRef::as_ref)
    }

    /// Puts the rows whose code is wanted into `found`, ascending.
    pub(crate) fn rows_of(&self, is_wanted: &[bool], found: &mut Vec<u32>) {
        let codes = 0..is_wanted.len();
        let wanted: Vec<usize> = codes
            .filter(|code| is_wanted.get(*code).copied().unwrap_or(false))
            .collect();
        found.clear();
        match &self.codes {
            _ if wanted.is_empty() => {}
            Column::Narrow(codes) if wanted.len() <= FEW => rows_of_few(codes, &wanted, found),
            Column::Narrow(codes) => rows_of_many(codes, is_wanted, found),
            Column::Wide(codes) => {
                let is_found = |code: &u32| {
                    let code = usize::try_from(*code).unwrap_or(usize::MAX);
                    is_wanted.get(code).copied().unwrap_or(false)
                };
                let rows = (0u32..).zip(codes).filter(|(_, code)| is_found(code));
                found.extend(rows.map(|(row, _)| row));
            }
        }
    }
}

/// So many codes are compared one by one with eight rows at a time. With more, rows are found so
/// often that going to each costs more than looking at every code.
const FEW: usize = 2;
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The highest bit of each byte that is the same in both, and no other bit.
fn equal_bytes(a: u64, b: u64) -> u64 {
    let differs = a ^ b;
    !(((differs & LOW_BITS) + LOW_BITS) | differs | LOW_BITS)
}

fn rows_of_few(codes: &[u8], wanted: &[usize], found: &mut Vec<u32>) {
    let mut patterns = [0u64; FEW];
    for (pattern, code) in patterns.iter_mut().zip(wanted) {
        *pattern = EACH_BYTE * u64::try_from(*code).unwrap_or(0);
    }
    let patterns = patterns.get(..wanted.len()).unwrap_or(&[]);
    let (words, rest) = codes.as_chunks::<8>();
    let mut first = 0;
    for word in words {
        let packed = u64::from_le_bytes(*word);
        let mut equal = 0;
        for pattern in patterns {
            equal |= equal_bytes(packed, *pattern);
        }
        while equal != 0 {
            found.push(first + equal.trailing_zeros() / 8);
            equal &= equal - 1;
        }
        first += 8;
    }
    let rest = (first..).zip(rest);
    let rest = rest.filter(|(_, code)| wanted.contains(&usize::from(**code)));
    found.extend(rest.map(|(row, _)| row));
}

/// Every row is written down and the place moves on if it is wanted: no guess to be wrong about.
fn rows_of_many(codes: &[u8], is_wanted: &[bool], found: &mut Vec<u32>) {
    let mut steps = [0u8; 256];
    for (step, is_wanted) in steps.iter_mut().zip(is_wanted) {
        *step = u8::from(*is_wanted);
    }
    found.resize(codes.len(), 0);
    let mut next = 0;
    for (row, code) in (0u32..).zip(codes) {
        if let Some(place) = found.get_mut(next) {
            *place = row;
        }
        next += usize::from(steps.get(usize::from(*code)).copied().unwrap_or(0));
    }
    found.truncate(next);
}

fn codes_of(rows: &Rows) -> (Vec<u32>, Vec<Sort>) {
    let mut sorts = Vec::new();
    let mut known: FxHashMap<Sort, u32> = FxHashMap::default();
    let code_of = |(kind, name): (&EventKind, &u32)| {
        let sort = Sort {
            kind: *kind,
            name: *name,
        };
        *known.entry(sort).or_insert_with(|| {
            sorts.push(sort);
            u32::try_from(sorts.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let codes = rows.kind.iter().zip(&rows.name).map(code_of).collect();
    (codes, sorts)
}

fn offsets_of(times_us: &[i64]) -> (Vec<u32>, Vec<Span>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut offsets = Vec::with_capacity(times_us.len());
    for (row, time_us) in times_us.iter().enumerate() {
        let offset = spans.last().and_then(|span| {
            let since = time_us.checked_sub(span.base_us)?;
            u32::try_from(since).ok()
        });
        offsets.push(offset.unwrap_or_else(|| {
            spans.push(Span {
                first_row: row,
                base_us: *time_us,
            });
            0
        }));
    }
    (offsets, spans)
}

fn values_of(values: &[f64]) -> Values {
    let there = values.iter().filter(|value| !value.is_nan()).count();
    if there.saturating_mul(2) > values.len() {
        return Values::All(values.to_vec());
    }
    let mut some = Vec::with_capacity(there);
    for (row, value) in (0u32..).zip(values) {
        if !value.is_nan() {
            some.push((row, *value));
        }
    }
    Values::Some(some)
}

/// See [`Block::times`].
pub(crate) struct Times<'b> {
    block: &'b Block,
    /// The span after the current one.
    next: usize,
    /// Where the current span ends.
    ends: usize,
    base_us: i64,
}

impl Times<'_> {
    #[inline]
    pub(crate) fn of(&mut self, row: usize) -> i64 {
        while row >= self.ends {
            let spans = &self.block.spans;
            let Some(span) = spans.get(self.next) else {
                break;
            };
            self.base_us = span.base_us;
            self.next += 1;
            self.ends = spans
                .get(self.next)
                .map_or(usize::MAX, |next| next.first_row);
        }
        let offset = self.block.offsets.get(row).copied().unwrap_or(0);
        self.base_us + i64::from(offset)
    }
}

/// See [`Block::values`].
pub(crate) struct ValuesInOrder<'b> {
    values: &'b Values,
    next: usize,
}

impl ValuesInOrder<'_> {
    #[inline]
    pub(crate) fn of(&mut self, row: usize) -> f64 {
        let some = match self.values {
            Values::All(values) => return values.get(row).copied().unwrap_or(f64::NAN),
            Values::Some(some) => some,
        };
        while let Some((at, value)) = some.get(self.next) {
            let at = usize::try_from(*at).unwrap_or(usize::MAX);
            if at > row {
                break;
            }
            if at == row {
                return *value;
            }
            self.next += 1;
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_rows() -> impl Strategy<Value = Rows> {
        let row = (any::<u16>(), 0u64..4, 0u32..5, 0u32..400, 0u8..4);
        let wide = any::<[bool; 3]>();
        (prop::collection::vec(row, 0..200), wide).prop_map(|(drawn, [far, many, dense])| {
            let mut rows = Rows::default();
            let mut time_us = -5_000_000_000;
            for (row, (unit, gap, name, other, kind)) in drawn.into_iter().enumerate() {
                time_us += [0, 1, 1_000_000, 3_000_000_000][usize::try_from(gap).unwrap()];
                rows.unit
                    .push(u32::from(unit) * if far { 60_000 } else { 1 });
                rows.time_us.push(time_us);
                rows.kind.push(match kind {
                    0 => EventKind::Exposure,
                    _ => EventKind::Track,
                });
                rows.name.push(if many { other } else { name });
                let has_value = if dense { kind != 1 } else { kind == 1 };
                rows.value
                    .push(if has_value { f64::from(unit) } else { f64::NAN });
                if kind == 0 {
                    rows.variants.push((row, name));
                }
            }
            rows
        })
    }

    /// Many, or one or two.
    fn any_codes() -> impl Strategy<Value = Vec<bool>> {
        let many = prop::collection::vec(any::<bool>(), 0..300);
        let few = (0usize..6, 0usize..6)
            .prop_map(|(a, b)| (0..8).map(|code| code == a || code == b).collect());
        prop_oneof![many, few]
    }

    fn in_bits(rows: Rows) -> (Rows, Vec<u64>) {
        let bits = rows.value.iter().map(|value| value.to_bits()).collect();
        let rows = Rows {
            value: Vec::new(),
            ..rows
        };
        (rows, bits)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_packed_is_unpacked_the_same(rows in any_rows()) {
            let block = Block::pack(rows.clone());
            prop_assert_eq!(in_bits(block.unpack()), in_bits(rows));
        }

        #[test]
        fn the_rows_of_some_sorts_are_found_whatever_way_they_are_looked_for(
            rows in any_rows(), wanted in any_codes()
        ) {
            let block = Block::pack(rows);
            let mut found = vec![7];
            block.rows_of(&wanted, &mut found);
            let is_wanted = |row: &u32| wanted.get(block.code(*row as usize)) == Some(&true);
            let all = (0u32..).take(block.len());
            let expected: Vec<u32> = all.filter(is_wanted).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn equal_bytes_are_exactly_those(a: [u8; 8], b: [u8; 8], same: [bool; 8]) {
            let mut b = b;
            for (to, (from, is_same)) in b.iter_mut().zip(a.iter().zip(same)) {
                if is_same {
                    *to = *from;
                }
            }
            let found = equal_bytes(u64::from_le_bytes(a), u64::from_le_bytes(b));
            let expected = std::array::from_fn(|at| if a[at] == b[at] { 0x80 } else { 0 });
            prop_assert_eq!(found.to_le_bytes(), expected);
        }
    }
}
