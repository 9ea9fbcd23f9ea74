//! Applies plans to the flag: a pure state machine `(state, event) -> (state, at most one effect)`.
//!
//! # What it is for
//! The edge runs the effects (database, stop file, flag change, paging) and feeds back what happened.
//! Because every step yields at most one effect and the state is a plain value, a crash can fall between
//! any two steps, and a model can try every one of them.
//!
//! # How it decides
//! - A raise or a completion: log the intent, apply the flag change under the key (step, attempt) with the
//!   share it expects to find, read back, log the outcome. Anything unexpected ends in a log entry and
//!   no further raise.
//! - A rollback or stop: sync one record to the stop file, serve control at once, then log the decision, apply
//!   the ordinary change, read back, log the outcome, clear the record. If the disk refuses the record it is
//!   served anyway, marked not durable.
//! - An emergency stop outranks everything: it replaces whatever is under way.
//! - After a restart the log says what was intended; the read-back says what is served. An unconfirmed raise is
//!   *not* repeated: it is confirmed if it is served, and given up otherwise, so no step happens twice. A
//!   rollback goes on behind what is already on disk: a stop record that is there is not written again, a
//!   decision that is in the log is not logged again, and control that is served is only confirmed.
//! - A write that fails is retried; a raise at most [`MAX_RAISE_ATTEMPTS`] times, a rollback for ever, paging
//!   at the first failure.
//! - A share that is neither the one before nor the one written is somebody else's: reported, not fought.

mod change;

use serde::{Deserialize, Serialize};

use crate::basis_points::BasisPoints;
use crate::digest::Digest;
use crate::plan::Action;
use crate::state::{Lifecycle, RolloutState};

pub use change::{Change, EffectKey, Purpose};

/// Times a raise is tried before it is given up until the next plan.
pub const MAX_RAISE_ATTEMPTS: u32 = 3;

/// Where the executor stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "executing", rename_all = "snake_case")]
pub enum ExecutorState {
    /// Nothing under way.
    Idle,
    /// Writing the stop record.
    Stopping(Change),
    /// Writing the stop record after a restart that found neither it nor control served; the decision is in
    /// the log.
    StoppingAgain(Change),
    /// Waking somebody before the next attempt at a rollback's step.
    Paging {
        /// The change.
        change: Change,
        /// What is tried again.
        again: Again,
    },
    /// Logging the intent.
    Logging(Change),
    /// Logging that a raise was given up.
    Abandoning(Change),
    /// Writing the flag.
    Applying(Change),
    /// Reading the flag back.
    ReadingBack(Change),
    /// Logging the outcome.
    Confirming(Change),
    /// Removing the stop record.
    Clearing,
    /// Reading the flag after a restart, to settle what the log left open.
    Recovering(Change),
}

/// The step that is tried again: one that was done is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// Logging the intent.
    Log,
    /// Writing the flag.
    Apply,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorEvent {
    /// A stored plan that is current.
    Planned {
        /// Its first action.
        action: Action,
        /// Its digest.
        plan: Digest,
        /// Next free step number (`state.steps + 1`).
        step: u64,
        /// Share in force by the log.
        share_bp: BasisPoints,
    },
    /// A person pulled the emergency stop; no plan, no approval.
    EmergencyStop {
        /// Who.
        who: String,
        /// Why.
        why: String,
        /// Next free step number.
        step: u64,
        /// Share in force by the log.
        share_bp: BasisPoints,
    },
    /// The effect asked for has happened.
    Done,
    /// The effect did not happen.
    Failed {
        /// Whether it certainly had no effect.
        certainly_not_applied: bool,
    },
    /// The flag was read: this share is served.
    Served {
        /// Share found.
        share_bp: BasisPoints,
    },
    /// The process came back; see [`ExecutorEvent::after_restart`].
    Restarted(Left),
}

/// What a process that died left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A stop record whose rollback is already confirmed in the log.
    StaleRecord,
    /// A raise or a completion that was intended and not confirmed.
    Raise(Change),
    /// A rollback whose stop record is on disk, hence served since the start.
    RecordedRollback {
        /// The rollback.
        change: Change,
        /// Whether the log has its decision already.
        is_logged: bool,
    },
    /// A rollback that the log has decided, without a record: made ordinary already, or never on disk.
    LoggedRollback(Change),
}

