//! A metric kept up with the events: what is new is folded in, what cannot be is run again.
//!
//! # Promise
//! After every step the state equals what [`super::measure_units`] would measure over all events
//! known by then, bit for bit. Group totals move by what changed; they are exact sums, so taking a
//! unit back and adding it anew leaves no trace.
//!
//! # Decision: when a unit is dirty
//! A unit's fold depends on the order of its events (sums round, times between events compare), and
//! a copy of an event must not count twice. So new events are folded in only if they are later than
//! everything of that unit that was folded before; such an event cannot be a copy either, because
//! a copy has the time of its original. A unit is *dirty*, and is run again over all of its events,
//! if:
//! - an event arrives that is not later: late, or possibly a copy;
//! - an exposure arrives that is earlier than its first, or at the same time with another segment;
//! - a unit that was there before is exposed for the first time, because its past may count;
//! - the caller says so: after an identity merge both units are other than they were.
//!
//! An exposure to a second variant needs no second run: a mixed unit counts nowhere. An erased
//! unit is forgotten.
//!
//! # Order of calls
//! [`MetricState::advance`] with what is new, by event time; then [`MetricState::run_again`] with
//! everything that is known of the units it returned. Time is an argument nowhere: only the
//! summary asks how far data reaches.

use super::summary::{fixed_cap, row_of};
use super::{
    Accumulator, GroupStatistics, Measure, MetricDefinition, MetricSummary, Observation,
    UnitMeasurement, UnitMeasurements, summarise,
};
use crate::exposure::{Assignment, ExposureEvent};
use crate::journey::ClassifiedEvent;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_stats::quantile::RankedSample;
use tidegate_stats::winsorise::Cap;
use tidegate_stats::{JointMoments, StatsError};

/// No unit of this ordinal was exposed.
const NONE: u32 = u32::MAX;

/// A metric's measurements over the units of one bucket, kept up with the events.
#[derive(Debug, Clone)]
pub struct MetricState {
    metric: MetricDefinition,
    columns: Vec<&'static str>,
    /// Applied to what enters the groups; without one, groups are made when asked for.
    cap: Option<Cap>,
    /// Place in `units` by ordinal.
    places: Vec<u32>,
    /// Units that were exposed.
    units: Vec<Unit>,
    /// Of quantile metrics, by ordinal.
    observations: FxHashMap<u32, Vec<f64>>,
    groups: BTreeMap<(u32, u32), JointMoments>,
    /// Units in no group, of those that are not open.
    left_out: LeftOut,
}

/// How many units are in no group, by reason.
#[derive(Debug, Clone, Copy, Default)]
struct LeftOut {
    mixed: u64,
    incomplete: u64,
}

#[derive(Debug, Clone)]
struct Unit {
    ordinal: u32,
    assignment: Assignment,
    folded: Accumulator,
    /// The latest event folded in.
    last_us: i64,
    /// The same before the step under way: what arrives must be later.
    settled_us: i64,
    /// Whether it was taken out of the groups in the step under way.
    is_open: bool,
    /// Whether it appeared in the step under way, so that it has no past.
    is_new: bool,
}

/// What an exposure does to a unit.
enum Effect {
    /// Nothing: it was exposed to the same before.
    None,
    /// It is assigned, or mixed now.
    Assign,
    /// Its past must be looked at.
    Dirty,
}

impl MetricState {
    /// The state before any event.
    #[must_use]
    pub fn new(metric: &MetricDefinition) -> Self {
        Self {
            columns: metric.columns(),
            cap: fixed_cap(metric),
            metric: metric.clone(),
            places: Vec::new(),
            units: Vec::new(),
            observations: FxHashMap::default(),
            groups: BTreeMap::new(),
            left_out: LeftOut::default(),
        }
    }

