//! Columnar files through the lake: nothing lost, nothing double, damage found, units erased.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tidegate_lake::{
    ColumnOptions, Lake, LakeIo, LakeOptions, LogOptions, RealDisk, Rows, SimulatedDisk,
};
use tidegate_metrics::{Arrival, Event, Limits, parse_events};

const DIR: &str = "/lake";
const RECEIVED_US: i64 = 1_780_272_000_000_000;

fn options(recent_ids: usize) -> LakeOptions {
    LakeOptions {
        log: LogOptions {
            segment_bytes: 4096,
            reserve_bytes: 0,
            recent_ids,
            ..LogOptions::default()
        },
        columns: ColumnOptions {
            buckets: 4,
            group_rows: 16,
            flush_events: 50,
            ..ColumnOptions::default()
        },
        ..LakeOptions::default()
    }
}

fn open_on(io: impl LakeIo, dir: &Path) -> Lake {
    Lake::open(Arc::new(io), dir, options(1_000_000)).unwrap()
}

fn open(disk: &SimulatedDisk) -> Lake {
    open_on(disk.clone(), Path::new(DIR))
}

/// Event `number`: three days, eleven units, values that tell events apart.
fn line(number: u64) -> String {
    let kind = if number.is_multiple_of(4) {
        "exposure"
    } else {
        "track"
    };
    let name = if kind == "exposure" {
        "flag".to_owned()
    } else {
        format!("n{}", number % 3)
    };
    let (day, second) = (number % 3 + 1, number * 7919 % 60);
    format!(
        "{{\"id\":\"{:032x}\",\"time\":\"2026-05-0{day}T00:00:{second:02}Z\",\
         \"unit\":\"unit-{}\",\"kind\":\"{kind}\",\"name\":\"{name}\",\"value\":{number}.5,\
         \"properties\":{{\"device\":\"mobile\",\"n\":{number},\"new\":true}},\
         \"flags\":{{\"flag\":\"on\"}}}}\n",
        number + 1,
        number % 11,
    )
}

fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let text: String = numbers.into_iter().map(line).collect();
    let arrival = Arrival::at(RECEIVED_US);
    let parsed = parse_events(text.as_bytes(), &Limits::default(), arrival).unwrap();
    assert!(parsed.rejected.is_empty(), "{:?}", parsed.rejected);
    parsed.accepted
}

fn all_rows(lake: &Lake) -> Vec<Arc<Rows>> {
    let state = lake.columns().state();
    let mut all = Vec::new();
    for bucket in 0..state.buckets {
        for day in state.days().keys() {
            all.push(lake.columns().day_rows(&state, *day, bucket, true).unwrap());
        }
    }
    all
}

/// The values of all visible events, sorted; each event has its own.
fn values(lake: &Lake) -> Vec<f64> {
    let mut values: Vec<f64> = all_rows(lake)
        .iter()
        .flat_map(|rows| rows.value.iter().copied())
        .collect();
    values.sort_by(f64::total_cmp);
    values
}

fn values_of(numbers: impl IntoIterator<Item = u64>) -> Vec<f64> {
    let numbers = numbers.into_iter();
    numbers
        .map(|number| f64::from(u32::try_from(number).unwrap()) + 0.5)
        .collect()
}

