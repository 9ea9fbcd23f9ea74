//! The journey fold: one pass over events in order, one state per unit and step.
//!
//! A unit's state is one header and one chain per step that another step may follow, side by side
//! in two arrays, so that a bucket's states fit the cache; an event that is one step, which is
//! nearly every event, reads one chain and writes one.

use super::report::Groups;
use super::{JourneyDefinition, JourneyReport, MAX_STEPS, Reentry, StepOrder, TimedFrom};
use crate::exposure::{Arms, Assignment};

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

/// The latest chain that reached a step; without one, `last_us` is the least time there is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Chain {
    start_us: i64,
    last_us: i64,
}

impl Chain {
    const NONE: Self = Self {
        start_us: i64::MIN,
        last_us: i64::MIN,
    };

    fn is_there(&self) -> bool {
        self.last_us != i64::MIN
    }
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    /// The least time there is before the first chain.
    latest_start_us: i64,
    /// The least time there is before the first entry.
    first_entry_us: i64,
    completions: u32,
    level: u8,
    was_seen: bool,
}

impl Unit {
    const NEW: Self = Self {
        latest_start_us: i64::MIN,
        first_entry_us: i64::MIN,
        completions: 0,
        level: 0,
        was_seen: false,
    };
}

/// A unit's first arrival at a step, where it took time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) unit: u32,
    pub(super) level: u8,
    pub(super) since_step_us: Option<i64>,
    pub(super) total_us: Option<i64>,
}

/// What holds for every event.
#[derive(Debug)]
struct Rules<'d> {
    journey: &'d JourneyDefinition,
    entry: std::ops::Range<i64>,
    window_us: i64,
    step_windows_us: Vec<i64>,
    step_bits: u64,
    steps: u8,
}

/// What an event changes.
struct Change<'f> {
    rules: &'f Rules<'f>,
    unit: &'f mut Unit,
    chains: &'f mut [Chain],
    samples: &'f mut Vec<Sample>,
    event: ClassifiedEvent,
}

/// Memory that one fold leaves to the next, so that a bucket's states stay where they are in the
/// cache and nothing is asked of the system.
#[derive(Debug, Default)]
pub struct JourneyMemory {
    units: Vec<Unit>,
    /// `chains_per_unit` for each unit.
    chains: Vec<Chain>,
    samples: Vec<Sample>,
}

/// Folds one bucket's events into a journey report.
#[derive(Debug)]
pub struct JourneyFold<'d> {
    rules: Rules<'d>,
    arms: Arms<'d>,
    chains_per_unit: usize,
    memory: JourneyMemory,
}

fn window_us(seconds: Option<u64>) -> i64 {
    let micros = seconds.and_then(|s| s.checked_mul(1_000_000));
    micros
        .and_then(|micros| i64::try_from(micros).ok())
        .unwrap_or(i64::MAX)
}

impl<'d> JourneyFold<'d> {
    /// A fold over the units of a bucket. Chains begin within `entry` (microseconds since 1970,
    /// end exclusive) and at or after the unit's assignment.
    #[must_use]
    pub fn new(
        journey: &'d JourneyDefinition,
        arms: impl Into<Arms<'d>>,
        entry: std::ops::Range<i64>,
    ) -> Self {
        Self::reusing(journey, arms, entry, JourneyMemory::default())
    }

    /// The same in the memory of a fold that is finished.
    #[must_use]
    pub fn reusing(
        journey: &'d JourneyDefinition,
        arms: impl Into<Arms<'d>>,
        entry: std::ops::Range<i64>,
        mut memory: JourneyMemory,
    ) -> Self {
        let arms = arms.into();
        let steps = journey.steps.len().min(MAX_STEPS);
        // In order nothing follows the last step, so nobody asks for its chain.
        let chains_per_unit = match journey.order {
            StepOrder::Any => steps,
            StepOrder::Ordered | StepOrder::Strict => steps.saturating_sub(1),
        };
        memory.units.clear();
        memory.units.resize(arms.units(), Unit::NEW);
        memory.chains.clear();
        let chains = arms.units() * chains_per_unit;
        memory.chains.resize(chains, Chain::NONE);
        memory.samples.clear();
        let windows = journey.steps.iter().map(|step| step.within_seconds);
        Self {
            rules: Rules {
                journey,
                entry,
                window_us: window_us(journey.within_seconds),
                step_windows_us: windows.map(window_us).collect(),
                step_bits: (1u64 << steps) - 1,
                steps: u8::try_from(steps).unwrap_or(u8::MAX),
            },
            arms,
            chains_per_unit,
            memory,
        }
    }

