//! Metrics: one measurement per exposed unit, and the sufficient statistics of groups of units.
//!
//! # Semantics
//! A unit is measured if it was exposed to one variant alone; its events at or after its first
//! exposure count. A unit without any such event is measured as zero, it is never left out; only
//! [`Measure::TimeBetween`] leaves out units that did not do both, and says how many. Windows are
//! elapsed time from the first exposure, inclusive. A covariate is the same measure over the
//! window before the first exposure. Caps are taken over all variants pooled, of the units that
//! are not zero, and applied to the per-unit total.
//!
//! # Form
//! [`measure_units`] folds the events of one bucket; [`summarise`] joins buckets into exact
//! moments (`tidegate-stats`), whose sums are the same bits in any order.

mod definition;
mod incremental;
mod summary;

#[cfg(test)]
mod tests;

use crate::exposure::Assignment;
use crate::journey::ClassifiedEvent;
pub use definition::{Aggregate, Measure, MetricDefinition, UnitQuantity, Winsorise};
pub use incremental::{MetricState, summarise_states};
pub use summary::{GroupStatistics, MetricSummary, summarise};

/// One unit's measurement. Which columns there are, [`MetricDefinition::columns`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitMeasurement {
    /// The unit, unique over all buckets.
    pub unit: u64,
    /// Number of its variant.
    pub variant: u32,
    /// Number of its segment.
    pub segment: u32,
    /// Value, or numerator and denominator.
    pub values: [f64; 2],
    /// The same before exposure.
    pub covariates: [f64; 2],
}

/// One observation of a quantile metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The unit, unique over all buckets.
    pub unit: u64,
    /// Number of its variant.
    pub variant: u32,
    /// Number of its segment.
    pub segment: u32,
    /// The observed value.
    pub value: f64,
}

/// What one bucket's events say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitMeasurements {
    /// Measured units.
    pub units: Vec<UnitMeasurement>,
    /// Observations, of quantile metrics only.
    pub observations: Vec<Observation>,
    /// Units excluded because they were exposed to two variants.
    pub mixed_units: u64,
    /// Units left out because they did not do both, for the time between two events.
    pub incomplete_units: u64,
    /// Measured units whose window is still open.
    pub immature_units: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Accumulator {
    count: [f64; 2],
    sum: [f64; 2],
    with_value: f64,
    before_count: [f64; 2],
    before_sum: [f64; 2],
    before_with_value: f64,
    first_us: Option<i64>,
    second_us: Option<i64>,
    is_converted: bool,
}

/// Measures the units of one bucket. Bit 0 of an event's `matched` is the metric's first filter,
/// bit 1 its second (see [`MetricDefinition::filters`]). Events come in time order; `end_us` is
/// the time up to which data is there. `unit_base` makes unit numbers unique over buckets.
#[must_use]
pub fn measure_units(
    metric: &MetricDefinition,
    assignments: &[Assignment],
    events: impl IntoIterator<Item = ClassifiedEvent>,
    end_us: i64,
    unit_base: u64,
) -> UnitMeasurements {
    // Units that count are few of all, so their accumulators stand close together.
    let mut places = vec![NOWHERE; assignments.len()];
    let mut folded: Vec<Folded> = Vec::new();
    let mut measured = UnitMeasurements::default();
    for (ordinal, (assignment, place)) in (0u32..).zip(assignments.iter().zip(&mut places)) {
        measured.mixed_units += u64::from(assignment.is_mixed);
        if let Some(since_us) = assignment.counts_since_us() {
            *place = u32::try_from(folded.len()).unwrap_or(NOWHERE);
            folded.push(Folded {
                ordinal,
                variant: assignment.variant,
                segment: assignment.segment,
                since_us,
                of_unit: Accumulator::default(),
            });
        }
    }
    let is_quantile = matches!(metric.measure, Measure::Quantile { .. });
    let covariate_us = metric.covariate_us();
    for event in events {
        let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
        let place = places.get(at).copied().unwrap_or(NOWHERE);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let Some(unit) = folded.get_mut(place) else {
            continue;
        };
        let since_us = unit.since_us;
        unit.of_unit
            .fold(&metric.measure, &event, since_us, covariate_us);
        if is_quantile && event.time_us >= since_us && event.is_observation() {
            measured.observations.push(Observation {
                unit: unit_base + u64::from(event.unit),
                variant: unit.variant,
                segment: unit.segment,
                value: event.value,
            });
        }
    }
    let window_us = metric.measure.window_us();
    measured.units.reserve(folded.len());
    for unit in &folded {
        let Some(values) = unit.of_unit.values(&metric.measure) else {
            measured.incomplete_units += 1;
            continue;
        };
        let is_open = window_us.is_some_and(|window| unit.since_us.saturating_add(window) > end_us);
        measured.immature_units += u64::from(is_open);
        measured.units.push(UnitMeasurement {
            unit: unit_base + u64::from(unit.ordinal),
            variant: unit.variant,
            segment: unit.segment,
            values,
            covariates: unit.of_unit.before(&metric.measure),
        });
    }
    measured
}

