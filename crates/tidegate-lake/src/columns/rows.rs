//! Rows of one bucket and day, decoded to plain columns, and names interned over the whole lake.

use super::ColumnError;
use super::file::{groups_of, read_batches};
use super::hot::{HotTier, PartKey};
use super::manifest::{FileMeta, LakeState};
use super::schema::{column, reading_schema};
use crate::io::LakeIo;
use arrow::array::{Array, AsArray, DictionaryArray, RecordBatch};
use arrow::datatypes::{
    Float64Type, Int32Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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
    pub(super) ids: Vec<[u8; 16]>,
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

    /// The JSON text of a row's properties, if it has any and they were asked for.
    #[must_use]
    pub fn property_text(&self, row: usize) -> Option<&str> {
        let number = usize::try_from(*self.properties.get(row)?).ok()?;
        let text = self.property_texts.get(number.checked_sub(1)?)?;
        Some(text)
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let fixed = size_of::<u32>() * 2 + size_of::<i64>() + size_of::<f64>() + 1;
        let texts: usize = self.property_texts.iter().map(|text| text.len() + 16).sum();
        self.len() * fixed
            + self.variants.len() * 16
            + self.properties.len() * 4
            + self.ids.len() * 16
            + texts
    }

    /// Appends some rows of others, but for those of erased units.
    fn append(&mut self, other: &Self, range: Range<usize>, is_erased: &dyn Fn(u32) -> bool) {
        let mut texts: FxHashMap<u32, u32> = FxHashMap::default();
        let first = other
            .variants
            .partition_point(|(row, _)| *row < range.start);
        let mut variants = other.variants.iter().skip(first).peekable();
        for row in range {
            let variant = variants.next_if(|(at, _)| *at == row);
            let Some(unit) = other
                .unit
                .get(row)
                .copied()
                .filter(|unit| !is_erased(*unit))
            else {
                continue;
            };
            self.variants
                .extend(variant.map(|(_, variant)| (self.unit.len(), *variant)));
            self.unit.push(unit);
            self.time_us.extend(other.time_us.get(row));
            self.kind.extend(other.kind.get(row));
            self.name.extend(other.name.get(row));
            self.value.extend(other.value.get(row));
            self.ids.extend(other.ids.get(row));
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

    fn text_of(&self, number: u32) -> Option<Arc<str>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.property_texts.get(at).map(Arc::clone)
    }

    // Files of one day overlap until compaction: order them into one run and keep one copy of
    // each id, as compaction would.
    fn merge(&mut self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        let key = |at: &usize| (self.time_us.get(*at), self.ids.get(*at));
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut seen = FxHashSet::default();
        order.retain(|at| self.ids.get(*at).is_some_and(|id| seen.insert(*id)));
        let variants: FxHashMap<usize, u32> = self.variants.drain(..).collect();
        for (to, from) in order.iter().enumerate() {
            self.variants
                .extend(variants.get(from).map(|variant| (to, *variant)));
        }
        pick(&mut self.unit, &order);
        pick(&mut self.time_us, &order);
        pick(&mut self.kind, &order);
        pick(&mut self.name, &order);
        pick(&mut self.value, &order);
        pick(&mut self.properties, &order);
        pick(&mut self.ids, &order);
    }
}

fn pick<T: Copy>(column: &mut Vec<T>, order: &[usize]) {
    let picked = order.iter().filter_map(|at| column.get(*at).copied());
    *column = picked.collect();
}

/// A row group that several buckets share, decoded whole: what every bucket would decode anew.
/// Erased units are still in it; whoever takes rows leaves them out.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) rows: Rows,
    /// Bucket of each row, ascending.
    buckets: Vec<u16>,
}

impl Part {
    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.heap_bytes() + self.buckets.len() * 2
    }

    fn range_of(&self, bucket: u16) -> Range<usize> {
        let start = self.buckets.partition_point(|other| *other < bucket);
        let end = self.buckets.partition_point(|other| *other <= bucket);
        start..end
    }
}

/// What a scan needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) io: &'a dyn LakeIo,
    pub(super) dir: &'a Path,
    pub(super) state: &'a LakeState,
    pub(super) with_properties: bool,
    pub(super) hot: &'a HotTier,
    pub(super) lake: u64,
}

