//! A day that is asked about again and again while it grows, is merged, and loses units: its rows
//! are always those that arrived, each once, in the order of time and id.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{DAY_US, Deed, FIRST_DAY, event, open};
use tidegate_lake::{ColumnOptions, Lake, SimulatedDisk};
use tidegate_metrics::{Event, PropertyValue};

/// What happens to a lake.
#[derive(Debug, Clone)]
enum Step {
    /// Events arrive: unit, number of the id among the unit's, and time.
    Arrive(Vec<(u8, u8, i64)>),
    Flush,
    /// Files that have piled up are merged; or every day becomes one file.
    Merge(bool),
    Erase(u8),
    /// Somebody asks, with properties or without.
    Ask(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    // Few times, so that some are equal; some hours late, and some of the day before.
    let time = prop_oneof![4 => 0i64..20, 1 => -80_000_000_000i64..0, 1 => -DAY_US..0];
    let arrival = (0u8..6, 0u8..12, time);
    prop_oneof![
        6 => prop::collection::vec(arrival, 1..12).prop_map(Step::Arrive),
        2 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Merge),
        1 => (0u8..6).prop_map(Step::Erase),
        6 => any::<bool>().prop_map(Step::Ask),
    ]
}

/// The lake, and what is in it by day and id: the copy that arrived first.
struct Both {
    lake: Lake,
    seen: BTreeMap<(i64, u128), Event>,
    arrived: u32,
}

impl Both {
    fn new(hot_bytes: usize) -> Self {
        let columns = ColumnOptions {
            hot_bytes,
            buckets: 2,
            flush_events: 7,
            ..ColumnOptions::default()
        };
        Self {
            lake: open(&SimulatedDisk::new(), columns),
            seen: BTreeMap::new(),
            arrived: 0,
        }
    }

    fn arrive(&mut self, arrivals: &[(u8, u8, i64)]) {
        let mut events = Vec::new();
        for (unit, number, since) in arrivals {
            self.arrived += 1;
            let id = u64::from(*unit) * 100 + u64::from(*number);
            let time_us = (FIRST_DAY + 1) * DAY_US - 1000 + since;
            let mut event = event(id, *unit, time_us, Deed::of(number % 4, 3, "on"));
            // Which copy it is can be told by its value.
            event.value = Some(f64::from(self.arrived));
            let text = PropertyValue::Text(format!("p{}", self.arrived % 3).into());
            event.properties = vec![("p".into(), text)];
            let day = time_us.div_euclid(DAY_US);
            let first = self.seen.entry((day, event.id.0));
            first.or_insert_with(|| event.clone());
            events.push(event);
        }
        self.lake.append(events).unwrap();
    }

    fn erase(&mut self, unit: u8) {
        self.lake.erase_unit(&format!("u{unit}")).unwrap();
        let name = format!("u{unit}");
        self.seen.retain(|_, event| event.unit.as_ref() != name);
        // The door forgets what it saw of the unit, so that it may come back.
        for filler in 0..3 {
            self.arrive(&[(200, u8::try_from(self.arrived % 200).unwrap() + filler, 0)]);
        }
    }

    fn ask(&self, with_properties: bool) {
        self.lake.flush().unwrap();
        let columns = self.lake.columns();
        let state = columns.state();
        let by_value = self.seen.values();
        let by_value: BTreeMap<u64, &Event> = by_value
            .map(|event| (event.value.unwrap().to_bits(), event))
            .collect();
        let mut found = 0;
        for (day, bucket) in state.days().keys().flat_map(|day| [(*day, 0), (*day, 1)]) {
            let rows = columns
                .day_rows(&state, day, bucket, with_properties)
                .unwrap();
            let mut before = None;
            for row in 0..rows.len() {
                let event = by_value.get(&rows.value[row].to_bits());
                let event = event.expect("the copy that arrived first");
                assert_eq!(rows.time_us[row], event.time_us);
                assert_eq!(rows.kind[row], event.kind);
                columns.with_texts(|texts| {
                    assert_eq!(texts.get(rows.name[row]), event.name.as_ref());
                });
                let text = rows.property_text(row).map(str::to_owned);
                let (_, property) = &event.properties[0];
                let expected = match property {
                    PropertyValue::Text(text) => format!("{{\"p\":\"{text}\"}}"),
                    _ => unreachable!(),
                };
                assert_eq!(text, with_properties.then_some(expected));
                let key = Some((event.time_us, event.id.0));
                assert!(before < key, "rows are in the order of time and id");
                before = key;
            }
            found += rows.len();
        }
        assert_eq!(found, self.seen.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_day_asked_about_while_it_grows_has_each_event_once_and_in_order(
        steps in prop::collection::vec(any_step(), 1..30),
        // Days fit, or outgrow it.
        hot_bytes in prop_oneof![3 => Just(1usize << 20), 1 => 0usize..1000],
    ) {
        let mut both = Both::new(hot_bytes);
        for step in steps {
            match step {
                Step::Arrive(arrivals) => both.arrive(&arrivals),
                Step::Flush => drop(both.lake.flush().unwrap()),
                Step::Merge(true) => drop(both.lake.columns().compact().unwrap()),
                Step::Merge(false) => drop(both.lake.tidy(FIRST_DAY + 1).unwrap()),
                Step::Erase(unit) => both.erase(unit),
                Step::Ask(with_properties) => both.ask(with_properties),
            }
        }
        both.ask(true);
        both.ask(false);
    }
}