    /// Takes the next event in (time, id) order. A strict journey must be given every event of
    /// its units, the others only those that match something.
    #[inline]
    pub fn push(&mut self, event: ClassifiedEvent) {
        let rules = &self.rules;
        if event.matched == 0 && rules.journey.order != StepOrder::Strict {
            return;
        }
        let at = usize::try_from(event.unit).unwrap_or(usize::MAX);
        let is_counted = self.arms.since_us(at).is_some_and(|t| event.time_us >= t);
        let JourneyMemory {
            units,
            chains,
            samples,
        } = &mut self.memory;
        let Some(unit) = units.get_mut(at).filter(|_| is_counted) else {
            return;
        };
        if unit.level == rules.steps && rules.journey.reentry == Reentry::Once {
            return;
        }
        unit.was_seen |=
            event.matched & rules.step_bits != 0 && rules.entry.contains(&event.time_us);
        let first = at * self.chains_per_unit;
        let chains = chains.get_mut(first..first + self.chains_per_unit);
        let mut change = Change {
            rules,
            unit,
            chains: chains.unwrap_or_default(),
            samples,
            event,
        };
        match rules.journey.order {
            StepOrder::Any => change.in_any_order(),
            StepOrder::Ordered if event.matched & (event.matched - 1) == 0 => {
                change.as_one_match();
            }
            StepOrder::Ordered | StepOrder::Strict => change.in_order(),
        }
    }

    /// The highest step each unit reached, 0 for none; for tests and cohorts.
    #[must_use]
    pub fn levels(&self) -> Vec<usize> {
        let units = self.memory.units.iter();
        units.map(|unit| usize::from(unit.level)).collect()
    }

    /// The report of everything pushed. `end_us` is the time up to which data is there: chains
    /// whose window reaches past it may still grow.
    #[must_use]
    pub fn finish(self, end_us: i64) -> JourneyReport {
        self.finish_reusable(end_us).0
    }

    /// The same, with the memory for the next fold.
    #[must_use]
    pub fn finish_reusable(self, end_us: i64) -> (JourneyReport, JourneyMemory) {
        let arms = self.arms;
        self.report(arms, end_us)
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
        for (value, owner) in self.memory.units.iter().zip(owners) {
            let Some(unit) = units.get_mut(place(*owner)) else {
                continue;
            };
            unit.level = unit.level.max(value.level);
            unit.was_seen |= value.was_seen;
            unit.latest_start_us = unit.latest_start_us.max(value.latest_start_us);
            unit.completions = match self.rules.journey.reentry {
                Reentry::Once => unit.completions.max(value.completions),
                Reentry::EveryCompletion => unit.completions.saturating_add(value.completions),
            };
        }
        // Samples stand in the order of events, so the first at a step is the owner's arrival.
        let mut reached = vec![0; assignments.len()];
        self.memory.samples.retain_mut(|sample| {
            let owner = owners.get(place(sample.unit)).copied().unwrap_or(u32::MAX);
            sample.unit = owner;
            let reached = reached.get_mut(place(owner));
            let is_first = reached
                .as_ref()
                .is_some_and(|reached| **reached < sample.level);
            if let Some(reached) = reached.filter(|_| is_first) {
                *reached = sample.level;
            }
            is_first
        });
        self.memory.units = units;
        self.report(Arms::Exposed(assignments), end_us).0
    }

    fn report(self, arms: Arms<'_>, end_us: i64) -> (JourneyReport, JourneyMemory) {
        let mut mixed_units = 0;
        let mut groups = Groups::new(self.rules.journey.steps.len());
        for (at, unit) in self.memory.units.iter().enumerate() {
            let Some(assignment) = arms.of(at) else {
                continue;
            };
            mixed_units += u64::from(assignment.is_mixed);
            let since_us = assignment.counts_since_us();
            let is_exposed = since_us.is_some_and(|since| since != i64::MIN);
            let has_begun = unit.was_seen || unit.level > 0;
            if !is_exposed && !has_begun {
                continue;
            }
            let Some(group) = groups.of(assignment.variant, assignment.segment) else {
                continue;
            };
            group.exposed += u64::from(is_exposed);
            if !has_begun {
                continue;
            }
            group.units += 1;
            group.completions += u64::from(unit.completions);
            for reached in group.reached.iter_mut().take(usize::from(unit.level)) {
                *reached += 1;
            }
            let is_open = unit.level < self.rules.steps
                && unit.latest_start_us != i64::MIN
                && unit.latest_start_us.saturating_add(self.rules.window_us) > end_us;
            group.immature += u64::from(is_open);
        }
        for sample in &self.memory.samples {
            let at = usize::try_from(sample.unit).unwrap_or(usize::MAX);
            let arm = arms.of(at).map(|arm| (arm.variant, arm.segment));
            if let Some(group) = arm.and_then(|(variant, segment)| groups.of(variant, segment)) {
                group.add_times(sample);
            }
        }
        (groups.into_report(mixed_units), self.memory)
    }
}

impl Rules<'_> {
    /// The chain that an event makes at a step: `before` is the latest chain one step earlier,
    /// or nothing at all for the first step.
    fn extended(&self, before: Option<Chain>, step: usize, now_us: i64) -> Option<Chain> {
        let Some(chain) = before else {
            return self.entry.contains(&now_us).then_some(Chain {
                start_us: now_us,
                last_us: now_us,
            });
        };
        let gap_us = self.step_windows_us.get(step).copied().unwrap_or(i64::MAX);
        let is_within = chain.is_there()
            && now_us.saturating_sub(chain.start_us) <= self.window_us
            && now_us.saturating_sub(chain.last_us) <= gap_us;
        is_within.then_some(Chain {
            start_us: chain.start_us,
            last_us: now_us,
        })
    }
}

