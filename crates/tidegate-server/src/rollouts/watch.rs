//! Counting what a rollout's guards need: each unit once, in the arm its hash gives it.
//!
//! The fold follows the log of events. For every event that carries the rollout's flag it asks
//! which arm the *same split* gives the unit. Two things are counted:
//!
//! - **units**, for the sample-ratio check: at the unit's first event, by its assignment alone, so
//!   that a client that learns of a new share late skews nothing;
//! - **harm**: a unit's first failed request, first slow request or first conversion, once per
//!   guard and rollout, and only if the event says it was served what it was assigned. A unit that
//!   was forced, targeted, or is still on an older share never counts.
//!
//! Under the hypothesis of no effect the arm of a counted unit is then a coin with the split's own
//! probability in force at that moment, however its failures cluster.
//!
//! Latency thresholds are quantiles of control's own requests between the start and the first
//! stage, frozen once enough of them were seen; until then the guard has no data and nobody is
//! exposed. The fold is a function of the log: a replay freezes the same thresholds and counts the
//! same units.
//!
//! Memory is bounded: beyond [`MAX_UNITS`] units nothing more is counted and the counts say that
//! they are incomplete, which makes the verdict invalid and never harmed.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use tidegate_metrics::{Event, EventKind, LatencyHistogram, unit_hash};
use tidegate_rollout::{ArmCounts, BasisPoints, Measured, Phase, Rung};

use super::guards::GuardSource;

/// The most units one rollout remembers.
pub const MAX_UNITS: usize = 4_000_000;
/// Quantiles of control at which latency thresholds are frozen.
pub const QUANTILES: [f64; 3] = [0.95, 0.99, 0.999];
/// Control requests that must have been seen before thresholds are frozen.
pub const BASELINE_REQUESTS: u64 = 2_000;
/// The most marks a unit can carry: guards with one mark, latency guards with one per quantile.
pub const MAX_MARKS: u32 = 31;

/// Time without a unit after which the next one is news.
const SILENCE_US: i64 = 1_000_000;

/// Which side of the split a unit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The change.
    Treatment,
    /// The part of the same audience that the same split left out.
    Control,
}

/// What an event changed in the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// A guard counted it: the evidence is another.
    pub evidence: bool,
    /// A unit was seen for the first time, for the first time in its phase, or after a silence.
    pub units: bool,
}

impl Change {
    /// Adds another change to this one.
    pub const fn add(&mut self, other: Self) {
        self.evidence |= other.evidence;
        self.units |= other.units;
    }
}

/// What is remembered of one unit.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    /// Bit 0: seen being served something else than assigned. The others belong to guards.
    marks: u32,
    /// The first phase, from 1, of the newest stage it was seen in.
    phase: u16,
}

const MISFIT: u32 = 1;

/// The counts of one rollout, phase by phase.
#[derive(Debug, Clone)]
pub struct Watch {
    flag: String,
    treatment: String,
    control: String,
    guards: Vec<GuardCounts>,
    units: HashMap<u64, Unit, FxBuildHasher>,
    since_us: i64,
    phases: Vec<Phase>,
    /// For each phase the number, from 1, of the first one of its stage: a unit is exposed once in each.
    stage_numbers: Vec<u16>,
    periods: Option<Periods>,
    misfits: u64,
    is_incomplete: bool,
    watermark: u64,
    as_of_us: i64,
    last_unit_us: Option<i64>,
}

/// The periods of a bake that have not begun.
#[derive(Debug, Clone, Copy)]
struct Periods {
    next_us: i64,
    length_us: i64,
    left: usize,
}

/// One guard's counts.
#[derive(Debug, Clone)]
struct GuardCounts {
    source: GuardSource,
    first_mark: u32,
    /// First events per phase; for a latency guard unused.
    first: Vec<ArmCounts>,
    baseline: LatencyHistogram,
    rungs: Vec<Rung>,
}

impl Watch {
    /// A watch over `flag` for these guards, in the order of the policy, from `since_us` on. A guard
    /// whose marks do not fit any more is left out and then has no data.
    #[must_use]
    pub fn new(
        flag: &str,
        (treatment, control): (&str, &str),
        sources: Vec<GuardSource>,
        since_us: i64,
    ) -> Self {
        let mut next_mark = 1;
        let mut guards = Vec::new();
        for source in sources {
            let marks = match source {
                GuardSource::Latency(_) => 3,
                GuardSource::Errors(_) | GuardSource::Conversions(_) => 1,
                // Counted elsewhere; its place in the order of the policy is kept.
                GuardSource::Source(_) => 0,
            };
            if next_mark + marks <= MAX_MARKS {
                guards.push(GuardCounts::new(source, next_mark));
                next_mark += marks;
            }
        }
        Self {
            flag: flag.to_owned(),
            treatment: treatment.to_owned(),
            control: control.to_owned(),
            guards,
            units: HashMap::default(),
            since_us,
            phases: Vec::new(),
            stage_numbers: Vec::new(),
            periods: None,
            misfits: 0,
            is_incomplete: false,
            watermark: 0,
            as_of_us: 0,
            last_unit_us: None,
        }
    }

