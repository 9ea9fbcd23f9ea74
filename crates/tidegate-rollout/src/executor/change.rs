//! One change of share under way: what it is for, what it writes to the log, whether it may still be applied.

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::digest::Digest;
use crate::event::RolloutEvent;
use crate::state::{Lifecycle, RolloutState};

/// Identity of a flag change: applying the same key twice changes nothing the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EffectKey {
    /// Number of the step in the rollout's life.
    pub step: u64,
    /// Attempt within the step, from 1.
    pub attempt: u32,
}

/// What a change is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum Purpose {
    /// Enter a stage.
    Enter {
        /// Index of the stage.
        stage: usize,
    },
    /// End the rollout.
    Complete,
    /// Give control to everyone, by decision of a plan.
    RollBack {
        /// The sentence for people.
        reason: String,
    },
    /// Give control to everyone, by a person's emergency stop.
    Stop {
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
}

impl Purpose {
    /// Whether it gives control to everyone.
    #[must_use]
    pub const fn is_rollback(&self) -> bool {
        matches!(self, Self::RollBack { .. } | Self::Stop { .. })
    }
}

/// One change under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its identity.
    pub key: EffectKey,
    /// What for.
    pub purpose: Purpose,
    /// Share expected to be served before.
    pub from_bp: BasisPoints,
    /// Share to be served after.
    pub to_bp: BasisPoints,
    /// The deciding plan; a stop by a person has none.
    pub plan: Option<Digest>,
}

impl Change {
    /// What the log leaves open: the change to resume after a restart, if any.
    #[must_use]
    pub fn unfinished(state: &RolloutState) -> Option<Self> {
        if let Lifecycle::RollingBack { reason, .. } = &state.lifecycle {
            return Some(Self {
                key: EffectKey {
                    step: state.steps + 1,
                    attempt: 1,
                },
                purpose: Purpose::RollBack {
                    reason: reason.clone(),
                },
                from_bp: state.share_bp,
                to_bp: BasisPoints::ZERO,
                plan: state.last_plan,
            });
        }
        let pending = state.pending?;
        Some(Self {
            key: EffectKey {
                step: pending.step,
                attempt: 1,
            },
            purpose: pending
                .stage
                .map_or(Purpose::Complete, |stage| Purpose::Enter { stage }),
            from_bp: pending.from_bp,
            to_bp: pending.to_bp,
            plan: Some(pending.plan),
        })
    }

    /// Whether the change may still be written, to be asked inside the writing transaction against the log
    /// as it is there: a raise that was delayed past a stop, a pause, another step or a newer plan is refused,
    /// and so is a rollback delayed past a retry.
    #[must_use]
    pub fn may_apply(&self, state: &RolloutState, served_bp: BasisPoints) -> bool {
        let is_pending = state
            .pending
            .is_some_and(|pending| pending.step == self.key.step);
        let is_allowed = is_pending
            && state.last_plan == self.plan
            && state.lifecycle == Lifecycle::Running
            && state.foreign_edit.is_none()
            && served_bp == self.from_bp;
        let is_decided = matches!(
            state.lifecycle,
            Lifecycle::RollingBack { .. } | Lifecycle::RolledBack { .. }
        );
        if self.purpose.is_rollback() {
            is_decided
        } else {
            is_allowed
        }
    }

    /// The log entry of [`Effect::LogIntent`]; `None` when a person's command has already written it.
    #[must_use]
    pub fn intent_event(&self, at_us: i64) -> Option<RolloutEvent> {
        let (step, from_bp, to_bp) = (self.key.step, self.from_bp, self.to_bp);
        let intended = |stage, plan| RolloutEvent::Intended {
            at_us,
            step,
            stage,
            from_bp,
            to_bp,
            plan,
        };
        match &self.purpose {
            Purpose::Enter { stage } => self.plan.map(|plan| intended(Some(*stage), plan)),
            Purpose::Complete => self.plan.map(|plan| intended(None, plan)),
            Purpose::RollBack { reason } => self.plan.map(|plan| RolloutEvent::RollbackDecided {
                at_us,
                reason: reason.clone(),
                plan,
            }),
            Purpose::Stop { who, why } => Some(RolloutEvent::EmergencyStopped {
                at_us,
                who: who.clone(),
                why: why.clone(),
            }),
        }
    }

    /// The log entry of [`Effect::LogOutcome`].
    #[must_use]
    pub const fn outcome_event(&self, at_us: i64) -> RolloutEvent {
        match self.purpose {
            Purpose::Enter { stage } => RolloutEvent::StageEntered {
                at_us,
                stage,
                share_bp: self.to_bp,
            },
            Purpose::Complete => RolloutEvent::Completed {
                at_us,
                share_bp: self.to_bp,
            },
            Purpose::RollBack { .. } | Purpose::Stop { .. } => RolloutEvent::RolledBack { at_us },
        }
    }

    /// The log entry of [`Effect::LogAbandoned`].
    #[must_use]
    pub const fn abandoned_event(&self, at_us: i64) -> RolloutEvent {
        RolloutEvent::Abandoned {
            at_us,
            step: self.key.step,
        }
    }
}