/// What the edge is to do; at most one per step.
///
/// Every log entry is keyed by its step and kind and every flag change by (step, attempt), so that an
/// effect whose answer was lost can be repeated without being done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Sync one record to the stop file and serve control at once; serve it even if the disk refuses.
    WriteStopRecord(Change),
    /// Append the intent (or the decision to roll back) to the log.
    LogIntent(Change),
    /// Change the flag in one transaction, keyed, and only if [`Change::may_apply`] says so inside it.
    ApplyChange(Change),
    /// Read the share that is served.
    ReadBack,
    /// Append the outcome to the log.
    LogOutcome(Change),
    /// Append to the log that the change was given up.
    LogAbandoned(Change),
    /// Remove the stop record, its transaction being durable.
    ClearStopRecord,
    /// Append a foreign edit to the log.
    LogForeignEdit {
        /// Share found.
        found_bp: BasisPoints,
    },
    /// Wake somebody: a rollback could not be written yet; control is served from memory.
    Page {
        /// Change that failed.
        change: Change,
    },
}

impl ExecutorEvent {
    /// What to tell the executor first after a restart: the stop record found on disk goes before the log,
    /// since it may have been written and served before anything was logged.
    #[must_use]
    pub fn after_restart(state: &RolloutState, stop_record: Option<Change>) -> Self {
        let is_confirmed = matches!(state.lifecycle, Lifecycle::RolledBack { .. });
        let is_logged = matches!(state.lifecycle, Lifecycle::RollingBack { .. });
        Self::Restarted(match (stop_record, Change::unfinished(state)) {
            (Some(_), _) if is_confirmed => Left::StaleRecord,
            (Some(change), _) => Left::RecordedRollback { change, is_logged },
            (None, Some(change)) if change.purpose.is_rollback() => Left::LoggedRollback(change),
            (None, Some(change)) => Left::Raise(change),
            (None, None) => Left::Nothing,
        })
    }
}

impl ExecutorState {
    /// One step: the next state and at most one effect. Events that do not fit are ignored.
    #[must_use]
    pub fn step(self, event: ExecutorEvent) -> (Self, Option<Effect>) {
        match event {
            ExecutorEvent::EmergencyStop {
                who,
                why,
                step,
                share_bp,
            } => self.stop(Purpose::Stop { who, why }, step, share_bp),
            ExecutorEvent::Planned {
                action,
                plan,
                step,
                share_bp,
            } => self.begin(action, plan, step, share_bp),
            ExecutorEvent::Restarted(left) => Self::resume(left),
            ExecutorEvent::Done => self.proceed(),
            ExecutorEvent::Failed {
                certainly_not_applied,
            } => self.recover(certainly_not_applied),
            ExecutorEvent::Served { share_bp } => self.compare(share_bp),
        }
    }

    /// Whether a rollback is under way.
    #[must_use]
    pub const fn is_rolling_back(&self) -> bool {
        match self {
            Self::Stopping(_) | Self::StoppingAgain(_) | Self::Clearing => true,
            Self::Paging { change, .. }
            | Self::Logging(change)
            | Self::Abandoning(change)
            | Self::Applying(change)
            | Self::ReadingBack(change)
            | Self::Confirming(change)
            | Self::Recovering(change) => change.purpose.is_rollback(),
            Self::Idle => false,
        }
    }

    fn stop(self, purpose: Purpose, step: u64, from_bp: BasisPoints) -> (Self, Option<Effect>) {
        if self.is_rolling_back() {
            return (self, None);
        }
        let change = Change {
            key: EffectKey { step, attempt: 1 },
            purpose,
            from_bp,
            to_bp: BasisPoints::ZERO,
            plan: None,
        };
        (
            Self::Stopping(change.clone()),
            Some(Effect::WriteStopRecord(change)),
        )
    }

    fn begin(
        self,
        action: Action,
        plan: Digest,
        step: u64,
        share_bp: BasisPoints,
    ) -> (Self, Option<Effect>) {
        let key = EffectKey { step, attempt: 1 };
        let plan = Some(plan);
        match action {
            // A rollback replaces a raise under way; two rollbacks are one.
            Action::RollBack { reason, .. } if !self.is_rolling_back() => {
                let purpose = Purpose::RollBack { reason };
                let change = Change {
                    key,
                    purpose,
                    from_bp: share_bp,
                    to_bp: BasisPoints::ZERO,
                    plan,
                };
                (
                    Self::Stopping(change.clone()),
                    Some(Effect::WriteStopRecord(change)),
                )
            }
            Action::SetShare {
                from_bp,
                to_bp,
                stage,
            } if self == Self::Idle => Self::log(Change {
                key,
                purpose: Purpose::Enter { stage },
                from_bp,
                to_bp,
                plan,
            }),
            Action::Complete { from_bp, to_bp } if self == Self::Idle => Self::log(Change {
                key,
                purpose: Purpose::Complete,
                from_bp,
                to_bp,
                plan,
            }),
            _ => (self, None),
        }
    }

    fn log(change: Change) -> (Self, Option<Effect>) {
        (
            Self::Logging(change.clone()),
            Some(Effect::LogIntent(change)),
        )
    }

