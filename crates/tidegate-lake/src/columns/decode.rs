//! One batch of an event file, decoded to plain rows.
//!
//! Kinds and names are dictionaries, so each distinct one is looked at once per batch. A column
//! that has no value at all is not there. Rows are taken in
//! stretches: what is left out (quarantined events, what is older than asked for) is rare, and a
//! stretch is copied column by column.

use super::rows::{Rows, Texts};
use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, RecordBatch};
use arrow::array::{
    FixedSizeBinaryArray, Float64Array, TimestampMicrosecondArray, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use rustc_hash::FxHashMap;
use std::ops::Range;
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
    fn of(&self, row: usize) -> Option<T> {
        let keys = self.array.keys();
        if !keys.is_valid(row) {
            return None;
        }
        let key = usize::try_from(keys.values().get(row).copied()?).ok()?;
        self.meanings.get(key).copied()
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

    /// The buckets in the batch, with the rows of each.
    pub(super) fn buckets(&self) -> Vec<(u16, Range<usize>)> {
        let mut start = 0;
        let runs = self.bucket.values().chunk_by(|a, b| a == b);
        let runs = runs.filter_map(|run| {
            let rows = start..start + run.len();
            start = rows.end;
            Some((*run.first()?, rows))
        });
        runs.collect()
    }

    /// Of some rows those that are not quarantined, and at or above a sequence if one is given.
    pub(super) fn kept(
        &self,
        rows: Range<usize>,
        from_sequence: Option<u64>,
    ) -> Result<Vec<Range<usize>>, Wrong> {
        let sequence = match from_sequence {
            None if self.quarantined.true_count() == 0 => return Ok(vec![rows]),
            None => None,
            Some(from) => {
                let column = column(self.batch, "sequence")?;
                let column = column.as_primitive_opt::<UInt64Type>().ok_or("sequence")?;
                Some((from, column))
            }
        };
        let mut kept: Vec<Range<usize>> = Vec::new();
        for row in rows {
            let is_new = sequence.is_none_or(|(from, column)| column.value(row) >= from);
            if !is_new || self.quarantined.value(row) {
                continue;
            }
            match kept.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => kept.push(row..row + 1),
            }
        }
        Ok(kept)
    }

    /// Appends some rows.
    pub(super) fn push(&self, from: Range<usize>, rows: &mut Rows) -> Result<(), Wrong> {
        let start = rows.len();
        let unit = self.unit.values().get(from.clone()).ok_or("unit")?;
        rows.unit.extend_from_slice(unit);
        let time = self.time.values().get(from.clone()).ok_or("time")?;
        rows.time_us.extend_from_slice(time);
        match self.value {
            None => {
                let none = std::iter::repeat_n(f64::NAN, from.len());
                rows.value.extend(none);
            }
            Some(values) => rows
                .value
                .extend(from.clone().map(|row| match values.is_valid(row) {
                    true => values.value(row),
                    false => f64::NAN,
                })),
        }
        for row in from.clone() {
            rows.kind.push(self.kind.of(row).flatten().ok_or("kind")?);
            rows.name.push(self.name.of(row).ok_or("name")?);
        }
        let first = self.variants.partition_point(|(row, _)| *row < from.start);
        let found = self.variants.iter().skip(first);
        let found = found.take_while(|(row, _)| *row < from.end);
        rows.variants
            .extend(found.map(|(row, variant)| (start + row - from.start, *variant)));
        self.push_properties(from.clone(), rows)?;
        if let Some((ids, sequences)) = self.ids {
            let sequences = sequences.values().get(from.clone()).ok_or("sequence")?;
            rows.sequences.extend_from_slice(sequences);
            for row in from {
                let id = ids.value(row).try_into().map_err(|_| "event_id")?;
                rows.ids.push(id);
            }
        }
        Ok(())
    }

    fn push_properties(&self, from: Range<usize>, rows: &mut Rows) -> Result<(), Wrong> {
        let Some(array) = self.properties else {
            let none = if self.with_properties { from.len() } else { 0 };
            rows.properties.extend(std::iter::repeat_n(0, none));
            return Ok(());
        };
        let texts = array.values().as_string_opt::<i32>().ok_or("properties")?;
        let keys = array.keys();
        let mut numbers: FxHashMap<i32, u32> = FxHashMap::default();
        for row in from {
            if !keys.is_valid(row) {
                rows.properties.push(0);
                continue;
            }
            let key = keys.value(row);
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
