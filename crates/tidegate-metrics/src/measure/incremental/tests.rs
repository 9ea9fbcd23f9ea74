//! Kept up with random arrivals, a state equals a full recompute at every step.

use super::*;
use crate::measure::{Winsorise, measure_units};
use crate::{EventFilter, assign_units};
use proptest::prelude::*;

const UNITS: u32 = 6;

#[derive(Debug, Clone, Copy)]
enum What {
    Exposure { variant: u32, segment: u32 },
    Event { matched: u64, value: f64 },
}

/// A row as a lake has it.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: u32,
    unit: u32,
    time_us: i64,
    what: What,
}

/// What happens in one step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// Rows arrive: new ones, and copies of earlier ones by position.
    Arrive(Vec<Row>, Vec<prop::sample::Index>),
    Erase(u32),
    /// The first unit turns out to be the second.
    Merge(u32, u32),
}

/// Everything known by a step: rows once each, and who was merged into whom.
#[derive(Default)]
struct World {
    rows: Vec<Row>,
    merged: BTreeMap<u32, u32>,
    erased: BTreeSet<u32>,
}

impl World {
    fn unit_of(&self, unit: u32) -> u32 {
        self.merged.get(&unit).copied().unwrap_or(unit)
    }

    fn is_live(&self, row: &Row) -> bool {
        !self.erased.contains(&self.unit_of(row.unit))
    }

    /// Rows as units see them now, in the order of a scan.
    fn seen(&self, rows: &[Row]) -> (Vec<ExposureEvent>, Vec<ClassifiedEvent>) {
        let mut rows: Vec<Row> = rows
            .iter()
            .copied()
            .filter(|row| self.is_live(row))
            .collect();
        rows.sort_by_key(|row| (row.time_us, row.id));
        rows.dedup_by_key(|row| row.id);
        let (mut exposures, mut events) = (Vec::new(), Vec::new());
        for row in rows {
            let (unit, time_us) = (self.unit_of(row.unit), row.time_us);
            match row.what {
                What::Exposure { variant, segment } => exposures.push(ExposureEvent {
                    unit,
                    time_us,
                    variant,
                    segment,
                }),
                What::Event { matched, value } => events.push(ClassifiedEvent {
                    unit,
                    time_us,
                    matched,
                    value,
                }),
            }
        }
        (exposures, events)
    }

    fn known_units(&self) -> usize {
        let units = self
            .rows
            .iter()
            .flat_map(|row| [row.unit, self.unit_of(row.unit)]);
        units
            .max()
            .map_or(0, |unit| usize::try_from(unit).unwrap() + 1)
    }
}

