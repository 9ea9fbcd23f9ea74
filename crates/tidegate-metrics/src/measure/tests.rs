//! Every measure on a small world whose answers are read off by hand, and invariance.

use super::*;
use crate::EventFilter;
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn arm(since_seconds: i64, variant: u32) -> Assignment {
    Assignment {
        since_us: Some(since_seconds * SECOND),
        variant,
        segment: 0,
        is_mixed: false,
    }
}

/// Two units: 0 exposed at 10 s, 1 exposed at 100 s, 2 mixed, 3 never exposed.
fn world() -> (Vec<Assignment>, Vec<ClassifiedEvent>) {
    let mixed = Assignment {
        is_mixed: true,
        ..arm(0, 1)
    };
    let never = Assignment {
        since_us: None,
        ..arm(0, 0)
    };
    let event = |unit, second: i64, matched, value| ClassifiedEvent {
        unit,
        time_us: second * SECOND,
        matched,
        value,
    };
    let events = vec![
        event(0, 5, 0b01, 3.0),
        event(0, 10, 0b01, 10.0),
        event(2, 11, 0b01, 99.0),
        event(3, 12, 0b01, 99.0),
        event(0, 20, 0b01, f64::NAN),
        event(0, 20, 0b10, 5.0),
        event(0, 50, 0b11, 7.0),
        event(1, 90, 0b01, 50.0),
        event(1, 130, 0b10, 1.0),
    ];
    (vec![arm(10, 1), arm(100, 2), mixed, never], events)
}

fn purchase() -> EventFilter {
    EventFilter::named("purchase")
}

fn measured(measure: Measure) -> Vec<[f64; 2]> {
    let (units, events) = world();
    let metric = MetricDefinition::of(measure);
    let measured = measure_units(&metric, &units, events, i64::MAX, 0);
    assert_eq!(measured.mixed_units, 1);
    measured.units.iter().map(|unit| unit.values).collect()
}

#[test]
fn each_measure_says_what_it_promises() {
    let event = purchase;
    assert_eq!(
        measured(Measure::Count { event: event() }),
        [[3.0, 0.0], [0.0, 0.0]]
    );
    assert_eq!(
        measured(Measure::Sum { event: event() }),
        [[17.0, 0.0], [0.0, 0.0]]
    );
    assert_eq!(
        measured(Measure::Mean { event: event() }),
        [[17.0, 2.0], [0.0, 0.0]]
    );
    let conversion = |within_seconds| Measure::Conversion {
        event: event(),
        within_seconds,
    };
    assert_eq!(measured(conversion(None)), [[1.0, 0.0], [0.0, 0.0]]);
    assert_eq!(measured(conversion(Some(0))), [[1.0, 0.0], [0.0, 0.0]]);
    let retention = |from_seconds, to_seconds| Measure::Retention {
        event: event(),
        from_seconds,
        to_seconds,
    };
    assert_eq!(measured(retention(10, 40)), [[1.0, 0.0], [0.0, 0.0]]);
    assert_eq!(measured(retention(11, 40)), [[0.0, 0.0], [0.0, 0.0]]);
    let quantity = |of| UnitQuantity { event: event(), of };
    let ratio = Measure::Ratio {
        numerator: quantity(Aggregate::Sum),
        denominator: quantity(Aggregate::Count),
    };
    assert_eq!(measured(ratio), [[17.0, 2.0], [0.0, 1.0]]);
}

#[test]
fn the_time_between_needs_a_strictly_later_event_and_leaves_out_the_rest() {
    let (units, events) = world();
    let metric = |within_seconds| {
        MetricDefinition::of(Measure::TimeBetween {
            from: purchase(),
            to: purchase(),
            within_seconds,
        })
    };
    let all = measure_units(&metric(None), &units, events.clone(), i64::MAX, 0);
    assert_eq!(all.units.len(), 1);
    assert_eq!(all.units[0].values, [10.0, 0.0]);
    assert_eq!(all.incomplete_units, 1);
    let short = measure_units(&metric(Some(9)), &units, events, i64::MAX, 0);
    assert_eq!((short.units.len(), short.incomplete_units), (0, 2));
}

