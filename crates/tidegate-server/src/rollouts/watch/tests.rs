//! Each unit once, in the arm its hash gives it.

use super::*;
use tidegate_metrics::{Arrival, Limits, parse_events};

fn watch(metrics: &[&str]) -> Watch {
    let sources = metrics
        .iter()
        .map(|metric| GuardSource::of(metric).unwrap())
        .collect();
    let mut watch = Watch::new("f", ("on", "off"), sources, -10);
    watch.begin_phase(BasisPoints::new(500).unwrap(), 0);
    watch
}

fn event(text: &str, received_us: i64) -> Event {
    let text = format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"name\":\"checkout\",{text}}}");
    let arrival = Arrival::at((1 << 51) + received_us);
    let mut batch = parse_events(text.as_bytes(), &Limits::default(), arrival).unwrap();
    assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
    let mut event = batch.accepted.remove(0);
    event.received_us = received_us;
    event
}

fn request(unit: &str, variant: &str, latency: f64, failed: bool) -> Event {
    event(
        &format!(
            "\"unit\":\"{unit}\",\"kind\":\"request\",\"value\":{latency},\
             \"properties\":{{\"error\":{failed}}},\"flags\":{{\"f\":\"{variant}\"}}"
        ),
        0,
    )
}

fn first(watch: &Watch, guard: usize) -> Vec<ArmCounts> {
    match watch.measured(guard) {
        Some(Measured::FirstEvents { phases }) => phases,
        other => panic!("{other:?}"),
    }
}

const ONE_TREATED: ArmCounts = ArmCounts {
    treatment: 1,
    control: 0,
};
const ONE_CONTROL: ArmCounts = ArmCounts {
    treatment: 0,
    control: 1,
};

#[test]
fn a_retry_storm_of_one_unit_counts_once() {
    let mut watch = watch(&["errors"]);
    for _ in 0..1000 {
        watch.count(&request("u", "on", 2000.0, true), 0, Arm::Treatment);
    }
    assert_eq!(first(&watch, 0), [ONE_TREATED]);
    assert_eq!(watch.phases()[0].units, ONE_TREATED);
    assert_eq!(watch.phases()[0].exposed, ONE_TREATED);
}

#[test]
fn forced_and_stale_units_are_never_harmed_and_are_shown() {
    let mut watch = watch(&["errors"]);
    watch.count(&request("forced", "on", 1.0, true), 0, Arm::Control);
    watch.count(&request("forced", "on", 1.0, true), 0, Arm::Control);
    watch.count(&request("stale", "off", 1.0, true), 0, Arm::Treatment);
    assert_eq!(first(&watch, 0), [ArmCounts::default()]);
    assert_eq!(watch.misfits(), 2);
    assert_eq!(
        watch.phases()[0].units,
        ArmCounts {
            treatment: 1,
            control: 1
        }
    );
    assert_eq!(watch.phases()[0].exposed, ArmCounts::default());
}

#[test]
fn a_unit_fails_once_in_the_phase_where_it_first_failed() {
    let mut watch = watch(&["errors"]);
    watch.count(&request("u", "off", 1.0, true), 0, Arm::Control);
    watch.begin_phase(BasisPoints::new(5000).unwrap(), 1);
    watch.count(&request("u", "on", 1.0, true), 1, Arm::Treatment);
    watch.count(&request("v", "on", 1.0, true), 1, Arm::Treatment);
    assert_eq!(first(&watch, 0), [ONE_CONTROL, ONE_TREATED]);
    let units: Vec<u64> = watch
        .phases()
        .iter()
        .map(|phase| phase.units.total())
        .collect();
    assert_eq!(units, [1, 1]);
    let exposed: Vec<u64> = watch
        .phases()
        .iter()
        .map(|phase| phase.exposed.total())
        .collect();
    assert_eq!(exposed, [1, 2]);
}