    fn apply(change: Change) -> (Self, Option<Effect>) {
        (
            Self::Applying(change.clone()),
            Some(Effect::ApplyChange(change)),
        )
    }

    fn resume(left: Left) -> (Self, Option<Effect>) {
        match left {
            Left::Nothing => (Self::Idle, None),
            Left::StaleRecord => (Self::Clearing, Some(Effect::ClearStopRecord)),
            Left::RecordedRollback {
                change,
                is_logged: false,
            } => Self::log(change),
            Left::RecordedRollback {
                change,
                is_logged: true,
            } => Self::apply(change),
            Left::Raise(change) | Left::LoggedRollback(change) => {
                (Self::Recovering(change), Some(Effect::ReadBack))
            }
        }
    }

    fn proceed(self) -> (Self, Option<Effect>) {
        match self {
            Self::Stopping(change) => Self::log(change),
            Self::Paging { change, again } => Self::step_again(change, again),
            Self::Logging(change) | Self::StoppingAgain(change) => Self::apply(change),
            Self::Abandoning(_) => (Self::Idle, None),
            Self::Applying(change) => (Self::ReadingBack(change), Some(Effect::ReadBack)),
            Self::Confirming(change) => match change.purpose {
                Purpose::RollBack { .. } | Purpose::Stop { .. } => {
                    (Self::Clearing, Some(Effect::ClearStopRecord))
                }
                Purpose::Enter { .. } | Purpose::Complete => (Self::Idle, None),
            },
            Self::Clearing => (Self::Idle, None),
            other => (other, None),
        }
    }

    /// A failed effect: a rollback tries again for ever and pages, a raise gives up after a few attempts.
    fn recover(self, certainly_not_applied: bool) -> (Self, Option<Effect>) {
        match self {
            // The disk refused the record; it is served from memory, and the ordinary path goes on.
            Self::Stopping(change) => Self::log(change),
            Self::Paging { change, again } => Self::step_again(change, again),
            Self::StoppingAgain(change) => Self::apply(change),
            Self::Clearing => (Self::Clearing, Some(Effect::ClearStopRecord)),
            Self::Abandoning(change) => Self::abandon(change),
            Self::Confirming(change) => (
                Self::Confirming(change.clone()),
                Some(Effect::LogOutcome(change)),
            ),
            Self::Logging(change) => Self::retry(change, Again::Log),
            Self::Applying(change) if certainly_not_applied => Self::retry(change, Again::Apply),
            Self::Applying(change) | Self::ReadingBack(change) => {
                (Self::ReadingBack(change), Some(Effect::ReadBack))
            }
            Self::Recovering(change) => (Self::Recovering(change), Some(Effect::ReadBack)),
            Self::Idle => (Self::Idle, None),
        }
    }

    fn step_again(change: Change, again: Again) -> (Self, Option<Effect>) {
        match again {
            Again::Log => Self::log(change),
            Again::Apply => Self::apply(change),
        }
    }

    fn retry(mut change: Change, again: Again) -> (Self, Option<Effect>) {
        let is_rollback = change.purpose.is_rollback();
        if is_rollback && change.key.attempt == 1 {
            change.key.attempt = 2;
            return (
                Self::Paging {
                    change: change.clone(),
                    again,
                },
                Some(Effect::Page { change }),
            );
        }
        if !is_rollback && change.key.attempt >= MAX_RAISE_ATTEMPTS {
            return Self::abandon(change);
        }
        change.key.attempt = change.key.attempt.saturating_add(1);
        Self::step_again(change, again)
    }

    fn abandon(change: Change) -> (Self, Option<Effect>) {
        (
            Self::Abandoning(change.clone()),
            Some(Effect::LogAbandoned(change)),
        )
    }

    /// Holds what is served against what was to be.
    fn compare(self, served: BasisPoints) -> (Self, Option<Effect>) {
        let (change, is_recovering) = match self {
            Self::ReadingBack(change) => (change, false),
            Self::Recovering(change) => (change, true),
            other => return (other, None),
        };
        let is_rollback = change.purpose.is_rollback();
        if served == change.to_bp {
            return (
                Self::Confirming(change.clone()),
                Some(Effect::LogOutcome(change)),
            );
        }
        if is_rollback && is_recovering {
            return (
                Self::StoppingAgain(change.clone()),
                Some(Effect::WriteStopRecord(change)),
            );
        }
        if is_rollback {
            return Self::retry(change, Again::Apply);
        }
        if served == change.from_bp {
            // After a restart nobody knows how stale the intent is: plan anew instead of repeating it.
            return if is_recovering {
                Self::abandon(change)
            } else {
                Self::retry(change, Again::Apply)
            };
        }
        (
            Self::Idle,
            Some(Effect::LogForeignEdit { found_bp: served }),
        )
    }
}
