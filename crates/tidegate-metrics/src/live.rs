//! Live aggregates: what guards and dashboards see within a second of acknowledgement.
//!
//! A fold over the ingest sequence, by (flag, phase, variant). The arm of an event is what its
//! own `flags` say it was served, never what we think it should have been. Time is the ingest
//! sequence: a phase begins at a sequence, so that every event belongs to exactly one phase of a
//! flag and a replay gives the same numbers, bit for bit.
//!
//! Two ways of counting stand side by side. *Per event* counts every request and failure; it is
//! what a dashboard shows, and it must not decide, because one unit's retries are not
//! independent. *Per unit* counts each unit once: its first failing request, its first request
//! slower than each rung of the latency ladder. A unit belongs to the arm it was first seen in
//! within the phase; what it does under another arm later is not counted per unit, and the unit
//! is counted as mixed. Counts only ever grow, which sequential tests rely on.
//!
//! Evaluations are not counted: evaluating a flag is not meeting it. Quarantined events are not
//! counted.
//!
//! Memory is bounded by [`LiveLimits`]. Where a limit is reached, the report says so
//! ([`PhaseCounts::incomplete`]); it never gives a number that is silently too small. Units are
//! remembered by a 64-bit hash; among a million units two collide with probability 3e-8.

mod latency;
mod moments;
mod phase;
mod report;

#[cfg(test)]
mod tests;

use crate::{Event, EventKind};
pub use latency::LatencyHistogram;
pub use moments::ValueMoments;
use phase::{Budget, Phase};
pub use report::{ArmCounts, Incomplete, PhaseCounts, RungCounts, TrackCounts, Watermark};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Ceilings on what live aggregates may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveLimits {
    /// Flags followed without having been marked; marked flags are always followed.
    pub max_flags: usize,
    /// Variants of one flag.
    pub max_variants: usize,
    /// Distinct names of `track` events in one phase of a flag.
    pub max_track_names: usize,
    /// Closed phases kept per flag; the oldest are forgotten first.
    pub max_closed_phases: usize,
    /// Entries in all sets of units together, about 16 bytes each.
    pub max_unit_entries: usize,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            max_flags: 2000,
            max_variants: 32,
            max_track_names: 200,
            max_closed_phases: 64,
            max_unit_entries: 8_000_000,
        }
    }
}

/// The beginning of a phase of a flag: from a sequence on, counts start anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseMark {
    /// The flag.
    pub flag: Box<str>,
    /// The caller's name for the phase, unique within the flag.
    pub phase: Box<str>,
    /// The first ingest sequence that belongs to it.
    pub at_sequence: u64,
    /// Rungs of the latency ladder in milliseconds, ascending; at most [`MAX_RUNGS`].
    pub ladder_ms: Vec<f64>,
}

/// The most rungs a latency ladder may have.
pub const MAX_RUNGS: usize = 16;

/// Why a phase cannot be marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Events of the phase are already counted elsewhere.
    #[error(
        "phase begins at sequence {at_sequence}, but events before {watermark} are already \
         counted; replay the log to count them again"
    )]
    Past {
        /// Where the phase should begin.
        at_sequence: u64,
        /// The first sequence not yet counted.
        watermark: u64,
    },
    /// A ladder that is too long, not ascending, or not finite.
    #[error("latency ladder must hold at most {MAX_RUNGS} positive numbers, ascending")]
    Ladder,
}

/// Counts by flag, phase and variant. The same marks and events, applied in the same order, give
/// an equal value, whether in one life or over checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveAggregates {
    limits: LiveLimits,
    watermark: Watermark,
    flags: FxHashMap<Box<str>, FlagPhases>,
    pending: Vec<PhaseMark>,
    unit_entries: usize,
    flags_left_out: u64,
    quarantined: u64,
    lost_below: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FlagPhases {
    closed: Vec<Phase>,
    current: Phase,
}

impl LiveAggregates {
    /// Empty aggregates that expect sequence 0 next.
    #[must_use]
    pub fn new(limits: LiveLimits) -> Self {
        Self {
            limits,
            watermark: Watermark::default(),
            flags: FxHashMap::default(),
            pending: Vec::new(),
            unit_entries: 0,
            flags_left_out: 0,
            quarantined: 0,
            lost_below: 0,
        }
    }

    /// Empty aggregates that expect another sequence next, because what lies before is gone.
    /// Phases that began before may still be marked; they report [`Incomplete::History`].
    #[must_use]
    pub fn starting_at(limits: LiveLimits, sequence: u64) -> Self {
        let mut empty = Self::new(limits);
        empty.watermark.sequence = sequence;
        empty.lost_below = sequence;
        empty
    }

    /// Counts a stretch of events in ingest order. Events below the watermark are passed over, so
    /// that overlapping replays are harmless.
    pub fn apply(&mut self, events: &[Event], first_sequence: u64) {
        for (sequence, event) in (first_sequence..).zip(events) {
            if sequence >= self.watermark.sequence {
                self.begin_phases(sequence);
                self.count(event);
                self.watermark.sequence = sequence + 1;
                self.watermark.received_us = self.watermark.received_us.max(event.received_us);
            }
        }
        self.begin_phases(self.watermark.sequence);
    }