#[test]
fn rows_come_back_whole_in_time_order_per_bucket() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..120)).unwrap();
    lake.flush().unwrap();
    let mut seen = BTreeMap::new();
    for rows in all_rows(&lake) {
        assert!(rows.time_us.is_sorted());
        let variants: BTreeMap<usize, u32> = rows.variants.iter().copied().collect();
        for at in 0..rows.len() {
            let text = |number: u32| lake.columns().with_texts(|t| t.get(number).to_owned());
            let variant = variants.get(&at).copied().unwrap_or(0);
            seen.insert(
                format!("{}", rows.value[at]),
                (
                    rows.time_us[at],
                    rows.kind[at].as_str(),
                    text(rows.name[at]),
                    text(variant),
                    rows.property_text(at).unwrap().to_owned(),
                ),
            );
        }
    }
    assert_eq!(seen.len(), 120);
    for event in events(0..120) {
        let found = &seen[&format!("{}", event.value.unwrap())];
        assert_eq!(found.0, event.time_us);
        assert_eq!(found.1, event.kind.as_str());
        assert_eq!(found.2, event.name.as_ref());
        assert_eq!(found.3, event.variant(&event.name).unwrap_or(""));
        let number = event.value.unwrap() - 0.5;
        assert_eq!(
            found.4,
            format!("{{\"device\":\"mobile\",\"n\":{number},\"new\":true}}")
        );
    }
}

#[test]
fn compaction_keeps_the_set_of_events_and_leaves_one_file_a_day() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    for part in 0..6 {
        lake.append(events(part * 20..part * 20 + 20)).unwrap();
        lake.flush().unwrap();
    }
    let before = values(&lake);
    let held = lake.columns().state();
    assert_eq!(held.files.len(), 18);
    let report = lake.columns().compact().unwrap();
    assert_eq!((report.days, report.files, report.duplicates), (3, 18, 0));
    assert_eq!(values(&lake), before);
    // A reader that began before still finds its files.
    for day in held.days().keys() {
        lake.columns().day_rows(&held, *day, 0, false).unwrap();
    }
    drop(held);
    assert_eq!(lake.columns().state().files.len(), 3);
    assert_eq!(lake.columns().compact().unwrap().days, 0);
    let left = disk.list(&Path::new(DIR).join("events")).unwrap();
    assert_eq!(left.len(), 3, "replaced files are deleted: {left:?}");
    assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
}

#[test]
fn copies_the_door_has_forgotten_count_once_before_and_after_compaction() {
    let disk = SimulatedDisk::new();
    let lake = Lake::open(Arc::new(disk), Path::new(DIR), options(2)).unwrap();
    for _ in 0..3 {
        lake.append(events(0..40)).unwrap();
        lake.flush().unwrap();
    }
    assert_eq!(lake.columns().state().rows(), 120);
    assert_eq!(values(&lake), values_of(0..40));
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert_eq!((report.events, report.duplicates), (40, 80));
    assert_eq!(lake.columns().compact().unwrap().duplicates, 80);
    assert_eq!(values(&lake), values_of(0..40));
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert_eq!((report.events, report.duplicates), (40, 0));
    assert_eq!(report.problems, [""; 0]);
}

#[test]
fn an_erased_unit_is_gone_from_files_dictionary_and_answers() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..110)).unwrap();
    let receipt = lake.erase_unit("unit-3").unwrap().unwrap();
    assert_eq!((receipt.rows_erased, receipt.rows_found_by_rescan), (10, 0));
    let expected = values_of((0..110).filter(|number| number % 11 != 3));
    assert_eq!(values(&lake), expected);
    assert_eq!(lake.erase_unit("unit-3").unwrap(), None);
    assert_eq!(lake.erase_unit("never-seen").unwrap(), None);
    assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
    // The same name coming back is a new unit with its own events.
    lake.append(events([223])).unwrap();
    lake.flush().unwrap();
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    let mut expected = expected;
    expected.extend(values_of([223]));
    assert_eq!(values(&lake), expected);
    let again = lake.erase_unit("unit-3").unwrap().unwrap();
    assert_eq!(again.rows_erased, 1);
    assert_ne!(again.unit, receipt.unit);
}

#[test]
fn retention_drops_whole_days() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..30)).unwrap();
    lake.flush().unwrap();
    let last = lake
        .columns()
        .state()
        .files
        .values()
        .map(|f| f.day)
        .max()
        .unwrap();
    assert_eq!(lake.columns().expire_before(last).unwrap(), 2);
    assert_eq!(
        values(&lake),
        values_of((0..30).filter(|number| number % 3 == 2))
    );
    drop(lake);
    disk.kill();
    assert_eq!(values(&open(&disk)).len(), 10);
}