    /// Folds in what is new: `units` ordinals are known now, `exposures` and `events` arrived,
    /// events by time. Returns the units to run again.
    ///
    /// # Errors
    /// [`StatsError`] if a total left the range of a double.
    pub fn advance(
        &mut self,
        units: usize,
        exposures: &[ExposureEvent],
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Result<BTreeSet<u32>, StatsError> {
        let known = self.places.len();
        self.places.resize(units.max(known), NONE);
        let (mut dirty, mut open) = (BTreeSet::new(), Vec::new());
        for exposure in exposures {
            match self.effect_of(exposure, known) {
                Effect::None => {}
                Effect::Dirty => {
                    dirty.insert(exposure.unit);
                }
                Effect::Assign => self.expose(exposure, &mut open)?,
            }
        }
        for event in events {
            if event.matched == 0 {
                continue;
            }
            let Some(place) = self.place(event.unit) else {
                continue;
            };
            let unit = self.units.get(place);
            if unit.is_some_and(|unit| event.time_us <= unit.settled_us) {
                dirty.insert(event.unit);
            }
            if !dirty.contains(&event.unit) {
                self.open(place, &mut open)?;
                self.fold(place, &event);
            }
        }
        for unit in &dirty {
            if let Some(place) = self.place(*unit) {
                self.open(place, &mut open)?;
            }
        }
        self.close(open, &dirty)?;
        Ok(dirty)
    }

    /// Runs units again: `exposures` and `events` are everything there is of them, by time.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn run_again(
        &mut self,
        units: &BTreeSet<u32>,
        exposures: &[ExposureEvent],
        events: impl IntoIterator<Item = ClassifiedEvent>,
    ) -> Result<(), StatsError> {
        let mut open = Vec::new();
        for unit in units {
            self.reset(*unit, &mut open)?;
        }
        for exposure in exposures {
            if units.contains(&exposure.unit) {
                self.expose(exposure, &mut open)?;
            }
        }
        for event in events {
            if event.matched != 0
                && let Some(place) = self.place(event.unit)
                && units.contains(&event.unit)
            {
                self.fold(place, &event);
            }
        }
        self.close(open, &BTreeSet::new())
    }