fn row() -> impl Strategy<Value = Row> {
    let what = prop_oneof![
        2 => (1u32..4, 0u32..3).prop_map(|(variant, segment)| What::Exposure {
            // Most units meet one variant alone.
            variant: variant.min(2),
            segment,
        }),
        5 => (0u64..4, prop_oneof![Just(f64::NAN), -9.7..99.9f64]).prop_map(
            |(matched, value)| What::Event { matched, value }
        ),
    ];
    (any::<u32>(), 0..UNITS, 0i64..40, what).prop_map(|(id, unit, time, what)| Row {
        id,
        unit,
        time_us: time * 500_000,
        what,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let copies = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop_oneof![
        8 => (prop::collection::vec(row(), 0..12), copies)
            .prop_map(|(rows, copies)| Step::Arrive(rows, copies)),
        1 => (0..UNITS).prop_map(Step::Erase),
        1 => (0..UNITS, 0..UNITS).prop_map(|(from, to)| Step::Merge(from, to)),
    ]
}

fn metrics() -> Vec<MetricDefinition> {
    let event = || EventFilter::named("a");
    let total = |of| super::super::UnitQuantity { event: event(), of };
    let measures = [
        Measure::Count { event: event() },
        Measure::Sum { event: event() },
        Measure::Mean { event: event() },
        Measure::Conversion {
            event: event(),
            within_seconds: Some(5),
        },
        Measure::Ratio {
            numerator: total(super::super::Aggregate::Sum),
            denominator: total(super::super::Aggregate::Count),
        },
        Measure::Quantile {
            event: event(),
            q: 0.5,
        },
        Measure::Retention {
            event: event(),
            from_seconds: 2,
            to_seconds: 6,
        },
        Measure::TimeBetween {
            from: event(),
            to: event(),
            within_seconds: Some(8),
        },
    ];
    let mut all: Vec<MetricDefinition> = measures.map(MetricDefinition::of).into();
    for winsorise in [Winsorise::Above(20.0), Winsorise::Percentile(0.8)] {
        all.push(MetricDefinition {
            winsorise: Some(winsorise),
            covariate_seconds: Some(6),
            ..MetricDefinition::of(Measure::Sum { event: event() })
        });
    }
    all
}

/// One metric kept up, as a lake keeps it.
struct Kept(MetricDefinition, MetricState);

impl Kept {
    fn again(&mut self, world: &World, units: &BTreeSet<u32>) {
        let (exposures, events) = world.seen(&world.rows);
        self.1.run_again(units, &exposures, events).unwrap();
    }

    fn step(&mut self, world: &World, new: &[Row], step: &Step) {
        match step {
            Step::Arrive(..) => {
                let (exposures, events) = world.seen(new);
                let units = world.known_units();
                let dirty = self.1.advance(units, &exposures, events).unwrap();
                self.again(world, &dirty);
            }
            Step::Erase(unit) => self.1.forget(*unit).unwrap(),
            Step::Merge(from, to) => {
                let units = world.known_units();
                assert!(self.1.advance(units, &[], []).unwrap().is_empty());
                self.1.forget(*from).unwrap();
                self.again(world, &BTreeSet::from([*to]));
            }
        }
    }

    fn check(&self, world: &World, end_us: i64) -> Result<(), TestCaseError> {
        let (exposures, events) = world.seen(&world.rows);
        let assignments = assign_units(world.known_units(), exposures);
        let full = measure_units(&self.0, &assignments, events, end_us, 7);
        let kept = self.1.measurements(end_us, 7);
        let bits = |measured: &UnitMeasurements| -> Vec<_> {
            let units = measured.units.iter();
            units
                .map(|unit| {
                    let values = unit.values.iter().chain(&unit.covariates);
                    let values: Vec<u64> = values.map(|value| value.to_bits()).collect();
                    (unit.unit, unit.variant, unit.segment, values)
                })
                .collect()
        };
        prop_assert_eq!(bits(&kept), bits(&full));
        let counts = |m: &UnitMeasurements| (m.mixed_units, m.incomplete_units, m.immature_units);
        prop_assert_eq!(counts(&kept), counts(&full));
        let expected = summarise(&self.0, &[full]);
        let found = summarise_states(&self.0, &[(7, &self.1)], end_us);
        match (found, expected) {
            (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected),
            (found, expected) => prop_assert_eq!(found.is_err(), expected.is_err()),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Late arrivals, copies, units exposed late, earlier, and to two variants, identity merges
    /// and erasures: at every step the state is what a full recompute measures, bit for bit.
    #[test]
    fn incremental_equals_a_full_recompute(steps in prop::collection::vec(step(), 1..12)) {
        let mut world = World::default();
        let mut kept: Vec<Kept> = metrics()
            .into_iter()
            .map(|metric| Kept(metric.clone(), MetricState::new(&metric)))
            .collect();
        for step in steps {
            let mut new = Vec::new();
            match &step {
                Step::Arrive(rows, copies) => {
                    new.extend(rows);
                    if !world.rows.is_empty() {
                        new.extend(copies.iter().map(|index| *index.get(&world.rows)));
                    }
                    let known: BTreeSet<u32> = world.rows.iter().map(|row| row.id).collect();
                    let fresh = new.iter().filter(|row| !known.contains(&row.id));
                    world.rows.extend(fresh.copied().collect::<Vec<_>>());
                }
                Step::Erase(unit) => {
                    world.erased.insert(*unit);
                }
                Step::Merge(from, to) => {
                    // A unit is merged once, into one that is not merged itself.
                    let is_free = |unit| !world.merged.contains_key(unit)
                        && !world.merged.values().any(|other| other == unit)
                        && !world.erased.contains(unit);
                    if from == to || !is_free(from) || !is_free(to) {
                        continue;
                    }
                    world.merged.insert(*from, *to);
                }
            }
            for metric in &mut kept {
                metric.step(&world, &new, &step);
                metric.check(&world, 12_000_000)?;
            }
        }
    }
}

#[test]
fn later_events_of_known_units_need_no_second_run() {
    let metric = MetricDefinition::of(Measure::Sum {
        event: EventFilter::named("a"),
    });
    let mut state = MetricState::new(&metric);
    let exposure = ExposureEvent {
        unit: 0,
        time_us: 5,
        variant: 1,
        segment: 0,
    };
    let event = |time_us, value| ClassifiedEvent {
        unit: 0,
        time_us,
        matched: 1,
        value,
    };
    let dirty = state.advance(1, &[exposure], [event(6, 1.0)]).unwrap();
    assert!(dirty.is_empty());
    assert!(
        state
            .advance(1, &[exposure], [event(7, 2.0)])
            .unwrap()
            .is_empty()
    );
    let late = state.advance(1, &[], [event(7, 2.0)]).unwrap();
    assert_eq!(late, BTreeSet::from([0]));
}
