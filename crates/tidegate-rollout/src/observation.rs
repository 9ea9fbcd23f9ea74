//! What was measured, as counts: the only door through which the world reaches the planner.
//!
//! Observations are a snapshot at an ingest sequence (the *watermark*), never at an event time, so a late
//! event cannot be missed and the same watermark always gives the same snapshot.
//!
//! # Phases
//! A phase is a period in which the shares stood still; a new one opens at every change of share, and may
//! open more often, as each phase start is also a point from which late regressions are watched.
//! Every list of counts has one entry per phase.
//!
//! # Which units count
//! Control is the part of the same audience that the same split left out; units that were forced or
//! targeted never count. A unit counts **once per guard and rollout**, at its first failing event, in the
//! phase and arm in force when it was assigned: with hash assignment its arm is then a coin with the
//! known probability `treatment / (treatment + control)` under the hypothesis of no effect, however
//! clustered its further failures are.

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::evidence::NumericEvidence;

/// Everything measured for one rollout up to a watermark.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// Ingest sequence of the last event folded in.
    pub watermark: u64,
    /// Time up to which events are complete, microseconds since the epoch.
    pub as_of_us: i64,
    /// When a unit of either arm was last seen, microseconds since the epoch; `None` before the first.
    pub last_unit_us: Option<i64>,
    /// Periods of constant shares, oldest first.
    pub phases: Vec<Phase>,
    /// One entry per guarded metric; a guard without an entry has no data.
    pub guards: Vec<GuardObservation>,
    /// Units that were seen in both arms without a share change explaining it.
    pub multiply_exposed_units: u64,
    /// Whether a unit was counted for at most one guard, at its first failing event of any; then the
    /// guards' evidence may be averaged, otherwise each keeps its own threshold.
    pub counts_units_once_over_all_guards: bool,
}

/// A period of constant shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Share of the audience assigned to the treatment.
    pub treatment_bp: BasisPoints,
    /// Share of the audience assigned to control and comparable to the treatment.
    pub control_bp: BasisPoints,
    /// When the shares came into force, microseconds since the epoch.
    pub started_us: i64,
    /// Units first seen in this phase, per arm: each unit counts in one phase only, so that its arm is a
    /// fair draw.
    pub units: ArmCounts,
    /// Units seen during this phase, per arm: each unit counts once in every phase it was seen in.
    pub exposed: ArmCounts,
}

/// A count for each arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmCounts {
    /// In the treatment.
    pub treatment: u64,
    /// In control.
    pub control: u64,
}

impl ArmCounts {
    /// Both arms together.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.treatment.saturating_add(self.control)
    }

    /// Sum over phases.
    #[must_use]
    pub fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        counts.into_iter().fold(Self::default(), |sum, c| Self {
            treatment: sum.treatment.saturating_add(c.treatment),
            control: sum.control.saturating_add(c.control),
        })
    }
}

/// What one guard's source delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardObservation {
    /// Key of the metric, as in the policy.
    pub metric: String,
    /// State of the source.
    pub source: SourceStatus,
    /// Time up to which this source is complete, microseconds since the epoch.
    pub as_of_us: i64,
    /// Whether the guard was shown to fire (it moved in the last day, or an injected fault moved it);
    /// only then does "no failure" mean health rather than a broken wire.
    pub proven: bool,
    /// Samples dropped as NaN, infinite, negative or running backwards.
    pub dropped_samples: u64,
    /// The counts.
    pub measured: Measured,
}

/// State of a metric source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceStatus {
    /// Answering.
    Ok,
    /// Provider error, timeout or partial result: never harm; the counts are those of before.
    Failed {
        /// What was asked.
        query: String,
        /// What came back, in full up to the edge's limit.
        response: String,
    },
    /// Answering, but what it says cannot be true.
    Untrustworthy {
        /// Why.
        reason: String,
    },
}

/// Counts in the form their measurement allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum Measured {
    /// First failing (or, for a decrease, first succeeding) event of each unit.
    FirstEvents {
        /// One entry per phase.
        phases: Vec<ArmCounts>,
    },
    /// Slow requests against thresholds frozen at stable quantiles before the rollout.
    LatencyLadder {
        /// One rung per frozen threshold.
        rungs: Vec<Rung>,
    },
    /// A numeric value per unit, as moments: asymptotic evidence.
    Moments {
        /// One entry per phase.
        phases: Vec<ArmMoments>,
    },
    /// A numeric value per unit, folded event by event: exact evidence.
    Values {
        /// One entry per phase.
        phases: Vec<ArmMoments>,
        /// The fold of [`NumericProcess`](crate::evidence::NumericProcess).
        evidence: NumericEvidence,
    },
    /// Counters of requests summed by somebody else (Prometheus): independence is assumed, not known.
    Aggregated {
        /// Closed scrape intervals in order.
        blocks: Vec<Block>,
        /// Whether an A/A self-test of this very query passed; only then may it roll back.
        self_test_passed: bool,
    },
    /// Histograms summed by somebody else: how many requests exceeded thresholds frozen at stable quantiles.
    AggregatedLadder {
        /// One rung per frozen threshold.
        rungs: Vec<AggregatedRung>,
        /// Whether an A/A self-test of this very query passed on every rung; only then may it roll back.
        self_test_passed: bool,
    },
}

/// One rung of a ladder over somebody else's histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregatedRung {
    /// Share of control's requests at or below the threshold when it was frozen.
    pub quantile: f64,
    /// The frozen threshold, an upper bound of a bucket, in the histogram's own unit.
    pub threshold: f64,
    /// Closed intervals in order; what exceeded the threshold counts as failed.
    pub blocks: Vec<Block>,
}

/// One rung of a latency ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Stable quantile at which the threshold was frozen, such as 0.99.
    pub quantile: f64,
    /// The frozen threshold in milliseconds.
    pub threshold_ms: f64,
    /// Units whose first slow request fell into each phase; with `first_requests`, units whose first
    /// request was slow.
    pub slow: Vec<ArmCounts>,
    /// For common rungs (p50, p90): units whose first request was seen in each phase.
    pub first_requests: Option<Vec<ArmCounts>>,
}

/// Moments of a numeric metric over units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmMoments {
    /// Treatment arm.
    pub treatment: Moments,
    /// Control arm.
    pub control: Moments,
}

/// Count, mean and sum of squared deviations of one arm's units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// Units.
    pub count: u64,
    /// Mean value over units, in the metric's own unit of measure.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub sum_of_squares: f64,
}

/// Requests and failures per arm in one closed interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Requests.
    pub requests: ArmCounts,
    /// Failed ones among them.
    pub failures: ArmCounts,
}
