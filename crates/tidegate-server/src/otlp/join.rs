//! What a trace was served, for the spans and logs of that trace.
//!
//! Evaluations and spans of one trace come in different requests, at different times, in either
//! order. An event that belongs to a trace of which evaluations are known takes what they say and
//! does not wait. Otherwise it waits for [`Join::window_us`] after its arrival, then takes what the
//! trace was served by all evaluations that arrived within the window before or after it. Among
//! those who wait the outcome depends on what arrived within the window and never on the order
//! ([ADR 0155](../../../../docs/adr/0155-who-is-known-does-not-wait.md)).
//!
//! - All evaluations are of one unit: the event is that unit's, with the variant of each flag.
//!   The unit a flag was evaluated for goes before what the event says of itself, because it is
//!   what the split was drawn by.
//! - They are of several units: the event's own word chooses; without one it stays as it is, and
//!   is counted as ambiguous.
//! - A flag with two variants for the unit within the window is left out: the event happened
//!   under both, or between them, and may be charged to neither.
//!
//! Bounds: a trace remembers at most [`MOST_PER_TRACE`] evaluations, all traces together at most
//! [`MOST_BYTES`]; beyond it the oldest traces are forgotten early, and counted. Evaluations are
//! kept for two windows, because an event that arrives one window after them waits another.
//!
//! Pure: times are arguments, and the same arrivals give the same outcome.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxBuildHasher;
use tidegate_metrics::{Event, EventKind, TraceId};

/// Evaluations that one trace remembers.
pub const MOST_PER_TRACE: usize = 64;
/// Bytes that all traces together may take.
pub const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What recent traces were served.
#[derive(Debug)]
pub struct Join {
    window_us: i64,
    traces: HashMap<TraceId, Vec<Served>, FxBuildHasher>,
    /// Traces by arrival of an evaluation, oldest first; a trace may stand here more than once.
    arrivals: VecDeque<(i64, TraceId)>,
    bytes: usize,
    forgotten: u64,
}

/// A variant that a unit was served in a trace, and when that was told.
///
/// Arrivals that lie at most two windows apart are one stretch: whatever arrives between them is
/// within a window of one of them, so the ends say all there is to know.
#[derive(Debug)]
struct Served {
    unit: Box<str>,
    flag: Box<str>,
    variant: Box<str>,
    first_us: i64,
    last_us: i64,
}

impl Served {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.unit.len() + self.flag.len() + self.variant.len()
    }

    fn says(&self, unit: &str, flag: &str, variant: &str) -> bool {
        (&*self.unit, &*self.flag, &*self.variant) == (unit, flag, variant)
    }

    /// Whether something within `reach_us` of `at_us` belongs to the stretch.
    fn reaches(&self, at_us: i64, reach_us: i64) -> bool {
        at_us >= self.first_us.saturating_sub(reach_us)
            && at_us <= self.last_us.saturating_add(reach_us)
    }
}

/// Bytes of an entry of [`Join::arrivals`].
const ARRIVAL_BYTES: usize = size_of::<(i64, TraceId)>();

/// What the join made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It has the unit and variants of its trace.
    Served,
    /// Its trace was served nothing that is known of.
    Alone,
    /// Its trace was served for several units, and it names none of them.
    Ambiguous,
}

impl Join {
    /// A join over so many microseconds.
    #[must_use]
    pub fn new(window_us: i64) -> Self {
        Self {
            window_us,
            traces: HashMap::default(),
            arrivals: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
        }
    }

    /// How long an event waits, and how far apart it may be from an evaluation.
    #[must_use]
    pub const fn window_us(&self) -> i64 {
        self.window_us
    }

    /// Traces that were forgotten before their time.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether the join can learn anything from an event.
    #[must_use]
    pub fn concerns(event: &Event) -> bool {
        event.kind == EventKind::Evaluation && event.trace_id.is_some() && !event.flags.is_empty()
    }

