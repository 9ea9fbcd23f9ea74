//! Merged units: answers are those of one unit that had sent everything, and merges last.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use support::{DAY_US, DIR, Deed, FIRST_DAY};
use tidegate_lake::{AliasRefusal, ColumnOptions, Lake, LakeIo, SimulatedDisk, read_file};
use tidegate_metrics::report::{
    Comparing, Subject, adoption_report, journey_report, lifecycle_report, metric_report,
    retention_report,
};
use tidegate_metrics::{
    Answer, Days, Event, EventFilter, EventId, EventKind, Findings, Grouping, JourneyDefinition,
    MetricDefinition, PropertyValue, Query,
};

const UNITS: u8 = 7;

fn columns() -> ColumnOptions {
    ColumnOptions {
        buckets: 4,
        gathered_rows: 20,
        ..ColumnOptions::default()
    }
}

fn open(disk: &SimulatedDisk) -> Lake {
    support::open(disk, columns())
}

fn name(unit: u8) -> Box<str> {
    format!("u{unit}").into()
}

/// Few units and few times, so that people do several things in the same microsecond.
fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), 0..UNITS, 0i64..14, 0u8..5, 0u8..40).prop_map(|(id, unit, hour, what, value)| {
        let time_us = FIRST_DAY * DAY_US + hour * (DAY_US / 4);
        let variant = if value == 0 {
            "on"
        } else {
            ["on", "off"][usize::from(id % 9 == 0)]
        };
        let country = ["de", "at"][usize::from(value % 2)];
        Event {
            value: (value > 9).then_some(f64::from(value) * 0.7),
            properties: vec![("country".into(), PropertyValue::Text(country.into()))],
            ..support::event(id, unit, time_us, Deed::of(what, 3, variant))
        }
    })
}

fn queries() -> Vec<Query> {
    let days = Days {
        first: FIRST_DAY,
        last: FIRST_DAY + 9,
    };
    let by = |segment: Option<&str>| Grouping {
        flag: "flag".to_owned(),
        segment: segment.map(str::to_owned),
    };
    let metric = |measure: Value, segment| Query::UnitMetric {
        metric: MetricDefinition::from_json(&measure).unwrap(),
        by: by(segment),
        days,
    };
    let journey = |spec: Value, by| Query::Journey {
        journey: JourneyDefinition::from_json(&spec).unwrap(),
        by,
        days,
    };
    let events = || vec![EventFilter::named("n1"), EventFilter::named("n2")];
    // More than a mask has bits.
    let many = || -> Vec<EventFilter> {
        let names = ["n1", "n0", "n2"].iter().cycle().take(70);
        names.map(|name| EventFilter::named(name)).collect()
    };
    let steps = json!(["n1", "n2", "n1"]);
    vec![
        metric(
            json!({"measure": {"sum": {"event": "n1"}}, "covariate_seconds": 86_400}),
            None,
        ),
        metric(
            json!({"measure": {"quantile": {"event": "n2", "q": 0.5}}}),
            None,
        ),
        metric(
            json!({"measure": {"time_between": {"from": "n1", "to": "n2"}}}),
            Some("country"),
        ),
        journey(json!({"steps": steps, "within_seconds": 172_800}), None),
        journey(
            json!({"steps": steps, "reentry": "every_completion"}),
            Some(by(Some("country"))),
        ),
        journey(json!({"steps": ["n1", "n2"], "order": "strict"}), None),
        journey(
            json!({"steps": ["n2", "n1", "n0"], "order": "any"}),
            Some(by(None)),
        ),
        Query::Usage {
            events: events(),
            days,
        },
        Query::Adoption {
            events: events(),
            by: Some(by(None)),
            days,
            period_days: 2,
        },
        Query::Retention {
            events: Vec::new(),
            days,
            period_days: 1,
        },
        Query::Usage {
            events: many(),
            days,
        },
        Query::Adoption {
            events: many(),
            by: Some(by(Some("country"))),
            days,
            period_days: 2,
        },
        Query::Retention {
            events: many(),
            days,
            period_days: 2,
        },
        Query::Lifecycle {
            events: Vec::new(),
            by: None,
            days: Days {
                first: FIRST_DAY + 1,
                last: FIRST_DAY + 4,
            },
            period_days: 2,
        },
        Query::Lifecycle {
            events: Vec::new(),
            by: Some(by(Some("country"))),
            days,
            period_days: 1,
        },
        Query::Lifecycle {
            events: events(),
            by: Some(by(None)),
            days,
            period_days: 1,
        },
    ]
}

