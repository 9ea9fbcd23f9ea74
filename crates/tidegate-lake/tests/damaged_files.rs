//! A damaged event file is set apart: answers go on without it and say so, nothing else is lost,
//! and it comes back once it holds again what was written.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{DAY_US, DIR, Deed, FIRST_DAY, event};
use tidegate_lake::{ColumnOptions, FileMeta, Lake, LakeIo as _, SimulatedDisk};
use tidegate_metrics::{
    Answer, Days, Event, EventFilter, Findings, Grouping, JourneyDefinition, MetricDefinition,
    Query,
};

const DAYS: Days = Days {
    first: FIRST_DAY,
    last: FIRST_DAY + 2,
};

fn columns() -> ColumnOptions {
    ColumnOptions {
        buckets: 2,
        ..ColumnOptions::default()
    }
}

fn open(disk: &SimulatedDisk) -> Lake {
    support::open(disk, columns())
}

/// On every day each of eight units meets the flag's variant and does two things.
fn events(days: impl IntoIterator<Item = i64>) -> Vec<Event> {
    let deeds = |day: i64| {
        (0..8u8).flat_map(move |unit| {
            let variant = ["on", "off"][usize::from(unit % 2)];
            let deeds = [Deed::Met(variant), Deed::Did(0), Deed::Did(1)];
            (0u8..).zip(deeds).map(move |(number, deed)| {
                let id = u64::try_from(day).unwrap() * 1000 + u64::from(unit) * 10;
                let time_us = day * DAY_US + i64::from(unit) * 1000 + i64::from(number);
                Event {
                    value: Some(f64::from(unit) + 0.5),
                    ..event(id + u64::from(number), unit, time_us, deed)
                }
            })
        })
    };
    days.into_iter().flat_map(deeds).collect()
}

/// A lake with one file for each of three days.
fn lake_on(disk: &SimulatedDisk) -> Lake {
    let lake = open(disk);
    lake.append(events(DAYS.first..=DAYS.last)).unwrap();
    lake.flush().unwrap();
    lake
}

fn file_of(lake: &Lake, day: i64) -> FileMeta {
    lake.columns().state().files_of(day)[0].clone()
}

fn path_of(file: &FileMeta) -> PathBuf {
    Path::new(DIR).join("events").join(&file.name)
}

fn path_aside(file: &FileMeta) -> PathBuf {
    Path::new(DIR).join("damaged").join(&file.name)
}

/// Breaks what Parquet looks at first.
fn break_end(disk: &SimulatedDisk, path: &Path, file: &FileMeta) {
    let last = usize::try_from(file.bytes).unwrap() - 1;
    disk.flip_bit(path, last, 0).unwrap();
}

fn queries() -> Vec<Query> {
    let events = || vec![EventFilter::named("n0"), EventFilter::named("n1")];
    let by = Grouping {
        flag: "flag".to_owned(),
        segment: None,
    };
    let sum = json!({"measure": {"sum": {"event": "n0"}}});
    let steps = json!({"steps": ["n0", "n1"]});
    vec![
        Query::UnitMetric {
            metric: MetricDefinition::from_json(&sum).unwrap(),
            by: by.clone(),
            days: DAYS,
        },
        Query::Journey {
            journey: JourneyDefinition::from_json(&steps).unwrap(),
            by: None,
            days: DAYS,
        },
        Query::Adoption {
            events: events(),
            by: Some(by),
            days: DAYS,
            period_days: 1,
        },
        Query::Usage {
            events: events(),
            days: DAYS,
        },
        Query::Retention {
            events: Vec::new(),
            days: DAYS,
            period_days: 1,
        },
        Query::Lifecycle {
            events: Vec::new(),
            by: None,
            days: DAYS,
            period_days: 1,
        },
    ]
}

fn answers(lake: &Lake) -> Vec<Answer> {
    let queries = queries();
    let answers = queries.iter().map(|query| lake.answer(query, 2).unwrap());
    answers.collect()
}

fn findings(lake: &Lake) -> Vec<(Findings, Vec<String>)> {
    let answers = answers(lake).into_iter();
    answers
        .map(|answer| (answer.findings, answer.names))
        .collect()
}

/// What a lake finds that never had the events of some day.
fn findings_without(day: i64) -> Vec<(Findings, Vec<String>)> {
    let lake = open(&SimulatedDisk::new());
    let days = (DAYS.first..=DAYS.last).filter(|other| *other != day);
    lake.append(events(days)).unwrap();
    findings(&lake)
}

fn problems(lake: &Lake) -> Vec<String> {
    lake.verify(&mut |_, _| {}).unwrap().problems
}

#[test]
fn an_answer_goes_on_without_a_file_that_cannot_be_read_and_says_so() {
    for day in DAYS.first..=DAYS.last {
        for first in 0..queries().len() {
            let disk = SimulatedDisk::new();
            let lake = lake_on(&disk);
            let file = file_of(&lake, day);
            break_end(&disk, &path_of(&file), &file);
            // Whichever question meets it first.
            lake.answer(&queries()[first], 2).unwrap();
            for answer in answers(&lake) {
                let [missing] = answer.missing.as_slice() else {
                    panic!("{:?}", answer.missing);
                };
                assert_eq!((&missing.file, missing.rows), (&file.name, 24));
                assert_eq!(missing.day, file.name[..10]);
            }
            assert_eq!(findings(&lake), findings_without(day), "day {day}");
        }
    }
}

