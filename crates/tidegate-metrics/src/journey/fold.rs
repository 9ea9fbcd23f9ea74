//! The journey fold: one pass over events in order, one state per unit and step.

use super::report::Samples;
use super::{JourneyDefinition, JourneyReport, MAX_STEPS, Reentry, StepOrder};
use crate::exposure::Assignment;

/// An event as a fold needs it: who, when, which filters it matches, and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassifiedEvent {
    /// Dense number of the unit.
    pub unit: u32,
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// Bit `i` is set if the event matches filter `i` of the question.
    pub matched: u64,
    /// Its value; NaN for none.
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Chain {
    start_us: i64,
    last_us: i64,
}

type Chains = [Option<Chain>; MAX_STEPS];

#[derive(Debug, Clone, Copy)]
struct Unit {
    chains: Chains,
    level: usize,
    completions: u64,
    latest_start_us: Option<i64>,
    was_seen: bool,
}

impl Unit {
    const NEW: Self = Self {
        chains: [None; MAX_STEPS],
        level: 0,
        completions: 0,
        latest_start_us: None,
        was_seen: false,
    };
}

/// Folds one bucket's events into a journey report.
#[derive(Debug)]
pub struct JourneyFold<'d> {
    journey: &'d JourneyDefinition,
    assignments: &'d [Assignment],
    entry: std::ops::Range<i64>,
    window_us: i64,
    step_windows_us: Vec<i64>,
    step_bits: u64,
    units: Vec<Unit>,
    samples: Vec<(u32, usize, Option<i64>, Option<i64>)>,
    end_us: i64,
}

fn window_us(seconds: Option<u64>) -> i64 {
    let micros = seconds.and_then(|s| s.checked_mul(1_000_000));
    micros
        .and_then(|micros| i64::try_from(micros).ok())
        .unwrap_or(i64::MAX)
}

impl<'d> JourneyFold<'d> {
    /// A fold over the units that have an assignment. Chains begin within `entry` (microseconds
    /// since 1970, end exclusive) and at or after the unit's assignment.
    #[must_use]
    pub fn new(
        journey: &'d JourneyDefinition,
        assignments: &'d [Assignment],
        entry: std::ops::Range<i64>,
    ) -> Self {
        let steps = journey.steps.len().min(MAX_STEPS);
        Self {
            journey,
            assignments,
            entry,
            window_us: window_us(journey.within_seconds),
            step_windows_us: journey
                .steps
                .iter()
                .map(|step| window_us(step.within_seconds))
                .collect(),
            step_bits: (1u64 << steps) - 1,
            units: vec![Unit::NEW; assignments.len()],
            samples: Vec::new(),
            end_us: i64::MIN,
        }
    }

    /// Takes the next event in (time, id) order. A strict journey must be given every event of
    /// its units, the others only those that match something.
    pub fn push(&mut self, event: ClassifiedEvent) {
        self.end_us = self.end_us.max(event.time_us);
        if event.matched == 0 && self.journey.order != StepOrder::Strict {
            return;
        }
        let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
        let since = self
            .assignments
            .get(at)
            .and_then(Assignment::counts_since_us);
        if since.is_none_or(|since| event.time_us < since) {
            return;
        }
        let Some(mut unit) = self.units.get(at).copied() else {
            return;
        };
        unit.was_seen |= event.matched & self.step_bits != 0 && self.entry.contains(&event.time_us);
        match self.journey.order {
            StepOrder::Any => self.push_any_order(&mut unit, event),
            StepOrder::Ordered | StepOrder::Strict => self.push_ordered(&mut unit, event),
        }
        if let Some(stored) = self.units.get_mut(at) {
            *stored = unit;
        }
    }

