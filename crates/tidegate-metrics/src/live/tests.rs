//! The fold against a plain recount, and its promises about phases, limits and replays.

use super::*;
use crate::{EventId, PropertyValue};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn event(unit: &str, kind: EventKind, name: &str, value: Option<f64>, variant: &str) -> Event {
    Event {
        id: EventId(0),
        time_us: 0,
        received_us: 7,
        sent_us: None,
        unit: unit.into(),
        kind,
        name: name.into(),
        value,
        properties: Vec::new(),
        flags: vec![("flag".into(), variant.into())],
        trace_id: None,
        is_quarantined: false,
    }
}

fn request(unit: &str, latency_ms: f64, is_failed: bool, variant: &str) -> Event {
    let mut request = event(
        unit,
        EventKind::Request,
        "request",
        Some(latency_ms),
        variant,
    );
    request.properties = vec![("error".into(), PropertyValue::Bool(is_failed))];
    request
}

fn mark(phase: &str, at_sequence: u64) -> PhaseMark {
    PhaseMark {
        flag: "flag".into(),
        phase: phase.into(),
        at_sequence,
        ladder_ms: vec![100.0, 500.0],
    }
}

#[test]
fn a_unit_fails_once_however_often_it_retries() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    live.mark_phase(mark("one", 0)).unwrap();
    live.apply(
        &[
            request("a", 50.0, true, "on"),
            request("a", 600.0, true, "on"),
            request("a", 700.0, true, "on"),
            request("b", 101.0, false, "off"),
            request("c", 100.0, false, "off"),
        ],
        0,
    );
    let counts = live.guard_counts("flag", None).unwrap();
    let on = counts.arm("on").unwrap();
    assert_eq!(
        (on.requests, on.failed_requests, on.failing_units),
        (3, 3, 1)
    );
    assert_eq!((on.units, on.requesting_units, on.exposed_units), (1, 1, 0));
    let slow: Vec<_> = on
        .ladder
        .iter()
        .map(|r| (r.slow_requests, r.slow_units))
        .collect();
    assert_eq!(slow, [(2, 1), (2, 1)]);
    let off = counts.arm("off").unwrap();
    assert_eq!(
        off.ladder[0].slow_units, 1,
        "the threshold itself is not slow"
    );
    assert_eq!(
        counts.watermark,
        Watermark {
            sequence: 5,
            received_us: 7
        }
    );
    assert!(counts.incomplete.is_empty());
}

#[test]
fn a_unit_stays_in_the_arm_it_was_first_seen_in_and_is_shown_as_mixed() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    live.apply(
        &[
            request("a", 1.0, false, "off"),
            request("a", 1.0, true, "on"),
            request("a", 1.0, true, "on"),
            request("a", 1.0, true, "off"),
        ],
        0,
    );
    let counts = live.guard_counts("flag", None).unwrap();
    assert_eq!(counts.mixed_units, 1);
    let (on, off) = (counts.arm("on").unwrap(), counts.arm("off").unwrap());
    assert_eq!((on.units, on.failed_requests, on.failing_units), (0, 2, 0));
    assert_eq!(
        (off.units, off.failed_requests, off.failing_units),
        (1, 1, 1)
    );
}

#[test]
fn a_phase_begins_at_its_sequence_and_starts_anew() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    live.mark_phase(mark("one", 1)).unwrap();
    live.mark_phase(mark("two", 3)).unwrap();
    live.apply(&vec![request("a", 1.0, true, "on"); 5], 0);
    let phases = live.phase_counts("flag");
    let found: Vec<_> = phases
        .iter()
        .map(|p| {
            (
                p.phase.as_str(),
                p.from_sequence,
                p.to_sequence,
                p.arms[0].requests,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("", 0, Some(1), 1),
            ("one", 1, Some(3), 2),
            ("two", 3, None, 2)
        ]
    );
    assert!(phases.iter().all(|phase| phase.arms[0].failing_units == 1));
    live.mark_phase(mark("two", 3)).unwrap();
    assert_eq!(
        live.mark_phase(mark("late", 4)),
        Err(MarkError::Past {
            at_sequence: 4,
            watermark: 5
        })
    );
    live.mark_phase(mark("now", 5)).unwrap();
    assert_eq!(live.guard_counts("flag", None).unwrap().phase, "now");
    assert_eq!(
        live.guard_counts("flag", Some("two")).unwrap().to_sequence,
        Some(5)
    );
}

