//! The log under faults: nothing acknowledged is lost, nothing counts twice, damage is named.

use super::*;
use crate::io::SimulatedDisk;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tidegate_metrics::{EventId, EventKind, PropertyValue};

const DIR: &str = "/lake/log";

fn event(number: u64) -> Event {
    let time_us = 1_780_272_000_000_000 + i64::try_from(number).unwrap();
    Event {
        id: EventId(u128::from(number) + 1),
        time_us,
        received_us: time_us + 5,
        sent_us: number.is_multiple_of(2).then_some(time_us + 2),
        unit: format!("unit-{}", number % 7).into(),
        kind: EventKind::Track,
        name: "checkout".into(),
        value: number.is_multiple_of(3).then_some(1.5),
        properties: vec![("note".into(), PropertyValue::Text("x".repeat(40).into()))],
        flags: vec![("flag".into(), "on".into())],
        trace_id: None,
        is_quarantined: false,
    }
}

fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<Event> {
    numbers.into_iter().map(event).collect()
}

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        reserve_bytes: 0,
        free_segments: 2,
        ..LogOptions::default()
    }
}

fn open(disk: &SimulatedDisk) -> EventLog {
    open_with(disk, small()).unwrap()
}

fn open_with(disk: &SimulatedDisk, options: LogOptions) -> Result<EventLog, LogError> {
    EventLog::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        options,
        Box::new(NoSink),
    )
}

fn stored(log: &EventLog) -> Vec<Event> {
    let mut all = Vec::new();
    log.read_from(0, &mut |stretch| {
        assert!(stretch.first_sequence <= all.len() as u64);
        all.extend(stretch.events);
        true
    })
    .unwrap();
    all
}

#[test]
fn what_is_appended_is_read_back_in_order_across_segments_and_restarts() {
    let disk = SimulatedDisk::new();
    let expected = events(0..100);
    {
        let log = open(&disk);
        for (index, one) in expected.iter().enumerate() {
            let appended = log.append(vec![one.clone()]).unwrap();
            assert_eq!(appended.first_sequence, index as u64);
            assert_eq!((appended.accepted, appended.duplicates), (1, 0));
        }
        assert_eq!(stored(&log), expected);
    }
    disk.kill();
    let log = open(&disk);
    assert_eq!(stored(&log), expected);
    assert!(log.recovery().segments > 5);
    assert_eq!(log.recovery().events, 100);
    assert_eq!(log.recovery().torn_tail, None);
    assert_eq!(log.next_sequence(), 100);
}

#[test]
fn a_duplicate_is_recognised_within_a_batch_across_batches_and_after_a_restart() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    let first = log.append(events([1, 2, 1])).unwrap();
    assert_eq!((first.accepted, first.duplicates), (2, 1));
    let second = log.append(events([2, 3])).unwrap();
    assert_eq!((second.accepted, second.duplicates), (1, 1));
    assert_eq!(second.first_sequence, 2);
    drop(log);
    disk.kill();
    let again = open(&disk).append(events([1, 2, 3])).unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 3));
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged_until_a_restart() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    log.append(events([1])).unwrap();
    disk.fail_syncs(1);
    let failed = log.append(events([2])).unwrap_err();
    assert!(matches!(failed, AppendError::ReadOnly { .. }), "{failed}");
    assert!(!failed.is_retryable());
    assert_eq!(log.append(events([3])).unwrap_err(), failed);
    assert!(matches!(log.health(), LogHealth::ReadOnly { .. }));
    assert_eq!(stored(&log), events([1]));
    drop(log);
    disk.crash(3);
    let log = open(&disk);
    let appended = log.append(events([1, 2, 3])).unwrap();
    assert!(appended.duplicates >= 1);
    let ids: BTreeSet<_> = stored(&log).iter().map(|e| e.id).collect();
    assert_eq!((ids.len(), stored(&log).len()), (3, 3));
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(5000));
    let log = open(&disk);
    let mut accepted = Vec::new();
    let mut next = 0;
    let refused = loop {
        match log.append(events([next])) {
            Ok(_) => accepted.push(next),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(refused, AppendError::DiskNearlyFull { .. }));
    assert!(refused.is_retryable());
    assert_eq!(log.health(), LogHealth::DiskNearlyFull);
    assert_eq!(stored(&log), events(accepted.iter().copied()));
    disk.set_capacity(None);
    let appended = log.append(events([next])).unwrap();
    assert_eq!((appended.accepted, appended.duplicates), (1, 0));
    assert_eq!(log.health(), LogHealth::Writing);
    accepted.push(next);
    assert_eq!(stored(&log), events(accepted));
}

#[test]
fn the_reserve_is_left_alone() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(100_000));
    let options = LogOptions {
        reserve_bytes: 99_000,
        ..small()
    };
    let log = open_with(&disk, options).unwrap();
    log.append(events([1])).unwrap();
    assert!(matches!(
        log.append(events([2])),
        Err(AppendError::DiskNearlyFull {
            reserve_bytes: 99_000,
            ..
        })
    ));
}