    /// Forgets a unit that was erased.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn forget(&mut self, unit: u32) -> Result<(), StatsError> {
        let mut open = Vec::new();
        self.reset(unit, &mut open)?;
        self.close(open, &BTreeSet::new())
    }

    /// What [`super::measure_units`] would measure; `end_us` and `unit_base` as there.
    #[must_use]
    pub fn measurements(&self, end_us: i64, unit_base: u64) -> UnitMeasurements {
        let mut measured = UnitMeasurements::default();
        self.count(end_us, &mut measured);
        let mut units: Vec<UnitMeasurement> = self
            .units
            .iter()
            .filter_map(|unit| unit.measured(&self.metric.measure, unit_base))
            .collect();
        units.sort_by_key(|unit| unit.unit);
        measured.units = units;
        measured.observations = self.observed(unit_base).collect();
        measured
    }

    /// Bytes held on the heap, roughly.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let observations: usize = self
            .observations
            .values()
            .map(|all| all.len() * 8 + 48)
            .sum();
        self.places.len() * size_of::<u32>() + self.units.len() * size_of::<Unit>() + observations
    }

    fn effect_of(&self, exposure: &ExposureEvent, known: usize) -> Effect {
        let Some(unit) = self.place(exposure.unit).and_then(|at| self.units.get(at)) else {
            let ordinal = usize::try_from(exposure.unit).unwrap_or(usize::MAX);
            return if ordinal < known {
                Effect::Dirty
            } else {
                Effect::Assign
            };
        };
        if unit.is_new {
            return Effect::Assign;
        }
        let Some(since_us) = unit.assignment.since_us else {
            return Effect::Dirty;
        };
        let is_same = exposure.variant == unit.assignment.variant;
        let is_tie = exposure.time_us == since_us && exposure.segment != unit.assignment.segment;
        if exposure.time_us < since_us || (is_tie && is_same) {
            Effect::Dirty
        } else if is_same {
            Effect::None
        } else {
            Effect::Assign
        }
    }

    fn expose(
        &mut self,
        exposure: &ExposureEvent,
        open: &mut Vec<usize>,
    ) -> Result<(), StatsError> {
        if let Some(place) = self.place_or_new(exposure.unit) {
            self.open(place, open)?;
            if let Some(unit) = self.units.get_mut(place) {
                unit.assignment.expose(exposure);
            }
        }
        Ok(())
    }

    fn place(&self, ordinal: u32) -> Option<usize> {
        let at = usize::try_from(ordinal).ok()?;
        let place = *self.places.get(at)?;
        (place != NONE).then(|| usize::try_from(place).ok())?
    }

    fn place_or_new(&mut self, ordinal: u32) -> Option<usize> {
        if let Some(place) = self.place(ordinal) {
            return Some(place);
        }
        let at = usize::try_from(ordinal).ok()?;
        let slot = self.places.get_mut(at)?;
        let place = self.units.len();
        *slot = u32::try_from(place).ok()?;
        self.units.push(Unit::new(ordinal));
        Some(place)
    }

    /// Takes a unit out of the groups, once per step, because it is about to change.
    fn open(&mut self, place: usize, open: &mut Vec<usize>) -> Result<(), StatsError> {
        let Some(unit) = self.units.get_mut(place) else {
            return Ok(());
        };
        if unit.is_open {
            return Ok(());
        }
        unit.is_open = true;
        open.push(place);
        let LeftOut { mixed, incomplete } = unit.left_out(&self.metric.measure);
        self.left_out.mixed -= mixed;
        self.left_out.incomplete -= incomplete;
        let measured = unit.measured(&self.metric.measure, 0);
        let Some((measured, cap)) = measured.zip(self.cap) else {
            return Ok(());
        };
        let key = (measured.variant, measured.segment);
        if let Some(group) = self.groups.get_mut(&key) {
            let row = row_of(&measured, &self.columns, &cap);
            group.take_back(row.get(..self.columns.len()).unwrap_or(&[]))?;
            if group.units() == 0 {
                self.groups.remove(&key);
            }
        }
        Ok(())
    }

    /// Puts the units of a step back into the groups, but for those that are still to be run again.
    fn close(&mut self, open: Vec<usize>, dirty: &BTreeSet<u32>) -> Result<(), StatsError> {
        for place in open {
            let Some(unit) = self.units.get_mut(place) else {
                continue;
            };
            if dirty.contains(&unit.ordinal) {
                continue;
            }
            unit.is_open = false;
            unit.is_new = false;
            unit.settled_us = unit.last_us;
            let LeftOut { mixed, incomplete } = unit.left_out(&self.metric.measure);
            self.left_out.mixed += mixed;
            self.left_out.incomplete += incomplete;
            let measured = unit.measured(&self.metric.measure, 0);
            let Some((measured, cap)) = measured.zip(self.cap) else {
                continue;
            };
            let key = (measured.variant, measured.segment);
            let row = row_of(&measured, &self.columns, &cap);
            let group = match self.groups.get_mut(&key) {
                Some(group) => group,
                None => self
                    .groups
                    .entry(key)
                    .or_insert(JointMoments::new(self.columns.len())?),
            };
            group.push(row.get(..self.columns.len()).unwrap_or(&[]))?;
        }
        Ok(())
    }

    fn reset(&mut self, ordinal: u32, open: &mut Vec<usize>) -> Result<(), StatsError> {
        self.observations.remove(&ordinal);
        let Some(place) = self.place(ordinal) else {
            return Ok(());
        };
        let was_open = self.units.get(place).is_some_and(|unit| unit.is_open);
        self.open(place, open)?;
        if was_open {
            // A dirty unit was left out of the groups by the step before; it is ours now.
            open.push(place);
        }
        if let Some(unit) = self.units.get_mut(place) {
            *unit = Unit {
                is_open: true,
                ..Unit::new(ordinal)
            };
        }
        Ok(())
    }

    fn fold(&mut self, place: usize, event: &ClassifiedEvent) {
        let Some(unit) = self.units.get_mut(place) else {
            return;
        };
        unit.last_us = unit.last_us.max(event.time_us);
        let Some(since_us) = unit.assignment.counts_since_us() else {
            return;
        };
        let measure = &self.metric.measure;
        unit.folded
            .fold(measure, event, since_us, self.metric.covariate_us());
        let is_quantile = matches!(measure, Measure::Quantile { .. });
        if is_quantile && event.time_us >= since_us && event.is_observation() {
            let observed = self.observations.entry(event.unit).or_default();
            observed.push(event.value);
        }
    }

    fn count(&self, end_us: i64, into: &mut UnitMeasurements) {
        into.mixed_units += self.left_out.mixed;
        into.incomplete_units += self.left_out.incomplete;
        // Only what depends on the time asked for needs a look at every unit.
        let Some(window_us) = self.metric.measure.window_us() else {
            return;
        };
        for unit in &self.units {
            let is_open = |since: i64| since.saturating_add(window_us) > end_us;
            let is_measured = unit.folded.values(&self.metric.measure).is_some();
            let since_us = unit.assignment.counts_since_us();
            into.immature_units += u64::from(is_measured && since_us.is_some_and(is_open));
        }
    }

    /// Observations of units that count, with the group of each.
    fn observed(&self, unit_base: u64) -> impl Iterator<Item = Observation> {
        self.units
            .iter()
            .filter(|unit| unit.assignment.counts_since_us().is_some())
            .flat_map(move |unit| {
                let observed = self.observations.get(&unit.ordinal);
                observed
                    .into_iter()
                    .flatten()
                    .map(move |value| Observation {
                        unit: unit_base + u64::from(unit.ordinal),
                        variant: unit.assignment.variant,
                        segment: unit.assignment.segment,
                        value: *value,
                    })
            })
    }
}