#[test]
fn an_answer_about_other_days_is_complete() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let file = file_of(&lake, FIRST_DAY);
    break_end(&disk, &path_of(&file), &file);
    assert_eq!(problems(&lake).len(), 1);
    let later = Query::Usage {
        events: vec![EventFilter::named("n0")],
        days: Days {
            first: FIRST_DAY + 1,
            ..DAYS
        },
    };
    assert_eq!(lake.answer(&later, 1).unwrap().missing, []);
}

#[test]
fn a_file_that_is_restored_comes_back_whole_also_to_metrics_kept_up() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let before = findings(&lake);
    let file = file_of(&lake, FIRST_DAY + 1);
    // A bit the format may not notice: what was decoded of it must not outlive it.
    disk.flip_bit(&path_of(&file), 100, 0).unwrap();
    answers(&lake);
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.set_apart.len(), 1);
    assert!(report.problems[0].contains(&file.name), "{report:?}");
    assert_eq!(report.events, 48);
    assert_eq!(report.elsewhere(), [""; 0]);
    assert_eq!(findings(&lake), findings_without(FIRST_DAY + 1));
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    assert_eq!(findings(&lake), findings_without(FIRST_DAY + 1));
    assert_eq!(problems(&lake).len(), 1);
    disk.flip_bit(&path_aside(&file), 100, 0).unwrap();
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.taken_back, [file.name]);
    assert_eq!((report.events, report.problems.len()), (72, 0));
    assert_eq!(findings(&lake), before);
    assert!(
        answers(&lake)
            .iter()
            .all(|answer| answer.missing.is_empty())
    );
    assert_eq!(problems(&lake), [""; 0]);
}

#[test]
fn a_copy_restored_under_the_old_name_takes_the_place_of_the_damaged_one() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let before = findings(&lake);
    let file = file_of(&lake, FIRST_DAY);
    let copy = tidegate_lake::read_file(&disk, &path_of(&file), 1 << 20).unwrap();
    break_end(&disk, &path_of(&file), &file);
    assert_eq!(problems(&lake).len(), 1);
    let restored = disk.create(&path_of(&file)).unwrap();
    restored.allocate(file.bytes).unwrap();
    restored.write_all_at(&copy, 0).unwrap();
    // Also over a restart before anybody verifies.
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    assert_eq!(problems(&lake), [""; 0]);
    assert_eq!(findings(&lake), before);
    assert_eq!(disk.list(&Path::new(DIR).join("damaged")).unwrap(), [""; 0]);
}

#[test]
fn what_the_system_lacks_for_a_moment_is_no_damage() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let query = &queries()[3];
    disk.fail_opens(1000);
    lake.answer(query, 1).unwrap_err();
    disk.fail_opens(0);
    assert_eq!(lake.answer(query, 1).unwrap().missing, []);
    assert_eq!(problems(&lake), [""; 0]);
    // A sector that cannot be read is.
    let file = file_of(&lake, FIRST_DAY);
    disk.fail_reads(&path_of(&file), true).unwrap();
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().set_apart.len(), 1);
    disk.fail_reads(&path_aside(&file), false).unwrap();
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().taken_back.len(), 1);
}

#[test]
fn a_disk_without_room_hides_no_damage() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let file = file_of(&lake, FIRST_DAY);
    break_end(&disk, &path_of(&file), &file);
    disk.set_capacity(Some(0));
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.set_apart, []);
    let [problem] = report.elsewhere() else {
        panic!("{report:?}");
    };
    assert!(
        problem.contains(&file.name) && problem.contains("checksum"),
        "{problem}"
    );
    disk.set_capacity(None);
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().set_apart.len(), 1);
}

#[test]
fn merging_goes_on_without_a_damaged_file_and_writes_no_damage_anew() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    for event in events([FIRST_DAY]) {
        lake.append(vec![event]).unwrap();
        lake.flush().unwrap();
    }
    let files: Vec<FileMeta> = lake.columns().state().files.values().cloned().collect();
    assert_eq!(files.len(), 24);
    let damaged = &files[3];
    let middle = usize::try_from(damaged.bytes).unwrap() / 3;
    disk.flip_bit(&path_of(damaged), middle, 2).unwrap();
    lake.columns().compact().unwrap();
    lake.columns().compact().unwrap();
    let state = lake.columns().state();
    assert_eq!(state.damaged.keys().collect::<Vec<_>>(), [&damaged.name]);
    assert_eq!((state.files.len(), state.rows()), (1, 23));
    drop(state);
    disk.flip_bit(&path_aside(damaged), middle, 2).unwrap();
    assert_eq!(problems(&lake), [""; 0]);
    lake.columns().compact().unwrap();
    let state = lake.columns().state();
    assert_eq!((state.files.len(), state.rows()), (1, 24));
}