#[test]
fn an_event_belongs_to_the_phase_in_force_when_it_was_received() {
    let mut watch = watch(&["errors"]);
    watch.begin_phase(BasisPoints::new(5000).unwrap(), 100);
    let at = |received_us| {
        event(
            "\"unit\":\"u\",\"kind\":\"track\",\"flags\":{\"f\":\"on\"}",
            received_us,
        )
    };
    assert_eq!(watch.phase_of(&at(-1)), None);
    assert_eq!(watch.phase_of(&at(99)), Some(0));
    assert_eq!(watch.phase_of(&at(100)), Some(1));
    let other = event(
        "\"unit\":\"u\",\"kind\":\"track\",\"flags\":{\"g\":\"on\"}",
        100,
    );
    assert!(!watch.concerns(&other) && watch.concerns(&at(-1)) && !watch.concerns(&at(-11)));
}

#[test]
fn thresholds_freeze_at_controls_quantiles_and_slow_units_count_once_per_rung() {
    let latency = GuardSource::of("latency/checkout").unwrap();
    let mut watch = Watch::new("f", ("on", "off"), vec![latency], 0);
    for number in 0..BASELINE_REQUESTS {
        assert!(watch.measured(0).is_none());
        let latency = f64::from(u32::try_from(number).unwrap() % 100 + 1);
        watch.learn(&request(&format!("c{number}"), "off", latency, false));
        watch.learn(&request(&format!("t{number}"), "on", 1e6, false));
    }
    watch.begin_phase(BasisPoints::new(500).unwrap(), 0);
    for _ in 0..3 {
        watch.count(&request("t", "on", 97.5, false), 0, Arm::Treatment);
    }
    let Some(Measured::LatencyLadder { rungs }) = watch.measured(0) else {
        panic!()
    };
    let slow: Vec<u64> = rungs.iter().map(|rung| rung.slow[0].treatment).collect();
    assert_eq!(slow, [1, 0, 0], "{rungs:?}");
    assert!(
        (rungs[0].threshold_ms / 95.0 - 1.0).abs() < 0.03,
        "{rungs:?}"
    );
}

#[test]
fn a_bake_is_cut_into_periods_and_a_unit_is_exposed_once_in_all_of_them() {
    let mut watch = watch(&["errors"]);
    watch.begin_phase(BasisPoints::new(9500).unwrap(), 1000);
    watch.cut_into_periods(100, 3);
    for at_us in [1099, 1100, 1450, 5000] {
        while watch.begin_period(at_us) {}
        let mut event = request("u", "on", 1.0, at_us == 5000);
        event.received_us = at_us;
        let phase = watch.phase_of(&event).unwrap();
        watch.count(&event, phase, Arm::Treatment);
    }
    let begun: Vec<i64> = watch
        .phases()
        .iter()
        .map(|phase| phase.started_us)
        .collect();
    assert_eq!(begun, [0, 1000, 1100, 1200], "three periods and no more");
    let exposed: u64 = watch
        .phases()
        .iter()
        .map(|phase| phase.exposed.total())
        .sum();
    assert_eq!(exposed, 1);
    assert_eq!(first(&watch, 0)[3], ONE_TREATED, "in the last period");
    watch.begin_phase(BasisPoints::new(5000).unwrap(), 1300);
    assert!(!watch.begin_period(9000), "another stage has no periods");
}

#[test]
fn guards_look_at_their_own_requests_only() {
    let mut watch = watch(&["errors/search", "errors/checkout", "conversions/checkout"]);
    watch.count(&request("u", "on", 1.0, true), 0, Arm::Treatment);
    assert_eq!(first(&watch, 0), [ArmCounts::default()]);
    assert_eq!(first(&watch, 2), [ArmCounts::default()]);
    assert_eq!(first(&watch, 1), [ONE_TREATED]);
    let track = event(
        "\"unit\":\"u\",\"kind\":\"track\",\"flags\":{\"f\":\"on\"}",
        0,
    );
    let change = watch.count(&track, 0, Arm::Treatment);
    assert_eq!(first(&watch, 2), [ONE_TREATED]);
    assert!(change.evidence && !change.units, "the unit was known");
    let again = watch.count(&track, 0, Arm::Treatment);
    assert_eq!(again, Change::default(), "nothing new");
}