impl Unit {
    fn new(ordinal: u32) -> Self {
        Self {
            ordinal,
            assignment: Assignment::NEVER,
            folded: Accumulator::default(),
            last_us: i64::MIN,
            settled_us: i64::MIN,
            is_open: false,
            is_new: true,
        }
    }

    fn left_out(&self, measure: &Measure) -> LeftOut {
        let counts = self.assignment.counts_since_us().is_some();
        LeftOut {
            mixed: u64::from(self.assignment.is_mixed),
            incomplete: u64::from(counts && self.folded.values(measure).is_none()),
        }
    }

    fn measured(&self, measure: &Measure, unit_base: u64) -> Option<UnitMeasurement> {
        self.assignment.counts_since_us()?;
        Some(UnitMeasurement {
            unit: unit_base + u64::from(self.ordinal),
            variant: self.assignment.variant,
            segment: self.assignment.segment,
            values: self.folded.values(measure)?,
            covariates: self.folded.before(measure),
        })
    }
}

/// What [`summarise`] would say of the same units. Each state comes with the number that makes its
/// units unique; `end_us` is the time up to which data is there.
///
/// # Errors
/// As [`summarise`].
pub fn summarise_states(
    metric: &MetricDefinition,
    states: &[(u64, &MetricState)],
    end_us: i64,
) -> Result<MetricSummary, StatsError> {
    let Some(cap) = fixed_cap(metric) else {
        let measured: Vec<UnitMeasurements> = states
            .iter()
            .map(|(base, state)| state.measurements(end_us, *base))
            .collect();
        return summarise(metric, &measured);
    };
    let mut counts = UnitMeasurements::default();
    let mut groups: BTreeMap<(u32, u32), JointMoments> = BTreeMap::new();
    let mut samples: BTreeMap<(u32, u32), Vec<(f64, u64)>> = BTreeMap::new();
    for (base, state) in states {
        state.count(end_us, &mut counts);
        for (key, moments) in &state.groups {
            match groups.get_mut(key) {
                Some(group) => group.merge(moments)?,
                None => {
                    groups.insert(*key, moments.clone());
                }
            }
        }
        for seen in state.observed(*base) {
            let key = (seen.variant, seen.segment);
            samples
                .entry(key)
                .or_default()
                .push((seen.value, seen.unit));
        }
    }
    let is_quantile = matches!(metric.measure, Measure::Quantile { .. });
    let groups = groups.into_iter().map(|(key, moments)| {
        let sample = match is_quantile {
            true => Some(RankedSample::new(samples.remove(&key).unwrap_or_default())?),
            false => None,
        };
        Ok(GroupStatistics {
            variant: key.0,
            segment: key.1,
            moments,
            sample,
        })
    });
    Ok(MetricSummary {
        columns: metric.columns(),
        groups: groups.collect::<Result<_, StatsError>>()?,
        cap: cap.upper,
        mixed_units: counts.mixed_units,
        incomplete_units: counts.incomplete_units,
        immature_units: counts.immature_units,
    })
}

#[cfg(test)]
mod tests;