/// Whoever counts events again must not take a gap for all there was.
#[test]
fn events_are_not_read_again_as_if_nothing_were_missing() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let sealed = lake.log().seal().unwrap();
    lake.keep_house().unwrap();
    assert_eq!(lake.log().first_sequence().unwrap(), sealed);
    let file = file_of(&lake, FIRST_DAY);
    break_end(&disk, &path_of(&file), &file);
    assert_eq!(problems(&lake).len(), 1);
    let error = lake.read_from(0, &mut |_| true).unwrap_err();
    assert!(error.to_string().contains(&file.name), "{error}");
}

#[test]
fn an_erasure_names_the_file_it_could_not_rewrite_and_reaches_it_when_it_is_back() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let file = file_of(&lake, FIRST_DAY + 1);
    break_end(&disk, &path_of(&file), &file);
    let receipt = lake.erase_unit("u3").unwrap().unwrap();
    assert_eq!((receipt.rows_erased, receipt.rows_found_by_rescan), (6, 0));
    assert_eq!(receipt.files_set_apart, [file.name.as_str()]);
    assert_eq!(lake.columns().pending_erasures(), 0);
    break_end(&disk, &path_aside(&file), &file);
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().taken_back.len(), 1);
    let usage = &queries()[3];
    let units = |lake: &Lake| match lake.answer(usage, 1).unwrap().findings {
        Findings::Usage(usage) => usage.cells.values().map(|cell| cell.units).max(),
        other => panic!("{other:?}"),
    };
    assert_eq!(units(&lake), Some(7));
    assert_eq!(lake.columns().state().rows(), 63 + 3);
    lake.keep_house().unwrap();
    assert_eq!(lake.columns().state().rows(), 63);
    assert_eq!(lake.columns().pending_erasures(), 0);
    assert_eq!(units(&lake), Some(7));
}

#[test]
fn a_damaged_file_goes_with_its_day() {
    let disk = SimulatedDisk::new();
    let lake = lake_on(&disk);
    let file = file_of(&lake, FIRST_DAY);
    break_end(&disk, &path_of(&file), &file);
    assert_eq!(problems(&lake).len(), 1);
    lake.columns().expire_before(FIRST_DAY + 1).unwrap();
    assert_eq!(problems(&lake), [""; 0]);
    assert_eq!(disk.list(&Path::new(DIR).join("damaged")).unwrap(), [""; 0]);
}

/// The power fails at every step of setting a file apart, then at every step of taking it back.
#[test]
fn a_damaged_file_survives_a_power_cut_at_any_step() {
    let expected = {
        let disk = SimulatedDisk::new();
        findings(&lake_on(&disk))
    };
    for is_taken_back in [false, true] {
        let mut finished = 0;
        for step in 0.. {
            let disk = SimulatedDisk::new();
            let lake = lake_on(&disk);
            let file = file_of(&lake, FIRST_DAY + 1);
            break_end(&disk, &path_of(&file), &file);
            if is_taken_back {
                assert_eq!(problems(&lake).len(), 1);
                break_end(&disk, &path_aside(&file), &file);
            }
            disk.stop_after(step);
            let report = lake.verify(&mut |_, _| {}).unwrap();
            drop(lake);
            disk.crash(step + 1);
            let lake = open(&disk);
            if !is_taken_back {
                let report = lake.verify(&mut |_, _| {}).unwrap();
                assert_eq!(report.set_apart.len(), 1, "step {step}");
                assert_eq!(
                    findings(&lake),
                    findings_without(FIRST_DAY + 1),
                    "step {step}"
                );
                break_end(&disk, &path_aside(&file), &file);
            }
            assert_eq!(problems(&lake), [""; 0], "step {step}");
            assert_eq!(findings(&lake), expected, "step {step}");
            finished = step;
            let is_done = match is_taken_back {
                true => report.problems.is_empty(),
                false => report.problems.len() == 1 && report.set_apart.len() == 1,
            };
            if is_done && step > 8 {
                break;
            }
        }
        assert!(finished >= 4, "only {finished} steps");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever bits flip, no question panics, verification finds the file, and answers are then
    /// those without it.
    #[test]
    fn flipped_bits_break_no_answer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u32..8), 1..4),
        day in DAYS.first..=DAYS.last,
    ) {
        let disk = SimulatedDisk::new();
        let lake = lake_on(&disk);
        let file = file_of(&lake, day);
        let bytes = usize::try_from(file.bytes).unwrap();
        let flips: BTreeSet<(usize, u32)> =
            flips.iter().map(|(at, bit)| (at.index(bytes), *bit)).collect();
        for (at, bit) in flips {
            disk.flip_bit(&path_of(&file), at, bit).unwrap();
        }
        answers(&lake);
        let report = lake.verify(&mut |_, _| {}).unwrap();
        prop_assert_eq!(report.set_apart.len(), 1);
        prop_assert_eq!(findings(&lake), findings_without(day));
    }
}
