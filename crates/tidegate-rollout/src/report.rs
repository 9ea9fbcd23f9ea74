//! What a plan says: for each guard effect, interval, evidence, threshold, counts and freshness, what is
//! being waited for, and one sentence for people.
//!
//! A report never claims more than its intervals: sentences are composed in
//! `sentence` from these fields alone.
//! Numbers that cannot be said (no events, unbounded interval) are absent, never a sentinel.

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::evidence::Interval;
use crate::evidence::combine::Combination;
use crate::observation::ArmCounts;
use crate::verdict::Verdict;

/// The full account of one decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Report {
    /// The decision in one sentence.
    pub sentence: String,
    /// Stage in force; `None` before the first.
    pub stage: Option<usize>,
    /// Share in force.
    pub share_bp: BasisPoints,
    /// Joint evidence over all guards.
    pub evidence: JointEvidence,
    /// One entry per guard, in the order of the policy.
    pub guards: Vec<GuardReport>,
    /// The sample-ratio check.
    pub sample_ratio: SampleRatioReport,
    /// Everything that stands between now and the next step; empty when nothing does.
    pub waiting_for: Vec<Wait>,
    /// Remarks a reader must know to read the verdict rightly.
    pub notes: Vec<String>,
    /// Ingest sequence of the observations.
    pub watermark: u64,
    /// Time up to which observations are complete, microseconds since the epoch.
    pub as_of_us: i64,
}

/// Joint evidence of harm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct JointEvidence {
    /// How guards were combined.
    pub combination: Combination,
    /// `ln e`, weights included; absent without guards.
    pub ln_e: Option<f64>,
    /// `ln(1/alpha)`.
    pub ln_threshold: f64,
}

/// The account of one guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardReport {
    /// Key of the metric.
    pub metric: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether the joint decision holds this guard responsible.
    pub is_guilty: bool,
    /// Relative effect, treatment / control, with its anytime-valid interval.
    pub effect: Interval,
    /// `ln e` against "no harm beyond the margin"; of the strongest rung for a ladder.
    pub ln_e: f64,
    /// What `ln_e` must reach for this guard alone to roll back.
    pub ln_threshold: f64,
    /// `ln e` against "harm beyond margin and tolerance"; the guard is safe at `ln 20`.
    pub ln_e_safe: f64,
    /// Failing (or slow, or valued) units per arm.
    pub events: ArmCounts,
    /// Units per arm.
    pub units: ArmCounts,
    /// Age of the measurement in microseconds; absent when never measured.
    pub age_us: Option<i64>,
    /// Where the evidence comes from and what it presumes.
    pub basis: String,
    /// What is wrong, or still missing, in words.
    pub remark: Option<String>,
    /// What the bake alone says of harm that began in it; absent before it and without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateReport>,
}

/// The account of a bake's watch over one guard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LateReport {
    /// `ln e` against "no harm beyond the margin began in the bake", already part of the guard's `ln_e`.
    pub ln_e: f64,
    /// Periods begun so far.
    pub periods: usize,
    /// Start of the period from which on the counts speak most for harm, microseconds since the epoch;
    /// absent while they do not speak for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
}

/// The account of the sample-ratio check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampleRatioReport {
    /// Verdict: invalid when units do not arrive at the shares set, else undecided.
    pub verdict: Verdict,
    /// `ln e` against "units arrive at the shares in force".
    pub ln_e: f64,
    /// `ln(1/srm_alpha)`.
    pub ln_threshold: f64,
    /// Units per arm.
    pub units: ArmCounts,
    /// Treatment units expected at the shares in force.
    pub expected_treatment: f64,
}

/// One thing that stands between now and the next step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wait", rename_all = "snake_case")]
pub enum Wait {
    /// The rollout has not been started.
    Start,
    /// A person paused it.
    Resume {
        /// Who paused.
        who: String,
        /// Why.
        why: String,
    },
    /// Monitored time in this stage.
    Bake {
        /// So far, in whole seconds.
        baked_seconds: u64,
        /// Required.
        min_seconds: u64,
    },
    /// Units first seen in the treatment in this stage.
    Units {
        /// So far.
        seen: u64,
        /// Required.
        min_units: u64,
    },
    /// Events of the guard that has fewest.
    Events {
        /// So far.
        seen: u64,
        /// Required.
        min_events: u64,
        /// Which guard.
        metric: String,
    },
    /// A person's approval.
    Approval {
        /// Stage to be entered; the number of stages stands for completion.
        stage: usize,
    },
    /// Data of a guard.
    Data {
        /// Which guard.
        metric: String,
        /// Why there is none.
        reason: String,
    },
    /// A measurement that can be trusted again.
    TrustedMeasurement {
        /// What is wrong.
        reason: String,
    },
    /// Suspicion of harm to pass or to be confirmed.
    Suspicion {
        /// Which guard.
        metric: String,
        /// `ln e` now.
        ln_e: f64,
    },
    /// The end of a freeze.
    Freeze {
        /// When, microseconds since the epoch.
        until_us: i64,
        /// Why.
        reason: String,
    },
    /// Somebody to settle a foreign change of the flag.
    ForeignEdit {
        /// Share found.
        found_bp: BasisPoints,
    },
    /// Room in the harm budget.
    HarmBudget {
        /// Upper estimate of excess failures so far.
        spent: f64,
        /// The budget.
        budget: f64,
    },
    /// The guards to become safe.
    Safety,
    /// The share change now being applied.
    Application {
        /// Share being written.
        to_bp: BasisPoints,
    },
}