    /// Learns what an evaluation says, at the time it arrived.
    pub fn learn(&mut self, evaluation: &Event) {
        let Some(trace) = evaluation.trace_id else {
            return;
        };
        if !Self::concerns(evaluation) {
            return;
        }
        let at_us = evaluation.received_us;
        let stretch_us = self.window_us.saturating_mul(2);
        let known = self.traces.entry(trace).or_default();
        for (flag, variant) in &evaluation.flags {
            let unit = &evaluation.unit;
            let same = known
                .iter_mut()
                .find(|other| other.says(unit, flag, variant) && other.reaches(at_us, stretch_us));
            if let Some(same) = same {
                same.first_us = same.first_us.min(at_us);
                same.last_us = same.last_us.max(at_us);
            } else if known.len() < MOST_PER_TRACE {
                let served = Served {
                    unit: unit.clone(),
                    flag: flag.clone(),
                    variant: variant.clone(),
                    first_us: at_us,
                    last_us: at_us,
                };
                self.bytes += served.bytes();
                known.push(served);
            }
        }
        self.arrivals.push_back((at_us, trace));
        self.bytes += ARRIVAL_BYTES;
        while self.bytes > MOST_BYTES && self.forget_oldest() {
            self.forgotten += 1;
        }
    }

    /// Gives an event what its trace was served.
    pub fn settle(&self, event: &mut Event) -> Joined {
        let known = event.trace_id.and_then(|trace| self.traces.get(&trace));
        let within: Vec<&Served> = known
            .into_iter()
            .flatten()
            .filter(|served| served.reaches(event.received_us, self.window_us))
            .collect();
        let Some(first) = within.first() else {
            return Joined::Alone;
        };
        let is_one = within.iter().all(|served| served.unit == first.unit);
        let unit = if is_one {
            first.unit.clone()
        } else {
            event.unit.clone()
        };
        if !within.iter().any(|served| served.unit == unit) {
            return Joined::Ambiguous;
        }
        let of_unit: Vec<&Served> = within.into_iter().filter(|s| s.unit == unit).collect();
        for served in &of_unit {
            let is_settled = of_unit
                .iter()
                .all(|other| other.flag != served.flag || other.variant == served.variant);
            let place = event
                .flags
                .binary_search_by(|(flag, _)| flag.cmp(&served.flag));
            if let (true, Err(place)) = (is_settled, place) {
                let pair = (served.flag.clone(), served.variant.clone());
                event.flags.insert(place, pair);
            }
        }
        event.unit = unit;
        Joined::Served
    }

    /// Whether an event that arrived at `received_us` has waited long enough at `now_us`. A clock
    /// that was set back makes nothing wait longer.
    #[must_use]
    pub fn is_due(&self, received_us: i64, now_us: i64) -> bool {
        now_us >= received_us.saturating_add(self.window_us)
            || now_us < received_us.saturating_sub(self.window_us)
    }

    /// Forgets the evaluations that no event can take any more.
    pub fn forget(&mut self, now_us: i64) {
        let keep_us = self.window_us.saturating_mul(2);
        while let Some((arrived_us, _)) = self.arrivals.front() {
            let is_old = now_us > arrived_us.saturating_add(keep_us);
            let is_ahead = now_us < arrived_us.saturating_sub(keep_us);
            if !(is_old || is_ahead) {
                break;
            }
            self.forget_oldest();
        }
    }

    /// Forgets what traces were served for a unit.
    pub fn forget_unit(&mut self, unit: &str) {
        let bytes = &mut self.bytes;
        self.traces.retain(|_, known| {
            known.retain(|served| {
                let stays = served.unit.as_ref() != unit;
                if !stays {
                    *bytes -= served.bytes();
                }
                stays
            });
            !known.is_empty()
        });
    }

    /// Forgets what arrived first; `false` if there is nothing.
    fn forget_oldest(&mut self) -> bool {
        let Some((arrived_us, trace)) = self.arrivals.pop_front() else {
            return false;
        };
        self.bytes -= ARRIVAL_BYTES;
        if let Some(known) = self.traces.get_mut(&trace) {
            let bytes = &mut self.bytes;
            known.retain(|served| {
                let stays = served.last_us > arrived_us;
                if !stays {
                    *bytes -= served.bytes();
                }
                stays
            });
            if known.is_empty() {
                self.traces.remove(&trace);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
