//! Rows of one bucket and day as plain columns, and names interned over the whole lake.
//!
//! Plain rows are what is read from files and put into order; what is held for questions is
//! packed from them.

use rustc_hash::FxHashMap;
use std::sync::Arc;
use tidegate_metrics::EventKind;

/// Interned texts. Number 0 is "no text".
#[derive(Debug)]
pub struct Texts {
    index: FxHashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            index: FxHashMap::default(),
            texts: vec!["".into()],
        }
    }
}

impl Texts {
    /// The number of a text, new or known.
    pub fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.index.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.into());
        self.index.insert(text.into(), number);
        number
    }

    /// The number of a known text.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        self.index.get(text).copied()
    }

    /// The text of a number; empty for 0.
    #[must_use]
    pub fn get(&self, number: u32) -> &str {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.texts.get(at).map_or("", AsRef::as_ref)
    }

    /// How many numbers there are, 0 included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.texts.len()
    }
}

/// Rows of one bucket on one day in (time, event id) order, each event once, without quarantined
/// events and erased units. `unit`, `time_us`, `kind`, `name` and `value` have the same length;
/// so has `properties` if it was asked for, else it is empty.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rows {
    /// Ordinal of the unit in its bucket.
    pub unit: Vec<u32>,
    /// Event time, microseconds since 1970.
    pub time_us: Vec<i64>,
    /// Kind.
    pub kind: Vec<EventKind>,
    /// Interned name.
    pub name: Vec<u32>,
    /// Value; NaN for none.
    pub value: Vec<f64>,
    /// Exposures and evaluations: row, and interned variant of the flag in `name`.
    pub variants: Vec<(usize, u32)>,
    /// Position in `property_texts`, plus one; 0 for none.
    pub properties: Vec<u32>,
    /// JSON texts of properties.
    pub property_texts: Vec<Arc<str>>,
    /// Ids and ingest sequences; empty unless rows are read to be merged.
    pub(super) ids: Vec<[u8; 16]>,
    pub(super) sequences: Vec<u64>,
}

impl Rows {
    /// No rows yet, and room for so many in the columns that all rows have.
    pub(super) fn with_room_for(rows: usize) -> Self {
        Self {
            unit: Vec::with_capacity(rows),
            time_us: Vec::with_capacity(rows),
            kind: Vec::with_capacity(rows),
            name: Vec::with_capacity(rows),
            value: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.unit.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unit.is_empty()
    }

    /// The JSON text of a row's properties, if it has any and they were asked for.
    #[must_use]
    pub fn property_text(&self, row: usize) -> Option<&str> {
        let number = usize::try_from(*self.properties.get(row)?).ok()?;
        let text = self.property_texts.get(number.checked_sub(1)?)?;
        Some(text)
    }

    /// Appends others, but for those of erased units.
    pub(super) fn append(&mut self, other: &Self, is_erased: impl Fn(u32) -> bool) {
        let mut texts: FxHashMap<u32, u32> = FxHashMap::default();
        let mut variants = other.variants.iter().peekable();
        for (row, unit) in other.unit.iter().enumerate() {
            let variant = variants.next_if(|(at, _)| *at == row);
            if is_erased(*unit) {
                continue;
            }
            self.variants
                .extend(variant.map(|(_, variant)| (self.unit.len(), *variant)));
            self.unit.push(*unit);
            self.time_us.extend(other.time_us.get(row));
            self.kind.extend(other.kind.get(row));
            self.name.extend(other.name.get(row));
            self.value.extend(other.value.get(row));
            self.ids.extend(other.ids.get(row));
            self.sequences.extend(other.sequences.get(row));
            if let Some(number) = other.properties.get(row) {
                let kept = texts.entry(*number).or_insert_with(|| {
                    self.property_texts.extend(other.text_of(*number));
                    match number {
                        0 => 0,
                        _ => u32::try_from(self.property_texts.len()).unwrap_or(0),
                    }
                });
                self.properties.push(*kept);
            }
        }
    }

    /// Bytes they take, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        const EACH: usize = 4 + 8 + 1 + 4 + 8;
        let texts = self.property_texts.iter().map(|text| text.len() + 16);
        self.len() * EACH
            + self.properties.len() * 4
            + self.ids.len() * 24
            + self.variants.len() * 16
            + texts.sum::<usize>()
    }

    /// Gives back memory that no row takes.
    pub(super) fn shrink_to_fit(&mut self) {
        self.unit.shrink_to_fit();
        self.time_us.shrink_to_fit();
        self.kind.shrink_to_fit();
        self.name.shrink_to_fit();
        self.value.shrink_to_fit();
        self.variants.shrink_to_fit();
        self.properties.shrink_to_fit();
        self.property_texts.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.sequences.shrink_to_fit();
    }

    /// Keeps the rows that `is_kept` says yes of.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Self, usize) -> bool) {
        let order: Vec<usize> = (0..self.len()).filter(|row| is_kept(self, *row)).collect();
        self.pick(&order);
    }

    /// The rows of an order, in that order.
    fn pick(&mut self, order: &[usize]) {
        let variants: FxHashMap<usize, u32> = self.variants.drain(..).collect();
        for (to, from) in order.iter().enumerate() {
            self.variants
                .extend(variants.get(from).map(|variant| (to, *variant)));
        }
        pick(&mut self.unit, order);
        pick(&mut self.time_us, order);
        pick(&mut self.kind, order);
        pick(&mut self.name, order);
        pick(&mut self.value, order);
        pick(&mut self.properties, order);
        pick(&mut self.ids, order);
        pick(&mut self.sequences, order);
    }

    fn text_of(&self, number: u32) -> Option<Arc<str>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.property_texts.get(at).map(Arc::clone)
    }

    /// Orders runs of rows into one and keeps of each id the copy that arrived first, as compaction
    /// does. The ids of the first `unique` rows are known to differ, so only those of the others
    /// are looked for.
    pub(super) fn merge(&mut self, unique: usize) {
        let ids = self.ids.iter().map(|id| u128::from_be_bytes(*id));
        let keys = self.time_us.iter().copied().zip(ids);
        let mut order: Vec<(i64, u128, usize)> = keys
            .enumerate()
            .map(|(row, (time_us, id))| (time_us, id, row))
            .collect();
        let arrival = |row: usize| (self.sequences.get(row).copied().unwrap_or(0), row);
        let (known, others) = order.split_at(unique.min(order.len()));
        let mut first: FxHashMap<u128, (u64, usize)> = FxHashMap::default();
        for (_, id, row) in others {
            let earlier = first.entry(*id).or_insert_with(|| arrival(*row));
            *earlier = (*earlier).min(arrival(*row));
        }
        for (_, id, row) in known {
            if let Some(earlier) = first.get_mut(id) {
                *earlier = (*earlier).min(arrival(*row));
            }
        }
        // Runs that are in order already are found and merged by the sort.
        order.sort();
        order.retain(|(_, id, row)| first.get(id).is_none_or(|(_, kept)| kept == row));
        let order: Vec<usize> = order.into_iter().map(|(_, _, row)| row).collect();
        self.pick(&order);
    }
}

fn pick<T: Copy>(column: &mut Vec<T>, order: &[usize]) {
    let picked = order.iter().filter_map(|at| column.get(*at).copied());
    *column = picked.collect();
}
