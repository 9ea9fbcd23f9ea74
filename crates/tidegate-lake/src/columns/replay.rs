//! Events read back from the files in the order in which they were taken.
//!
//! Whoever must count again from an ingest sequence that the log has already given up reads here
//! first. Files are ordered otherwise, so the sequence is walked in windows: of the files that
//! overlap a window, the events in it are gathered and sorted. What was erased, or dropped as a
//! copy, leaves a gap.

use super::ColumnError;
use super::file::{Batches, Wanted};
use super::manifest::LakeState;
use super::schema::{column, received_us};
use super::store::ColumnStore;
use crate::log::Committed;
use arrow::array::{
    Array, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt16Type, UInt32Type, UInt64Type};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;
use tidegate_metrics::{
    Event, EventId, EventKind, Properties, PropertyValue, ServedFlags, TraceId,
};

/// Sequences gathered at a time.
const WINDOW: u64 = 250_000;

/// Names of units by bucket and ordinal.
type UnitNames = Vec<Vec<Option<Box<str>>>>;

impl ColumnStore {
    /// Reads the events of a range of sequences in order until `each` answers `false`; says
    /// whether it reached the end.
    pub(crate) fn replay(
        &self,
        range: Range<u64>,
        each: &mut dyn FnMut(Committed) -> bool,
    ) -> Result<bool, ColumnError> {
        let state = self.state();
        // Whoever counts again must know that something is missing.
        let damaged = state.damaged.values();
        let mut damaged = damaged.filter(|damaged| damaged.file.overlaps(&range));
        if let Some(damaged) = damaged.next() {
            let path = self.events_dir.join(&damaged.file.name);
            return Err(ColumnError::damaged(&path, damaged.reason.as_str()));
        }
        let names: UnitNames = {
            let units = self.units();
            (0..state.buckets)
                .map(|bucket| units.names(bucket))
                .collect()
        };
        let mut start = range.start;
        while start < range.end {
            let end = start.saturating_add(WINDOW).min(range.end);
            let events = self.window(&state, start..end, &names)?;
            for stretch in stretches(events) {
                if !each(stretch) {
                    return Ok(false);
                }
            }
            start = end;
        }
        Ok(true)
    }

    fn window(
        &self,
        state: &LakeState,
        range: Range<u64>,
        names: &UnitNames,
    ) -> Result<BTreeMap<u64, Event>, ColumnError> {
        let mut events = BTreeMap::new();
        let overlapping = state.files.values().filter(|file| file.overlaps(&range));
        for file in overlapping {
            let path = self.events_dir.join(&file.name);
            for batch in Batches::open(self.io.as_ref(), &path, Wanted::default())? {
                let batch = batch?;
                let wrong =
                    |column: &str| ColumnError::damaged(&path, format!("column {column} is wrong"));
                let columns = Columns::of(&batch).map_err(wrong)?;
                for row in 0..batch.num_rows() {
                    let sequence = columns.sequence.value(row);
                    let place = (columns.bucket.value(row), columns.unit.value(row));
                    if range.contains(&sequence) && !state.erased.contains(&place) {
                        events.insert(sequence, columns.event(row, names).map_err(wrong)?);
                    }
                }
            }
        }
        Ok(events)
    }
}

/// Runs of consecutive sequences.
fn stretches(events: BTreeMap<u64, Event>) -> Vec<Committed> {
    let mut all: Vec<Committed> = Vec::new();
    for (sequence, event) in events {
        match all.last_mut() {
            Some(last) if last.end_sequence() == sequence => last.events.push(event),
            _ => all.push(Committed {
                first_sequence: sequence,
                events: vec![event],
            }),
        }
    }
    all
}

