//! Columnar files through the lake: nothing lost, nothing double, damage found, units erased.
//!
//! Long because all crash tests share one simulated disk and one account of what was acknowledged.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use tidegate_lake::{
    ColumnError, ColumnOptions, CompactionReport, Lake, LakeFile, LakeIo, LakeOptions, LogOptions,
    RealDisk, Rows, SimulatedDisk,
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
            // Less than one life appends, so that flushes read from memory and from disk.
            recent_bytes: 4000,
            ..LogOptions::default()
        },
        columns: ColumnOptions {
            buckets: 16,
            group_rows: 16,
            growing_group_rows: 8,
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
    let mut events = parsed.accepted;
    for event in &mut events {
        event.received_us += arrival_of(event);
    }
    events
}

/// Each event arrives by itself, some microseconds after the first.
fn arrival_of(event: &Event) -> i64 {
    i64::try_from(event.id.0 * 7919 % 5_000_011).unwrap()
}

fn all_rows(lake: &Lake) -> Vec<Rows> {
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

/// Events of which a tenth happened thirty days before the others.
fn partly_late(numbers: &[u64]) -> Vec<Event> {
    const THIRTY_DAYS_US: i64 = 30 * 86_400_000_000;
    let mut events = events(numbers.iter().copied());
    for (event, number) in events.iter_mut().zip(numbers) {
        if number % 10 == 7 {
            event.time_us -= THIRTY_DAYS_US;
        }
    }
    events
}

/// Under load there is always something to flush, and a report flushes before it answers.
#[test]
fn a_flush_ends_while_events_keep_coming() {
    let lake = open(&SimulatedDisk::new());
    let is_over = AtomicBool::new(false);
    let covered: Vec<bool> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                lake.append(events([number])).unwrap();
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let flushes = (0..20).map(|_| {
            let acknowledged = lake.log().next_sequence();
            lake.flush()
                .is_ok_and(|_| lake.columns().state().flushed_sequence >= acknowledged)
        });
        let covered = flushes.collect();
        is_over.store(true, Ordering::Relaxed);
        covered
    });
    assert!(covered.iter().all(|is_covered| *is_covered), "{covered:?}");
}

/// What lives of a lake may show at their end.
#[derive(Default)]
struct Expected {
    /// Acknowledged, and of no unit that was asked to be erased since.
    required: BTreeSet<u64>,
    /// Sent at all.
    sent: BTreeSet<u64>,
    /// Erased for certain, and not sent again since.
    forbidden: BTreeSet<u64>,
    /// Of units that were asked to be erased: sent again, the door may know them, or may not.
    uncertain: BTreeSet<u64>,
}

impl Expected {
    fn append(&mut self, lake: &Lake, batch: &[u64]) {
        self.sent.extend(batch);
        for number in batch {
            self.forbidden.remove(number);
        }
        if lake.append(partly_late(batch)).is_ok() {
            let new = batch
                .iter()
                .filter(|number| !self.uncertain.contains(*number));
            self.required.extend(new);
        }
    }

    fn erase(&mut self, lake: &Lake, unit: u64) {
        let erased = lake.erase_unit(&format!("unit-{unit}"));
        let is_of_unit = |number: &&u64| **number % 11 == unit;
        self.uncertain.extend(self.sent.iter().filter(is_of_unit));
        self.required.retain(|number| number % 11 != unit);
        if let Ok(Some(receipt)) = erased {
            assert_eq!(receipt.rows_found_by_rescan, 0);
            assert!(receipt.log_first_sequence >= receipt.effective_sequence);
            self.forbidden.extend(self.sent.iter().filter(is_of_unit));
        }
    }

    fn check(&self, lake: &Lake) -> Result<(), TestCaseError> {
        let found = values(lake);
        let is_there = |number: &u64| found.contains(&values_of([*number])[0]);
        prop_assert!(self.required.iter().all(is_there), "lost events");
        prop_assert!(
            !self.forbidden.iter().any(is_there),
            "erased events came back"
        );
        prop_assert!(
            found.windows(2).all(|pair| pair[0] < pair[1]),
            "doubled events"
        );
        let known = values_of(self.sent.iter().copied());
        prop_assert!(
            found.iter().all(|value| known.contains(value)),
            "invented events"
        );
        let report = lake.verify(&mut |_, _| {}).unwrap();
        prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
        Ok(())
    }
}

fn keep(lake: &Lake, housekeeping: u8, unit: u64, expected: &mut Expected) {
    // Whatever fails here failed because the power is gone.
    match housekeeping {
        0 => {}
        1 => drop(lake.keep_house()),
        2 => drop(lake.keep_house().map(|_| lake.columns().compact())),
        3 => drop(lake.flush().map(|_| lake.tidy(i64::MAX))),
        _ => expected.erase(lake, unit),
    }
}