/// What an answer says, as a report would; who the units were is not in it.
fn told(query: &Query, answer: &Answer) -> Value {
    let subject = Subject {
        kind: "question",
        key: None,
        revision: None,
    };
    let comparing = Comparing {
        control: Some("off".to_owned()),
        ..Comparing::default()
    };
    let report = match &answer.findings {
        Findings::UnitMetric(_) => {
            metric_report(subject, query, answer, &comparing).map(|report| json!(report))
        }
        Findings::Journey(_) => {
            journey_report(subject, query, answer, &comparing).map(|report| json!(report))
        }
        Findings::Adoption(_) => {
            adoption_report(subject, query, answer).map(|report| json!(report))
        }
        Findings::Retention(_) => {
            retention_report(subject, query, answer, 0.05).map(|report| json!(report))
        }
        Findings::Lifecycle(_) => {
            lifecycle_report(subject, query, answer, 0.05).map(|report| json!(report))
        }
        Findings::Usage(usage) => Ok(json!(format!("{:?}", usage.cells))),
    };
    let mut report = report.unwrap_or_else(|error| json!(error.to_string()));
    if let Some(report) = report.as_object_mut() {
        report.remove("computed_from");
        report.remove("watermark");
    }
    report
}

/// Follows merges from unit to unit to their end.
fn person(unit: &str, merged: &BTreeMap<Box<str>, Box<str>>) -> Box<str> {
    merged
        .get(unit)
        .map_or_else(|| unit.into(), |next| person(next, merged))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Merge, then run: answers are those of a lake whose events name the person from the start;
    /// copies that were sent under both names count once.
    #[test]
    fn a_merged_person_answers_as_one_unit_would(
        events in prop::collection::vec(event(), 1..60),
        pairs in prop::collection::vec((0..UNITS, 0..UNITS), 0..6),
        copies in prop::collection::vec((any::<prop::sample::Index>(), 0..UNITS), 0..3),
        unmerged in 0..UNITS,
        is_early in any::<bool>(),
    ) {
        let (lake, disk) = { let disk = SimulatedDisk::new(); (open(&disk), disk) };
        let mut merged = BTreeMap::new();
        let mut join = |lake: &Lake| {
            for (unit, into) in &pairs {
                let pair = (name(*unit), name(*into));
                let report = lake.merge_units(std::slice::from_ref(&pair)).unwrap();
                if report.changed == 1 {
                    merged.insert(pair.0, pair.1);
                }
            }
            let report = lake.unmerge_units(&[name(unmerged)]).unwrap();
            prop_assert_eq!(report.changed == 1, merged.remove(&name(unmerged)).is_some());
            Ok(())
        };
        if is_early {
            join(&lake)?;
        }
        lake.append(events.clone()).unwrap();
        lake.flush().unwrap();
        if !is_early {
            join(&lake)?;
        }
        // Sent once more, under another name of the same person.
        let copies: Vec<Event> = copies
            .iter()
            .map(|(at, unit)| Event { unit: name(*unit), ..at.get(&events).clone() })
            .filter(|copy| events.iter().any(|event| {
                event.id == copy.id && person(&event.unit, &merged) == person(&copy.unit, &merged)
            }))
            .collect();
        lake.append(copies).unwrap();
        let renamed = SimulatedDisk::new();
        let renamed = open(&renamed);
        let rename = |event: &Event| Event { unit: person(&event.unit, &merged), ..event.clone() };
        renamed.append(events.iter().map(rename).collect()).unwrap();
        let reopened = { disk.kill(); open(&disk) };
        for query in queries() {
            let expected = told(&query, &renamed.answer_in_full(&query, 1).unwrap());
            let full = reopened.answer_in_full(&query, 2).unwrap();
            prop_assert_eq!(&told(&query, &full), &expected, "{:?}", query);
            let kept = reopened.answer(&query, 1).unwrap();
            prop_assert_eq!(&told(&query, &kept), &expected, "kept: {:?}", query);
        }
        let report = reopened.verify(&mut |_, _| {}).unwrap();
        prop_assert_eq!(report.problems, Vec::<String>::new());
        prop_assert_eq!(report.merged_units, merged.len() as u64);
    }

    /// Whatever the power cut leaves, what was acknowledged is there, and nothing is half done.
    #[test]
    fn an_acknowledged_merge_survives_a_power_cut(
        pairs in prop::collection::vec((0..UNITS, 0..UNITS, any::<bool>()), 1..12),
        operations in 0u64..60,
        seed in any::<u64>(),
    ) {
        let disk = SimulatedDisk::new();
        let lake = open(&disk);
        lake.append(Vec::new()).unwrap();
        let mut versions = vec![0];
        disk.stop_after(operations);
        for (unit, into, is_merge) in pairs {
            let report = match is_merge {
                true => lake.merge_units(&[(name(unit), name(into))]),
                false => lake.unmerge_units(&[name(unit)]),
            };
            match report {
                Ok(report) => versions.push(report.version),
                Err(_) => break,
            }
        }
        let said = lake.columns().state().aliases().clone();
        let acknowledged = *versions.last().unwrap();
        prop_assert_eq!(said.version(), acknowledged);
        drop(lake);
        disk.crash(seed);
        let lake = open(&disk);
        let found = lake.columns().state().aliases().clone();
        // One change may have been under way.
        prop_assert!((acknowledged..=acknowledged + 1).contains(&found.version()));
        if found.version() == acknowledged {
            prop_assert_eq!(found, said);
        }
        let report = lake.verify(&mut |_, _| {}).unwrap();
        prop_assert_eq!(report.problems, Vec::<String>::new());
    }
}

