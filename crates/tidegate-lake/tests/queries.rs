//! Native answers against plain recounts over the raw events, whatever the way the events took.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use support::{DAY_US, Deed, FIRST_DAY};
use tidegate_lake::{ColumnOptions, Lake, LakeOptions, QueryError, SimulatedDisk};
use tidegate_metrics::{
    Answer, Days, Event, EventFilter, EventId, EventKind, Exclusion, Findings, Grouping,
    JourneyDefinition, Measure, MetricDefinition, PropertyFilter, PropertyTest, PropertyValue,
    Query, Reentry, Scalar, Step, StepOrder, TimedFrom, Winsorise,
};

fn options(buckets: u16, recent_ids: usize) -> LakeOptions {
    let mut options = support::options(ColumnOptions {
        buckets,
        ..ColumnOptions::default()
    });
    options.log.recent_ids = recent_ids;
    options
}

/// A lake that took the events in the given order, in some flushes, some of them twice.
fn lake_of(events: &[Event], flush_every: usize, buckets: u16, is_compacted: bool) -> Lake {
    let disk = Arc::new(SimulatedDisk::new());
    let lake = Lake::open(disk, Path::new("/lake"), options(buckets, 2)).unwrap();
    for part in events.chunks(flush_every) {
        lake.append(part.to_vec()).unwrap();
        lake.append(part.iter().take(2).cloned().collect()).unwrap();
        lake.flush().unwrap();
    }
    if is_compacted {
        lake.columns().compact().unwrap();
    }
    lake
}

fn any_event() -> impl Strategy<Value = Event> {
    (0u8..7, 0i64..40, 0u8..5, 0u8..3, 0u16..100).prop_map(|(unit, quarter, name, side, value)| {
        let time_us = FIRST_DAY * DAY_US + quarter * (DAY_US / 4);
        let variant = if side == 0 && unit == 3 || unit % 2 == 0 {
            "on"
        } else {
            "off"
        };
        let deed = match name {
            4 => Deed::Met(variant),
            name => Deed::Did(name),
        };
        Event {
            value: (side > 0).then_some(f64::from(value)),
            properties: vec![
                (
                    "country".into(),
                    PropertyValue::Text(["de", "at", "fr"][usize::from(side)].into()),
                ),
                (
                    "size".into(),
                    PropertyValue::Number(f64::from(value) / 10.0),
                ),
            ],
            ..support::event(0, unit, time_us, deed)
        }
    })
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let events = prop::collection::vec((any_event(), any::<u64>()), 1..70);
    events.prop_map(|events| {
        let numbered = events.into_iter().enumerate();
        numbered
            .map(|(index, (event, random))| Event {
                id: EventId(u128::from(random) << 64 | u128::try_from(index).unwrap()),
                ..event
            })
            .collect()
    })
}

fn all_days() -> Days {
    Days {
        first: FIRST_DAY,
        last: FIRST_DAY + 9,
    }
}

fn by_flag(segment: Option<&str>) -> Grouping {
    Grouping {
        flag: "flag".to_owned(),
        segment: segment.map(str::to_owned),
    }
}

fn german(name: &str) -> EventFilter {
    let mut filter = EventFilter::named(name);
    filter.properties = vec![
        PropertyFilter {
            property: "country".to_owned(),
            is: PropertyTest::OneOf(vec![
                Scalar::Text("de".to_owned()),
                Scalar::Text("at".to_owned()),
            ]),
        },
        PropertyFilter {
            property: "size".to_owned(),
            is: PropertyTest::AtLeast(2.0),
        },
    ];
    filter
}