impl Change<'_> {
    /// An event that is one step, or one exclusion, and nothing else.
    fn as_one_match(&mut self) {
        let bit = usize::try_from(self.event.matched.trailing_zeros()).unwrap_or(usize::MAX);
        if bit >= usize::from(self.rules.steps) {
            return self.exclude();
        }
        let before = bit.checked_sub(1).map(|at| self.chain(at));
        self.take_step(bit, before);
    }

    /// Any event of an ordered or strict journey: it reads the states as they were, clears what it
    /// excludes, then writes.
    fn in_order(&mut self) {
        let mut old = [Chain::NONE; MAX_STEPS];
        for (old, chain) in old.iter_mut().zip(self.chains.iter()) {
            *old = *chain;
        }
        if self.rules.journey.order == StepOrder::Strict {
            self.chains.fill(Chain::NONE);
        } else {
            self.exclude();
        }
        for step in 0..usize::from(self.rules.steps) {
            if self.event.matched >> step & 1 == 1 {
                let before = step.checked_sub(1).and_then(|at| old.get(at).copied());
                self.take_step(step, before);
            }
        }
    }

    fn exclude(&mut self) {
        for (index, exclusion) in self.rules.journey.exclusions.iter().enumerate() {
            let bit = usize::from(self.rules.steps) + index;
            let waiting = exclusion.after_step.wrapping_sub(1);
            if self.event.matched >> bit & 1 == 1
                && let Some(waiting) = self.chains.get_mut(waiting)
            {
                *waiting = Chain::NONE;
            }
        }
    }

    fn chain(&self, step: usize) -> Chain {
        self.chains.get(step).copied().unwrap_or(Chain::NONE)
    }

    fn take_step(&mut self, step: usize, before: Option<Chain>) {
        let now_us = self.event.time_us;
        let Some(chain) = self.rules.extended(before, step, now_us) else {
            return;
        };
        if let Some(kept) = self.chains.get_mut(step) {
            *kept = chain;
        }
        if step == 0 && self.unit.first_entry_us == i64::MIN {
            self.unit.first_entry_us = now_us;
        }
        let since_step_us = before.map(|before| now_us - before.last_us);
        self.arrive(step + 1, chain.start_us, since_step_us);
    }

    // Here a "chain" at a step holds the latest event of the step in `last_us`, and the latest one
    // within the entry range in `start_us`, since one event of the chain must lie there.
    fn in_any_order(&mut self) {
        let rules = self.rules;
        let now_us = self.event.time_us;
        if self.event.matched & !rules.step_bits != 0 {
            self.chains.fill(Chain::NONE);
        }
        let matched = self.event.matched & rules.step_bits;
        if matched == 0 {
            return;
        }
        let step = usize::try_from(matched.trailing_zeros()).unwrap_or(usize::MAX);
        let Some(chain) = self.chains.get_mut(step) else {
            return;
        };
        if rules.entry.contains(&now_us) {
            chain.start_us = now_us;
        }
        chain.last_us = now_us;
        let is_recent = |time: &i64| {
            *time != i64::MIN
                && *time >= rules.entry.start
                && now_us.saturating_sub(*time) <= rules.window_us
        };
        let lasts = || self.chains.iter().map(|chain| chain.last_us);
        let level = lasts().filter(is_recent).count();
        let entries = self.chains.iter().map(|chain| chain.start_us);
        let Some(entry_us) = entries.filter(is_recent).min() else {
            return;
        };
        let first_us = lasts().filter(is_recent).min();
        let start_us = first_us.map_or(entry_us, |first| first.min(entry_us));
        let was_complete = self.unit.level == rules.steps;
        for reached in usize::from(self.unit.level) + 1..=level {
            self.arrive(reached, start_us, None);
        }
        if was_complete && level == usize::from(rules.steps) {
            self.arrive(level, start_us, None);
        }
        self.unit.latest_start_us = self.unit.latest_start_us.max(start_us);
    }

    fn arrive(&mut self, level: usize, start_us: i64, since_step_us: Option<i64>) {
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        let is_complete = level == self.rules.steps;
        let reentry = self.rules.journey.reentry;
        self.unit.latest_start_us = self.unit.latest_start_us.max(start_us);
        if level > self.unit.level {
            self.unit.level = level;
            let from_us = match self.rules.journey.timed_from {
                TimedFrom::LatestStart => start_us,
                TimedFrom::FirstEntry => self.unit.first_entry_us,
            };
            let total_us = is_complete.then(|| self.event.time_us - from_us);
            if total_us.is_some() || since_step_us.is_some() {
                self.samples.push(Sample {
                    unit: self.event.unit,
                    level,
                    since_step_us,
                    total_us,
                });
            }
            if is_complete && reentry == Reentry::Once {
                self.unit.completions = 1;
            }
        }
        if is_complete && reentry == Reentry::EveryCompletion {
            self.unit.completions = self.unit.completions.saturating_add(1);
            self.chains.fill(Chain::NONE);
        }
    }
}
