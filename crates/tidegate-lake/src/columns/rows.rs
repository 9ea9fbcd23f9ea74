//! Rows of one bucket, decoded to plain columns, and texts interned over all of them.

use super::ColumnError;
use super::file::{groups_of, read_batches};
use super::manifest::{FileMeta, LakeState};
use super::schema::{column, reading_schema};
use crate::io::LakeIo;
use arrow::array::{Array, AsArray, DictionaryArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType, UInt16Type, UInt32Type};
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::Path;

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

/// Rows of one bucket in (time, event id) order, each event once, without quarantined events and
/// erased units. All columns have the same length.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rows {
    /// Ordinal of the unit in its bucket.
    pub unit: Vec<u32>,
    /// Event time, microseconds since 1970.
    pub time_us: Vec<i64>,
    /// Interned kind.
    pub kind: Vec<u32>,
    /// Interned name.
    pub name: Vec<u32>,
    /// Value; NaN for none.
    pub value: Vec<f64>,
    /// Interned variant of an exposure or evaluation; 0 for none.
    pub variant: Vec<u32>,
    /// Interned JSON text of the properties; 0 for none, and everywhere if not asked for.
    pub properties: Vec<u32>,
    ids: Vec<[u8; 16]>,
}

impl Rows {
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

    fn retain_order(&mut self, order: &[usize]) {
        fn pick<T: Copy>(column: &mut Vec<T>, order: &[usize]) {
            *column = order
                .iter()
                .filter_map(|at| column.get(*at).copied())
                .collect();
        }
        pick(&mut self.unit, order);
        pick(&mut self.time_us, order);
        pick(&mut self.kind, order);
        pick(&mut self.name, order);
        pick(&mut self.value, order);
        pick(&mut self.variant, order);
        pick(&mut self.properties, order);
        self.ids.clear();
    }

    // Files of one day overlap until compaction: order them into one run and keep one copy of
    // each id, as compaction would.
    fn merge_from(&mut self, start: usize) {
        let mut order: Vec<usize> = (start..self.len()).collect();
        let key = |at: &usize| (self.time_us.get(*at), self.ids.get(*at));
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut seen = FxHashSet::default();
        order.retain(|at| self.ids.get(*at).is_some_and(|id| seen.insert(*id)));
        let whole: Vec<usize> = (0..start).chain(order).collect();
        self.retain_order(&whole);
    }
}

/// What a scan needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) io: &'a dyn LakeIo,
    pub(super) dir: &'a Path,
    pub(super) state: &'a LakeState,
    pub(super) with_properties: bool,
}

impl Scan<'_> {
    /// The rows of a bucket on days of a range, in order.
    pub(super) fn bucket(
        &self,
        bucket: u16,
        days: std::ops::RangeInclusive<i64>,
        texts: &mut Texts,
    ) -> Result<Rows, ColumnError> {
        let mut rows = Rows::default();
        for (day, files) in self.state.days() {
            if !days.contains(&day) {
                continue;
            }
            let start = rows.len();
            let is_one_run = matches!(files.as_slice(), [file] if file.is_compacted);
            for file in files {
                self.file(file, bucket, !is_one_run, &mut rows, texts)?;
            }
            if is_one_run {
                rows.ids.clear();
            } else {
                rows.ids.splice(0..0, std::iter::repeat_n([0; 16], start));
                rows.merge_from(start);
            }
        }
        Ok(rows)
    }

    fn file(
        &self,
        file: &FileMeta,
        bucket: u16,
        with_ids: bool,
        rows: &mut Rows,
        texts: &mut Texts,
    ) -> Result<(), ColumnError> {
        let groups = groups_of(&file.groups, bucket);
        if groups.is_empty() {
            return Ok(());
        }
        let mut columns = vec![
            column::BUCKET,
            column::UNIT,
            column::TIME,
            column::KIND,
            column::NAME,
            column::VALUE,
            column::VARIANT,
            column::QUARANTINED,
        ];
        if with_ids {
            columns.push(column::EVENT_ID);
        }
        if self.with_properties {
            columns.push(column::PROPERTIES);
        }
        let path = self.dir.join(&file.name);
        let schema = Some(reading_schema());
        read_batches(
            self.io,
            &path,
            Some(groups),
            Some(&columns),
            schema,
            &mut |batch| {
                let decoder = Decoder { batch: &batch };
                let wrong =
                    |column| ColumnError::damaged(&path, format!("column {column} is wrong"));
                decoder
                    .push(bucket, &self.state.erased, rows, texts)
                    .map_err(wrong)
            },
        )
    }
}

