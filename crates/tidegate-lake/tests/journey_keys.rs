//! Journeys whose events share a property's value, against journeys over events that were sent under
//! that value's name.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{DAY_US, Deed, FIRST_DAY};
use tidegate_lake::{ColumnOptions, Lake, SimulatedDisk};
use tidegate_metrics::{
    Answer, Assignment, ClassifiedEvent, Days, Event, EventKind, Findings, Grouping,
    JourneyDefinition, JourneyFold, PropertyValue, Query,
};

fn lake_of(events: &[Event], buckets: u16) -> Lake {
    let columns = ColumnOptions {
        buckets,
        // Now and then more is gathered than is held at a time.
        gathered_rows: 12,
        ..ColumnOptions::default()
    };
    let lake = support::open(&SimulatedDisk::new(), columns);
    lake.append(events.to_vec()).unwrap();
    lake
}

fn session_of(event: &Event) -> Option<String> {
    match event.property("session") {
        Some(PropertyValue::Text(text)) => Some(text.to_string()),
        _ => None,
    }
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), 0u8..4, 0i64..16, 0u8..6, 0u8..5).prop_map(|(id, unit, hour, what, session)| {
        let time_us = FIRST_DAY * DAY_US + hour * (DAY_US / 4);
        let variant = ["on", "off"][usize::from(unit % 2 == 0 || id % 7 == 0)];
        let mut properties = vec![("other".into(), PropertyValue::Bool(true))];
        if session < 4 {
            let session = PropertyValue::Text(format!("s{session}").into());
            properties.push(("session".into(), session));
        }
        Event {
            properties,
            ..support::event(id, unit, time_us, Deed::of(what, 3, variant))
        }
    })
}

fn definitions() -> Vec<Value> {
    let steps = json!(["n0", "n1", "n2"]);
    vec![
        json!({"steps": steps}),
        json!({"steps": steps, "within_seconds": 86_400, "reentry": "every_completion",
               "exclusions": [{"event": {"name": "n1"}, "after_step": 2}]}),
        json!({"steps": ["n0", "n1"], "order": "strict"}),
        json!({"steps": steps, "order": "any", "within_seconds": 172_800}),
    ]
}

fn query(definition: &Value, key: Option<Value>, by_flag: bool) -> Query {
    let mut definition = definition.clone();
    if let Some(key) = key {
        definition["key"] = key;
    }
    Query::Journey {
        journey: JourneyDefinition::from_json(&definition).unwrap(),
        by: by_flag.then(|| Grouping {
            flag: "flag".to_owned(),
            segment: None,
        }),
        days: Days {
            first: FIRST_DAY,
            last: FIRST_DAY + 2,
        },
    }
}

type Group = (u64, u64, Vec<u64>, u64, u64, Vec<Vec<i64>>, Vec<i64>);

/// Groups by variant, and who was exposed to two.
fn figures(answer: &Answer, has_exposed: bool) -> (BTreeMap<String, Group>, u64) {
    let Findings::Journey(report) = &answer.findings else {
        panic!("another question was answered");
    };
    let sorted = |times: &Vec<i64>| {
        let mut times = times.clone();
        times.sort_unstable();
        times
    };
    let groups = report.groups.iter().map(|((variant, _), group)| {
        let figures = (
            if has_exposed { group.exposed } else { 0 },
            group.units,
            group.reached.clone(),
            group.completions,
            group.immature,
            group.step_us.iter().map(sorted).collect(),
            sorted(&group.total_us),
        );
        (answer.name(*variant).to_owned(), figures)
    });
    (groups.collect(), report.mixed_units)
}

