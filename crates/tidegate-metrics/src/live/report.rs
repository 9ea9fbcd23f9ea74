//! What live aggregates answer, with everything needed to judge it.

use super::{LatencyHistogram, ValueMoments};
use serde::{Deserialize, Serialize};

/// How far the counts reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Every event below this ingest sequence is counted, none at or above it.
    pub sequence: u64,
    /// When the latest of them was received, microseconds since 1970; 0 if there is none.
    pub received_us: i64,
}

/// Why counts of a phase are too small. Any of these makes a verdict on them invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// Events of the phase were lost to the fold: its checkpoint was unreadable and the log no
    /// longer reaches back to its beginning.
    History,
    /// The limit on remembered units was reached: counts per unit are too small.
    Units,
    /// More variants than the limit: events of the others are not counted.
    Variants,
    /// More names of `track` events than the limit: the others are not counted.
    TrackNames,
}

/// The counts of one phase of a flag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseCounts {
    /// The flag.
    pub flag: String,
    /// The caller's name for the phase; empty for the time before the first mark.
    pub phase: String,
    /// The first ingest sequence that belongs to it.
    pub from_sequence: u64,
    /// The first ingest sequence that no longer belongs to it; `None` while it is current.
    pub to_sequence: Option<u64>,
    /// How far the counts reach.
    pub watermark: Watermark,
    /// Units seen under more than one variant; per unit they count under the first alone.
    pub mixed_units: u64,
    /// Reasons for which a verdict on these counts is invalid; none normally.
    pub incomplete: Vec<Incomplete>,
    /// Counts by variant, sorted by variant.
    pub arms: Vec<ArmCounts>,
}

impl PhaseCounts {
    /// The counts of one variant.
    #[must_use]
    pub fn arm(&self, variant: &str) -> Option<&ArmCounts> {
        self.arms.iter().find(|arm| arm.variant == variant)
    }
}

/// The counts of one variant in one phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmCounts {
    /// The variant.
    pub variant: String,
    /// Events of any kind but evaluations that carry the variant.
    pub events: u64,
    /// Units first seen in this arm.
    pub units: u64,
    /// Of these, units with an exposure event for the flag.
    pub exposed_units: u64,
    /// Requests.
    pub requests: u64,
    /// Units with at least one request.
    pub requesting_units: u64,
    /// Failed requests.
    pub failed_requests: u64,
    /// Units with at least one failed request: the count of first failing requests.
    pub failing_units: u64,
    /// The latency ladder, ascending; empty if the phase has none.
    pub ladder: Vec<RungCounts>,
    /// Latencies of requests in milliseconds.
    pub latency_ms: ValueMoments,
    /// Latencies of requests by logarithmic bucket.
    #[serde(skip)]
    pub latency_histogram: LatencyHistogram,
    /// `track` events by name, sorted by name.
    pub tracks: Vec<TrackCounts>,
}

impl ArmCounts {
    /// The counts of one `track` event name.
    #[must_use]
    pub fn track(&self, name: &str) -> Option<&TrackCounts> {
        self.tracks.iter().find(|track| track.name == name)
    }
}

/// One rung of the latency ladder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RungCounts {
    /// The threshold in milliseconds.
    pub threshold_ms: f64,
    /// Requests slower than the threshold.
    pub slow_requests: u64,
    /// Units with at least one such request.
    pub slow_units: u64,
}

/// One `track` event name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrackCounts {
    /// The name.
    pub name: String,
    /// Events.
    pub events: u64,
    /// Units with at least one.
    pub units: u64,
    /// The values of those events that have one.
    pub values: ValueMoments,
}
