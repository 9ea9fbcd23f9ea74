//! The join's rules as cases, and its independence of order as a property.

use proptest::prelude::*;
use tidegate_metrics::{Arrival, Limits, parse_events};

use super::*;

const WINDOW_US: i64 = 10_000_000;
const NOON_US: i64 = 1_780_272_000_000_000;

/// An event of a kind with a name, a trace, a unit and what the unit was served.
fn event(said: &str, trace: u8, unit: &str, received_us: i64) -> Event {
    let text = format!(
        r#"{{"time":"2026-06-01T00:00:00Z",{said},"unit":"{unit}","trace_id":"{trace:032x}"}}"#
    );
    let arrival = Arrival::at(NOON_US + received_us);
    let mut batch = parse_events(text.as_bytes(), &Limits::default(), arrival).unwrap();
    assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
    batch.accepted.remove(0)
}

fn evaluation(trace: u8, unit: &str, flag: &str, variant: &str, at_us: i64) -> Event {
    let said = format!(r#""kind":"evaluation","name":"{flag}","flags":{{"{flag}":"{variant}"}}"#);
    event(&said, trace, unit, at_us)
}

fn request(trace: u8, unit: &str, at_us: i64) -> Event {
    let said = r#""kind":"request","name":"checkout","value":1"#;
    event(said, trace, unit, at_us)
}

fn settled(learnt: &[Event], mut request: Event) -> (Joined, String, Vec<(String, String)>) {
    let mut join = Join::new(WINDOW_US);
    for evaluation in learnt {
        join.learn(evaluation);
    }
    let joined = join.settle(&mut request);
    let flags = request.flags.iter();
    let flags = flags.map(|(flag, variant)| (flag.to_string(), variant.to_string()));
    (joined, request.unit.to_string(), flags.collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(flag, variant): &(&str, &str)| ((*flag).to_owned(), (*variant).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn the_rules() {
    let on = |unit| evaluation(1, unit, "f", "on", 0);
    let cases = [
        (
            "the trace's unit and variant",
            vec![on("u")],
            request(1, "own", 0),
            Joined::Served,
            "u",
            pairs(&[("f", "on")]),
        ),
        (
            "another trace says nothing",
            vec![on("u")],
            request(2, "own", 0),
            Joined::Alone,
            "own",
            vec![],
        ),
        (
            "evaluated a window later",
            vec![on("u")],
            request(1, "own", -WINDOW_US),
            Joined::Served,
            "u",
            pairs(&[("f", "on")]),
        ),
        (
            "evaluated too late",
            vec![on("u")],
            request(1, "own", -WINDOW_US - 1),
            Joined::Alone,
            "own",
            vec![],
        ),
        (
            "evaluated a window before",
            vec![on("u")],
            request(1, "own", WINDOW_US),
            Joined::Served,
            "u",
            pairs(&[("f", "on")]),
        ),
        (
            "evaluated too early",
            vec![on("u")],
            request(1, "own", WINDOW_US + 1),
            Joined::Alone,
            "own",
            vec![],
        ),
        (
            "its own word chooses among units",
            vec![on("u"), evaluation(1, "v", "f", "off", 0)],
            request(1, "v", 0),
            Joined::Served,
            "v",
            pairs(&[("f", "off")]),
        ),
        (
            "several units and none of them its own",
            vec![on("u"), on("v")],
            request(1, "w", 0),
            Joined::Ambiguous,
            "w",
            vec![],
        ),
        (
            "two variants of one flag are neither",
            vec![
                on("u"),
                evaluation(1, "u", "f", "off", 0),
                evaluation(1, "u", "g", "x", 0),
            ],
            request(1, "u", 0),
            Joined::Served,
            "u",
            pairs(&[("g", "x")]),
        ),
    ];
    for (name, learnt, request, joined, unit, flags) in cases {
        let found = settled(&learnt, request);
        assert_eq!(found, (joined, unit.to_owned(), flags), "{name}");
    }
}

#[test]
fn an_evaluation_that_is_repeated_holds_as_long_as_its_last() {
    let again = |at_us| evaluation(1, "u", "f", "on", at_us);
    let learnt = [again(0), again(WINDOW_US), again(5 * WINDOW_US)];
    for (at_us, joined) in [
        (-WINDOW_US - 1, Joined::Alone),
        (WINDOW_US / 2, Joined::Served),
        (2 * WINDOW_US, Joined::Served),
        (2 * WINDOW_US + 1, Joined::Alone),
        (4 * WINDOW_US, Joined::Served),
    ] {
        assert_eq!(
            settled(&learnt, request(1, "own", at_us)).0,
            joined,
            "{at_us}"
        );
    }
}

proptest! {
    #[test]
    fn the_order_of_arrivals_within_the_window_decides_nothing(
        seen in prop::collection::vec((0u8..3, 0u8..2, 0u8..2, 0u8..2, -3 * WINDOW_US..3 * WINDOW_US), 0..20),
        shuffle in any::<u64>(),
    ) {
        let learnt: Vec<Event> = seen
            .iter()
            .map(|(trace, unit, flag, variant, at)| {
                evaluation(trace + 1, &format!("u{unit}"), &format!("f{flag}"), &format!("v{variant}"), *at)
            })
            .collect();
        let mut other = learnt.clone();
        let mut state = shuffle;
        for place in (1..other.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let to = usize::try_from(state >> 33).unwrap() % (place + 1);
            other.swap(place, to);
        }
        for trace in 1..4 {
            for unit in ["u0", "u1", "w"] {
                prop_assert_eq!(settled(&learnt, request(trace, unit, 0)), settled(&other, request(trace, unit, 0)));
            }
        }
    }
}

#[test]
fn an_event_waits_one_window_and_never_longer_when_the_clock_is_set_back() {
    let join = Join::new(WINDOW_US);
    for (now_us, is_due) in [
        (NOON_US, false),
        (NOON_US + WINDOW_US - 1, false),
        (NOON_US + WINDOW_US, true),
        (NOON_US - WINDOW_US, false),
        (NOON_US - WINDOW_US - 1, true),
    ] {
        assert_eq!(join.is_due(NOON_US, now_us), is_due, "{}", now_us - NOON_US);
    }
}

#[test]
fn what_no_event_can_take_any_more_is_forgotten() {
    let mut join = Join::new(WINDOW_US);
    join.learn(&evaluation(1, "u", "f", "on", 0));
    join.learn(&evaluation(1, "u", "g", "on", WINDOW_US));
    join.forget(NOON_US + 2 * WINDOW_US);
    assert_eq!(join.traces[&TraceId(1)].len(), 2);
    join.forget(NOON_US + 2 * WINDOW_US + 1);
    assert_eq!(join.traces[&TraceId(1)].len(), 1);
    join.forget(NOON_US + 3 * WINDOW_US + 1);
    assert!(join.traces.is_empty() && join.arrivals.is_empty());
    assert_eq!((join.bytes, join.forgotten), (0, 0));
}

#[test]
fn memory_is_bounded_by_trace_and_in_all() {
    let mut join = Join::new(WINDOW_US);
    for flag in 0..2 * MOST_PER_TRACE {
        join.learn(&evaluation(1, "u", &format!("f{flag}"), "on", 0));
    }
    assert_eq!(join.traces[&TraceId(1)].len(), MOST_PER_TRACE);
    let long = "x".repeat(200);
    let mut template = evaluation(2, &long, &long, &long, 1);
    for trace in 2..150_000u128 {
        template.trace_id = Some(TraceId(trace));
        join.learn(&template);
    }
    assert!(join.bytes <= MOST_BYTES);
    assert!(join.forgotten > 0 && !join.traces.contains_key(&TraceId(1)));
    assert!(join.traces.contains_key(&TraceId(149_999)));
}
