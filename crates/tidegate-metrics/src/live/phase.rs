//! One phase of one flag: its arms and the set of units seen in it.
//!
//! A unit's whole state is one 64-bit word: the arm it was first seen in, four marks, and a bit
//! per rung. When a phase closes, the words are dropped and the counts stay.

use super::report::{ArmCounts, Incomplete, PhaseCounts, RungCounts, TrackCounts, Watermark};
use super::{LatencyHistogram, LiveLimits, ValueMoments};
use crate::{Event, EventKind};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

/// What is left of the shared limits.
pub(super) struct Budget<'b> {
    pub(super) limits: &'b LiveLimits,
    pub(super) unit_entries: &'b mut usize,
}

impl Budget<'_> {
    fn has_room(&self) -> bool {
        *self.unit_entries < self.limits.max_unit_entries
    }

    fn take_entry(&mut self) -> bool {
        let has_room = self.has_room();
        *self.unit_entries += usize::from(has_room);
        has_room
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Phase {
    name: Box<str>,
    from_sequence: u64,
    to_sequence: Option<u64>,
    ladder_ms: Vec<f64>,
    arms: Vec<Arm>,
    units: FxHashMap<u64, UnitWord>,
    tracked_units: FxHashSet<u64>,
    mixed_units: u64,
    incomplete: Vec<Incomplete>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Arm {
    variant: Box<str>,
    events: u64,
    units: u64,
    exposed_units: u64,
    requests: u64,
    requesting_units: u64,
    failed_requests: u64,
    failing_units: u64,
    rungs: Vec<RungCounts>,
    latency_ms: ValueMoments,
    latency_histogram: LatencyHistogram,
    tracks: BTreeMap<Box<str>, Track>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Track {
    events: u64,
    units: u64,
    values: ValueMoments,
}

/// Bits 0-7: arm; 8-11: marks; 16-31: rungs exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct UnitWord(u64);

const EXPOSED: u64 = 1 << 8;
const REQUESTED: u64 = 1 << 9;
const FAILED: u64 = 1 << 10;
const MIXED: u64 = 1 << 11;
const FIRST_RUNG: u32 = 16;

impl UnitWord {
    fn arm(self) -> usize {
        usize::from(self.0.to_le_bytes()[0])
    }

    /// Sets a mark; true the first time.
    fn mark(&mut self, bit: u64) -> bool {
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

/// 1 if the unit counts and had not this mark yet.
fn first(word: Option<&mut UnitWord>, bit: u64) -> u64 {
    u64::from(word.is_some_and(|word| word.mark(bit)))
}

fn note(incomplete: &mut Vec<Incomplete>, what: Incomplete) {
    if !incomplete.contains(&what) {
        incomplete.push(what);
    }
}

impl Phase {
    pub(super) fn new(name: Box<str>, from_sequence: u64, ladder_ms: Vec<f64>) -> Self {
        Self {
            name,
            from_sequence,
            to_sequence: None,
            ladder_ms,
            arms: Vec::new(),
            units: FxHashMap::default(),
            tracked_units: FxHashSet::default(),
            mixed_units: 0,
            incomplete: Vec::new(),
        }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref() == name
    }

    pub(super) fn begins_at(&self) -> u64 {
        self.from_sequence
    }

    /// Ends the phase; returns the unit entries given back.
    pub(super) fn close(&mut self, to_sequence: u64) -> usize {
        self.to_sequence = Some(to_sequence);
        let entries = self.units.len() + self.tracked_units.len();
        self.units = FxHashMap::default();
        self.tracked_units = FxHashSet::default();
        entries
    }

    pub(super) fn count(
        &mut self,
        event: &Event,
        flag: &str,
        variant: &str,
        unit: u64,
        budget: &mut Budget<'_>,
    ) {
        let Some(at) = self.arm_index(variant, budget.limits.max_variants) else {
            self.is_missing(Incomplete::Variants);
            return;
        };
        let Some(arm) = self.arms.get_mut(at) else {
            return;
        };
        arm.events += 1;
        // One look at the table, whose entries lie far apart in memory.
        let word = match self.units.entry(unit) {
            Entry::Occupied(known) if known.get().arm() == at => Some(known.into_mut()),
            Entry::Occupied(mut other) => {
                // First seen in another arm: it does not count under this one.
                self.mixed_units += u64::from(other.get_mut().mark(MIXED));
                None
            }
            Entry::Vacant(place) => {
                if budget.take_entry() {
                    arm.units += 1;
                    Some(place.insert(UnitWord(u64::try_from(at).unwrap_or(0))))
                } else {
                    note(&mut self.incomplete, Incomplete::Units);
                    None
                }
            }
        };
        match event.kind {
            EventKind::Request => arm.count_request(event, word),
            EventKind::Exposure if event.name.as_ref() == flag => {
                arm.exposed_units += first(word, EXPOSED);
            }
            EventKind::Track => {
                let counts_unit = word.is_some();
                self.count_track(event, at, unit, counts_unit, budget);
            }
            EventKind::Exposure | EventKind::Evaluation => {}
        }
    }

    fn arm_index(&mut self, variant: &str, max_variants: usize) -> Option<usize> {
        let known = self.arms.iter().position(|a| a.variant.as_ref() == variant);
        if known.is_some() {
            return known;
        }
        // An arm's number must fit its byte in the unit word.
        if self.arms.len() >= max_variants.min(256) {
            return None;
        }
        self.arms.push(Arm::new(variant, &self.ladder_ms));
        Some(self.arms.len() - 1)
    }

    fn count_track(
        &mut self,
        event: &Event,
        at: usize,
        unit: u64,
        counts_unit: bool,
        budget: &mut Budget<'_>,
    ) {
        let names = || self.arms.iter().map(|arm| arm.tracks.len()).sum::<usize>();
        let is_known = self
            .arms
            .get(at)
            .is_some_and(|arm| arm.tracks.contains_key(&event.name));
        if !is_known && names() >= budget.limits.max_track_names {
            self.is_missing(Incomplete::TrackNames);
            return;
        }
        let Some(arm) = self.arms.get_mut(at) else {
            return;
        };
        let track = if is_known {
            arm.tracks.get_mut(&event.name)
        } else {
            Some(arm.tracks.entry(event.name.clone()).or_default())
        };
        let Some(track) = track else {
            return;
        };
        track.events += 1;
        if let Some(value) = event.value {
            track.values.push(value);
        }
        if !counts_unit {
            return;
        }
        let key = unit.rotate_left(17) ^ crate::unit_hash(&event.name);
        if budget.has_room() {
            if self.tracked_units.insert(key) {
                budget.take_entry();
                track.units += 1;
            }
        } else if !self.tracked_units.contains(&key) {
            self.is_missing(Incomplete::Units);
        }
    }

    pub(super) fn is_missing(&mut self, what: Incomplete) {
        note(&mut self.incomplete, what);
    }

    pub(super) fn report(&self, flag: &str, watermark: Watermark) -> PhaseCounts {
        let mut arms: Vec<ArmCounts> = self.arms.iter().map(Arm::report).collect();
        arms.sort_by(|a, b| a.variant.cmp(&b.variant));
        PhaseCounts {
            flag: flag.to_owned(),
            phase: self.name.as_ref().to_owned(),
            from_sequence: self.from_sequence,
            to_sequence: self.to_sequence,
            watermark,
            mixed_units: self.mixed_units,
            incomplete: self.incomplete.clone(),
            arms,
        }
    }
}

impl Arm {
    fn new(variant: &str, ladder_ms: &[f64]) -> Self {
        Self {
            variant: variant.into(),
            events: 0,
            units: 0,
            exposed_units: 0,
            requests: 0,
            requesting_units: 0,
            failed_requests: 0,
            failing_units: 0,
            rungs: ladder_ms
                .iter()
                .map(|threshold_ms| RungCounts {
                    threshold_ms: *threshold_ms,
                    ..RungCounts::default()
                })
                .collect(),
            latency_ms: ValueMoments::default(),
            latency_histogram: LatencyHistogram::default(),
            tracks: BTreeMap::new(),
        }
    }

    fn count_request(&mut self, event: &Event, mut word: Option<&mut UnitWord>) {
        self.requests += 1;
        self.requesting_units += first(word.as_deref_mut(), REQUESTED);
        if event.is_failed_request() {
            self.failed_requests += 1;
            self.failing_units += first(word.as_deref_mut(), FAILED);
        }
        let Some(latency_ms) = event.value else {
            return;
        };
        self.latency_ms.push(latency_ms);
        self.latency_histogram.record(latency_ms);
        for (bit, rung) in (FIRST_RUNG..).zip(&mut self.rungs) {
            if latency_ms > rung.threshold_ms {
                rung.slow_requests += 1;
                rung.slow_units += first(word.as_deref_mut(), 1u64.wrapping_shl(bit));
            }
        }
    }

    fn report(&self) -> ArmCounts {
        ArmCounts {
            variant: self.variant.as_ref().to_owned(),
            events: self.events,
            units: self.units,
            exposed_units: self.exposed_units,
            requests: self.requests,
            requesting_units: self.requesting_units,
            failed_requests: self.failed_requests,
            failing_units: self.failing_units,
            ladder: self.rungs.clone(),
            latency_ms: self.latency_ms,
            latency_histogram: self.latency_histogram.clone(),
            tracks: self
                .tracks
                .iter()
                .map(|(name, track)| TrackCounts {
                    name: name.as_ref().to_owned(),
                    events: track.events,
                    units: track.units,
                    values: track.values,
                })
                .collect(),
        }
    }
}