    /// Begins a period of constant shares at `at_us`, another stage than before.
    pub fn begin_phase(&mut self, treatment_bp: BasisPoints, at_us: i64) {
        self.periods = None;
        let number = u16::try_from(self.phases.len() + 1).unwrap_or(u16::MAX);
        self.push_phase(treatment_bp, at_us, number);
    }

    /// Cuts the phase that has just begun into periods of a bake, so many with the first.
    pub fn cut_into_periods(&mut self, length_us: i64, periods: usize) {
        self.periods = self.phases.last().map(|phase| Periods {
            next_us: phase.started_us.saturating_add(length_us),
            length_us,
            left: periods.saturating_sub(1),
        });
    }

    /// Begins the next period of a bake if it is due at `at_us`; whether it did.
    pub fn begin_period(&mut self, at_us: i64) -> bool {
        let Some(due) = self
            .periods
            .as_mut()
            .filter(|p| p.left > 0 && p.next_us <= at_us)
        else {
            return false;
        };
        let began_us = due.next_us;
        due.next_us = due.next_us.saturating_add(due.length_us);
        due.left -= 1;
        let share = self.phases.last().map(|phase| phase.treatment_bp);
        let number = self.stage_numbers.last().copied();
        if let (Some(share), Some(number)) = (share, number) {
            self.push_phase(share, began_us, number);
        }
        true
    }

    fn push_phase(&mut self, treatment_bp: BasisPoints, at_us: i64, number: u16) {
        self.stage_numbers.push(number);
        self.phases.push(Phase {
            treatment_bp,
            control_bp: treatment_bp.complement(),
            started_us: at_us,
            units: ArmCounts::default(),
            exposed: ArmCounts::default(),
        });
        for guard in &mut self.guards {
            guard.first.push(ArmCounts::default());
            for rung in &mut guard.rungs {
                rung.slow.push(ArmCounts::default());
            }
        }
    }

    /// The flag that is watched.
    #[must_use]
    pub fn flag(&self) -> &str {
        &self.flag
    }

    /// Whether an event is about this rollout at all.
    #[must_use]
    pub fn concerns(&self, event: &Event) -> bool {
        !event.is_quarantined
            && event.kind != EventKind::Evaluation
            && event.received_us >= self.since_us
            && event.variant(&self.flag).is_some()
    }

    /// The phase an event belongs to, by when it was received; `None` before the first.
    #[must_use]
    pub fn phase_of(&self, event: &Event) -> Option<usize> {
        self.phases
            .partition_point(|phase| phase.started_us <= event.received_us)
            .checked_sub(1)
    }

    /// Learns what is usual from an event of control before the first phase; whether thresholds were
    /// frozen by it.
    pub fn learn(&mut self, event: &Event) -> bool {
        if event.variant(&self.flag) != Some(&self.control) {
            return false;
        }
        let mut has_frozen = false;
        for guard in &mut self.guards {
            has_frozen |= guard.source.looks_at(event) && guard.learn(event);
        }
        has_frozen
    }

    /// Counts one event of `phase`; `assigned` is the arm the split of that phase gives its unit.
    pub fn count(&mut self, event: &Event, phase: usize, assigned: Arm) -> Change {
        let mut change = Change::default();
        let Some(served) = event.variant(&self.flag) else {
            return change;
        };
        let Some(place) = self.phases.get_mut(phase) else {
            return change;
        };
        let unit = unit_hash(&event.unit);
        let is_new = !self.units.contains_key(&unit);
        if is_new && self.units.len() >= MAX_UNITS {
            change.evidence = !self.is_incomplete;
            self.is_incomplete = true;
            return change;
        }
        if is_new {
            add(&mut place.units, assigned);
            change.units = true;
        }
        let known = self.units.entry(unit).or_default();
        let expected = match assigned {
            Arm::Treatment => &self.treatment,
            Arm::Control => &self.control,
        };
        if served != expected {
            self.misfits += u64::from(mark(&mut known.marks, MISFIT));
            return change;
        }
        let number = self.stage_numbers.get(phase).copied().unwrap_or(u16::MAX);
        if known.phase < number {
            known.phase = number;
            add(&mut place.exposed, assigned);
            change.units = true;
        }
        // After a silence anybody is news, known or not.
        change.units |= self
            .last_unit_us
            .is_none_or(|last_us| event.received_us.saturating_sub(last_us) > SILENCE_US);
        self.last_unit_us = self.last_unit_us.max(Some(event.received_us));
        for guard in self
            .guards
            .iter_mut()
            .filter(|guard| guard.source.looks_at(event))
        {
            change.evidence |= guard.count(event, phase, assigned, &mut known.marks);
        }
        change
    }