struct Columns<'b> {
    bucket: &'b UInt16Array,
    unit: &'b UInt32Array,
    time: &'b TimestampMicrosecondArray,
    id: &'b FixedSizeBinaryArray,
    sequence: &'b UInt64Array,
    kind: &'b StringArray,
    name: &'b StringArray,
    value: &'b Float64Array,
    flags: &'b StringArray,
    properties: &'b StringArray,
    received_us: Vec<i64>,
    sent: &'b TimestampMicrosecondArray,
    trace: &'b FixedSizeBinaryArray,
    quarantined: &'b BooleanArray,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self, &'static str> {
        let columns = Reader(batch);
        Ok(Self {
            bucket: columns
                .at(column::BUCKET)?
                .as_primitive_opt::<UInt16Type>()
                .ok_or("bucket")?,
            unit: columns
                .at(column::UNIT)?
                .as_primitive_opt::<UInt32Type>()
                .ok_or("unit")?,
            time: columns.time(column::TIME)?,
            id: columns
                .at(column::EVENT_ID)?
                .as_fixed_size_binary_opt()
                .ok_or("event_id")?,
            sequence: columns
                .at(column::SEQUENCE)?
                .as_primitive_opt::<UInt64Type>()
                .ok_or("sequence")?,
            kind: columns.text(column::KIND)?,
            name: columns.text(column::NAME)?,
            value: columns
                .at(column::VALUE)?
                .as_primitive_opt::<Float64Type>()
                .ok_or("value")?,
            flags: columns.text(column::FLAGS)?,
            properties: columns.text(column::PROPERTIES)?,
            received_us: received_us(batch).ok_or("arrival_us")?,
            sent: columns.time(column::SENT)?,
            trace: columns
                .at(column::TRACE_ID)?
                .as_fixed_size_binary_opt()
                .ok_or("trace_id")?,
            quarantined: columns
                .at(column::QUARANTINED)?
                .as_boolean_opt()
                .ok_or("quarantined")?,
        })
    }

    fn event(&self, row: usize, names: &UnitNames) -> Result<Event, &'static str> {
        let bucket = names
            .get(usize::from(self.bucket.value(row)))
            .ok_or("bucket")?;
        let ordinal = usize::try_from(self.unit.value(row)).map_err(|_| "unit")?;
        let unit = bucket.get(ordinal).and_then(Option::as_ref).ok_or("unit")?;
        let id = self.id.value(row).try_into().map_err(|_| "event_id")?;
        let trace_id = match self.trace.is_valid(row) {
            true => {
                let bytes = self.trace.value(row).try_into().map_err(|_| "trace_id")?;
                Some(TraceId(u128::from_be_bytes(bytes)))
            }
            false => None,
        };
        Ok(Event {
            id: EventId(u128::from_be_bytes(id)),
            time_us: self.time.value(row),
            received_us: *self.received_us.get(row).ok_or("arrival_us")?,
            sent_us: self.sent.is_valid(row).then(|| self.sent.value(row)),
            unit: unit.clone(),
            kind: self
                .kind
                .value(row)
                .parse::<EventKind>()
                .map_err(|_| "kind")?,
            name: self.name.value(row).into(),
            value: self.value.is_valid(row).then(|| self.value.value(row)),
            properties: properties(optional(self.properties, row)).ok_or("properties")?,
            flags: flags(optional(self.flags, row)).ok_or("flags")?,
            trace_id,
            is_quarantined: self.quarantined.value(row),
        })
    }
}

struct Reader<'b>(&'b RecordBatch);

impl<'b> Reader<'b> {
    fn at(&self, index: usize) -> Result<&'b dyn Array, &'static str> {
        let column = self.0.columns().get(index).map(AsRef::as_ref);
        column.ok_or("count")
    }

    fn text(&self, index: usize) -> Result<&'b StringArray, &'static str> {
        self.at(index)?.as_string_opt::<i32>().ok_or("text")
    }

    fn time(&self, index: usize) -> Result<&'b TimestampMicrosecondArray, &'static str> {
        let column = self.at(index)?;
        column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or("time")
    }
}

fn optional(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn properties(text: Option<&str>) -> Option<Properties> {
    let Some(text) = text else {
        return Some(Properties::new());
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let scalar = |json: &str| match json {
        "true" => Some(PropertyValue::Bool(true)),
        "false" => Some(PropertyValue::Bool(false)),
        text if text.starts_with('"') => {
            let text: String = serde_json::from_str(text).ok()?;
            Some(PropertyValue::Text(text.into()))
        }
        number => number.parse().ok().map(PropertyValue::Number),
    };
    let members = members.into_iter();
    members
        .map(|(key, value)| Some((key.into(), scalar(value.get())?)))
        .collect()
}

fn flags(text: Option<&str>) -> Option<ServedFlags> {
    let Some(text) = text else {
        return Some(ServedFlags::new());
    };
    let members: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    let members = members.into_iter();
    Some(
        members
            .map(|(flag, variant)| (flag.into(), variant.into()))
            .collect(),
    )
}
