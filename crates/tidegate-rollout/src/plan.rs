//! The planner: from policy, state and observations to a verdict, actions and a report.
//!
//! # How it decides, in this order
//! 1. An ended or unstarted rollout does nothing.
//! 2. A decided rollback (emergency stop, abort, earlier verdict) is pursued to its end whatever the data says.
//! 3. **Harmed** (joint evidence at `1/alpha`): roll back. Pauses, freezes, approvals and foreign edits do not
//!    stand in the way.
//! 4. The deadline passed and nobody was ever exposed: failed to start, roll back.
//! 5. **No data** beyond its clock: the policy's choice; until then hold and go on by itself when data returns.
//! 6. **Invalid**: hold and page.
//! 7. Anything that holds: pause, foreign edit, freeze, a change still being applied, a stage's own
//!    conditions, suspicion, harm budget, a missing approval.
//! 8. Otherwise advance to the next stage, or end the plan.
//!
//! A raise is thus only possible under *undecided* or *safe*, and nothing that fails (a provider, a
//! source, a clock, a person away) leads to more exposure.
//!
//! # What it must not know
//! No clock, store, network or random source. Equal inputs give equal bytes.

mod advance;
mod budget;
mod gates;
mod judge;
mod sentence;
mod when;

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::digest::{Digest, canonical_bytes};
use crate::evidence::IntervalMemo;
use crate::observation::Observations;
use crate::report::Report;
use crate::spec::RolloutSpec;
use crate::state::{Lifecycle, RolloutState};
use crate::verdict::Verdict;

pub use budget::budget_share;
pub use gates::suspicion_threshold;
pub use when::next_look_us;

/// An immutable decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Plan {
    /// What the measurements allow to be said.
    pub verdict: Verdict,
    /// What to do, most urgent first; never empty.
    pub actions: Vec<Action>,
    /// Why.
    pub report: Report,
    /// Whether every guard had fresh data: such time counts as baked.
    pub monitored: bool,
    /// The plan that was current when this one was made; apply only while it still is.
    pub parent: Option<Digest>,
    /// Digest of everything the decision was made from.
    pub input_digest: Digest,
    /// `now` as the log allowed it, microseconds since the epoch.
    pub now_us: i64,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Raise the share and enter a stage.
    SetShare {
        /// Share in force.
        from_bp: BasisPoints,
        /// Share to write.
        to_bp: BasisPoints,
        /// Stage entered.
        stage: usize,
    },
    /// Give control to everyone.
    RollBack {
        /// The sentence for people.
        reason: String,
        /// Whether an emergency stop asked for it.
        is_emergency: bool,
    },
    /// Leave the share as it is; the report says what for.
    Hold,
    /// End the rollout at this share.
    Complete {
        /// Share in force.
        from_bp: BasisPoints,
        /// Share the flag keeps.
        to_bp: BasisPoints,
    },
    /// Ask a person to approve.
    AskApproval {
        /// Stage to be entered; the number of stages stands for completion.
        stage: usize,
    },
    /// Ask for labelled synthetic load.
    RequestSyntheticLoad,
    /// Wake somebody.
    Page {
        /// Why.
        reason: String,
    },
}

/// Plans the next step of one rollout at `now_us` (microseconds since the epoch).
///
/// The log bounds time from below: a `now_us` before its latest entry is read as that entry's time.
pub fn plan(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    now_us: i64,
) -> Plan {
    let mut nothing_known = IntervalMemo::default();
    plan_again(spec, state, observations, now_us, &mut nothing_known)
}

/// The same plan for somebody who plans the same rollout again and again: what has not changed since the last
/// time is taken from `memo`.
pub fn plan_again(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    now_us: i64,
    memo: &mut IntervalMemo,
) -> Plan {
    let now_us = state.at_or_after_log(now_us);
    let judgement = judge::judge(spec, state, observations, now_us, memo);
    let decision = advance::decide(spec, state, observations, &judgement, now_us);
    let monitored = spec.blind || judgement.verdict.allows_raise() || judgement.is_unobservable;
    let sentence = sentence::compose(spec, state, &judgement, &decision);
    let report = Report {
        sentence,
        stage: state.stage,
        share_bp: state.share_bp,
        evidence: judgement.evidence,
        guards: judgement.guards,
        sample_ratio: judgement.sample_ratio,
        waiting_for: decision.waiting_for,
        notes: judgement.notes,
        watermark: observations.watermark,
        as_of_us: observations.as_of_us,
    };
    Plan {
        verdict: judgement.verdict,
        actions: name_reason(decision.actions, &report.sentence),
        report,
        monitored,
        parent: state.last_plan,
        input_digest: Digest::of(&(spec, state, observations, now_us)),
        now_us,
    }
}

/// A fresh rollback carries the sentence that explains it.
fn name_reason(mut actions: Vec<Action>, sentence: &str) -> Vec<Action> {
    for action in &mut actions {
        if let Action::RollBack { reason, .. } = action
            && reason.is_empty()
        {
            sentence.clone_into(reason);
        }
    }
    actions
}

impl Plan {
    /// The bytes a replay must reproduce.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        canonical_bytes(self)
    }

    /// Digest of the canonical bytes: the identity of the plan.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.canonical_bytes())
    }

    /// Whether the plan may still be applied: nothing was planned since, and the rollout still lives.
    #[must_use]
    pub fn is_current(&self, state: &RolloutState) -> bool {
        let is_own = state.last_plan == Some(self.digest());
        let pursues_rollback = matches!(state.lifecycle, Lifecycle::RollingBack { .. })
            && matches!(self.actions.first(), Some(Action::RollBack { .. }));
        let may_go_on = state.lifecycle == Lifecycle::Running || pursues_rollback;
        may_go_on && (is_own || state.last_plan == self.parent)
    }

    /// The rollback this plan asks for, if any.
    #[must_use]
    pub fn rollback_reason(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::RollBack { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
    }
}
