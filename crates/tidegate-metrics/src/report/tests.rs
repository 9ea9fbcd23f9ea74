//! Reports against plain comparisons, and what they refuse.

use super::*;
use crate::measure::{Measure, MetricDefinition, UnitMeasurement, UnitMeasurements, summarise};
use crate::query::{Findings, Grouping};
use crate::{Adoption, AdoptionKey, EventFilter, Retention, UsageCell};
use tidegate_stats::ArmSummary;
use tidegate_stats::Moments;
use tidegate_stats::sequential::{self, SequentialOptions};

fn subject() -> Subject {
    Subject {
        kind: "metric",
        key: Some("revenue".to_owned()),
        revision: Some(3),
    }
}

fn question(measure: Measure) -> (Query, MetricDefinition) {
    let metric = MetricDefinition::of(measure);
    let query = Query::UnitMetric {
        metric: metric.clone(),
        by: Grouping {
            flag: "exp".to_owned(),
            segment: None,
        },
        days: Days::ALL,
    };
    (query, metric)
}

fn answer(findings: Findings, names: &[&str]) -> Answer {
    let named = std::iter::once("").chain(names.iter().copied());
    Answer {
        findings,
        names: named.map(str::to_owned).collect(),
        watermark: 7,
        aliases: 0,
        acknowledged: 7,
        // An event of the future: what is over is said by what was received.
        data_end_us: Some(20_001 * DAY_US),
        received_until_us: Some(20_000 * DAY_US),
        events: 99,
        missing: Vec::new(),
    }
}

fn values() -> Vec<(u32, f64)> {
    (0..400u32)
        .map(|unit| {
            (
                unit % 2 + 1,
                f64::from(unit % 7) * 1.25 + f64::from(unit % 2),
            )
        })
        .collect()
}

fn measured(metric: &MetricDefinition) -> Findings {
    let units = (0u64..)
        .zip(values())
        .map(|(unit, (variant, value))| UnitMeasurement {
            unit,
            variant,
            segment: 0,
            values: [value, 0.0],
            covariates: [0.0, 0.0],
        });
    let measurements = UnitMeasurements {
        units: units.collect(),
        mixed_units: 3,
        ..UnitMeasurements::default()
    };
    Findings::UnitMetric(summarise(metric, &[measurements]).unwrap())
}

fn sum() -> Measure {
    Measure::Sum {
        event: EventFilter::named("purchase"),
    }
}

