//! Event files as they were written before: a row group for each bucket, and the moment of arrival
//! in a column of its own. They are read, answered, replayed and verified as they are, and the next
//! merge writes them in today's columns.

use super::file::{Batches, FileWriter, Wanted};
use super::manifest::{FileMeta, Record, RowGroupMeta};
use super::schema::{column, event_schema, received_us};
use super::store::ColumnStore;
use super::{ColumnOptions, Rows};
use crate::io::SimulatedDisk;
use crate::{Lake, LakeOptions, LogOptions};
use arrow::array::{AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType, UInt16Type};
use std::path::Path;
use std::sync::Arc;
use tidegate_metrics::{Event, EventId, EventKind};

const FIRST_US: i64 = 1_780_272_000_000_000;

fn open(disk: &SimulatedDisk) -> Lake {
    let options = LakeOptions {
        log: LogOptions {
            segment_bytes: 4096,
            reserve_bytes: 0,
            ..LogOptions::default()
        },
        columns: ColumnOptions {
            buckets: 16,
            group_rows: 32,
            ..ColumnOptions::default()
        },
        ..LakeOptions::default()
    };
    Lake::open(Arc::new(disk.clone()), Path::new("/lake"), options).unwrap()
}

/// Events of two days, each of which arrived by itself, some before their own time.
fn events(numbers: std::ops::Range<u64>) -> Vec<Event> {
    let event = |number: u64| {
        let at = i64::try_from(number).unwrap();
        let time_us = FIRST_US + at % 2 * 86_400_000_000 + at * 7919 % 60 * 1_000_003;
        Event {
            id: EventId(u128::from(number) << 64 | 7),
            time_us,
            received_us: time_us + at * at * 1_237 % 9_000_001 - 3_000_000,
            sent_us: (number.is_multiple_of(3)).then_some(time_us + 5),
            unit: format!("unit-{}", number % 41).into(),
            kind: EventKind::Track,
            name: format!("n{}", number % 3).into(),
            value: (number.is_multiple_of(2)).then_some(f64::from(u32::try_from(number).unwrap())),
            properties: Vec::new(),
            flags: Vec::new(),
            trace_id: None,
            is_quarantined: false,
        }
    };
    numbers.map(event).collect()
}

