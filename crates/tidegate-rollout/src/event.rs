//! The append-only log of one rollout: everything that happened, in order.
//!
//! The log is the only memory of a rollout; [`RolloutState`](crate::RolloutState) is its fold.
//! An event says what *has* happened, never what should: a decision is logged before it is applied
//! ([`RollbackDecided`](RolloutEvent::RollbackDecided), [`Intended`](RolloutEvent::Intended)) and its
//! effect after it was read back, so that a crash between the two is visible and resumable.
//!
//! `at_us` is the log's own time in microseconds: the appender never writes an instant before the last one.

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::digest::Digest;
use crate::verdict::Verdict;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum RolloutEvent {
    /// Somebody started the rollout; nobody is exposed yet.
    Started {
        /// When.
        at_us: i64,
        /// Who asked.
        who: String,
    },
    /// A plan was stored; written on change of evidence, and at least once a minute while running.
    Evidence {
        /// When the plan was made.
        at_us: i64,
        /// Ingest sequence up to which observations were folded.
        watermark: u64,
        /// The stored plan.
        plan: Digest,
        /// Its verdict.
        verdict: Verdict,
        /// Whether every guard had fresh data: only such time counts as baked.
        monitored: bool,
    },
    /// A share change is about to be written; the key of its effect is (step, attempt).
    Intended {
        /// When.
        at_us: i64,
        /// Number of the step, rising by one with each intent.
        step: u64,
        /// Stage to be entered; absent for completion.
        stage: Option<usize>,
        /// Share expected to be served before.
        from_bp: BasisPoints,
        /// Share to be written.
        to_bp: BasisPoints,
        /// The plan that asked for it.
        plan: Digest,
    },
    /// An intended change was given up: it is certain that it was not applied.
    Abandoned {
        /// When.
        at_us: i64,
        /// Its step.
        step: u64,
    },
    /// The share was written and read back; the stage at `stage` is in force.
    StageEntered {
        /// When.
        at_us: i64,
        /// Index into the policy's stages.
        stage: usize,
        /// Share in force from now on.
        share_bp: BasisPoints,
    },
    /// A person approved entering a stage.
    Approved {
        /// When.
        at_us: i64,
        /// Index into the policy's stages; the number of stages approves completion.
        stage: usize,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A person stopped the ramp at its present share.
    Paused {
        /// When.
        at_us: i64,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A person let a paused ramp go on.
    Resumed {
        /// When.
        at_us: i64,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A person ended the rollout; everyone gets control.
    Aborted {
        /// When.
        at_us: i64,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// Somebody pulled the emergency stop: outranks everything, needs no approval.
    EmergencyStopped {
        /// When.
        at_us: i64,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// The planner decided to roll back; stands whatever later evidence says.
    RollbackDecided {
        /// When.
        at_us: i64,
        /// The sentence for people.
        reason: String,
        /// The deciding plan.
        plan: Digest,
    },
    /// Share zero was written and read back.
    RolledBack {
        /// When.
        at_us: i64,
    },
    /// The plan ran to its end.
    Completed {
        /// When.
        at_us: i64,
        /// Share the flag keeps.
        share_bp: BasisPoints,
    },
    /// The flag's share was found changed by somebody else; reported, not fought.
    ForeignEdit {
        /// When it was seen.
        at_us: i64,
        /// Share found.
        found_bp: BasisPoints,
        /// Who changed it.
        who: String,
    },
    /// A person accepted or reversed a foreign edit; `share_bp` is what is served now.
    ForeignEditSettled {
        /// When.
        at_us: i64,
        /// Share served now.
        share_bp: BasisPoints,
        /// Who settled it.
        who: String,
    },
    /// The rollout begins anew after it ended: evidence, counters, share and approvals are reset.
    Retried {
        /// When.
        at_us: i64,
        /// Who.
        who: String,
        /// Whether users are drawn anew; otherwise the same people come first.
        redraws_units: bool,
    },
}

impl RolloutEvent {
    /// When the event was logged, microseconds since the epoch.
    #[must_use]
    pub const fn at_us(&self) -> i64 {
        match self {
            Self::Started { at_us, .. }
            | Self::Evidence { at_us, .. }
            | Self::Intended { at_us, .. }
            | Self::Abandoned { at_us, .. }
            | Self::StageEntered { at_us, .. }
            | Self::Approved { at_us, .. }
            | Self::Paused { at_us, .. }
            | Self::Resumed { at_us, .. }
            | Self::Aborted { at_us, .. }
            | Self::EmergencyStopped { at_us, .. }
            | Self::RollbackDecided { at_us, .. }
            | Self::RolledBack { at_us }
            | Self::Completed { at_us, .. }
            | Self::ForeignEdit { at_us, .. }
            | Self::ForeignEditSettled { at_us, .. }
            | Self::Retried { at_us, .. } => *at_us,
        }
    }
}
