//! The columns of an event file, and events written as them.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Array,
    Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt16Builder,
    UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::fmt::Write as _;
use std::sync::Arc;
use tidegate_metrics::{Event, Properties, PropertyValue, ServedFlags};

/// Position of each column in an event file.
pub(super) mod column {
    pub(in crate::columns) const BUCKET: usize = 0;
    pub(in crate::columns) const UNIT: usize = 1;
    pub(in crate::columns) const TIME: usize = 2;
    pub(in crate::columns) const EVENT_ID: usize = 3;
    pub(in crate::columns) const SEQUENCE: usize = 4;
    pub(in crate::columns) const KIND: usize = 5;
    pub(in crate::columns) const NAME: usize = 6;
    pub(in crate::columns) const VALUE: usize = 7;
    pub(in crate::columns) const VARIANT: usize = 8;
    pub(in crate::columns) const FLAGS: usize = 9;
    pub(in crate::columns) const PROPERTIES: usize = 10;
    /// In files of before, `received`: the moment itself.
    pub(in crate::columns) const ARRIVAL_US: usize = 11;
    pub(in crate::columns) const SENT: usize = 12;
    pub(in crate::columns) const TRACE_ID: usize = 13;
    pub(in crate::columns) const QUARANTINED: usize = 14;
}

/// An event with its place: bucket, dense ordinal of its unit in the bucket, time, ingest sequence.
#[derive(Debug, Clone)]
pub(super) struct PlacedEvent<'e> {
    pub(super) bucket: u16,
    pub(super) unit: u32,
    pub(super) sequence: u64,
    pub(super) time_us: i64,
    pub(super) event: &'e Event,
}

pub(super) fn event_schema() -> Arc<Schema> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let id = DataType::FixedSizeBinary(16);
    Arc::new(Schema::new(vec![
        Field::new("bucket", DataType::UInt16, false),
        Field::new("unit", DataType::UInt32, false),
        Field::new("time", time.clone(), false),
        Field::new("event_id", id.clone(), false),
        Field::new("sequence", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("variant", DataType::Utf8, true),
        Field::new("flags", DataType::Utf8, true),
        Field::new("properties", DataType::Utf8, true),
        Field::new("arrival_us", DataType::Int64, false),
        Field::new("sent", time, true),
        Field::new("trace_id", id, true),
        Field::new("quarantined", DataType::Boolean, false),
    ]))
}

/// The same columns with texts as dictionaries, so that a text is looked at once per batch. Not so
/// the variant: few rows have one, and a dictionary is made anew where a page has none.
pub(super) fn reading_schema(of_file: &SchemaRef) -> SchemaRef {
    let fields = of_file
        .fields()
        .iter()
        .map(|field| {
            let field = field.as_ref().clone();
            if *field.data_type() == DataType::Utf8 && field.name() != "variant" {
                let text =
                    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                field.with_data_type(text)
            } else {
                field
            }
        })
        .collect::<Vec<Field>>();
    Arc::new(Schema::new(fields))
}

pub(super) fn unit_schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("bucket", DataType::UInt16, false),
        Field::new("unit", DataType::UInt32, false),
        Field::new("unit_id", DataType::Utf8, true),
    ]))
}

/// Rows of a page at most: one byte of each fills a block of the compression.
const PAGE_ROWS: usize = 1 << 17;
/// Beyond this, times of arrival are no longer told by a dictionary.
const ARRIVALS_BYTES: usize = 16 << 10;
/// The same of values.
const VALUES_BYTES: usize = 128 << 10;

pub(super) fn writer_properties() -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by("tidegate-lake".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(PAGE_ROWS);
    for delta in ["time", "sequence", "sent"] {
        let path = ColumnPath::from(delta);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    // The first bytes of an ordinal are as good as random, and the last are zero: apart from each
    // other, each kind is compressed as it deserves.
    let unit = ColumnPath::from("unit");
    builder = builder
        .set_column_dictionary_enabled(unit.clone(), false)
        .set_column_encoding(unit, Encoding::BYTE_STREAM_SPLIT);
    // Prices repeat, latencies do not.
    let value = ColumnPath::from("value");
    builder = builder
        .set_column_dictionary_page_size_limit(value.clone(), VALUES_BYTES)
        .set_column_encoding(value, Encoding::BYTE_STREAM_SPLIT);
    // What a request brought often took the same time to arrive; where it did not, a dictionary
    // would cost more than the numbers.
    let arrival = ColumnPath::from("arrival_us");
    builder = builder
        .set_column_dictionary_page_size_limit(arrival.clone(), ARRIVALS_BYTES)
        .set_column_encoding(arrival, Encoding::DELTA_BINARY_PACKED);
    // Random bits neither repeat nor compress; trying costs time alone.
    for random in ["event_id", "trace_id"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(random), false);
    }
    builder.build()
}

/// How long after an event's time it was taken. Wraps at the ends of time, as does the way back.
fn arrival_us(time_us: i64, received_us: i64) -> i64 {
    received_us.wrapping_sub(time_us)
}

/// When each event of a batch was taken, whether the batch says the moment or the time from the
/// event until then; `None` if it says neither.
pub(super) fn received_us(batch: &RecordBatch) -> Option<Vec<i64>> {
    let column = batch.columns().get(column::ARRIVAL_US)?;
    if let Some(received) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return Some(received.values().to_vec());
    }
    let arrival = column.as_primitive_opt::<Int64Type>()?.values();
    let time = batch.columns().get(column::TIME)?;
    let time = time
        .as_primitive_opt::<TimestampMicrosecondType>()?
        .values();
    let pairs = time.iter().zip(arrival);
    Some(
        pairs
            .map(|(time, arrival)| time.wrapping_add(*arrival))
            .collect(),
    )
}

