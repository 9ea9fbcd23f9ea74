//! A metric kept up from answer to answer equals the same metric answered from everything.

mod support;

use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use support::{DAY_US, Deed, FIRST_DAY};
use tidegate_lake::{ColumnOptions, KeptMemory, Lake, LakeOptions, QueryError, SimulatedDisk};
use tidegate_metrics::{
    Answer, Days, Event, EventFilter, EventId, Findings, GroupStatistics, Grouping, Measure,
    MetricDefinition, PropertyValue, Query, Winsorise,
};

fn options() -> LakeOptions {
    support::options(ColumnOptions {
        buckets: 2,
        // Now and then more is gathered than is held at a time.
        gathered_rows: 12,
        ..ColumnOptions::default()
    })
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), 0u8..6, 0i64..30, 0u8..4, -9.7..99.9f64).prop_map(
        |(id, unit, hour, name, value)| {
            let time_us = FIRST_DAY * DAY_US + hour * (DAY_US / 10);
            let variant = if (unit + u8::from(value > 90.0)) % 2 == 0 {
                "on"
            } else {
                "off"
            };
            let country = ["de", "at"][usize::from(value > 40.0)];
            Event {
                value: (value > 0.0).then_some(value),
                properties: vec![("country".into(), PropertyValue::Text(country.into()))],
                ..support::event(id, unit, time_us, Deed::of(name, 2, variant))
            }
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    /// New events, and copies of earlier ones by position.
    Arrive(Vec<Event>, Vec<prop::sample::Index>),
    Compact,
    Tidy,
    Erase(u8),
    Expire(i64),
    Merge(u8, u8),
    Unmerge(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let copies = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        10 => (prop::collection::vec(event(), 0..15), copies)
            .prop_map(|(events, copies)| Step::Arrive(events, copies)),
        2 => Just(Step::Compact),
        2 => Just(Step::Tidy),
        1 => (0u8..6).prop_map(Step::Erase),
        1 => (0i64..3).prop_map(Step::Expire),
        3 => (0u8..6, 0u8..7).prop_map(|(unit, into)| Step::Merge(unit, into)),
        1 => (0u8..6).prop_map(Step::Unmerge),
    ]
}

fn queries() -> Vec<Query> {
    let filter = EventFilter::named;
    let sum = MetricDefinition::of(Measure::Sum {
        event: filter("n0"),
    });
    let metrics = [
        sum.clone(),
        MetricDefinition {
            winsorise: Some(Winsorise::Percentile(0.9)),
            covariate_seconds: Some(86_400),
            ..sum
        },
        MetricDefinition::of(Measure::Quantile {
            event: filter("n1"),
            q: 0.5,
        }),
        MetricDefinition::of(Measure::TimeBetween {
            from: filter("n0"),
            to: filter("n1"),
            within_seconds: None,
        }),
    ];
    let segments = [None, Some("country".to_owned()), None, None];
    metrics
        .into_iter()
        .zip(segments)
        .map(|(metric, segment)| Query::UnitMetric {
            metric,
            by: Grouping {
                flag: "flag".to_owned(),
                segment,
            },
            days: Days {
                first: FIRST_DAY,
                last: FIRST_DAY + 1,
            },
        })
        .collect()
}

/// Groups by variant and segment, four counts, and the value that tames extremes.
type Told = (
    Vec<(String, String, GroupStatistics)>,
    [u64; 4],
    Option<f64>,
);

/// An answer with texts for numbers, so that two numberings compare.
fn told(answer: &Answer) -> Told {
    let Findings::UnitMetric(summary) = &answer.findings else {
        panic!("another question was answered");
    };
    let mut groups: Vec<_> = summary
        .groups
        .iter()
        .map(|group| {
            let texts = (answer.name(group.variant), answer.name(group.segment));
            let group = GroupStatistics {
                variant: 0,
                segment: 0,
                ..group.clone()
            };
            (texts.0.to_owned(), texts.1.to_owned(), group)
        })
        .collect();
    groups.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let counts = [
        summary.mixed_units,
        summary.incomplete_units,
        summary.immature_units,
        answer.watermark + answer.aliases,
    ];
    (groups, counts, summary.cap)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Late events, copies that the door has forgotten, exposures that come late or to a second
    /// variant, compactions, merges, erasures and expired days: what is kept equals what is recomputed.
    #[test]
    fn what_is_kept_equals_what_is_recomputed(steps in prop::collection::vec(step(), 1..10)) {
        let disk = Arc::new(SimulatedDisk::new());
        let lake = Lake::open(disk, Path::new("/lake"), options()).unwrap();
        let mut sent: Vec<Event> = Vec::new();
        for step in steps {
            match step {
                Step::Arrive(events, copies) => {
                    let copies = copies.iter().filter(|_| !sent.is_empty());
                    let copies: Vec<Event> = copies.map(|at| at.get(&sent).clone()).collect();
                    lake.append(events.clone()).unwrap();
                    lake.append(copies).unwrap();
                    sent.extend(events);
                }
                Step::Compact => {
                    lake.columns().compact().unwrap();
                }
                Step::Tidy => {
                    lake.tidy(FIRST_DAY + 1).unwrap();
                }
                Step::Erase(unit) => {
                    lake.erase_unit(&format!("u{unit}")).unwrap();
                    sent.retain(|event| event.unit.as_ref() != format!("u{unit}"));
                }
                Step::Merge(unit, into) => {
                    let pair = (format!("u{unit}").into(), format!("u{into}").into());
                    lake.merge_units(&[pair]).unwrap();
                }
                Step::Unmerge(unit) => {
                    lake.unmerge_units(&[format!("u{unit}").into()]).unwrap();
                }
                Step::Expire(day) => {
                    lake.columns().expire_before(FIRST_DAY + day).unwrap();
                    sent.retain(|event| event.time_us >= (FIRST_DAY + day) * DAY_US);
                }
            }
            for query in queries() {
                let kept = lake.answer(&query, 2);
                let full = lake.answer_in_full(&query, 1);
                match (kept, full) {
                    (Ok(kept), Ok(full)) => prop_assert_eq!(told(&kept), told(&full)),
                    // A cap at a percentile of nothing is refused by both.
                    (kept, full) => prop_assert_eq!(kept.is_err(), full.is_err()),
                }
            }
        }
    }
}

#[test]
fn an_acknowledged_event_is_in_the_next_answer() {
    let disk = Arc::new(SimulatedDisk::new());
    let lake = Lake::open(disk, Path::new("/lake"), options()).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for number in 0..20 {
        let tree = event().new_tree(&mut runner).unwrap();
        let sent = Event {
            id: EventId(number),
            ..proptest::strategy::ValueTree::current(&tree)
        };
        lake.append(vec![sent]).unwrap();
        let answer = lake.answer(&queries()[0], 1).unwrap();
        assert_eq!(u128::from(answer.watermark), number + 1);
        assert_eq!(answer.watermark, answer.acknowledged);
    }
}

#[test]
fn lakes_share_one_budget_and_the_longest_unused_metric_goes_first() {
    let memory_of = |bytes| {
        let memory = KeptMemory::new(bytes);
        let lake_of = |dir: &str| {
            let mut options = options();
            options.columns.kept_memory = Some(memory.clone());
            let disk = Arc::new(SimulatedDisk::new());
            let lake = Lake::open(disk, Path::new(dir), options).unwrap();
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let events = (0..60).map(|number| {
                let tree = event().new_tree(&mut runner).unwrap();
                Event {
                    id: EventId(number),
                    ..proptest::strategy::ValueTree::current(&tree)
                }
            });
            lake.append(events.collect()).unwrap();
            lake
        };
        (lake_of("/one"), lake_of("/two"), memory)
    };
    let (one, two, memory) = memory_of(1 << 20);
    let first = &queries()[0];
    one.answer(first, 1).unwrap();
    let bytes = memory.bytes();
    assert!(bytes > 0);
    two.answer(first, 1).unwrap();
    assert_eq!((memory.count(), memory.bytes()), (2, 2 * bytes));
    drop(two);
    assert_eq!((memory.count(), memory.bytes()), (1, bytes));
    // Room for one of them: the other lake's takes it, and both still answer.
    let (one, two, memory) = memory_of(bytes + bytes / 2);
    for lake in [&one, &two, &one] {
        let kept = told(&lake.answer(first, 1).unwrap());
        assert_eq!(kept, told(&lake.answer_in_full(first, 1).unwrap()));
        assert_eq!((memory.count(), memory.bytes()), (1, bytes));
    }
}

#[test]
fn a_question_that_is_given_up_leaves_the_next_answer_whole() {
    let disk = Arc::new(SimulatedDisk::new());
    let lake = Lake::open(disk, Path::new("/lake"), options()).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sent = 0;
    let mut more = || {
        sent += 1;
        let tree = event().new_tree(&mut runner).unwrap();
        Event {
            id: EventId(sent),
            ..proptest::strategy::ValueTree::current(&tree)
        }
    };
    for round in 0..3 {
        lake.append((0..20).map(|_| more()).collect()).unwrap();
        let given_up = std::sync::atomic::AtomicBool::new(true);
        for query in queries() {
            // What is new may be folded in all the same; what must be read whole is not.
            let acknowledged = lake.flush_acknowledged().unwrap();
            let refused = lake.answer_flushed(&query, 2, acknowledged, &given_up);
            let is_given_up = matches!(refused, Err(QueryError::GivenUp));
            assert!(is_given_up || round > 0, "{refused:?}");
            if let Ok(full) = lake.answer_in_full(&query, 1) {
                assert_eq!(told(&lake.answer(&query, 2).unwrap()), told(&full));
            }
        }
    }
}