#[test]
fn a_flipped_bit_in_acknowledged_data_is_an_error_that_names_the_place() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    for number in 0..40 {
        log.append(events([number])).unwrap();
    }
    drop(log);
    for (segment, byte) in [(0u64, 100), (0, 40), (0, 3)] {
        disk.kill();
        let path = segment::path_of(Path::new(DIR), segment);
        disk.flip_bit(&path, byte, 5).unwrap();
        let error = open_with(&disk, small()).unwrap_err();
        assert!(
            matches!(&error, LogError::Corrupt { path: at, .. } if *at == path),
            "byte {byte}: {error}"
        );
        disk.flip_bit(&path, byte, 5).unwrap();
    }
    open(&disk);
}

#[test]
fn damage_in_the_last_segment_before_a_good_frame_is_no_torn_tail() {
    let disk = SimulatedDisk::new();
    let options = LogOptions {
        segment_bytes: 1 << 16,
        ..small()
    };
    let log = open_with(&disk, options.clone()).unwrap();
    log.append(events([1])).unwrap();
    log.append(events([2])).unwrap();
    drop(log);
    disk.kill();
    disk.flip_bit(&segment::path_of(Path::new(DIR), 0), 80, 0)
        .unwrap();
    let error = open_with(&disk, options).unwrap_err();
    assert!(error.to_string().contains("a good one follows"), "{error}");
}

#[test]
fn trimmed_segments_are_recycled_and_their_old_frames_never_return() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    for number in 0..200 {
        log.append(events([number])).unwrap();
        log.trim(log.next_sequence()).unwrap();
    }
    drop(log);
    disk.kill();
    let log = open(&disk);
    assert_eq!(log.next_sequence(), 200);
    let kept = stored_from(&log, log.recovery().first_sequence);
    let first = log.recovery().first_sequence;
    assert_eq!(kept, events(first..200));
    let files = disk.list(Path::new(DIR)).unwrap();
    assert!(files.len() <= 3, "{files:?}");
}

fn stored_from(log: &EventLog, first: u64) -> Vec<Event> {
    let mut all = Vec::new();
    log.read_from(first, &mut |stretch| {
        all.extend(stretch.events);
        true
    })
    .unwrap();
    all
}