/// No place among the units that count.
const NOWHERE: u32 = u32::MAX;

/// A unit that counts, and what its events add up to.
struct Folded {
    ordinal: u32,
    variant: u32,
    segment: u32,
    since_us: i64,
    of_unit: Accumulator,
}

impl ClassifiedEvent {
    /// Whether it carries a value of the first filter.
    fn is_observation(&self) -> bool {
        self.matched & 1 == 1 && !self.value.is_nan()
    }
}

impl Accumulator {
    /// Counts an event of a unit that was first exposed at `since_us`.
    fn fold(
        &mut self,
        measure: &Measure,
        event: &ClassifiedEvent,
        since_us: i64,
        covariate_us: Option<i64>,
    ) {
        if event.time_us >= since_us {
            return self.add(measure, event, since_us);
        }
        let age_us = since_us.saturating_sub(event.time_us);
        if covariate_us.is_some_and(|window| age_us <= window) {
            self.add_before(event);
        }
    }

    fn add(&mut self, measure: &Measure, event: &ClassifiedEvent, since_us: i64) {
        let age_us = event.time_us.saturating_sub(since_us);
        let value = if event.value.is_nan() {
            0.0
        } else {
            event.value
        };
        for (bit, (count, sum)) in self.count.iter_mut().zip(&mut self.sum).enumerate() {
            if event.matched >> bit & 1 == 1 {
                *count += 1.0;
                *sum += value;
            }
        }
        let is_first = event.matched & 1 == 1;
        if is_first && !event.value.is_nan() {
            self.with_value += 1.0;
        }
        match measure {
            Measure::Conversion { .. } => {
                let is_within = measure.window_us().is_none_or(|window| age_us <= window);
                self.is_converted |= is_first && is_within;
            }
            Measure::Retention {
                from_seconds,
                to_seconds,
                ..
            } => {
                let from_us = definition::micros(*from_seconds);
                let to_us = definition::micros(*to_seconds);
                self.is_converted |= is_first && (from_us..to_us).contains(&age_us);
            }
            Measure::TimeBetween { .. } => {
                if is_first && self.first_us.is_none() {
                    self.first_us = Some(event.time_us);
                }
                let is_second = event.matched >> 1 & 1 == 1;
                let is_later = self.first_us.is_some_and(|first| event.time_us > first);
                if is_second && is_later && self.second_us.is_none() {
                    self.second_us = Some(event.time_us);
                }
            }
            _ => {}
        }
    }

    fn add_before(&mut self, event: &ClassifiedEvent) {
        let value = if event.value.is_nan() {
            0.0
        } else {
            event.value
        };
        let both = self.before_count.iter_mut().zip(&mut self.before_sum);
        for (bit, (count, sum)) in both.enumerate() {
            if event.matched >> bit & 1 == 1 {
                *count += 1.0;
                *sum += value;
            }
        }
        if event.matched & 1 == 1 && !event.value.is_nan() {
            self.before_with_value += 1.0;
        }
    }

    fn values(&self, measure: &Measure) -> Option<[f64; 2]> {
        let both = |numerator: f64, denominator: f64| Some([numerator, denominator]);
        let [count, count_of_second] = self.count;
        let [sum, sum_of_second] = self.sum;
        match measure {
            Measure::Count { .. } => both(count, 0.0),
            Measure::Sum { .. } => both(sum, 0.0),
            Measure::Mean { .. } | Measure::Quantile { .. } => both(sum, self.with_value),
            Measure::Conversion { .. } | Measure::Retention { .. } => {
                both(f64::from(u8::from(self.is_converted)), 0.0)
            }
            Measure::Ratio {
                numerator,
                denominator,
            } => both(
                numerator.pick(count, sum),
                denominator.pick(count_of_second, sum_of_second),
            ),
            Measure::TimeBetween { within_seconds, .. } => {
                let elapsed_us = self.second_us? - self.first_us?;
                let window_us = within_seconds.map_or(i64::MAX, definition::micros);
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "microseconds are exact in a double up to 285 years"
                )]
                let seconds = elapsed_us as f64 / 1e6;
                (elapsed_us <= window_us).then_some([seconds, 0.0])
            }
        }
    }

    fn before(&self, measure: &Measure) -> [f64; 2] {
        let [count, count_of_second] = self.before_count;
        let [sum, sum_of_second] = self.before_sum;
        match measure {
            Measure::Count { .. } => [count, 0.0],
            Measure::Sum { .. } => [sum, 0.0],
            Measure::Mean { .. } | Measure::Quantile { .. } => [sum, self.before_with_value],
            Measure::Conversion { .. } | Measure::Retention { .. } => [count.min(1.0), 0.0],
            Measure::Ratio {
                numerator,
                denominator,
            } => [
                numerator.pick(count, sum),
                denominator.pick(count_of_second, sum_of_second),
            ],
            Measure::TimeBetween { .. } => [0.0, 0.0],
        }
    }
}