    /// Begins a phase of a flag at a sequence, now or when the fold gets there. Repeating a mark
    /// changes nothing.
    ///
    /// # Errors
    /// [`MarkError::Past`] if events of the phase are already counted, [`MarkError::Ladder`] if
    /// the ladder cannot be used.
    pub fn mark_phase(&mut self, mark: PhaseMark) -> Result<(), MarkError> {
        let is_ascending = mark.ladder_ms.is_sorted_by(|a, b| a < b);
        let is_positive = mark.ladder_ms.iter().all(|ms| ms.is_finite() && *ms > 0.0);
        if mark.ladder_ms.len() > MAX_RUNGS || !is_ascending || !is_positive {
            return Err(MarkError::Ladder);
        }
        let is_known = self.pending.contains(&mark)
            || self
                .phases(&mark.flag)
                .any(|p| p.is_named(&mark.phase) && p.begins_at() == mark.at_sequence);
        if is_known {
            return Ok(());
        }
        let is_lost =
            mark.at_sequence < self.lost_below && self.lost_below == self.watermark.sequence;
        if mark.at_sequence < self.watermark.sequence && !is_lost {
            return Err(MarkError::Past {
                at_sequence: mark.at_sequence,
                watermark: self.watermark.sequence,
            });
        }
        self.pending.push(mark);
        // Stable: of two marks at one sequence the later call wins.
        self.pending.sort_by_key(|mark| mark.at_sequence);
        self.begin_phases(self.watermark.sequence);
        Ok(())
    }

    /// The counts of one phase of a flag; without a phase, those of the current one. `None` if
    /// nothing is known of the flag or phase, which is "no data" and not zero.
    #[must_use]
    pub fn guard_counts(&self, flag: &str, phase: Option<&str>) -> Option<PhaseCounts> {
        let state = match phase {
            None => &self.flags.get(flag)?.current,
            Some(name) => self.phases(flag).find(|p| p.is_named(name))?,
        };
        Some(state.report(flag, self.watermark))
    }

    /// Every phase of a flag that is still known, oldest first.
    #[must_use]
    pub fn phase_counts(&self, flag: &str) -> Vec<PhaseCounts> {
        self.phases(flag)
            .map(|phase| phase.report(flag, self.watermark))
            .collect()
    }

    /// Up to which sequence everything is counted, and when that was received.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Flags with counts, sorted.
    #[must_use]
    pub fn flag_keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.flags.keys().map(AsRef::as_ref).collect();
        keys.sort_unstable();
        keys
    }

    /// Events passed over because their flag came after [`LiveLimits::max_flags`] others.
    #[must_use]
    pub fn flags_left_out(&self) -> u64 {
        self.flags_left_out
    }

    /// Quarantined events seen and not counted.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.quarantined
    }

    fn phases(&self, flag: &str) -> impl Iterator<Item = &Phase> {
        let state = self.flags.get(flag);
        state
            .into_iter()
            .flat_map(|state| state.closed.iter().chain([&state.current]))
    }

    fn begin_phases(&mut self, sequence: u64) {
        let due = self
            .pending
            .partition_point(|mark| mark.at_sequence <= sequence);
        if due == 0 {
            return;
        }
        for mark in self.pending.drain(..due).collect::<Vec<_>>() {
            self.begin(mark);
        }
    }

    fn begin(&mut self, mark: PhaseMark) {
        let mut phase = Phase::new(mark.phase, mark.at_sequence, mark.ladder_ms);
        if mark.at_sequence < self.lost_below {
            phase.is_missing(Incomplete::History);
        }
        match self.flags.get_mut(&mark.flag) {
            None => {
                let phases = FlagPhases {
                    closed: Vec::new(),
                    current: phase,
                };
                self.flags.insert(mark.flag, phases);
            }
            Some(phases) => {
                let mut before = std::mem::replace(&mut phases.current, phase);
                self.unit_entries -= before.close(mark.at_sequence);
                phases.closed.push(before);
                let surplus = phases
                    .closed
                    .len()
                    .saturating_sub(self.limits.max_closed_phases);
                phases.closed.drain(..surplus);
            }
        }
    }

    fn count(&mut self, event: &Event) {
        if event.is_quarantined {
            self.quarantined += 1;
            return;
        }
        if event.kind == EventKind::Evaluation || event.flags.is_empty() {
            return;
        }
        let unit = crate::unit_hash(&event.unit);
        let from_sequence = self.watermark.sequence;
        for (flag, variant) in &event.flags {
            let has_room = self.flags.len() < self.limits.max_flags;
            let phases = match self.flags.get_mut(flag) {
                Some(phases) => phases,
                None if !has_room => {
                    self.flags_left_out += 1;
                    continue;
                }
                None => {
                    let phases = FlagPhases {
                        closed: Vec::new(),
                        current: Phase::new("".into(), from_sequence, Vec::new()),
                    };
                    self.flags.entry(flag.clone()).or_insert(phases)
                }
            };
            let mut budget = Budget {
                limits: &self.limits,
                unit_entries: &mut self.unit_entries,
            };
            phases
                .current
                .count(event, flag, variant, unit, &mut budget);
        }
    }
}