/// Histories of four lives each; long runs set `TIDEGATE_CRASHES`.
#[expect(
    clippy::disallowed_methods,
    reason = "a long run says how long in the environment"
)]
fn histories() -> u32 {
    std::env::var("TIDEGATE_CRASHES").map_or(60, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: histories(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Each history is four lives that end at any operation by a power cut, or one in three by
    /// `kill -9`, during appends, flushes, compactions, erasures and trims; a tenth of the events
    /// and more is sent again, and a tenth is thirty days late. What was acknowledged is there,
    /// each event once, and what was erased stays away.
    #[test]
    fn crashes_anywhere_lose_nothing_and_double_nothing(
        lives in prop::collection::vec((1u64..20, 0u8..6, any::<u64>(), 0u64..400), 4)
    ) {
        let disk = SimulatedDisk::new();
        let (mut next, mut expected) = (0u64, Expected::default());
        for (count, housekeeping, seed, operations) in lives {
            let lake = open(&disk);
            disk.stop_after(operations);
            for round in 0..3 {
                let long_ago = (next > 40).then_some(seed % next.max(1));
                let batch: Vec<u64> = (next.max(3) - 3..next + count).chain(long_ago).collect();
                next += count;
                expected.append(&lake, &batch);
                keep(&lake, housekeeping, (seed + round) % 11, &mut expected);
            }
            drop(lake);
            if seed % 3 == 0 {
                disk.kill();
            } else {
                disk.crash(seed);
            }
            let lake = open(&disk);
            lake.flush().unwrap();
            expected.check(&lake)?;
            lake.keep_house().unwrap();
            prop_assert_eq!(lake.columns().pending_erasures(), 0);
            expected.check(&lake)?;
        }
    }
}

/// Everything of a unit that files and log still say.
fn traces(lake: &Lake, unit: &str) -> usize {
    let mut found = 0;
    lake.read_from(0, &mut |stretch| {
        found += stretch
            .events
            .iter()
            .filter(|event| event.unit.as_ref() == unit)
            .count();
        true
    })
    .unwrap();
    found
}

/// The power fails, or one sync does, at every step of an erasure. A unit that was hidden stays
/// hidden, and the next housekeeping leaves nothing of it, without anybody asking again.
#[test]
fn an_erasure_that_fails_at_any_step_is_completed_by_housekeeping() {
    let mut hidden = 0;
    for step in 0.. {
        let disk = SimulatedDisk::new();
        let lake = open(&disk);
        lake.append(events(0..66)).unwrap();
        lake.flush().unwrap();
        lake.append(events(66..88)).unwrap();
        disk.stop_after(step);
        let erased = lake.erase_unit("unit-3");
        drop(lake);
        if step % 2 == 0 {
            disk.crash(step);
        } else {
            disk.kill();
        }
        let lake = open(&disk);
        let is_hidden = !lake.columns().state().erased.is_empty();
        assert!(is_hidden || erased.is_err(), "step {step}");
        lake.flush().unwrap();
        let others = values_of((0..88).filter(|number| number % 11 != 3));
        let all = values_of(0..88);
        assert_eq!(
            values(&lake),
            if is_hidden { others } else { all },
            "step {step}"
        );
        lake.keep_house().unwrap();
        assert_eq!(lake.columns().pending_erasures(), 0, "step {step}");
        assert_eq!(
            traces(&lake, "unit-3"),
            if is_hidden { 0 } else { 8 },
            "step {step}"
        );
        assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
        hidden += u32::from(is_hidden && erased.is_err());
        if erased.is_ok() {
            break;
        }
    }
    assert!(
        hidden > 20,
        "only {hidden} steps were between hiding and the receipt"
    );
}

#[test]
fn asking_again_for_an_erasure_that_failed_gives_its_receipt() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(events(0..44)).unwrap();
    lake.flush().unwrap();
    disk.stop_after(12);
    lake.erase_unit("unit-3").unwrap_err();
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    if lake.columns().pending_erasures() > 0 {
        assert!(lake.erase_unit("unit-3").unwrap().is_some());
    }
    assert_eq!(lake.erase_unit("no-such-unit").unwrap(), None);
}

#[test]
fn events_are_read_back_in_ingest_order_after_the_log_gave_them_up() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    let sent = events(0..200);
    for part in sent.chunks(7) {
        lake.append(part.to_vec()).unwrap();
        lake.keep_house().unwrap();
    }
    lake.tidy(i64::MAX).unwrap();
    assert!(lake.log().first_sequence().unwrap() > 100);
    for from in [0, 57] {
        let mut found = Vec::new();
        let mut next = from;
        lake.read_from(from, &mut |stretch| {
            let start = stretch.first_sequence;
            assert!(start <= next);
            let skip = usize::try_from(next - start).unwrap();
            next = stretch.end_sequence();
            found.extend(stretch.events.into_iter().skip(skip));
            true
        })
        .unwrap();
        assert_eq!(found, sent[usize::try_from(from).unwrap()..]);
    }
}