#[test]
fn an_unusable_ladder_is_refused() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    for ladder_ms in [
        vec![2.0, 1.0],
        vec![1.0, 1.0],
        vec![0.0],
        vec![f64::NAN],
        vec![1.0; 17],
    ] {
        let mark = PhaseMark {
            ladder_ms,
            ..mark("one", 0)
        };
        assert_eq!(live.mark_phase(mark), Err(MarkError::Ladder));
    }
}

#[test]
fn unknown_is_no_data_and_not_zero() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    assert_eq!(live.guard_counts("flag", None), None);
    live.mark_phase(mark("one", 0)).unwrap();
    assert_eq!(live.guard_counts("flag", Some("two")), None);
    assert_eq!(live.guard_counts("flag", Some("one")).unwrap().arms, []);
}

#[test]
fn evaluations_and_quarantined_events_are_not_counted() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    let mut ahead = request("a", 1.0, true, "on");
    ahead.is_quarantined = true;
    live.apply(
        &[ahead, event("b", EventKind::Evaluation, "flag", None, "on")],
        0,
    );
    assert_eq!(live.guard_counts("flag", None), None);
    assert_eq!(live.quarantined(), 1);
    assert_eq!(live.watermark().sequence, 2);
}

#[test]
fn exposures_count_units_for_their_own_flag_only() {
    let mut live = LiveAggregates::new(LiveLimits::default());
    live.apply(
        &[
            event("a", EventKind::Exposure, "flag", None, "on"),
            event("a", EventKind::Exposure, "flag", None, "on"),
            event("b", EventKind::Exposure, "other", None, "on"),
        ],
        0,
    );
    let counts = live.guard_counts("flag", None).unwrap();
    assert_eq!((counts.arms[0].exposed_units, counts.arms[0].units), (1, 2));
}

#[test]
fn a_limit_reached_is_told_and_per_event_counts_go_on() {
    let limits = LiveLimits {
        max_unit_entries: 2,
        max_variants: 1,
        max_track_names: 1,
        max_flags: 1,
        ..LiveLimits::default()
    };
    let mut live = LiveAggregates::new(limits);
    let units = ["a", "b", "c"].map(|unit| request(unit, 1.0, true, "on"));
    live.apply(&units, 0);
    live.apply(&[request("a", 1.0, false, "off")], 3);
    live.apply(
        &[
            event("a", EventKind::Track, "x", None, "on"),
            event("a", EventKind::Track, "y", None, "on"),
        ],
        4,
    );
    let mut other = request("a", 1.0, false, "on");
    other.flags = vec![("other".into(), "on".into())];
    live.apply(&[other], 6);
    let counts = live.guard_counts("flag", None).unwrap();
    assert_eq!(
        counts.incomplete,
        [
            Incomplete::Units,
            Incomplete::Variants,
            Incomplete::TrackNames
        ]
    );
    let on = counts.arm("on").unwrap();
    assert_eq!((on.failed_requests, on.failing_units), (3, 2));
    assert_eq!(live.flags_left_out(), 1);
    // A new phase gives its predecessor's room back.
    live.mark_phase(mark("next", 7)).unwrap();
    live.apply(&units, 7);
    assert_eq!(live.guard_counts("flag", None).unwrap().arms[0].units, 2);
}