    /// Notes that everything below `watermark`, received by `as_of_us`, has been counted.
    pub fn advance(&mut self, watermark: u64, as_of_us: i64) {
        self.watermark = self.watermark.max(watermark);
        self.as_of_us = self.as_of_us.max(as_of_us);
    }

    /// Periods of constant shares with the units first seen in each.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// What the guard at `index` measured; `None` for a latency guard that does not know yet what
    /// is usual.
    #[must_use]
    pub fn measured(&self, index: usize) -> Option<Measured> {
        let guard = self.guards.get(index)?;
        match guard.source {
            GuardSource::Latency(_) if guard.rungs.is_empty() => None,
            GuardSource::Latency(_) => Some(Measured::LatencyLadder {
                rungs: guard.rungs.clone(),
            }),
            _ => Some(Measured::FirstEvents {
                phases: guard.first.clone(),
            }),
        }
    }

    /// Units whose events disagreed with their assignment.
    #[must_use]
    pub const fn misfits(&self) -> u64 {
        self.misfits
    }

    /// Whether units were left uncounted for lack of room.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Ingest sequence below which everything is counted.
    #[must_use]
    pub const fn watermark(&self) -> u64 {
        self.watermark
    }

    /// When a unit was last seen being served what it was assigned, Unix microseconds.
    #[must_use]
    pub const fn last_unit_us(&self) -> Option<i64> {
        self.last_unit_us
    }
}

impl GuardCounts {
    fn new(source: GuardSource, first_mark: u32) -> Self {
        Self {
            source,
            first_mark,
            first: Vec::new(),
            baseline: LatencyHistogram::default(),
            rungs: Vec::new(),
        }
    }

    /// Counts an event for this guard; whether it made a difference.
    fn count(&mut self, event: &Event, phase: usize, assigned: Arm, marks: &mut u32) -> bool {
        let counts = match self.source {
            GuardSource::Latency(_) => return self.count_latency(event, phase, assigned, marks),
            GuardSource::Errors(_) => event.is_failed_request(),
            GuardSource::Conversions(_) => true,
            GuardSource::Source(_) => false,
        };
        let is_first = counts && mark(marks, 1 << self.first_mark);
        if is_first {
            add(&mut self.first[phase], assigned);
        }
        is_first
    }

    fn count_latency(
        &mut self,
        event: &Event,
        phase: usize,
        assigned: Arm,
        marks: &mut u32,
    ) -> bool {
        let Some(latency_ms) = event.value else {
            return false;
        };
        let mut is_first = false;
        for (bit, rung) in (self.first_mark..).zip(&mut self.rungs) {
            if latency_ms > rung.threshold_ms && mark(marks, 1 << bit) {
                add(&mut rung.slow[phase], assigned);
                is_first = true;
            }
        }
        is_first
    }

    fn learn(&mut self, event: &Event) -> bool {
        let is_latency = matches!(self.source, GuardSource::Latency(_));
        if let (true, true, Some(latency_ms)) = (is_latency, self.rungs.is_empty(), event.value) {
            self.baseline.record(latency_ms);
            if self.baseline.count() >= BASELINE_REQUESTS {
                self.freeze();
                return true;
            }
        }
        false
    }

    fn freeze(&mut self) {
        let phases = self.first.len();
        let rung = |quantile: f64| {
            Some(Rung {
                quantile,
                threshold_ms: self.baseline.quantile_ms(quantile)?,
                slow: vec![ArmCounts::default(); phases],
                first_requests: None,
            })
        };
        self.rungs = QUANTILES.into_iter().filter_map(rung).collect();
    }
}

fn add(counts: &mut ArmCounts, arm: Arm) {
    match arm {
        Arm::Treatment => counts.treatment += 1,
        Arm::Control => counts.control += 1,
    }
}

/// Sets a bit; true the first time.
fn mark(marks: &mut u32, bit: u32) -> bool {
    let is_first = *marks & bit == 0;
    *marks |= bit;
    is_first
}

#[cfg(test)]
mod tests;