/// The batch of an event file in the columns that are written now; `None` if it is not one.
pub(super) fn in_current_columns(batch: RecordBatch) -> Option<RecordBatch> {
    let stored = batch.columns().get(column::ARRIVAL_US)?;
    if *stored.data_type() == DataType::Int64 {
        return Some(batch);
    }
    let received = received_us(&batch)?;
    let time = batch.columns().get(column::TIME)?;
    let time = time
        .as_primitive_opt::<TimestampMicrosecondType>()?
        .values();
    let pairs = time.iter().zip(received);
    let arrival = pairs.map(|(time, received)| arrival_us(*time, received));
    let arrival = Int64Array::from_iter_values(arrival);
    let mut columns = batch.columns().to_vec();
    *columns.get_mut(column::ARRIVAL_US)? = Arc::new(arrival);
    RecordBatch::try_new(event_schema(), columns).ok()
}

/// Writes events as one batch of columns, in the order given.
pub(super) fn event_batch(placed: &[PlacedEvent<'_>]) -> Result<RecordBatch, ArrowError> {
    let mut columns = Columns::default();
    for row in placed {
        columns.push(row)?;
    }
    columns.finish()
}

struct Columns {
    bucket: UInt16Builder,
    unit: UInt32Builder,
    time: TimestampMicrosecondBuilder,
    event_id: FixedSizeBinaryBuilder,
    sequence: UInt64Builder,
    kind: StringBuilder,
    name: StringBuilder,
    value: Float64Builder,
    variant: StringBuilder,
    flags: StringBuilder,
    properties: StringBuilder,
    arrival_us: Int64Builder,
    sent: TimestampMicrosecondBuilder,
    trace_id: FixedSizeBinaryBuilder,
    quarantined: BooleanBuilder,
    /// The JSON of one event, written over and over.
    text: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            bucket: UInt16Builder::new(),
            unit: UInt32Builder::new(),
            time: TimestampMicrosecondBuilder::new(),
            event_id: FixedSizeBinaryBuilder::new(16),
            sequence: UInt64Builder::new(),
            kind: StringBuilder::new(),
            name: StringBuilder::new(),
            value: Float64Builder::new(),
            variant: StringBuilder::new(),
            flags: StringBuilder::new(),
            properties: StringBuilder::new(),
            arrival_us: Int64Builder::new(),
            sent: TimestampMicrosecondBuilder::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            quarantined: BooleanBuilder::new(),
            text: String::new(),
        }
    }
}

impl Columns {
    fn push(&mut self, row: &PlacedEvent<'_>) -> Result<(), ArrowError> {
        let event = row.event;
        self.bucket.append_value(row.bucket);
        self.unit.append_value(row.unit);
        self.time.append_value(event.time_us);
        // Big-endian, so that ids sort as their text does.
        self.event_id.append_value(event.id.0.to_be_bytes())?;
        self.sequence.append_value(row.sequence);
        self.kind.append_value(event.kind.as_str());
        self.name.append_value(&event.name);
        self.value.append_option(event.value);
        self.variant.append_option(event.variant(&event.name));
        let text = &mut self.text;
        text.clear();
        write_flags(&event.flags, text);
        self.flags
            .append_option((!event.flags.is_empty()).then_some(&*text));
        text.clear();
        write_properties(&event.properties, text);
        self.properties
            .append_option((!event.properties.is_empty()).then_some(&*text));
        self.arrival_us
            .append_value(arrival_us(event.time_us, event.received_us));
        self.sent.append_option(event.sent_us);
        match event.trace_id {
            Some(trace) => self.trace_id.append_value(trace.0.to_be_bytes())?,
            None => self.trace_id.append_null(),
        }
        self.quarantined.append_value(event.is_quarantined);
        Ok(())
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.bucket.finish()),
            Arc::new(self.unit.finish()),
            Arc::new(self.time.finish().with_timezone("UTC")),
            Arc::new(self.event_id.finish()),
            Arc::new(self.sequence.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.variant.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.properties.finish()),
            Arc::new(self.arrival_us.finish()),
            Arc::new(self.sent.finish().with_timezone("UTC")),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.quarantined.finish()),
        ];
        RecordBatch::try_new(event_schema(), columns)
    }
}

// Keys are sorted in the event, so equal flags give equal text and share one dictionary entry.
fn write_flags(flags: &ServedFlags, out: &mut String) {
    for (at, (key, variant)) in flags.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        write_text(key, out);
        out.push(':');
        write_text(variant, out);
    }
    out.push('}');
}

fn write_properties(properties: &Properties, out: &mut String) {
    for (at, (key, value)) in properties.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        write_text(key, out);
        out.push(':');
        match value {
            PropertyValue::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            // Writing into a text cannot fail.
            PropertyValue::Number(value) => drop(write!(out, "{value}")),
            PropertyValue::Text(text) => write_text(text, out),
        }
    }
    out.push('}');
}

/// A text as JSON. Hardly any needs an escape, so most are copied as they are.
fn write_text(text: &str, out: &mut String) {
    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    if text.as_bytes().iter().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_written_as_json_writes_it(text in any::<String>()) {
            let mut out = String::new();
            write_text(&text, &mut out);
            prop_assert_eq!(out, serde_json::Value::from(text).to_string());
        }
    }
}