fn old_batch(batch: &RecordBatch) -> RecordBatch {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = event_schema();
    let fields = schema.fields().iter().enumerate();
    let fields = fields.map(|(at, field)| match at {
        column::ARRIVAL_US => Field::new("received", utc.clone(), false),
        _ => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let mut columns = batch.columns().to_vec();
    let received = TimestampMicrosecondArray::from(received_us(batch).unwrap());
    columns[column::ARRIVAL_US] = Arc::new(received.with_timezone("UTC"));
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    let buckets = batch.column(column::BUCKET).as_primitive::<UInt16Type>();
    let times = batch.column(column::TIME);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut order: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap()).collect();
    order.sort_by_key(|row| {
        let at = usize::try_from(*row).unwrap();
        (buckets.value(at), times.value(at))
    });
    take_record_batch(&batch, &UInt32Array::from(order)).unwrap()
}

/// Writes a file anew as it would have been written before.
fn make_old(store: &ColumnStore, file: &FileMeta) {
    let io = store.io.as_ref();
    let path = store.events_dir.join(&file.name);
    let batches = Batches::open(io, &path, Wanted::default()).unwrap();
    let batches: Vec<RecordBatch> = batches.map(Result::unwrap).collect();
    let batch = old_batch(&concat_batches(&event_schema(), &batches).unwrap());
    let name = format!("old-{}", file.name);
    let mut writer = FileWriter::create(io, &store.events_dir, &name, batch.schema()).unwrap();
    let buckets = batch.column(column::BUCKET).as_primitive::<UInt16Type>();
    let (mut groups, mut start) = (Vec::new(), 0);
    for run in buckets.values().chunk_by(|a, b| a == b) {
        writer.write(&batch.slice(start, run.len())).unwrap();
        writer.end_row_group().unwrap();
        start += run.len();
        groups.push(RowGroupMeta {
            first_bucket: run[0],
            last_bucket: run[0],
            rows: u64::try_from(run.len()).unwrap(),
        });
    }
    let finished = writer.finish().unwrap();
    let added = FileMeta {
        name: finished.name,
        bytes: finished.bytes,
        checksum: finished.checksum,
        groups,
        ..file.clone()
    };
    let record = Record::Compacted {
        removed: vec![file.name.clone()],
        added: Some(added),
        duplicates: 0,
        next_file: store.next_file(),
    };
    store.commit(record).unwrap();
}

fn make_all_old(lake: &Lake) {
    let state = lake.columns().state();
    for file in state.files.values() {
        make_old(lake.columns(), file);
    }
}

fn rows(lake: &Lake) -> Vec<Rows> {
    let state = lake.columns().state();
    let places = (0..state.buckets)
        .flat_map(|bucket| state.days().into_keys().map(move |day| (day, bucket)));
    let rows = places.map(|(day, bucket)| lake.columns().day_rows(&state, day, bucket, true));
    let rows = rows.map(Result::unwrap);
    // A missing value equals itself, and ids are there only where files were put together.
    rows.map(|mut rows| {
        rows.ids = Vec::new();
        rows.value
            .iter_mut()
            .filter(|value| value.is_nan())
            .for_each(|value| *value = -1.0);
        rows
    })
    .collect()
}

fn replayed(lake: &Lake, end: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let whole = lake.columns().replay(0..end, &mut |stretch| {
        events.extend(stretch.events);
        true
    });
    assert!(whole.unwrap());
    events
}

fn arrival_columns(lake: &Lake) -> Vec<String> {
    let store = lake.columns();
    let state = store.state();
    let names = state.files.keys().map(|name| {
        let path = store.events_dir.join(name);
        let mut batches = Batches::open(store.io.as_ref(), &path, Wanted::default()).unwrap();
        let batch = batches.next().unwrap().unwrap();
        batch.schema().field(column::ARRIVAL_US).name().clone()
    });
    names.collect()
}

#[test]
fn old_files_are_read_answered_replayed_verified_and_rewritten() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    for part in [0..150, 150..200] {
        lake.append(events(part)).unwrap();
        lake.flush().unwrap();
    }
    let before = rows(&lake);
    assert_eq!(replayed(&lake, 200), events(0..200));
    make_all_old(&lake);
    assert_eq!(arrival_columns(&lake), ["received"; 4]);
    assert_eq!(rows(&lake), before);
    assert_eq!(replayed(&lake, 200), events(0..200));
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().problems, [""; 0]);

    lake.append(events(200..260)).unwrap();
    lake.flush().unwrap();
    let mixed = rows(&lake);
    assert_eq!(replayed(&lake, 260), events(0..260));
    assert_eq!(lake.columns().compact().unwrap().files, 6);
    assert_eq!(arrival_columns(&lake), ["arrival_us"; 2]);
    assert_eq!(rows(&lake), mixed);
    assert_eq!(replayed(&lake, 260), events(0..260));
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().problems, [""; 0]);
    drop(lake);
    disk.kill();
    assert_eq!(rows(&open(&disk)), mixed);
}

#[test]
fn a_unit_is_erased_from_old_files() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..200)).unwrap();
    lake.flush().unwrap();
    make_all_old(&lake);
    let receipt = lake.erase_unit("unit-7").unwrap().unwrap();
    assert_eq!((receipt.rows_erased, receipt.rows_found_by_rescan), (5, 0));
    let others = |event: &Event| event.unit.as_ref() != "unit-7";
    let expected: Vec<Event> = events(0..200).into_iter().filter(others).collect();
    assert_eq!(replayed(&lake, 200), expected);
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().problems, [""; 0]);
}
