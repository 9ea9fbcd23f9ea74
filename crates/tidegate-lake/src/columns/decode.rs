//! One batch of an event file, decoded to plain rows.
//!
//! Kinds and names are dictionaries, so each distinct one is looked at once per batch. A column
//! that has no value at all is not there. Buckets lie beside each other in a batch: its rows are
//! told apart once, and those of a bucket are copied column by column.

use super::block::{Picked, Sort};
use super::rows::{Rows, Texts};
use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, RecordBatch};
use arrow::array::{
    FixedSizeBinaryArray, Float64Array, TimestampMicrosecondArray, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use rustc_hash::FxHashMap;
use std::sync::{Mutex, PoisonError};
use tidegate_metrics::EventKind;

/// The column that is not what it should be.
type Wrong = &'static str;

pub(super) struct Decoder<'b> {
    batch: &'b RecordBatch,
    bucket: &'b UInt16Array,
    unit: &'b UInt32Array,
    time: &'b TimestampMicrosecondArray,
    value: Option<&'b Float64Array>,
    quarantined: &'b BooleanArray,
    kind: Coded<'b, Option<EventKind>>,
    name: Coded<'b, u32>,
    /// Rows that have a variant, and its number.
    variants: Vec<(usize, u32)>,
    with_properties: bool,
    properties: Option<&'b DictionaryArray<Int32Type>>,
    /// Ids and ingest sequences, where rows are read to be merged.
    ids: Option<(&'b FixedSizeBinaryArray, &'b UInt64Array)>,
}

/// A text column with what each distinct text stands for.
struct Coded<'b, T> {
    array: &'b DictionaryArray<Int32Type>,
    meanings: Vec<T>,
}

impl<T: Copy> Coded<'_, T> {
    fn key(&self, row: usize) -> Option<usize> {
        let keys = self.array.keys();
        if !keys.is_valid(row) {
            return None;
        }
        usize::try_from(keys.values().get(row).copied()?).ok()
    }

    fn of(&self, row: usize) -> Option<T> {
        self.meanings.get(self.key(row)?).copied()
    }
}

/// Columns of a batch from which blocks are packed.
pub(super) struct Packable<'p> {
    unit: &'p [u32],
    time_us: &'p [i64],
    codes: Vec<u32>,
    sorts: Vec<Sort>,
    values: Vec<f64>,
    variants: Vec<u32>,
}

impl Packable<'_> {
    pub(super) fn of<'p>(&'p self, rows: &'p [usize]) -> Picked<'p> {
        Picked {
            rows,
            unit: self.unit,
            time_us: self.time_us,
            codes: &self.codes,
            sorts: &self.sorts,
            values: &self.values,
            variants: &self.variants,
        }
    }
}

fn column(batch: &RecordBatch, name: Wrong) -> Result<&dyn Array, Wrong> {
    let found = batch.column_by_name(name);
    found.map(AsRef::as_ref).ok_or(name)
}

fn dictionary(batch: &RecordBatch, name: Wrong) -> Result<&DictionaryArray<Int32Type>, Wrong> {
    column(batch, name)?.as_dictionary_opt().ok_or(name)
}

fn coded<'b, T>(
    batch: &'b RecordBatch,
    name: Wrong,
    meaning: impl FnMut(&str) -> T,
) -> Result<Coded<'b, T>, Wrong> {
    let array = dictionary(batch, name)?;
    let values = array.values().as_string_opt::<i32>().ok_or(name)?;
    let texts = (0..values.len()).map(|at| values.value(at));
    Ok(Coded {
        array,
        meanings: texts.map(meaning).collect(),
    })
}

fn variants(batch: &RecordBatch, texts: &mut Texts) -> Result<Vec<(usize, u32)>, Wrong> {
    let Some(array) = batch.column_by_name("variant") else {
        return Ok(Vec::new());
    };
    let array = array.as_string_opt::<i32>().ok_or("variant")?;
    let there = (0..array.len()).filter(|row| array.is_valid(*row));
    Ok(there
        .map(|row| (row, texts.intern(array.value(row))))
        .collect())
}

fn gather<T: Copy>(column: &[T], rows: &[usize], into: &mut Vec<T>) {
    into.extend(rows.iter().filter_map(|row| column.get(*row).copied()));
}

impl<'b> Decoder<'b> {
    pub(super) fn of(
        batch: &'b RecordBatch,
        with_properties: bool,
        texts: &Mutex<Texts>,
    ) -> Result<Self, Wrong> {
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |name| column(batch, name);
        Ok(Self {
            batch,
            bucket: at("bucket")?
                .as_primitive_opt::<UInt16Type>()
                .ok_or("bucket")?,
            unit: at("unit")?.as_primitive_opt::<UInt32Type>().ok_or("unit")?,
            time: at("time")?
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or("time")?,
            value: match batch.column_by_name("value") {
                Some(array) => Some(array.as_primitive_opt().ok_or("value")?),
                None => None,
            },
            quarantined: at("quarantined")?.as_boolean_opt().ok_or("quarantined")?,
            kind: coded(batch, "kind", |text| text.parse().ok())?,
            name: coded(batch, "name", |text| texts.intern(text))?,
            variants: variants(batch, &mut texts)?,
            with_properties,
            properties: match batch.column_by_name("properties") {
                Some(array) => Some(array.as_dictionary_opt().ok_or("properties")?),
                None => None,
            },
            ids: match batch.column_by_name("event_id") {
                Some(array) => {
                    let ids = array.as_fixed_size_binary_opt().ok_or("event_id")?;
                    let sequences = at("sequence")?.as_primitive_opt::<UInt64Type>();
                    Some((ids, sequences.ok_or("sequence")?))
                }
                None => None,
            },
        })
    }

