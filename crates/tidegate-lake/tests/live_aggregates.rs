//! Live aggregates through the lake: phases, checkpoints, and rebuilding after crashes.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tidegate_lake::{Lake, LakeOptions, LogOptions, SimulatedDisk};
use tidegate_metrics::{
    Arrival, Event, Incomplete, Limits, LiveAggregates, LiveLimits, PhaseMark, parse_events,
};

const DIR: &str = "/lake";
const RECEIVED_US: i64 = 1_780_272_000_000_009;

fn options() -> LakeOptions {
    LakeOptions {
        log: LogOptions {
            segment_bytes: 2048,
            reserve_bytes: 0,
            ..LogOptions::default()
        },
        live: LiveLimits::default(),
    }
}

fn open(disk: &SimulatedDisk) -> Lake {
    Lake::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap()
}

fn request(number: u64) -> Event {
    let arm = if number.is_multiple_of(3) {
        "on"
    } else {
        "off"
    };
    let line = format!(
        "{{\"id\":\"{:032x}\",\"time\":\"2026-06-01T00:00:00Z\",\"unit\":\"u{}\",\
         \"kind\":\"request\",\"value\":{},\"properties\":{{\"status\":{}}},\
         \"flags\":{{\"f\":\"{arm}\"}}}}",
        number + 1,
        number % 11,
        number % 700,
        if number.is_multiple_of(5) { 503 } else { 200 },
    );
    let parsed = parse_events(
        line.as_bytes(),
        &Limits::default(),
        Arrival::at(RECEIVED_US),
    )
    .unwrap();
    parsed.accepted.into_iter().next().unwrap()
}

fn requests(numbers: std::ops::Range<u64>) -> Vec<Event> {
    numbers.map(request).collect()
}

#[test]
fn counts_are_visible_with_their_watermark_and_split_by_phase() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.append(requests(0..30)).unwrap();
    let at = lake.mark_phase("f", "stage-1", vec![250.0]).unwrap();
    assert_eq!(at, 30);
    assert_eq!(lake.mark_phase("f", "stage-1", vec![250.0]).unwrap(), 30);
    lake.append(requests(30..45)).unwrap();
    lake.live().wait_until(45);
    let counts = lake.guard_counts("f", Some("stage-1")).unwrap();
    assert_eq!(counts.watermark.sequence, 45);
    assert_eq!(counts.watermark.received_us, RECEIVED_US);
    let requests: u64 = counts.arms.iter().map(|arm| arm.requests).sum();
    assert_eq!(requests, 15);
    let before = lake.guard_counts("f", Some("")).unwrap();
    assert_eq!(before.to_sequence, Some(30));
}

#[test]
fn a_lost_checkpoint_makes_counts_incomplete_and_never_too_small_in_silence() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    lake.mark_phase("f", "stage-1", vec![]).unwrap();
    for number in 0..60 {
        lake.append(requests(number..number + 1)).unwrap();
    }
    lake.live().wait_until(60);
    let reached = lake.live().checkpoint().unwrap();
    lake.log().trim(reached).unwrap();
    let whole = lake.live().snapshot();
    drop(lake);
    disk.kill();
    let lake = open(&disk);
    assert_eq!(lake.live().snapshot(), whole);
    drop(lake);
    disk.kill();
    disk.flip_bit(&Path::new(DIR).join("live.checkpoint"), 40, 1)
        .unwrap();
    let lake = open(&disk);
    assert!(lake.live().checkpoint_problem().is_some());
    let counts = lake.guard_counts("f", Some("stage-1")).unwrap();
    assert_eq!(counts.incomplete, [Incomplete::History]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// However often the power fails, and wherever checkpoints and trims happened, the counts
    /// are those of one undisturbed fold over the durable events.
    #[test]
    fn rebuilt_counts_equal_an_undisturbed_fold(
        lives in prop::collection::vec((1u64..30, 0u8..3, any::<u64>(), 5u64..200), 1..6)
    ) {
        let disk = SimulatedDisk::new();
        let (mut history, mut marks) = (Vec::new(), Vec::new());
        for (index, (count, housekeeping, seed, operations)) in lives.into_iter().enumerate() {
            let lake = open(&disk);
            let name = format!("phase-{index}");
            if let Ok(at_sequence) = lake.mark_phase("f", &name, vec![100.0, 300.0]) {
                marks.push(PhaseMark {
                    flag: "f".into(),
                    phase: name.into(),
                    at_sequence,
                    ladder_ms: vec![100.0, 300.0],
                });
            }
            disk.stop_after(operations);
            let start = history.len() as u64;
            let _ = lake.append(requests(start..start + count));
            if housekeeping > 0 && let Ok(reached) = lake.live().checkpoint() && housekeeping > 1 {
                let _ = lake.log().trim(reached);
            }
            drop(lake);
            disk.crash(seed);
            let lake = open(&disk);
            history = requests(0..lake.log().next_sequence());
            let mut expected = LiveAggregates::new(LiveLimits::default());
            for mark in &marks {
                expected.mark_phase(mark.clone()).unwrap();
            }
            expected.apply(&history, 0);
            prop_assert_eq!(lake.live().snapshot(), expected);
        }
    }
}