struct Decoder<'b> {
    batch: &'b RecordBatch,
}

impl Decoder<'_> {
    fn push(
        &self,
        bucket: u16,
        erased: &std::collections::BTreeSet<(u16, u32)>,
        rows: &mut Rows,
        texts: &mut Texts,
    ) -> Result<(), &'static str> {
        let buckets = self.column("bucket")?;
        let buckets = buckets.as_primitive_opt::<UInt16Type>().ok_or("bucket")?;
        let unit = self.column("unit")?;
        let unit = unit.as_primitive_opt::<UInt32Type>().ok_or("unit")?;
        let quarantined = self.column("quarantined")?;
        let quarantined = quarantined.as_boolean_opt().ok_or("quarantined")?;
        let has_quarantined = quarantined.true_count() > 0;
        let has_erased = erased
            .range((bucket, 0)..=(bucket, u32::MAX))
            .next()
            .is_some();
        let kept: Vec<usize> = (0..self.batch.num_rows())
            .filter(|row| buckets.value(*row) == bucket)
            .filter(|row| !has_quarantined || !quarantined.value(*row))
            .filter(|row| !has_erased || !erased.contains(&(bucket, unit.value(*row))))
            .collect();
        let time = self.column("time")?;
        let time = time
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or("time")?;
        let value = self.column("value")?;
        let value = value.as_primitive_opt::<Float64Type>().ok_or("value")?;
        rows.unit.extend(kept.iter().map(|row| unit.value(*row)));
        rows.time_us.extend(kept.iter().map(|row| time.value(*row)));
        rows.value.extend(kept.iter().map(|row| {
            let is_there = value.is_valid(*row);
            if is_there {
                value.value(*row)
            } else {
                f64::NAN
            }
        }));
        self.texts("kind", &kept, &mut rows.kind, texts)?;
        self.texts("name", &kept, &mut rows.name, texts)?;
        self.texts("variant", &kept, &mut rows.variant, texts)?;
        if self.batch.column_by_name("properties").is_some() {
            self.texts("properties", &kept, &mut rows.properties, texts)?;
        } else {
            rows.properties.resize(rows.unit.len(), 0);
        }
        if let Some(ids) = self.batch.column_by_name("event_id") {
            let ids = ids.as_fixed_size_binary_opt().ok_or("event_id")?;
            for row in kept {
                rows.ids
                    .push(ids.value(row).try_into().map_err(|_| "event_id")?);
            }
        }
        Ok(())
    }

    fn column(&self, name: &'static str) -> Result<&dyn Array, &'static str> {
        let found = self.batch.column_by_name(name);
        found.map(AsRef::as_ref).ok_or(name)
    }

    fn texts(
        &self,
        name: &'static str,
        kept: &[usize],
        into: &mut Vec<u32>,
        texts: &mut Texts,
    ) -> Result<(), &'static str> {
        let array: &DictionaryArray<Int32Type> =
            self.column(name)?.as_dictionary_opt().ok_or(name)?;
        let values = array.values().as_string_opt::<i32>().ok_or(name)?;
        let numbers: Vec<u32> = (0..values.len())
            .map(|at| texts.intern(values.value(at)))
            .collect();
        let keys = array.keys();
        into.extend(kept.iter().map(|row| {
            let key = keys.is_valid(*row).then(|| keys.value(*row));
            let at = key.and_then(|key| usize::try_from(key).ok());
            at.and_then(|at| numbers.get(at).copied()).unwrap_or(0)
        }));
        Ok(())
    }
}