#[test]
fn the_covariate_is_the_same_measure_before_exposure() {
    let (units, events) = world();
    let mut metric = MetricDefinition::of(Measure::Sum { event: purchase() });
    for (window, expected) in [(5, [3.0, 0.0]), (4, [0.0, 0.0]), (10, [3.0, 50.0])] {
        metric.covariate_seconds = Some(window);
        let measured = measure_units(&metric, &units, events.clone(), i64::MAX, 0);
        let found: Vec<f64> = measured
            .units
            .iter()
            .map(|unit| unit.covariates[0])
            .collect();
        assert_eq!(found, expected, "{window}");
    }
    assert_eq!(metric.columns(), ["value", "covariate"]);
}

#[test]
fn open_windows_are_counted_as_immature() {
    let (units, events) = world();
    let metric = MetricDefinition::of(Measure::Conversion {
        event: purchase(),
        within_seconds: Some(60),
    });
    let measured = measure_units(&metric, &units, events, 100 * SECOND, 0);
    assert_eq!(measured.immature_units, 1);
}

#[test]
fn a_quantile_keeps_observations_with_their_units() {
    let (units, events) = world();
    let metric = MetricDefinition::of(Measure::Quantile {
        event: purchase(),
        q: 0.5,
    });
    let measured = measure_units(&metric, &units, events, i64::MAX, 1 << 32);
    let summary = summarise(&metric, &[measured]).unwrap();
    let lengths: Vec<_> = summary
        .groups
        .iter()
        .map(|group| (group.variant, group.sample.as_ref().unwrap().len()))
        .collect();
    assert_eq!(lengths, [(1, 2), (2, 0)]);
}

#[test]
fn the_cap_is_pooled_over_variants_and_skips_zeros() {
    let unit = |variant, value| UnitMeasurement {
        unit: 0,
        variant,
        segment: 0,
        values: [value, 0.0],
        covariates: [0.0; 2],
    };
    let values = [(1, 0.0), (1, 1.0), (2, 2.0), (2, 3.0), (1, 1000.0)];
    let bucket = UnitMeasurements {
        units: values
            .iter()
            .map(|(variant, value)| unit(*variant, *value))
            .collect(),
        ..UnitMeasurements::default()
    };
    let mut metric = MetricDefinition::of(Measure::Sum { event: purchase() });
    metric.winsorise = Some(Winsorise::Percentile(0.75));
    let summary = summarise(&metric, std::slice::from_ref(&bucket)).unwrap();
    assert_eq!(summary.cap, Some(3.0));
    assert_eq!(summary.groups[0].moments.units(), 3);
    assert_eq!(summary.groups[0].moments.mean(0), Some(4.0 / 3.0));
    metric.winsorise = Some(Winsorise::Above(10.0));
    assert_eq!(summarise(&metric, &[bucket]).unwrap().cap, Some(10.0));
}

#[test]
fn a_definition_names_its_problems() {
    let mut metric = MetricDefinition::of(Measure::Quantile {
        event: purchase(),
        q: 1.0,
    });
    metric.winsorise = Some(Winsorise::Percentile(1.0));
    let pointers: Vec<_> = metric.problems().into_iter().map(|p| p.pointer).collect();
    assert_eq!(pointers, ["/measure/quantile/q", "/winsorise/percentile"]);
    let text = r#"{"measure":{"conversion":{"event":{"name":"purchase"},"within_seconds":60}}}"#;
    let read: MetricDefinition = serde_json::from_str(text).unwrap();
    assert_eq!(read.problems(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn buckets_and_their_order_change_nothing(
        values in prop::collection::vec((0u32..3, -1e6..1e6f64), 1..60),
        cut in 0usize..60,
    ) {
        let units: Vec<UnitMeasurement> = values
            .iter()
            .map(|(variant, value)| UnitMeasurement {
                unit: 0,
                variant: *variant,
                segment: 0,
                values: [*value, 1.0],
                covariates: [0.0; 2],
            })
            .collect();
        let metric = MetricDefinition::of(Measure::Mean { event: purchase() });
        let bucket = |units: &[UnitMeasurement]| UnitMeasurements {
            units: units.to_vec(),
            ..UnitMeasurements::default()
        };
        let (left, right) = units.split_at(cut.min(units.len()));
        let whole = summarise(&metric, &[bucket(&units)]).unwrap();
        let parts = summarise(&metric, &[bucket(right), bucket(left)]).unwrap();
        prop_assert!(metric.adds_up());
        let mut merged = summarise(&metric, &[bucket(right)]).unwrap();
        merged.merge(summarise(&metric, &[bucket(left)]).unwrap()).unwrap();
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(&whole, &merged);
    }
}