    fn push_ordered(&mut self, unit: &mut Unit, event: ClassifiedEvent) {
        let old = unit.chains;
        if self.journey.order == StepOrder::Strict {
            unit.chains = [None; MAX_STEPS];
        } else {
            for (index, exclusion) in self.journey.exclusions.iter().enumerate() {
                let bit = self.journey.steps.len() + index;
                if event.matched >> bit & 1 == 1
                    && let Some(waiting) = unit.chains.get_mut(exclusion.after_step - 1)
                {
                    *waiting = None;
                }
            }
        }
        for step in 0..self.journey.steps.len() {
            if event.matched >> step & 1 == 0 {
                continue;
            }
            let before = step.checked_sub(1).and_then(|at| old.get(at).copied());
            let Some(chain) = self.extended(before, step, event.time_us) else {
                continue;
            };
            if let Some(kept) = unit.chains.get_mut(step) {
                *kept = Some(chain);
            }
            let since_step = before
                .flatten()
                .map(|before| event.time_us - before.last_us);
            self.arrive(unit, event, step + 1, chain.start_us, since_step);
        }
    }

    /// The chain that an event makes at a step: `before` is the latest chain one step earlier,
    /// or nothing at all for the first step.
    fn extended(&self, before: Option<Option<Chain>>, step: usize, now_us: i64) -> Option<Chain> {
        let Some(before) = before else {
            return self.entry.contains(&now_us).then_some(Chain {
                start_us: now_us,
                last_us: now_us,
            });
        };
        let chain = before?;
        let gap_us = self.step_windows_us.get(step).copied().unwrap_or(i64::MAX);
        let is_within = now_us.saturating_sub(chain.start_us) <= self.window_us
            && now_us.saturating_sub(chain.last_us) <= gap_us;
        is_within.then_some(Chain {
            start_us: chain.start_us,
            last_us: now_us,
        })
    }

    // Here a "chain" at a step holds the latest event of the step in `last_us`, and the latest one
    // within the entry range in `start_us`, since one event of the chain must lie there.
    fn push_any_order(&mut self, unit: &mut Unit, event: ClassifiedEvent) {
        if event.matched & !self.step_bits != 0 {
            unit.chains = [None; MAX_STEPS];
        }
        let matched = event.matched & self.step_bits;
        if matched == 0 {
            return;
        }
        let step = usize::try_from(matched.trailing_zeros()).unwrap_or(0);
        let Some(chain) = unit.chains.get_mut(step) else {
            return;
        };
        let is_entry = self.entry.contains(&event.time_us);
        let before = chain.map_or(i64::MIN, |chain| chain.start_us);
        *chain = Some(Chain {
            start_us: if is_entry { event.time_us } else { before },
            last_us: event.time_us,
        });
        let is_recent = |time: i64| {
            time != i64::MIN
                && time >= self.entry.start
                && event.time_us.saturating_sub(time) <= self.window_us
        };
        let known = || unit.chains.iter().flatten();
        let level = known().filter(|chain| is_recent(chain.last_us)).count();
        let entries = known()
            .map(|chain| chain.start_us)
            .filter(|time| is_recent(*time));
        let Some(entry_us) = entries.min() else {
            return;
        };
        let firsts = known()
            .map(|chain| chain.last_us)
            .filter(|time| is_recent(*time));
        let start_us = firsts.min().map_or(entry_us, |first| first.min(entry_us));
        for reached in unit.level + 1..=level {
            self.arrive(unit, event, reached, start_us, None);
        }
        if level == self.journey.steps.len() && self.journey.reentry == Reentry::EveryCompletion {
            self.arrive(unit, event, level, start_us, None);
        }
        unit.latest_start_us = unit.latest_start_us.max(Some(start_us));
    }