#[test]
fn a_sink_sees_every_durable_event_once_and_in_order_also_after_recovery() {
    struct Collector(Arc<Mutex<Vec<(u64, u128)>>>);
    impl CommitSink for Collector {
        fn committed(&mut self, stretch: &Arc<Committed>) {
            let mut seen = self.0.lock().unwrap();
            for (sequence, event) in (stretch.first_sequence..).zip(&stretch.events) {
                seen.push((sequence, event.id.0));
            }
        }
    }
    let disk = SimulatedDisk::new();
    let follow = |disk: &SimulatedDisk| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(Collector(Arc::clone(&seen)));
        let log = EventLog::open(Arc::new(disk.clone()), Path::new(DIR), small(), sink).unwrap();
        (log, seen)
    };
    let (log, seen) = follow(&disk);
    log.append(events(0..10)).unwrap();
    log.append(events(5..15)).unwrap();
    let expected: Vec<_> = (0..15u64).map(|n| (n, u128::from(n) + 1)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    drop(log);
    disk.kill();
    let (_log, seen) = follow(&disk);
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A sink that lets nothing pass until it is told to.
struct Hold(std::sync::mpsc::Receiver<()>);

impl CommitSink for Hold {
    fn committed(&mut self, _stretch: &Arc<Committed>) {
        let _ = self.0.recv();
    }
}

#[test]
fn under_overload_exposures_are_told_to_come_back_last() {
    let size = event(1).approximate_bytes();
    let options = LogOptions {
        in_flight_bytes: 16 * size,
        ..small()
    };
    let (release, held) = sync_channel::<()>(1);
    let disk = Arc::new(SimulatedDisk::new());
    let log = EventLog::open(disk, Path::new(DIR), options, Box::new(Hold(held))).unwrap();
    let mut numbers = 0u64..;
    let mut most_of = |kind| {
        loop {
            let mut one = event(numbers.next().unwrap());
            one.kind = kind;
            if log.submit(vec![one]).is_err() {
                return log.in_flight_bytes() / size;
            }
        }
    };
    assert_eq!(most_of(EventKind::Track), 12);
    assert_eq!(most_of(EventKind::Evaluation), 12);
    assert_eq!(most_of(EventKind::Request), 14);
    assert_eq!(most_of(EventKind::Exposure), 16);
    drop(release);
}

#[test]
fn too_much_in_flight_is_refused_and_later_taken() {
    let options = LogOptions {
        in_flight_bytes: 1,
        ..small()
    };
    let (release, held) = sync_channel(1);
    let disk = Arc::new(SimulatedDisk::new());
    let log = EventLog::open(disk, Path::new(DIR), options, Box::new(Hold(held))).unwrap();
    let first = log.submit(events([1])).unwrap();
    let refused = log.submit(events([2])).unwrap_err();
    assert!(matches!(refused, AppendError::Overloaded { .. }));
    assert!(refused.is_retryable());
    release.send(()).unwrap();
    assert_eq!(first.blocking_recv().unwrap().unwrap().accepted, 1);
    assert_eq!(log.in_flight_bytes(), 0);
    release.send(()).unwrap();
    assert_eq!(log.append(events([2])).unwrap().accepted, 1);
    assert_eq!(stored(&log), events([1, 2]));
}

/// One life of the log: appends until the disk stops it, then loses power or is killed.
fn live(disk: &SimulatedDisk, next: &mut u64, acked: &mut BTreeSet<u128>, life: (u64, u64, bool)) {
    let (operations, seed, power) = life;
    let log = open(disk);
    disk.stop_after(operations);
    for round in 0..60 {
        // A tenth is sent again: the client never heard of the answer.
        let again = next.saturating_sub(3)..*next;
        let batch: Vec<u64> = if round % 10 == 9 {
            again.chain(*next..*next + 2).collect()
        } else {
            (*next..*next + 1 + round % 4).collect()
        };
        *next = batch.iter().max().map_or(*next, |last| last + 1);
        let sent = events(batch);
        let ids: Vec<u128> = sent.iter().map(|event| event.id.0).collect();
        if log.append(sent).is_err() {
            break;
        }
        acked.extend(ids);
        if round % 13 == 12 {
            // Keeping the oldest: trimming is exercised elsewhere; here all must be readable.
            let _ = log.trim(0);
        }
    }
    drop(log);
    if power { disk.crash(seed) } else { disk.kill() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_counts_twice(
        lives in prop::collection::vec((0u64..160, any::<u64>(), any::<bool>()), 4)
    ) {
        let disk = SimulatedDisk::new();
        let (mut next, mut acked) = (0, BTreeSet::new());
        for life in lives {
            live(&disk, &mut next, &mut acked, life);
            let log = open(&disk);
            let found: Vec<u128> = stored(&log).iter().map(|event| event.id.0).collect();
            let distinct: BTreeSet<u128> = found.iter().copied().collect();
            prop_assert_eq!(distinct.len(), found.len(), "an event counts twice");
            let lost: Vec<_> = acked.difference(&distinct).collect();
            prop_assert!(lost.is_empty(), "lost {:?}", lost);
        }
    }
}

#[test]
fn a_frame_read_back_from_the_page_cache_is_durable_before_another_follows() {
    let disk = SimulatedDisk::new();
    let log = open(&disk);
    log.append(events([1])).unwrap();
    disk.stop_after(1);
    log.append(events([2])).unwrap_err();
    drop(log);
    disk.kill();
    let log = open(&disk);
    assert_eq!(stored(&log), events([1, 2]));
    disk.stop_after(0);
    drop(log);
    for seed in 0..20 {
        disk.crash(seed);
        assert_eq!(stored(&open(&disk)), events([1, 2]));
    }
}

#[test]
fn a_segment_name_found_after_a_kill_is_durable_before_frames_are_acknowledged() {
    for operations in 0..8 {
        let disk = SimulatedDisk::new();
        let log = open(&disk);
        disk.stop_after(operations);
        drop(log.append(events([1])));
        drop(log);
        disk.kill();
        open(&disk).append(events([2])).unwrap();
        disk.crash(operations);
        assert!(stored(&open(&disk)).contains(&event(2)), "{operations}");
    }
}

#[test]
fn fuzz_the_segment_reader() {
    // A segment's bytes after its header, hostile: any answer but a panic is fine, and what is
    // read must have passed a checksum.
    bolero::check!().for_each(|bytes: &[u8]| {
        let disk = SimulatedDisk::new();
        drop(open(&disk).append(events([1, 2])));
        disk.kill();
        let file = disk.open(&segment::path_of(Path::new(DIR), 0)).unwrap();
        let limit = bytes.len().min(2000);
        file.write_all_at(&bytes[..limit], 32).unwrap();
        if let Ok(log) = open_with(&disk, small()) {
            assert!(log.recovery().events <= 2);
        }
    });
}

#[test]
fn fuzz_the_batch_decoder() {
    let mut encoder = crate::codec::Encoder::new().unwrap();
    let seed = encoder.encode(&events(0..5)).unwrap();
    let raw = zstd::bulk::decompress(seed.body, seed.raw_bytes).unwrap();
    bolero::check!()
        .with_type::<(Vec<u8>, u16)>()
        .for_each(|(noise, at)| {
            let mut damaged = raw.clone();
            let start = usize::from(*at) % damaged.len();
            for (to, from) in damaged[start..].iter_mut().zip(noise) {
                *to = *from;
            }
            let body = zstd::bulk::compress(&damaged, 1).unwrap();
            let _ = crate::codec::decode(&body, damaged.len());
            let _ = crate::codec::decode(noise, 1 << 16);
        });
}