/// The highest step of each unit over the values of its events, by the fold alone.
fn levels(events: &[Event], journey: &JourneyDefinition) -> BTreeMap<Box<str>, usize> {
    let mut followed: BTreeMap<(Box<str>, String), Vec<&Event>> = BTreeMap::new();
    for event in events {
        if let Some(session) = session_of(event) {
            followed
                .entry((event.unit.clone(), session))
                .or_default()
                .push(event);
        }
    }
    let mut levels: BTreeMap<Box<str>, usize> = BTreeMap::new();
    for ((unit, _), mut events) in followed {
        events.sort_by_key(|event| (event.time_us, event.id));
        let everyone = [Assignment::EVERYONE];
        let entry = FIRST_DAY * DAY_US..(FIRST_DAY + 3) * DAY_US;
        let mut fold = JourneyFold::new(journey, &everyone, entry);
        for event in events {
            let filters = journey.filters().enumerate();
            let matched = filters.filter(|(_, filter)| filter.matches(event));
            fold.push(ClassifiedEvent {
                unit: 0,
                time_us: event.time_us,
                matched: matched.map(|(bit, _)| 1 << bit).sum(),
                value: f64::NAN,
            });
        }
        let level = levels.entry(unit).or_default();
        *level = (*level).max(fold.levels()[0]);
    }
    levels
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn values_are_followed_as_units_of_their_names_would_be(
        events in prop::collection::vec(event(), 1..70),
        buckets in prop_oneof![Just(1u16), Just(4)],
    ) {
        let lake = lake_of(&events, buckets);
        // The same events under other names; those without the property are nobody's.
        let renamed = |name: &dyn Fn(&Event, &str) -> String| {
            let rename = |event: &Event| match session_of(event) {
                Some(session) => Event { unit: name(event, &session).into(), ..event.clone() },
                None => Event {
                    unit: "nobody".into(),
                    name: "nothing".into(),
                    kind: EventKind::Track,
                    flags: Vec::new(),
                    ..event.clone()
                },
            };
            let renamed: Vec<Event> = events.iter().map(rename).collect();
            lake_of(&renamed, 2)
        };
        let of_units = renamed(&|event, session| format!("{}/{session}", event.unit));
        let by_value = renamed(&|_, session| session.to_owned());
        for definition in definitions() {
            let key = |counts: &str| Some(json!({"property": "session", "counts": counts}));
            let ask = |lake: &Lake, query: &Query| lake.answer(query, 2).unwrap();
            let expected = ask(&of_units, &query(&definition, None, false));
            let found = ask(&lake, &query(&definition, key("unit_and_value"), false));
            prop_assert_eq!(figures(&found, false), figures(&expected, false));
            for by_flag in [false, true] {
                let expected = ask(&by_value, &query(&definition, None, by_flag));
                let found = ask(&lake, &query(&definition, key("value"), by_flag));
                prop_assert_eq!(figures(&found, true), figures(&expected, true));
            }
            let question = query(&definition, Some(json!("session")), false);
            let Query::Journey { journey, .. } = &question else { unreachable!() };
            let levels = levels(&events, journey);
            let (groups, _) = figures(&ask(&lake, &question), false);
            let reached = groups.get("").map(|group| group.2.clone()).unwrap_or_default();
            for (step, reached) in reached.iter().enumerate() {
                let expected = levels.values().filter(|level| **level > step).count();
                prop_assert_eq!(*reached, expected as u64);
            }
            prop_assert!(!reached.is_empty() || levels.values().all(|level| *level == 0));
        }
    }

    /// With one value for everybody, holding it constant changes nothing, by flag or not.
    #[test]
    fn a_value_that_all_events_share_changes_nothing(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let share = |event: &Event| {
            let session = PropertyValue::Text("all".into());
            Event { properties: vec![("session".into(), session)], ..event.clone() }
        };
        let events: Vec<Event> = events.iter().map(share).collect();
        let lake = lake_of(&events, 4);
        for definition in definitions() {
            for by_flag in [false, true] {
                let plain = lake.answer(&query(&definition, None, by_flag), 1).unwrap();
                let keyed = query(&definition, Some(json!("session")), by_flag);
                let keyed = lake.answer(&keyed, 2).unwrap();
                prop_assert_eq!(figures(&keyed, true), figures(&plain, true));
            }
        }
    }
}