    /// The buckets in the batch, with the rows of each in the order of the file.
    pub(super) fn buckets(&self) -> Vec<(u16, Vec<usize>)> {
        let buckets = self.bucket.values();
        let first = buckets.iter().min().copied().unwrap_or(0);
        let last = buckets.iter().max().copied().unwrap_or(0);
        let mut lists: Vec<Vec<usize>> = vec![Vec::new(); usize::from(last - first) + 1];
        for (row, bucket) in buckets.iter().enumerate() {
            if let Some(list) = lists.get_mut(usize::from(*bucket - first)) {
                list.push(row);
            }
        }
        let lists = (first..=last).zip(lists);
        lists.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// Of some rows those that are not quarantined, and at or above a sequence if one is given.
    pub(super) fn kept(
        &self,
        mut rows: Vec<usize>,
        from_sequence: Option<u64>,
    ) -> Result<Vec<usize>, Wrong> {
        if self.quarantined.true_count() > 0 {
            rows.retain(|row| !self.quarantined.value(*row));
        }
        if let Some(from) = from_sequence {
            let column = column(self.batch, "sequence")?;
            let column = column.as_primitive_opt::<UInt64Type>().ok_or("sequence")?;
            rows.retain(|row| column.value(*row) >= from);
        }
        Ok(rows)
    }

    /// Appends some rows, which ascend.
    pub(super) fn push(&self, from: &[usize], rows: &mut Rows) -> Result<(), Wrong> {
        let start = rows.len();
        gather(self.unit.values(), from, &mut rows.unit);
        gather(self.time.values(), from, &mut rows.time_us);
        match self.value {
            None => {
                let none = std::iter::repeat_n(f64::NAN, from.len());
                rows.value.extend(none);
            }
            Some(values) => rows
                .value
                .extend(from.iter().map(|row| match values.is_valid(*row) {
                    true => values.value(*row),
                    false => f64::NAN,
                })),
        }
        for row in from {
            rows.kind.push(self.kind.of(*row).flatten().ok_or("kind")?);
            rows.name.push(self.name.of(*row).ok_or("name")?);
        }
        let mut variants = self.variants.iter().peekable();
        for (to, row) in from.iter().enumerate() {
            while variants.next_if(|(other, _)| other < row).is_some() {}
            let variant = variants.next_if(|(other, _)| other == row);
            rows.variants
                .extend(variant.map(|(_, variant)| (start + to, *variant)));
        }
        self.push_properties(from, rows)?;
        if let Some((ids, sequences)) = self.ids {
            gather(sequences.values(), from, &mut rows.sequences);
            for row in from {
                let id = ids.value(*row).try_into().map_err(|_| "event_id")?;
                rows.ids.push(id);
            }
        }
        Ok(())
    }

    /// What is packed of the batch, but for which rows.
    pub(super) fn packable(&self) -> Result<Packable<'_>, Wrong> {
        let mut table: Vec<Option<u32>> = Vec::new();
        let (kinds, names) = (&self.kind.meanings, &self.name.meanings);
        table.resize(kinds.len().saturating_mul(names.len()), None);
        let (mut sorts, mut codes) = (Vec::new(), Vec::with_capacity(self.batch.num_rows()));
        for row in 0..self.batch.num_rows() {
            let kind = self.kind.key(row).ok_or("kind")?;
            let name = self.name.key(row).ok_or("name")?;
            let place = table.get_mut(kind * names.len() + name).ok_or("name")?;
            let code = match place {
                Some(code) => *code,
                None => {
                    let code = u32::try_from(sorts.len()).map_err(|_| "name")?;
                    sorts.push(Sort {
                        kind: kinds.get(kind).copied().flatten().ok_or("kind")?,
                        name: names.get(name).copied().ok_or("name")?,
                    });
                    *place.insert(code)
                }
            };
            codes.push(code);
        }
        let values = self.value.map(|values| {
            let values = values.iter();
            values.map(|value| value.unwrap_or(f64::NAN)).collect()
        });
        let mut variants = Vec::new();
        if !self.variants.is_empty() {
            variants.resize(self.batch.num_rows(), 0);
        }
        for (row, variant) in &self.variants {
            if let Some(place) = variants.get_mut(*row) {
                *place = *variant;
            }
        }
        Ok(Packable {
            unit: self.unit.values(),
            time_us: self.time.values(),
            codes,
            sorts,
            values: values.unwrap_or_default(),
            variants,
        })
    }

    fn push_properties(&self, from: &[usize], rows: &mut Rows) -> Result<(), Wrong> {
        let Some(array) = self.properties else {
            let none = if self.with_properties { from.len() } else { 0 };
            rows.properties.extend(std::iter::repeat_n(0, none));
            return Ok(());
        };
        let texts = array.values().as_string_opt::<i32>().ok_or("properties")?;
        let keys = array.keys();
        let mut numbers: FxHashMap<i32, u32> = FxHashMap::default();
        for row in from {
            if !keys.is_valid(*row) {
                rows.properties.push(0);
                continue;
            }
            let key = keys.value(*row);
            let at = usize::try_from(key).map_err(|_| "properties")?;
            let number = *numbers.entry(key).or_insert_with(|| {
                rows.property_texts.push(texts.value(at).into());
                u32::try_from(rows.property_texts.len()).unwrap_or(0)
            });
            rows.properties.push(number);
        }
        Ok(())
    }
}