/// First exposure per unit: time, variant, country; none for units with two variants.
fn arms(events: &[Event]) -> BTreeMap<&str, (i64, &str, &str)> {
    let mut arms: BTreeMap<&str, Vec<(i64, u128, &str, &str)>> = BTreeMap::new();
    for event in events.iter().filter(|e| e.kind == EventKind::Exposure) {
        let Some(PropertyValue::Text(country)) = event.property("country") else {
            continue;
        };
        let seen = (
            event.time_us,
            event.id.0,
            event.variant("flag").unwrap(),
            country.as_ref(),
        );
        arms.entry(&event.unit).or_default().push(seen);
    }
    let single = arms
        .into_iter()
        .filter(|(_, seen)| seen.iter().map(|s| s.2).collect::<BTreeSet<_>>().len() == 1);
    single
        .map(|(unit, seen)| {
            let first = seen.into_iter().min().unwrap();
            (unit, (first.0, first.2, first.3))
        })
        .collect()
}

/// Units, sum and sum of squares by (variant, segment), counted plainly.
fn recount(
    events: &[Event],
    by_country: bool,
    value_of: &dyn Fn(&[&Event], i64) -> f64,
) -> BTreeMap<(String, String), (u64, f64, f64)> {
    let mut groups = BTreeMap::new();
    for (unit, (since, variant, country)) in arms(events) {
        let own: Vec<&Event> = events
            .iter()
            .filter(|e| e.unit.as_ref() == unit && e.time_us >= since)
            .collect();
        let value = value_of(&own, since);
        let segment = if by_country { country } else { "" };
        let group: &mut (u64, f64, f64) = groups
            .entry((variant.to_owned(), segment.to_owned()))
            .or_default();
        group.0 += 1;
        group.1 += value;
        group.2 += value * value;
    }
    groups
}

fn measured(answer: &Answer) -> BTreeMap<(String, String), (u64, f64, f64)> {
    let Findings::UnitMetric(summary) = &answer.findings else {
        panic!("a metric was asked")
    };
    let groups = summary.groups.iter().map(|group| {
        let n = group.moments.units();
        let mean = group.moments.mean(0).unwrap();
        let variance = group.moments.covariance(0, 0).unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "few units")]
        let (count, less) = (n as f64, (n - 1) as f64);
        let squares = variance * less + mean * mean * count;
        let key = (
            answer.name(group.variant).to_owned(),
            answer.name(group.segment).to_owned(),
        );
        (key, (n, mean * count, squares))
    });
    groups.collect()
}

fn assert_close(
    found: &BTreeMap<(String, String), (u64, f64, f64)>,
    expected: &BTreeMap<(String, String), (u64, f64, f64)>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (key, (n, sum, squares)) in expected {
        let (found_n, found_sum, found_squares) = found[key];
        prop_assert_eq!(found_n, *n);
        prop_assert!(
            (found_sum - sum).abs() <= 1e-9 * (1.0 + sum.abs()),
            "{key:?}"
        );
        prop_assert!(
            (found_squares - squares).abs() <= 1e-9 * (1.0 + squares),
            "{key:?}"
        );
    }
    Ok(())
}

fn journey(order: StepOrder) -> JourneyDefinition {
    let step = |name: &str| Step {
        event: EventFilter::named(name),
        within_seconds: None,
    };
    JourneyDefinition {
        steps: vec![step("n0"), step("n1"), step("n2")],
        order,
        within_seconds: Some(3 * 86_400),
        exclusions: if order == StepOrder::Strict {
            Vec::new()
        } else {
            vec![Exclusion {
                event: EventFilter::named("n3"),
                after_step: 1,
            }]
        },
        reentry: Reentry::Once,
        timed_from: TimedFrom::LatestStart,
        key: None,
    }
}

