//! Counting what a rollout's guards need: each unit once, in the arm its hash gives it.
//!
//! The fold follows the log of events. For every event that carries the rollout's flag it asks
//! which arm the *same split* gives the unit. Two things are counted:
//!
//! - **units**, for the sample-ratio check: at the unit's first event, by its assignment alone, so
//!   that a client that learns of a new share late skews nothing;
//! - **harm**: a unit's first failing request and its first request slower than each frozen
//!   threshold, once per rollout, and only if the event says it was served what it was assigned. A
//!   unit that was forced, targeted, or is still on an older share never counts as harmed.
//!
//! Under the hypothesis of no effect the arm of a counted unit is then a coin with the split's own
//! probability in force at that moment, however its failures cluster.
//!
//! Memory is bounded: beyond [`MAX_UNITS`] units nothing more is counted and the counts say that
//! they are incomplete, which makes the verdict invalid and never harmed.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use tidegate_metrics::{Event, EventKind, unit_hash};
use tidegate_rollout::{ArmCounts, BasisPoints, Phase};

/// The most units one rollout remembers.
pub const MAX_UNITS: usize = 4_000_000;
/// The most latency thresholds; one bit each beside the others in a unit's word.
pub const MAX_RUNGS: usize = 8;

/// What is remembered of one unit.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    marks: u16,
    /// The newest phase it was seen in, from 1.
    phase: u16,
}

const FAILED: u16 = 1;
const MISFIT: u16 = 1 << 1;
const FIRST_RUNG: u16 = 1 << 4;

/// Which side of the split a unit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The change.
    Treatment,
    /// The part of the same audience that the same split left out.
    Control,
}

/// The counts of one rollout, phase by phase.
#[derive(Debug, Clone)]
pub struct Watch {
    flag: String,
    treatment: String,
    control: String,
    thresholds_ms: Vec<f64>,
    units: HashMap<u64, Unit, FxBuildHasher>,
    last_unit_us: Option<i64>,
    phases: Vec<Phase>,
    failing: Vec<ArmCounts>,
    slow: Vec<Vec<ArmCounts>>,
    misfits: u64,
    is_incomplete: bool,
    watermark: u64,
    as_of_us: i64,
}

impl Watch {
    /// A watch over `flag` whose latency thresholds are frozen at `thresholds_ms`.
    #[must_use]
    pub fn new(flag: &str, treatment: &str, control: &str, thresholds_ms: Vec<f64>) -> Self {
        let thresholds_ms: Vec<f64> = thresholds_ms.into_iter().take(MAX_RUNGS).collect();
        Self {
            flag: flag.to_owned(),
            treatment: treatment.to_owned(),
            control: control.to_owned(),
            slow: vec![Vec::new(); thresholds_ms.len()],
            thresholds_ms,
            units: HashMap::default(),
            last_unit_us: None,
            phases: Vec::new(),
            failing: Vec::new(),
            misfits: 0,
            is_incomplete: false,
            watermark: 0,
            as_of_us: 0,
        }
    }

    /// Begins a period of constant shares.
    pub fn begin_phase(&mut self, treatment_bp: BasisPoints, control_bp: BasisPoints, at_us: i64) {
        self.phases.push(Phase {
            treatment_bp,
            control_bp,
            started_us: at_us,
            units: ArmCounts::default(),
            exposed: ArmCounts::default(),
        });
        self.failing.push(ArmCounts::default());
        for rung in &mut self.slow {
            rung.push(ArmCounts::default());
        }
    }

    /// Whether the event is about this rollout at all, so that the split need not be asked.
    #[must_use]
    pub fn concerns(&self, event: &Event) -> bool {
        !event.is_quarantined
            && event.kind != EventKind::Evaluation
            && event.variant(&self.flag).is_some()
    }