#[test]
fn tidying_keeps_files_few_and_answers_the_same() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    for part in 0..60 {
        lake.append(events(part * 5..part * 5 + 5)).unwrap();
        lake.flush().unwrap();
        lake.tidy(i64::MIN).unwrap();
        let state = lake.columns().state();
        let most = state.days().values().map(Vec::len).max().unwrap();
        assert!(most <= 20, "{most} files of one day");
    }
    assert_eq!(values(&lake), values_of(0..300));
    let names = disk.list(&Path::new(DIR).join("units")).unwrap();
    assert!(names.len() <= 20, "{names:?}");
    lake.tidy(i64::MAX).unwrap();
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    assert_eq!(values(&lake), values_of(0..300));
    assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
}

/// A disk whose next new file waits until the test lets it go on.
#[derive(Debug, Clone)]
struct Halting {
    disk: SimulatedDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    is_armed: AtomicBool,
    halted: Mutex<Option<SyncSender<()>>>,
    release: Mutex<Option<Receiver<()>>>,
}

impl LakeIo for Halting {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>> {
        self.disk.open(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LakeFile>> {
        if self.gate.is_armed.swap(false, Ordering::AcqRel) {
            let halted = self.gate.halted.lock().unwrap().take().unwrap();
            let release = self.gate.release.lock().unwrap().take().unwrap();
            halted.send(()).unwrap();
            release.recv().unwrap();
        }
        self.disk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available_bytes(dir)
    }
}

impl Halting {
    /// Lets a compaction of the lake begin its first file, does something, and lets it go on.
    fn while_compacting(
        &self,
        lake: &Lake,
        meanwhile: impl FnOnce(),
    ) -> Result<CompactionReport, ColumnError> {
        let (halted, is_halted) = sync_channel(1);
        let (release, released) = sync_channel(1);
        *self.gate.halted.lock().unwrap() = Some(halted);
        *self.gate.release.lock().unwrap() = Some(released);
        self.gate.is_armed.store(true, Ordering::Release);
        std::thread::scope(|scope| {
            let compacting = scope.spawn(|| lake.columns().compact());
            is_halted.recv().unwrap();
            meanwhile();
            release.send(()).unwrap();
            compacting.join().unwrap()
        })
    }
}

/// A lake over a disk that can be halted, with four files of each day.
fn halting() -> (Halting, Lake) {
    let disk = Halting {
        disk: SimulatedDisk::new(),
        gate: Arc::default(),
    };
    let lake = open_on(disk.clone(), Path::new(DIR));
    for part in 0..4 {
        lake.append(events(part * 20..part * 20 + 20)).unwrap();
        lake.flush().unwrap();
    }
    (disk, lake)
}

#[test]
fn flushes_and_answers_go_on_while_a_compaction_is_at_the_disk() {
    let (disk, lake) = halting();
    disk.while_compacting(&lake, || {
        lake.append(events(80..120)).unwrap();
        assert_eq!(lake.flush().unwrap(), 40);
        assert_eq!(values(&lake), values_of(0..120));
        assert_eq!(lake.verify(&mut |_, _| {}).unwrap().events, 120);
    })
    .unwrap();
    assert_eq!(values(&lake), values_of(0..120));
    assert!(lake.verify(&mut |_, _| {}).unwrap().problems.is_empty());
    lake.columns().compact().unwrap();
    assert_eq!(lake.columns().state().files.len(), 3);
}

#[test]
fn a_file_set_apart_while_it_is_merged_is_neither_lost_nor_doubled() {
    let (disk, lake) = halting();
    let file = lake.columns().state().files.keys().next().unwrap().clone();
    let flip = |dir: &str| {
        let path = Path::new(DIR).join(dir).join(&file);
        disk.disk.flip_bit(&path, 100, 0).unwrap();
    };
    let merged = disk.while_compacting(&lake, || {
        flip("events");
        assert_eq!(lake.verify(&mut |_, _| {}).unwrap().set_apart.len(), 1);
    });
    // It had begun with the file, which is not where it was.
    assert!(merged.unwrap_err().to_string().contains(&file));
    let left = values(&lake);
    assert!(left.len() < 80 && left.len() > 70, "{left:?}");
    lake.columns().compact().unwrap();
    assert_eq!(values(&lake), left);
    flip("damaged");
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().taken_back, [file]);
    assert_eq!(values(&lake), values_of(0..80));
    lake.columns().compact().unwrap();
    assert_eq!(values(&lake), values_of(0..80));
    assert_eq!(lake.verify(&mut |_, _| {}).unwrap().duplicates, 0);
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
                 count(distinct e.event_id), max(e.variant), \
                 min(epoch_us(e.time + to_microseconds(e.arrival_us))) \
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
        // The first event of this unit has the id 1.
        "[('unit-0', 11, 610.5, '2026-05-01 00:00:00', 11, 11, 'on', 1780272000007919)]",
        "{complaint}"
    );
}