fn track(number: u64, unit: &str) -> Event {
    let time_us = FIRST_DAY * DAY_US + i64::try_from(number).unwrap();
    Event {
        id: EventId(u128::from(number)),
        time_us,
        received_us: time_us,
        sent_us: None,
        unit: unit.into(),
        kind: EventKind::Track,
        name: "seen".into(),
        value: None,
        properties: Vec::new(),
        flags: Vec::new(),
        trace_id: None,
        is_quarantined: false,
    }
}

/// Files on the disk that hold a text.
fn traces(disk: &SimulatedDisk, text: &str) -> usize {
    let dirs = ["/lake", "/lake/log", "/lake/events", "/lake/units"];
    let files = dirs.iter().flat_map(|dir| {
        let dir = Path::new(dir);
        disk.list(dir)
            .unwrap()
            .into_iter()
            .map(move |name| dir.join(name))
    });
    let holds = |path: &std::path::PathBuf| {
        let content = read_file(disk, path, 1 << 30).unwrap_or_default();
        content
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    files.filter(holds).count()
}

#[test]
fn erasing_a_merged_person_erases_all_its_units() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    let names = ["anonymous-1", "anonymous-2", "kunigunde", "somebody-else"];
    lake.append(
        (0u64..40)
            .map(|number| track(number, names[(number % 4) as usize]))
            .collect(),
    )
    .unwrap();
    let pair = |unit: &str, into: &str| (unit.into(), into.into());
    lake.merge_units(&[
        pair("anonymous-1", "kunigunde"),
        pair("anonymous-2", "anonymous-1"),
    ])
    .unwrap();
    let usage = Query::Usage {
        events: vec![EventFilter::named("seen")],
        days: Days::ALL,
    };
    let units = |lake: &Lake| match lake.answer(&usage, 1).unwrap().findings {
        Findings::Usage(usage) => {
            let cells = usage.cells.values();
            cells
                .map(|cell| (cell.events, cell.units))
                .collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(units(&lake), [(40, 2)]);
    let receipt = lake.erase_unit("anonymous-1").unwrap().unwrap();
    assert_eq!((receipt.units.len(), receipt.rows_erased), (3, 30));
    assert_eq!(units(&lake), [(10, 1)]);
    for erased in &names[..3] {
        assert_eq!(traces(&disk, erased), 0, "{erased}");
    }
    let reopened = open(&disk);
    let report = reopened.verify(&mut |_, _| {}).unwrap();
    assert_eq!(
        (report.problems, report.events, report.merged_units),
        (vec![], 10, 0)
    );
    // The names come back as strangers to each other.
    reopened
        .append(vec![track(90, "anonymous-1"), track(91, "kunigunde")])
        .unwrap();
    assert_eq!(units(&reopened), [(12, 3)]);
}

#[test]
fn a_merge_is_idempotent_reversible_and_refused_where_it_cannot_be() {
    let disk = SimulatedDisk::new();
    let lake = open(&disk);
    let pair = |unit: &str, into: &str| (unit.into(), into.into());
    let report = lake
        .merge_units(&[
            pair("a", "b"),
            pair("a", "b"),
            pair("b", "c"),
            pair("a", "c"),
        ])
        .unwrap();
    assert_eq!(
        (report.changed, report.unchanged, report.version),
        (2, 2, 2)
    );
    let report = lake
        .merge_units(&[pair("c", "a"), pair("a", "a"), pair("a", "d")])
        .unwrap();
    let refused = [
        (0, AliasRefusal::Cycle),
        (1, AliasRefusal::SameUnit),
        (2, AliasRefusal::MergedElsewhere),
    ];
    assert_eq!(
        (report.refused.as_slice(), report.changed),
        (&refused[..], 0)
    );
    // A name that was only ever refused leaves no trace.
    assert_eq!(lake.columns().state().aliases().merged_units(), 2);
    let report = lake
        .unmerge_units(&["b".into(), "b".into(), "nobody".into()])
        .unwrap();
    assert_eq!(
        (report.changed, report.unchanged, report.version),
        (1, 2, 3)
    );
    assert_eq!(lake.merge_units(&[pair("c", "a")]).unwrap().changed, 1);
}

#[test]
fn a_torn_entry_is_cut_and_a_damaged_one_is_named() {
    let disk = SimulatedDisk::new();
    let path = Path::new("/lake/aliases");
    let lake = open(&disk);
    for number in 0..3 {
        let pair = (format!("a{number}").into(), "person".into());
        lake.merge_units(&[pair]).unwrap();
    }
    drop(lake);
    let whole = read_file(&disk, path, 1 << 20).unwrap();
    let file = disk.open(path).unwrap();
    file.write_all_at(&whole[whole.len() - 20..], whole.len() as u64)
        .unwrap();
    let lake = open(&disk);
    assert_eq!(lake.columns().state().aliases().merged_units(), 3);
    assert_eq!(read_file(&disk, path, 1 << 20).unwrap(), whole);
    // A bit of an entry in the middle.
    let middle = whole.len() as u64 / 2;
    disk.open(path).unwrap().write_all_at(b"~", middle).unwrap();
    let report = lake.verify(&mut |_, _| {}).unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.contains("aliases")),
        "{report:?}"
    );
    drop(lake);
    let error =
        Lake::open(Arc::new(disk), Path::new(DIR), support::options(columns())).unwrap_err();
    assert!(error.to_string().contains("aliases"), "{error}");
}