    /// Counts one event; `assigned` is the arm the split in force gives its unit.
    pub fn count(&mut self, event: &Event, assigned: Arm) {
        let Some(served) = event.variant(&self.flag) else {
            return;
        };
        let Some(phase) = self.phases.len().checked_sub(1) else {
            return;
        };
        let unit = unit_hash(&event.unit);
        let is_new = !self.units.contains_key(&unit);
        if is_new && self.units.len() >= MAX_UNITS {
            self.is_incomplete = true;
            return;
        }
        if is_new {
            add(&mut self.phases[phase].units, assigned);
        }
        let expected = match assigned {
            Arm::Treatment => &self.treatment,
            Arm::Control => &self.control,
        };
        let known = self.units.entry(unit).or_default();
        if served != expected {
            self.misfits += u64::from(mark(&mut known.marks, MISFIT));
            return;
        }
        let number = u16::try_from(phase + 1).unwrap_or(u16::MAX);
        if known.phase < number {
            known.phase = number;
            add(&mut self.phases[phase].exposed, assigned);
        }
        self.last_unit_us = self.last_unit_us.max(Some(event.received_us));
        if event.kind != EventKind::Request {
            return;
        }
        if event.is_failed_request() && mark(&mut known.marks, FAILED) {
            add(&mut self.failing[phase], assigned);
        }
        let Some(latency_ms) = event.value else {
            return;
        };
        for (rung, threshold_ms) in self.thresholds_ms.iter().enumerate() {
            if latency_ms > *threshold_ms && mark(&mut known.marks, FIRST_RUNG << rung) {
                add(&mut self.slow[rung][phase], assigned);
            }
        }
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

    /// First failing units per phase.
    #[must_use]
    pub fn failing(&self) -> &[ArmCounts] {
        &self.failing
    }

    /// First slow units per threshold and phase.
    #[must_use]
    pub fn slow(&self) -> impl Iterator<Item = (f64, &[ArmCounts])> {
        self.thresholds_ms
            .iter()
            .copied()
            .zip(self.slow.iter().map(Vec::as_slice))
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

    /// When the newest counted event was received, Unix microseconds.
    #[must_use]
    pub const fn as_of_us(&self) -> i64 {
        self.as_of_us
    }
}

fn add(counts: &mut ArmCounts, arm: Arm) {
    match arm {
        Arm::Treatment => counts.treatment += 1,
        Arm::Control => counts.control += 1,
    }
}

/// Sets a bit; true the first time.
fn mark(word: &mut u16, bit: u16) -> bool {
    let is_first = *word & bit == 0;
    *word |= bit;
    is_first
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_metrics::{Arrival, Limits, parse_events};

    fn watch() -> Watch {
        let mut watch = Watch::new("f", "on", "off", vec![100.0, 1000.0]);
        let share = |bp: u16| BasisPoints::try_from(bp).unwrap();
        watch.begin_phase(share(500), share(9500), 0);
        watch
    }

    fn event(text: &str) -> Event {
        let text = format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"name\":\"checkout\",{text}}}");
        let mut batch =
            parse_events(text.as_bytes(), &Limits::default(), Arrival::at(1 << 50)).unwrap();
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        batch.accepted.remove(0)
    }

    fn request(unit: &str, variant: &str, latency: f64, failed: bool) -> Event {
        event(&format!(
            "\"unit\":\"{unit}\",\"kind\":\"request\",\"value\":{latency},\
             \"properties\":{{\"error\":{failed}}},\"flags\":{{\"f\":\"{variant}\"}}"
        ))
    }

    #[test]
    fn a_retry_storm_of_one_unit_counts_once() {
        let mut watch = watch();
        for _ in 0..1000 {
            watch.count(&request("u", "on", 2000.0, true), Arm::Treatment);
        }
        assert_eq!(
            watch.failing(),
            [ArmCounts {
                treatment: 1,
                control: 0
            }]
        );
        assert_eq!(
            watch.phases()[0].units,
            ArmCounts {
                treatment: 1,
                control: 0
            }
        );
        for (_, counts) in watch.slow() {
            assert_eq!(
                counts,
                [ArmCounts {
                    treatment: 1,
                    control: 0
                }]
            );
        }
    }

    #[test]
    fn forced_and_stale_units_are_never_harmed_and_are_shown() {
        let mut watch = watch();
        watch.count(&request("forced", "on", 1.0, true), Arm::Control);
        watch.count(&request("forced", "on", 1.0, true), Arm::Control);
        watch.count(&request("stale", "off", 1.0, true), Arm::Treatment);
        assert_eq!(watch.failing(), [ArmCounts::default()]);
        assert_eq!(watch.misfits(), 2);
        assert_eq!(
            watch.phases()[0].units,
            ArmCounts {
                treatment: 1,
                control: 1
            }
        );
    }

    #[test]
    fn a_unit_fails_once_in_the_phase_where_it_first_failed() {
        let mut watch = watch();
        watch.count(&request("u", "off", 1.0, true), Arm::Control);
        let half = BasisPoints::try_from(5000).unwrap();
        watch.begin_phase(half, half, 1);
        watch.count(&request("u", "on", 1.0, true), Arm::Treatment);
        watch.count(&request("v", "on", 1.0, true), Arm::Treatment);
        assert_eq!(
            watch.failing(),
            [
                ArmCounts {
                    treatment: 0,
                    control: 1
                },
                ArmCounts {
                    treatment: 1,
                    control: 0
                }
            ]
        );
        let units: Vec<u64> = watch
            .phases()
            .iter()
            .map(|phase| phase.units.total())
            .collect();
        assert_eq!(units, [1, 1]);
    }

    #[test]
    fn only_requests_can_harm_and_other_flags_do_not_concern_it() {
        let mut watch = watch();
        let exposure =
            event("\"unit\":\"u\",\"kind\":\"track\",\"value\":5000,\"flags\":{\"f\":\"on\"}");
        watch.count(&exposure, Arm::Treatment);
        assert_eq!(watch.failing(), [ArmCounts::default()]);
        let other = event("\"unit\":\"u\",\"kind\":\"track\",\"flags\":{\"g\":\"on\"}");
        assert!(watch.concerns(&exposure) && !watch.concerns(&other));
    }
}