#[test]
fn what_a_lost_checkpoint_held_is_reported_as_missing_history() {
    let mut live = LiveAggregates::starting_at(LiveLimits::default(), 10);
    live.mark_phase(mark("old", 4)).unwrap();
    live.mark_phase(mark("new", 11)).unwrap();
    live.apply(
        &[request("a", 1.0, true, "on"), request("a", 1.0, true, "on")],
        10,
    );
    let old = live.guard_counts("flag", Some("old")).unwrap();
    assert_eq!(old.incomplete, [Incomplete::History]);
    let new = live.guard_counts("flag", Some("new")).unwrap();
    assert!(new.incomplete.is_empty());
}

fn any_event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        Just(EventKind::Request),
        Just(EventKind::Track),
        Just(EventKind::Exposure)
    ];
    (kind, 0u8..6, 0u8..2, 0u32..800, any::<bool>(), 0u8..3).prop_map(
        |(kind, unit, arm, value, is_failed, name)| {
            let unit = format!("u{unit}");
            let variant = if arm == 0 { "off" } else { "on" };
            let name = match kind {
                EventKind::Exposure => "flag".to_owned(),
                _ => format!("n{name}"),
            };
            let mut made = event(&unit, kind, &name, Some(f64::from(value)), variant);
            made.properties = vec![("error".into(), PropertyValue::Bool(is_failed))];
            made
        },
    )
}

/// Counts by hand, without sharing a line with the fold.
fn recount(events: &[Event], variant: &str) -> [usize; 7] {
    let mut first_arm: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events {
        first_arm
            .entry(&event.unit)
            .or_insert_with(|| event.variant("flag").unwrap());
    }
    let own = |e: &&Event| e.variant("flag") == Some(variant);
    let at_home = |e: &&Event| first_arm[e.unit.as_ref()] == variant;
    let units = |keep: &dyn Fn(&Event) -> bool| {
        let kept = events
            .iter()
            .filter(own)
            .filter(at_home)
            .filter(|e| keep(e));
        kept.map(|e| e.unit.as_ref())
            .collect::<BTreeSet<&str>>()
            .len()
    };
    let is_request = |e: &Event| e.kind == EventKind::Request;
    [
        events.iter().filter(own).count(),
        units(&|_| true),
        units(&|e| e.kind == EventKind::Exposure),
        events.iter().filter(own).filter(|e| is_request(e)).count(),
        units(&|e| e.is_failed_request()),
        units(&|e| is_request(e) && e.value > Some(500.0)),
        units(&|e| e.kind == EventKind::Track && e.name.as_ref() == "n1"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_equals_a_recount(events in prop::collection::vec(any_event(), 1..60)) {
        let mut live = LiveAggregates::new(LiveLimits::default());
        live.mark_phase(mark("one", 0)).unwrap();
        live.apply(&events, 0);
        let counts = live.guard_counts("flag", None).unwrap();
        for arm in &counts.arms {
            let found = [
                arm.events,
                arm.units,
                arm.exposed_units,
                arm.requests,
                arm.failing_units,
                arm.ladder[1].slow_units,
                arm.track("n1").map_or(0, |track| track.units),
            ];
            let expected = recount(&events, &arm.variant).map(|n| u64::try_from(n).unwrap());
            prop_assert_eq!(found, expected, "{}", arm.variant);
        }
    }

    #[test]
    fn stretches_and_overlapping_replays_change_nothing(
        events in prop::collection::vec(any_event(), 1..60),
        cuts in prop::collection::vec(0usize..60, 0..6),
        marked in 0u64..60,
    ) {
        let begin = || {
            let mut live = LiveAggregates::new(LiveLimits::default());
            live.mark_phase(mark("one", marked)).unwrap();
            live
        };
        let mut whole = begin();
        whole.apply(&events, 0);
        let mut parts = begin();
        for cut in cuts.into_iter().chain([events.len()]) {
            // Each stretch is replayed from somewhere before the watermark.
            let end = cut.min(events.len());
            let reached = usize::try_from(parts.watermark().sequence).unwrap();
            let start = reached.saturating_sub(3).min(end);
            parts.apply(&events[start..end], u64::try_from(start).unwrap());
        }
        prop_assert_eq!(parts, whole);
    }
}