#[test]
fn a_metric_report_carries_the_figures_of_a_plain_comparison() {
    let (query, metric) = question(sum());
    let answer = answer(measured(&metric), &["control", "treatment"]);
    let report = metric_report(subject(), &query, &answer, &Comparing::default()).unwrap();
    assert_eq!(report.control.as_deref(), Some("control"));
    assert_eq!(report.units.counted, 400);
    assert_eq!(report.units.mixed, 3);
    let arm = |variant: u32, side| {
        let own = values().into_iter().filter(|(of, _)| *of == variant);
        let moments = Moments::from_values(own.map(|(_, value)| value)).unwrap();
        ArmSummary::from_moments(&moments, side).unwrap()
    };
    let plain = sequential::compare(
        &arm(1, tidegate_stats::Side::Control),
        &arm(2, tidegate_stats::Side::Treatment),
        &SequentialOptions::default(),
    )
    .unwrap();
    let figures = serde_json::to_value(&report.rows[1].comparison).unwrap();
    assert_eq!(
        figures["absolute"],
        serde_json::to_value(plain.absolute).unwrap()
    );
    assert_eq!(
        figures["relative"],
        serde_json::to_value(plain.relative).unwrap()
    );
    assert_eq!(figures["p_value"], plain.p_value);
    assert_eq!(figures["n_control"], 200);
    let row = &report.rows[0];
    let interval = row.interval.unwrap();
    assert!(interval.lower < row.value.unwrap() && row.value.unwrap() < interval.upper);
    assert!(report.split.check.is_some());
    let json = serde_json::to_value(&report).unwrap();
    for name in [
        "watermark",
        "computed_from",
        "definition",
        "rows",
        "units",
        "split",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    assert_eq!(json["definition"]["key"], "revenue");
    assert_eq!(json["computed_from"]["events"], 99);
}

#[test]
fn a_digest_changes_with_what_decides_the_numbers_and_with_nothing_else() {
    let (query, metric) = question(sum());
    let answer = answer(measured(&metric), &["off", "on"]);
    let digest = |comparing: &Comparing| {
        let report = metric_report(subject(), &query, &answer, comparing).unwrap();
        report.ground.definition.digest
    };
    let strict = Comparing {
        alpha: 0.01,
        ..Comparing::default()
    };
    assert_eq!(digest(&Comparing::default()), digest(&Comparing::default()));
    assert_ne!(digest(&Comparing::default()), digest(&strict));
}

#[test]
fn a_control_or_shares_of_variants_not_seen_are_refused_with_those_that_were() {
    let (query, metric) = question(sum());
    let answer = answer(measured(&metric), &["blue", "green"]);
    let ask = |comparing: Comparing| metric_report(subject(), &query, &answer, &comparing);
    let error = ask(Comparing::default()).unwrap_err().to_string();
    assert!(error.contains("blue, green"), "{error}");
    let named = Comparing {
        control: Some("green".to_owned()),
        ..Comparing::default()
    };
    assert!(ask(named.clone()).unwrap().rows[0].is_control);
    let shares = Comparing {
        shares: vec![("green".to_owned(), 1.0)],
        shares_are: SharesAre::Given,
        ..named.clone()
    };
    assert!(matches!(ask(shares), Err(ReportError::Shares { .. })));
    let skewed = Comparing {
        shares: vec![("green".to_owned(), 9.0), ("blue".to_owned(), 1.0)],
        shares_are: SharesAre::Given,
        ..named.clone()
    };
    let check = ask(skewed).unwrap().split.check.unwrap();
    assert!(check.sequential.p_value < 1e-6);
    let wrong = Comparing {
        alpha: 0.7,
        ..named
    };
    assert!(matches!(ask(wrong), Err(ReportError::Statistics(_))));
}

#[test]
fn no_exposure_is_a_report_that_says_so() {
    let (query, metric) = question(sum());
    let nothing = Findings::UnitMetric(summarise(&metric, &[]).unwrap());
    let report = metric_report(
        subject(),
        &query,
        &answer(nothing, &[]),
        &Comparing::default(),
    )
    .unwrap();
    assert!(report.rows.is_empty());
    assert!(report.notes[0].contains("no unit was exposed"));
}

#[test]
fn shares_have_intervals_inside_the_unit_interval() {
    for method in [ReportMethod::Sequential, ReportMethod::Fixed] {
        let comparing = Comparing {
            method,
            ..Comparing::default()
        };
        for (count, of) in [(0, 10), (10, 10), (3, 10), (500, 1000)] {
            let Interval { lower, upper } = comparing.share_interval(count, of).unwrap();
            let share = count as f64 / of as f64;
            assert!((0.0..=share).contains(&lower) && (share..=1.0).contains(&upper));
            assert!(upper - lower > 0.0);
        }
    }
    // Wilson's own interval at 3 of 10 with t quantile 2.2622 for 9 degrees.
    let fixed = Comparing {
        method: ReportMethod::Fixed,
        ..Comparing::default()
    };
    let found = fixed.share_interval(3, 10).unwrap();
    let (q, n, p) = (2.262_157_162_740_992_f64, 10.0, 0.3);
    for end in [found.lower, found.upper] {
        let score = (p - end).abs() / (end * (1.0 - end) / n).sqrt();
        assert!((score - q).abs() < 1e-9, "{score}");
    }
}

#[test]
fn adoption_and_retention_name_their_periods_and_what_is_not_over() {
    let query = Query::Adoption {
        events: vec![EventFilter::named("purchase")],
        by: None,
        days: Days {
            first: 19_990,
            last: 20_010,
        },
        period_days: 7,
    };
    let key = |period| AdoptionKey {
        period,
        filter: 0,
        variant: 0,
        segment: 0,
    };
    let cell = UsageCell {
        events: 5,
        units: 2,
    };
    let found = Adoption {
        cells: [(key(0), cell), (key(1), cell)].into(),
        ..Adoption::default()
    };
    let report =
        adoption_report(subject(), &query, &answer(Findings::Adoption(found), &[])).unwrap();
    assert_eq!(report.rows[0].from, "2024-09-24");
    assert_eq!(report.rows[0].to, "2024-09-30");
    assert_eq!((report.rows[0].n, report.rows[0].value), (5, 2));
    assert!(report.rows[0].is_complete && !report.rows[1].is_complete);

    let query = Query::Retention {
        events: Vec::new(),
        days: Days {
            first: 19_990,
            last: 20_010,
        },
        period_days: 7,
    };
    let found = Retention {
        cells: [((0, 0), 10), ((0, 2), 4), ((1, 0), 5)].into(),
    };
    let report = retention_report(
        subject(),
        &query,
        &answer(Findings::Retention(found), &[]),
        0.05,
    )
    .unwrap();
    let rows: Vec<(i64, u64, u64, bool)> = report
        .rows
        .iter()
        .map(|row| (row.later, row.n, row.active, row.is_complete))
        .collect();
    assert_eq!(
        rows,
        [
            (0, 10, 10, true),
            (1, 10, 0, false),
            (2, 10, 4, false),
            (0, 5, 5, false),
            (1, 5, 0, false)
        ]
    );
}

#[test]
fn a_cohort_nobody_came_back_of_is_shown_as_zero_as_far_as_time_has_gone() {
    let question = |last| Query::Retention {
        events: Vec::new(),
        days: Days {
            first: 19_980,
            last,
        },
        period_days: 7,
    };
    let rows = |last, received_until_us| {
        let found = Retention {
            cells: [((0, 0), 10), ((0, 1), 4)].into(),
        };
        let answer = Answer {
            received_until_us,
            ..answer(Findings::Retention(found), &[])
        };
        let report = retention_report(subject(), &question(last), &answer, 0.05).unwrap();
        let rows = report.rows.iter();
        rows.map(|row| (row.later, row.active, row.value, row.is_complete))
            .collect::<Vec<_>>()
    };
    let first = [(0, 10, Some(1.0), true), (1, 4, Some(0.4), true)];
    let third = |is_complete| (2, 0, Some(0.0), is_complete);
    let today = |day: i64| Some(day * DAY_US + 5);
    // The third period begins on day 19_994 and ends before 20_001.
    assert_eq!(
        rows(20_010, today(19_994)),
        [&first[..], &[third(false)]].concat()
    );
    assert_eq!(
        rows(20_000, today(20_001)),
        [&first[..], &[third(true)]].concat()
    );
    // Days that were not asked about, and such as have not come, are not there.
    assert_eq!(rows(19_993, today(20_001)), first);
    assert_eq!(rows(20_010, today(19_993)).len(), 2);
    assert_eq!(rows(20_010, None).len(), 2);
}

#[test]
fn units_in_two_variants_are_a_share_of_all_that_were_exposed() {
    let (query, metric) = question(Measure::TimeBetween {
        from: EventFilter::named("begun"),
        to: EventFilter::named("done"),
        within_seconds: None,
    });
    let Findings::UnitMetric(mut summary) = measured(&metric) else {
        panic!("a metric is measured");
    };
    summary.incomplete_units = 97;
    let answer = answer(Findings::UnitMetric(summary), &["control", "treatment"]);
    let report = metric_report(subject(), &query, &answer, &Comparing::default()).unwrap();
    assert_eq!(
        report.notes[0],
        "3 of 500 units were exposed to two variants and are in no row"
    );
}