#[test]
fn verification_finds_a_flipped_bit_and_names_the_file() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..40)).unwrap();
    lake.flush().unwrap();
    let name = lake.columns().state().files.keys().next().unwrap().clone();
    disk.flip_bit(&Path::new(DIR).join("events").join(&name), 100, 0)
        .unwrap();
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.contains(&name))
    );
}

#[test]
fn a_full_disk_during_a_flush_loses_nothing() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..100)).unwrap();
    let room = lake.log().segments().unwrap() as u64 * 4096 + 9000;
    disk.set_capacity(Some(room));
    lake.flush().unwrap_err();
    disk.set_capacity(None);
    lake.flush().unwrap();
    assert_eq!(values(&lake), values_of(0..100));
    assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Lives end by power cuts at any operation, during appends, flushes, compactions and trims;
    /// a tenth and more is sent again. What was acknowledged is there, each event once.
    #[test]
    fn power_cuts_anywhere_lose_nothing_and_double_nothing(
        lives in prop::collection::vec((1u64..25, 0u8..4, any::<u64>(), 0u64..400), 1..6)
    ) {
        let disk = SimulatedDisk::new();
        let (mut next, mut acknowledged, mut sent) = (0, BTreeSet::new(), BTreeSet::new());
        for (count, housekeeping, seed, operations) in lives {
            let lake = open(&disk);
            disk.stop_after(operations);
            for _ in 0..3 {
                let batch: Vec<u64> = (next.max(3) - 3..next + count).collect();
                next += count;
                sent.extend(batch.iter().copied());
                if lake.append(events(batch.iter().copied())).is_ok() {
                    acknowledged.extend(batch);
                }
                if housekeeping > 0 {
                    let _ = lake.keep_house();
                }
                if housekeeping > 1 {
                    let _ = lake.columns().compact();
                }
            }
            drop(lake);
            disk.crash(seed);
            let lake = open(&disk);
            lake.flush().unwrap();
            let found = values(&lake);
            let expected = values_of(acknowledged.iter().copied());
            prop_assert!(expected.iter().all(|value| found.contains(value)), "lost events");
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "doubled events");
            let known = values_of(sent.iter().copied());
            prop_assert!(found.iter().all(|value| known.contains(value)), "invented events");
            let report = lake.verify(&mut |_, _| {}).unwrap();
            prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
            prop_assert_eq!(report.events, found.len() as u64);
        }
    }
}

/// DuckDB opens the files as they stand. Runs where a Python with the package `duckdb` is named
/// by `TIDEGATE_TEST_PYTHON`; says so where it is not.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that needs a foreign tool learns from the environment where it is"
)]
fn duckdb_reads_the_documented_schema() {
    let Some(python) = std::env::var_os("TIDEGATE_TEST_PYTHON") else {
        eprintln!("not run: TIDEGATE_TEST_PYTHON names no Python with duckdb");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let lake = open_on(RealDisk, dir.path());
    lake.append(events(0..120)).unwrap();
    lake.flush().unwrap();
    lake.columns().compact().unwrap();
    let query = "select u.unit_id, count(*), sum(e.value), min(e.time)::timestamp::varchar, \
                 count(*) filter (e.properties->>'$.device' = 'mobile'), \
                 count(distinct e.event_id), max(e.variant) \
                 from read_parquet('events/*.parquet') e \
                 join read_parquet('units/*.parquet') u using (bucket, unit) \
                 where not e.quarantined group by all order by all limit 1";
    let script = format!("import duckdb; print(duckdb.sql(\"\"\"{query}\"\"\").fetchall())");
    let output = std::process::Command::new(python)
        .args(["-c", &script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.trim(),
        "[('unit-0', 11, 610.5, '2026-05-01 00:00:00', 11, 11, 'on')]",
        "{complaint}"
    );
}