    fn arrive(
        &mut self,
        unit: &mut Unit,
        event: ClassifiedEvent,
        level: usize,
        start_us: i64,
        since_step_us: Option<i64>,
    ) {
        let is_complete = level == self.journey.steps.len();
        unit.latest_start_us = unit.latest_start_us.max(Some(start_us));
        if level > unit.level {
            unit.level = level;
            let total = is_complete.then(|| event.time_us - start_us);
            self.samples.push((event.unit, level, since_step_us, total));
            if is_complete && self.journey.reentry == Reentry::Once {
                unit.completions = 1;
            }
        }
        if is_complete && self.journey.reentry == Reentry::EveryCompletion {
            unit.completions += 1;
            unit.chains = [None; MAX_STEPS];
        }
    }

    /// The highest step each unit reached, 0 for none; for tests and cohorts.
    #[must_use]
    pub fn levels(&self) -> Vec<usize> {
        self.units.iter().map(|unit| unit.level).collect()
    }

    /// The report of everything pushed. `end_us` is the time up to which data is there: chains
    /// whose window reaches past it may still grow.
    #[must_use]
    pub fn finish(self, end_us: i64) -> JourneyReport {
        let assignments = self.assignments;
        self.report(assignments, end_us)
    }

    /// The same, where what was pushed as a unit is one value of a unit's: `owners` says whose, and
    /// `assignments` where the owners belong. An owner counts once, at the highest step any of its
    /// values reached; durations are those of its own first arrivals.
    #[must_use]
    pub fn finish_by_owner(
        mut self,
        owners: &[u32],
        assignments: &[Assignment],
        end_us: i64,
    ) -> JourneyReport {
        let mut units = vec![Unit::NEW; assignments.len()];
        let place = |owner: u32| usize::try_from(owner).unwrap_or(usize::MAX);
        for (value, owner) in self.units.iter().zip(owners) {
            let Some(unit) = units.get_mut(place(*owner)) else {
                continue;
            };
            unit.level = unit.level.max(value.level);
            unit.was_seen |= value.was_seen;
            unit.latest_start_us = unit.latest_start_us.max(value.latest_start_us);
            unit.completions = match self.journey.reentry {
                Reentry::Once => unit.completions.max(value.completions),
                Reentry::EveryCompletion => unit.completions + value.completions,
            };
        }
        // Samples stand in the order of events, so the first at a step is the owner's arrival.
        let mut reached = vec![0; assignments.len()];
        self.samples.retain_mut(|(value, level, _, _)| {
            let owner = owners.get(place(*value)).copied().unwrap_or(u32::MAX);
            *value = owner;
            let reached = reached.get_mut(place(owner));
            let is_first = reached.as_ref().is_some_and(|reached| **reached < *level);
            if let Some(reached) = reached.filter(|_| is_first) {
                *reached = *level;
            }
            is_first
        });
        self.units = units;
        self.report(assignments, end_us)
    }

    fn report(self, assignments: &[Assignment], end_us: i64) -> JourneyReport {
        let mut report = JourneyReport::empty(self.journey.steps.len());
        for (unit, assignment) in self.units.iter().zip(assignments) {
            report.mixed_units += u64::from(assignment.is_mixed);
            if assignment
                .counts_since_us()
                .is_some_and(|since| since != i64::MIN)
            {
                let group = report.group(assignment.variant, assignment.segment);
                group.exposed += 1;
            }
            if !unit.was_seen && unit.level == 0 {
                continue;
            }
            let group = report.group(assignment.variant, assignment.segment);
            group.units += 1;
            group.completions += unit.completions;
            for reached in group.reached.iter_mut().take(unit.level) {
                *reached += 1;
            }
            let is_open = unit.level < self.journey.steps.len()
                && unit
                    .latest_start_us
                    .is_some_and(|start| start.saturating_add(self.window_us) > end_us);
            group.immature += u64::from(is_open);
        }
        for (unit, level, since_step_us, total_us) in self.samples {
            let at = usize::try_from(unit).unwrap_or(usize::MAX);
            if let Some(assignment) = assignments.get(at) {
                let group = report.group(assignment.variant, assignment.segment);
                Samples::add(group, level, since_step_us, total_us);
            }
        }
        report
    }
}