impl Scan<'_> {
    /// The rows of a bucket in the files of one day, in order.
    pub(super) fn day(
        &self,
        files: &[&FileMeta],
        bucket: u16,
        texts: &Mutex<Texts>,
    ) -> Result<Rows, ColumnError> {
        let mut rows = Rows::default();
        let is_one_run = matches!(files, [file] if file.is_compacted);
        for file in files {
            self.file(file, bucket, !is_one_run, &mut rows, texts)?;
        }
        if !is_one_run {
            rows.merge();
        }
        rows.ids = Vec::new();
        Ok(rows)
    }

    /// The event ids of the rows that [`Self::day`] answers, in the same order.
    pub(super) fn day_ids(
        &self,
        files: &[&FileMeta],
        bucket: u16,
        texts: &Mutex<Texts>,
    ) -> Result<Vec<[u8; 16]>, ColumnError> {
        let mut rows = Rows::default();
        for file in files {
            self.file(file, bucket, true, &mut rows, texts)?;
        }
        rows.merge();
        Ok(rows.ids)
    }

    fn file(
        &self,
        file: &FileMeta,
        bucket: u16,
        with_ids: bool,
        rows: &mut Rows,
        texts: &Mutex<Texts>,
    ) -> Result<(), ColumnError> {
        let erased = &self.state.erased;
        let (shared, own): (Vec<usize>, Vec<usize>) =
            groups_of(&file.groups, bucket).into_iter().partition(|at| {
                let group = file.groups.get(*at);
                group.is_some_and(|group| group.first_bucket < group.last_bucket)
            });
        for group in shared {
            let part = self.part(file, group, texts)?;
            let range = part.range_of(bucket);
            rows.append(&part.rows, range, &|unit| erased.contains(&(bucket, unit)));
        }
        if own.is_empty() {
            return Ok(());
        }
        let ids: &[usize] = if with_ids { &[column::EVENT_ID] } else { &[] };
        self.read(file, Some(own), ids, &mut |decoder| {
            let kept = decoder.kept(Some(bucket), erased)?;
            decoder.push(&kept, rows, texts)
        })
    }

    /// The rows of a file at or above a sequence, but for those of erased units.
    pub(super) fn news(
        &self,
        file: &FileMeta,
        from_sequence: u64,
        texts: &Mutex<Texts>,
    ) -> Result<Part, ColumnError> {
        let mut part = Part::default();
        let columns = [column::EVENT_ID, column::SEQUENCE];
        self.read(file, None, &columns, &mut |decoder| {
            let mut kept = decoder.kept(None, &self.state.erased)?;
            let sequence = decoder.column("sequence")?;
            let sequence = sequence
                .as_primitive_opt::<UInt64Type>()
                .ok_or("sequence")?;
            kept.retain(|row| sequence.value(*row) >= from_sequence);
            part.buckets.extend(decoder.buckets(&kept)?);
            decoder.push(&kept, &mut part.rows, texts)
        })?;
        Ok(part)
    }

    /// The rows of a bucket in some parts, in order, each event once.
    pub(super) fn merged(parts: &[Part], bucket: u16) -> Rows {
        let mut rows = Rows::default();
        for part in parts {
            rows.append(&part.rows, part.range_of(bucket), &|_| false);
        }
        rows.merge();
        rows
    }

    fn part(
        &self,
        file: &FileMeta,
        group: usize,
        texts: &Mutex<Texts>,
    ) -> Result<Arc<Part>, ColumnError> {
        let key = PartKey {
            lake: self.lake,
            file: file.checksum,
            group,
            with_properties: self.with_properties,
        };
        if let Some(part) = self.hot.part(&key) {
            return Ok(part);
        }
        let mut part = Part::default();
        self.read(
            file,
            Some(vec![group]),
            &[column::EVENT_ID],
            &mut |decoder| {
                let kept = decoder.kept(None, &BTreeSet::new())?;
                part.buckets.extend(decoder.buckets(&kept)?);
                decoder.push(&kept, &mut part.rows, texts)
            },
        )?;
        let part = Arc::new(part);
        self.hot.put_part(key, &part);
        Ok(part)
    }

    fn read(
        &self,
        file: &FileMeta,
        groups: Option<Vec<usize>>,
        besides: &[usize],
        each: &mut dyn FnMut(&Decoder<'_>) -> Result<(), &'static str>,
    ) -> Result<(), ColumnError> {
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
        columns.extend(besides);
        if self.with_properties {
            columns.push(column::PROPERTIES);
        }
        let path = self.dir.join(&file.name);
        let schema = Some(reading_schema());
        read_batches(
            self.io,
            &path,
            groups,
            Some(&columns),
            schema,
            &mut |batch| {
                let wrong =
                    |column| ColumnError::damaged(&path, format!("column {column} is wrong"));
                each(&Decoder { batch: &batch }).map_err(wrong)
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
        kept: &[usize],
        rows: &mut Rows,
        texts: &Mutex<Texts>,
    ) -> Result<(), &'static str> {
        let unit = self.column("unit")?;
        let unit = unit.as_primitive_opt::<UInt32Type>().ok_or("unit")?;
        let time = self.column("time")?;
        let time = time
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or("time")?;
        let value = self.column("value")?;
        let value = value.as_primitive_opt::<Float64Type>().ok_or("value")?;
        let start = rows.len();
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
        let kind_of = |text: &str| text.parse::<EventKind>().ok();
        let kinds = self.texts("kind", kept, kind_of)?;
        for kind in kinds {
            rows.kind.push(kind.flatten().ok_or("kind")?);
        }
        let intern = |text: &str| {
            let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
            texts.intern(text)
        };
        let names = self.texts("name", kept, intern)?;
        rows.name
            .extend(names.into_iter().map(Option::unwrap_or_default));
        let variants = self.texts("variant", kept, intern)?;
        let found = (start..).zip(variants);
        rows.variants
            .extend(found.filter_map(|(row, variant)| Some((row, variant?))));
        if self.batch.column_by_name("properties").is_some() {
            self.push_properties(kept, rows)?;
        }
        if let Some(ids) = self.batch.column_by_name("event_id") {
            let ids = ids.as_fixed_size_binary_opt().ok_or("event_id")?;
            for row in kept {
                rows.ids
                    .push(ids.value(*row).try_into().map_err(|_| "event_id")?);
            }
        }
        Ok(())
    }

    /// The rows to keep: of one bucket or of all, not quarantined, not erased.
    fn kept(
        &self,
        bucket: Option<u16>,
        erased: &BTreeSet<(u16, u32)>,
    ) -> Result<Vec<usize>, &'static str> {
        let unit = self.column("unit")?;
        let unit = unit.as_primitive_opt::<UInt32Type>().ok_or("unit")?;
        let buckets = self.column("bucket")?;
        let buckets = buckets.as_primitive_opt::<UInt16Type>().ok_or("bucket")?;
        let quarantined = self.column("quarantined")?;
        let quarantined = quarantined.as_boolean_opt().ok_or("quarantined")?;
        let has_quarantined = quarantined.true_count() > 0;
        let has_erased = match bucket {
            Some(bucket) => erased
                .range((bucket, 0)..=(bucket, u32::MAX))
                .next()
                .is_some(),
            None => !erased.is_empty(),
        };
        let kept = (0..self.batch.num_rows())
            .filter(|row| bucket.is_none_or(|bucket| buckets.value(*row) == bucket))
            .filter(|row| !has_quarantined || !quarantined.value(*row))
            .filter(|row| {
                !has_erased || !erased.contains(&(buckets.value(*row), unit.value(*row)))
            });
        Ok(kept.collect())
    }

    fn buckets(&self, kept: &[usize]) -> Result<Vec<u16>, &'static str> {
        let buckets = self.column("bucket")?;
        let buckets = buckets.as_primitive_opt::<UInt16Type>().ok_or("bucket")?;
        Ok(kept.iter().map(|row| buckets.value(*row)).collect())
    }

    fn push_properties(&self, kept: &[usize], rows: &mut Rows) -> Result<(), &'static str> {
        let texts = &mut rows.property_texts;
        let keep = |text: &str| {
            texts.push(text.into());
            u32::try_from(texts.len()).unwrap_or(0)
        };
        let numbers = self.texts("properties", kept, keep)?;
        rows.properties
            .extend(numbers.into_iter().map(Option::unwrap_or_default));
        Ok(())
    }

    fn column(&self, name: &'static str) -> Result<&dyn Array, &'static str> {
        let found = self.batch.column_by_name(name);
        found.map(AsRef::as_ref).ok_or(name)
    }

    /// A text column's kept rows, each distinct text seen by `convert` once.
    fn texts<T: Copy>(
        &self,
        name: &'static str,
        kept: &[usize],
        convert: impl FnMut(&str) -> T,
    ) -> Result<Vec<Option<T>>, &'static str> {
        let array: &DictionaryArray<Int32Type> =
            self.column(name)?.as_dictionary_opt().ok_or(name)?;
        let values = array.values().as_string_opt::<i32>().ok_or(name)?;
        let converted: Vec<T> = (0..values.len())
            .map(|at| values.value(at))
            .map(convert)
            .collect();
        let keys = array.keys();
        let of_row = |row: &usize| {
            let key = keys.is_valid(*row).then(|| keys.value(*row))?;
            converted.get(usize::try_from(key).ok()?).copied()
        };
        Ok(kept.iter().map(of_row).collect())
    }
}
