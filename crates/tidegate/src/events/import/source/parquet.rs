//! Parquet: typed columns, read batch by batch and only those that are needed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::binding::Columns;
use super::super::cell::Cell;
use super::{Row, Rows};

const BATCH_ROWS: usize = 4096;
const DAY_US: i64 = 86_400_000_000;

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("{} is no Parquet file that can be read", path.display()))
}

/// Rows in the file.
pub(super) fn row_count(path: &Path) -> Result<u64> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The top-level columns.
pub(super) fn columns(path: &Path) -> Result<Columns> {
    let reader = open(path)?;
    let names = reader.schema().fields().iter();
    Ok(Columns {
        names: names.map(|field| field.name().clone()).collect(),
        is_complete: true,
    })
}

/// A pass over the rows.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    needed: Vec<String>,
    batch: Vec<ArrayRef>,
    rows: usize,
    at: usize,
    number: u64,
    done: Arc<AtomicU64>,
}

impl ParquetRows {
    /// Begins a pass.
    pub(super) fn new(path: &Path, needed: &[String], done: Arc<AtomicU64>) -> Result<Self> {
        let builder = open(path)?;
        let fields = builder.schema().fields();
        let roots: Vec<usize> = fields
            .iter()
            .enumerate()
            .filter(|(_, field)| needed.contains(field.name()))
            .map(|(index, _)| index)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()?;
        Ok(Self {
            reader,
            needed: needed.to_vec(),
            batch: Vec::new(),
            rows: 0,
            at: 0,
            number: 0,
            done,
        })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        self.batch.clear();
        for name in &self.needed {
            let Some(column) = batch.column_by_name(name) else {
                bail!("the file has lost its column {name:?} since it was looked at");
            };
            self.batch.push(Arc::clone(column));
        }
        self.rows = batch.num_rows();
        self.at = 0;
        Ok(())
    }
}

impl Rows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        while self.at >= self.rows {
            match self.reader.next() {
                None => return Ok(None),
                Some(batch) => {
                    let batch = batch.with_context(|| format!("after row {}", self.number))?;
                    self.take(&batch)?;
                }
            }
        }
        let cells = self.batch.iter().map(|column| cell(column, self.at));
        let cells = Ok(cells.collect());
        self.at += 1;
        self.number += 1;
        self.done.store(self.number, Ordering::Relaxed);
        Ok(Some(Row {
            number: self.number,
            line: None,
            cells,
        }))
    }
}

fn value<T: ArrowPrimitiveType>(column: &dyn Array, at: usize) -> T::Native {
    column.as_primitive::<T>().value(at)
}

/// The cell of a row; nested and unusual types are named as what they are.
fn cell(column: &dyn Array, at: usize) -> Cell {
    if column.is_null(at) {
        return Cell::Absent;
    }
    let time = |time: i64, per_us: i64| time.checked_mul(per_us).map_or(FAR, Cell::TimeUs);
    match column.data_type() {
        DataType::Utf8 => Cell::of_text(column.as_string::<i32>().value(at)),
        DataType::LargeUtf8 => Cell::of_text(column.as_string::<i64>().value(at)),
        DataType::Utf8View => Cell::of_text(column.as_string_view().value(at)),
        DataType::Boolean => Cell::Bool(column.as_boolean().value(at)),
        DataType::Int8 => Cell::Integer(value::<Int8Type>(column, at).into()),
        DataType::Int16 => Cell::Integer(value::<Int16Type>(column, at).into()),
        DataType::Int32 => Cell::Integer(value::<Int32Type>(column, at).into()),
        DataType::Int64 => Cell::Integer(value::<Int64Type>(column, at).into()),
        DataType::UInt8 => Cell::Integer(value::<UInt8Type>(column, at).into()),
        DataType::UInt16 => Cell::Integer(value::<UInt16Type>(column, at).into()),
        DataType::UInt32 => Cell::Integer(value::<UInt32Type>(column, at).into()),
        DataType::UInt64 => Cell::Integer(value::<UInt64Type>(column, at).into()),
        DataType::Float16 => Cell::Number(value::<Float16Type>(column, at).to_f64()),
        DataType::Float32 => Cell::Number(value::<Float32Type>(column, at).into()),
        DataType::Float64 => Cell::Number(value::<Float64Type>(column, at)),
        // The decimal's own text, so that 12.30 is read as it is written.
        DataType::Decimal128(_, _) => {
            Cell::Text(column.as_primitive::<Decimal128Type>().value_as_string(at))
        }
        DataType::Date32 => time(value::<Date32Type>(column, at).into(), DAY_US),
        DataType::Date64 => time(value::<Date64Type>(column, at), 1000),
        DataType::Timestamp(TimeUnit::Second, _) => {
            time(value::<TimestampSecondType>(column, at), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            time(value::<TimestampMillisecondType>(column, at), 1000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Cell::TimeUs(value::<TimestampMicrosecondType>(column, at))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Cell::TimeUs(value::<TimestampNanosecondType>(column, at).div_euclid(1000))
        }
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let key = keys.get(at).copied().unwrap_or(0);
            cell(dictionary.values(), key)
        }
        _ => Cell::Unfit("a type that is no single value"),
    }
}

/// A time beyond what microseconds can hold.
const FAR: Cell = Cell::Unfit("a time beyond the year 9999");