fn queries() -> Vec<Query> {
    let metric = |measure| Query::UnitMetric {
        metric: MetricDefinition {
            winsorise: Some(Winsorise::Above(80.0)),
            covariate_seconds: Some(86_400),
            ..MetricDefinition::of(measure)
        },
        by: by_flag(Some("country")),
        days: all_days(),
    };
    let events = vec![EventFilter::named("n0"), german("n1")];
    let mut all = vec![
        metric(Measure::Sum {
            event: german("n0"),
        }),
        metric(Measure::Quantile {
            event: EventFilter::named("n0"),
            q: 0.5,
        }),
        Query::Usage {
            events: events.clone(),
            days: all_days(),
        },
        Query::Adoption {
            events: events.clone(),
            by: None,
            days: all_days(),
            period_days: 3,
        },
        Query::Adoption {
            events: events.clone(),
            by: Some(by_flag(Some("country"))),
            days: all_days(),
            period_days: 3,
        },
        Query::Retention {
            events,
            days: all_days(),
            period_days: 2,
        },
    ];
    for order in [StepOrder::Ordered, StepOrder::Strict, StepOrder::Any] {
        for by in [None, Some(by_flag(None))] {
            all.push(Query::Journey {
                journey: journey(order),
                by,
                days: all_days(),
            });
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn metrics_equal_a_recount_over_raw_events(
        events in any_events(), flush_every in 1usize..40, is_compacted: bool
    ) {
        let lake = lake_of(&events, flush_every, 4, is_compacted);
        let ask = |measure, segment: Option<&str>| {
            let query = Query::UnitMetric {
                metric: MetricDefinition::of(measure),
                by: by_flag(segment),
                days: all_days(),
            };
            measured(&lake.answer(&query, 2).unwrap())
        };
        let sum = ask(Measure::Sum { event: german("n0") }, Some("country"));
        let expected = recount(&events, true, &|own, _| {
            own.iter().filter(|e| german("n0").matches(e)).filter_map(|e| e.value).sum()
        });
        assert_close(&sum, &expected)?;
        let n1 = EventFilter::named("n1");
        let conversion = Measure::Conversion { event: n1.clone(), within_seconds: Some(86_400) };
        let expected = recount(&events, false, &|own, since| {
            let is_early = |e: &&&Event| n1.matches(e) && e.time_us - since <= DAY_US;
            f64::from(u8::from(own.iter().any(|e| is_early(&e))))
        });
        assert_close(&ask(conversion, None), &expected)?;
    }

    #[test]
    fn adoption_and_the_exposed_equal_a_recount_over_raw_events(
        events in any_events(), flush_every in 1usize..40, is_compacted: bool
    ) {
        let lake = lake_of(&events, flush_every, 4, is_compacted);
        let query = Query::Adoption {
            events: vec![EventFilter::named("n0"), german("n1")],
            by: Some(by_flag(Some("country"))),
            days: all_days(),
            period_days: 3,
        };
        let answer = lake.answer(&query, 2).unwrap();
        let Findings::Adoption(found) = &answer.findings else { panic!("adoption was asked") };
        let text = |number| answer.name(number).to_owned();
        let cells: BTreeMap<_, _> = found.cells.iter().map(|(key, cell)| {
            let place = (key.period, key.filter, text(key.variant), text(key.segment));
            (place, (cell.events, cell.units))
        }).collect();
        let mut expected: BTreeMap<_, (u64, BTreeSet<&str>)> = BTreeMap::new();
        let mut exposed: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (unit, (since, variant, country)) in arms(&events) {
            *exposed.entry((variant.to_owned(), country.to_owned())).or_default() += 1;
            for event in events.iter().filter(|e| e.unit.as_ref() == unit && e.time_us >= since) {
                for (filter, wanted) in query.filters().into_iter().enumerate() {
                    if wanted.matches(event) {
                        let period = (event.time_us.div_euclid(DAY_US) - FIRST_DAY) / 3;
                        let place = (period, filter, variant.to_owned(), country.to_owned());
                        let cell = expected.entry(place).or_default();
                        cell.0 += 1;
                        cell.1.insert(unit);
                    }
                }
            }
        }
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(place, (events, units))| (place, (events, units.len() as u64)))
            .collect();
        prop_assert_eq!(cells, expected);
        let counted: BTreeMap<_, _> = found.exposed.iter()
            .map(|((variant, segment), units)| ((text(*variant), text(*segment)), *units))
            .collect();
        prop_assert_eq!(&counted, &exposed);
        let journey = Query::Journey {
            journey: journey(StepOrder::Ordered),
            by: Some(by_flag(Some("country"))),
            days: all_days(),
        };
        let answer = lake.answer(&journey, 2).unwrap();
        let Findings::Journey(found) = &answer.findings else { panic!("a journey was asked") };
        let counted: BTreeMap<_, _> = found.groups.iter().map(|((variant, segment), group)| {
            let place = (answer.name(*variant).to_owned(), answer.name(*segment).to_owned());
            (place, group.exposed)
        }).collect();
        prop_assert_eq!(counted, exposed);
    }

    /// More filters than a mask has bits, some with tests on properties, some of one name.
    #[test]
    fn usage_adoption_and_retention_equal_a_recount_over_raw_events(
        events in any_events(), flush_every in 1usize..40, is_compacted: bool, count in 1usize..100
    ) {
        let lake = lake_of(&events, flush_every, 4, is_compacted);
        let filters: Vec<EventFilter> = (0..count)
            .map(|number| match number % 3 {
                0 => german(&format!("n{}", number % 4)),
                _ => EventFilter::named(&format!("n{}", number % 5)),
            })
            .collect();
        let days = Days { first: FIRST_DAY + 1, last: FIRST_DAY + 8 };
        let day_of = |event: &Event| event.time_us.div_euclid(DAY_US);
        let asked: Vec<&Event> = events
            .iter()
            .filter(|event| (days.first..=days.last).contains(&day_of(event)))
            .collect();
        let mut by_day: BTreeMap<(i64, usize), (u64, BTreeSet<&str>)> = BTreeMap::new();
        let mut by_period: BTreeMap<(i64, usize), (u64, BTreeSet<&str>)> = BTreeMap::new();
        let mut active: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for event in &asked {
            let period = (day_of(event) - days.first) / 3;
            for (filter, _) in filters.iter().enumerate().filter(|(_, filter)| filter.matches(event)) {
                for (cells, place) in [(&mut by_day, day_of(event)), (&mut by_period, period)] {
                    let cell = cells.entry((place, filter)).or_default();
                    cell.0 += 1;
                    cell.1.insert(&event.unit);
                }
                active.entry(&event.unit).or_default().insert(period);
            }
        }
        let counted = |cells: BTreeMap<(i64, usize), (u64, BTreeSet<&str>)>| -> BTreeMap<_, _> {
            let cells = cells.into_iter();
            cells.map(|(place, (events, units))| (place, (events, units.len() as u64))).collect()
        };

        let usage = Query::Usage { events: filters.clone(), days };
        let answer = lake.answer(&usage, 2).unwrap();
        let Findings::Usage(found) = answer.findings else { panic!("usage was asked") };
        let found: BTreeMap<_, _> =
            found.cells.into_iter().map(|(place, cell)| (place, (cell.events, cell.units))).collect();
        prop_assert_eq!(found, counted(by_day));

        let adoption = Query::Adoption { events: filters.clone(), by: None, days, period_days: 3 };
        let answer = lake.answer(&adoption, 2).unwrap();
        let Findings::Adoption(found) = answer.findings else { panic!("adoption was asked") };
        let found: BTreeMap<_, _> = found
            .cells
            .into_iter()
            .map(|(key, cell)| ((key.period, key.filter), (cell.events, cell.units)))
            .collect();
        prop_assert_eq!(found, counted(by_period));

        let retention = Query::Retention { events: filters, days, period_days: 3 };
        let answer = lake.answer(&retention, 2).unwrap();
        let Findings::Retention(found) = answer.findings else { panic!("retention was asked") };
        let mut expected: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        for periods in active.values() {
            for period in periods {
                let first = periods.first().unwrap();
                *expected.entry((*first, period - first)).or_default() += 1;
            }
        }
        prop_assert_eq!(found.cells, expected);
    }

    /// Arrival order, copies, flushes, buckets, compaction, threads: nothing changes an answer.
    #[test]
    fn the_way_events_took_changes_no_answer(
        events in any_events(), flush_every in 1usize..40, seed in any::<u64>()
    ) {
        let mut shuffled = events.clone();
        shuffled.sort_by_key(|event| event.id.0.rotate_left(u32::try_from(seed % 128).unwrap()));
        let one = lake_of(&events, 1000, 1, true);
        let other = lake_of(&shuffled, flush_every, 8, false);
        for query in queries() {
            let mut a = one.answer(&query, 1).unwrap();
            let mut b = other.answer(&query, 2).unwrap();
            prop_assert_eq!(a.events, b.events);
            prop_assert_eq!(a.data_end_us, b.data_end_us);
            prop_assert_eq!(&a.names, &b.names);
            sort_durations(&mut a);
            sort_durations(&mut b);
            prop_assert_eq!(without_units(a.findings), without_units(b.findings), "{:?}", query);
        }
        other.columns().compact().unwrap();
        for query in queries() {
            let mut a = one.answer(&query, 1).unwrap();
            let mut b = other.answer(&query, 1).unwrap();
            sort_durations(&mut a);
            sort_durations(&mut b);
            prop_assert_eq!(without_units(a.findings), without_units(b.findings));
        }
    }
}

/// Durations are a set; their order is that of buckets.
fn sort_durations(answer: &mut Answer) {
    if let Findings::Journey(report) = &mut answer.findings {
        for group in report.groups.values_mut() {
            group.total_us.sort_unstable();
            for samples in &mut group.step_us {
                samples.sort_unstable();
            }
        }
    }
}

/// Numbers of units differ between layouts; a sample's size and estimate do not depend on them.
fn without_units(findings: Findings) -> String {
    match findings {
        Findings::UnitMetric(mut summary) => {
            let samples: Vec<_> = summary
                .groups
                .iter_mut()
                .map(|group| group.sample.take().map(|sample| sample.len()))
                .collect();
            // As text, since equal sums may be held in different limbs.
            let summary = serde_json::to_string(&summary).unwrap();
            format!("{summary} {samples:?}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_wrong_query_is_refused_with_pointers() {
    let lake = lake_of(&[], 1, 4, false);
    let query = Query::Usage {
        events: Vec::new(),
        days: all_days(),
    };
    let error = lake.answer(&query, 1).unwrap_err();
    assert!(matches!(&error, QueryError::Definition(problems) if problems[0].pointer == "/events"));
}

#[test]
fn an_answer_says_what_it_covers_and_an_empty_lake_answers() {
    let lake = lake_of(&[], 1, 4, false);
    let query = &queries()[0];
    let empty = lake.answer(query, 1).unwrap();
    assert_eq!(
        (empty.watermark, empty.data_end_us, empty.events),
        (0, None, 0)
    );
    let event = Event {
        id: EventId(1),
        time_us: FIRST_DAY * DAY_US,
        received_us: 0,
        sent_us: None,
        unit: "u".into(),
        kind: EventKind::Track,
        name: "n0".into(),
        value: None,
        properties: Vec::new(),
        flags: Vec::new(),
        trace_id: None,
        is_quarantined: false,
    };
    let ahead = Event {
        id: EventId(2),
        is_quarantined: true,
        ..event.clone()
    };
    lake.append(vec![event, ahead]).unwrap();
    lake.flush().unwrap();
    let usage = Query::Usage {
        events: vec![EventFilter::named("n0")],
        days: all_days(),
    };
    let answer = lake.answer(&usage, 1).unwrap();
    assert_eq!(answer.watermark, 2);
    assert_eq!(
        answer.events, 1,
        "quarantined events are stored and not analysed"
    );
    assert_eq!(answer.data_end_us, Some(FIRST_DAY * DAY_US));
}
