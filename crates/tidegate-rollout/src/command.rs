//! What people may ask of a rollout, and when: turns a command into a log entry or refuses it.
//!
//! Rights are the edges' business; this module says what makes sense in the present state.
//! Stopping never needs approval and is never refused while anybody may still be exposed.

use thiserror::Error;

use crate::basis_points::BasisPoints;
use crate::event::RolloutEvent;
use crate::spec::{RolloutSpec, microseconds};
use crate::state::{Lifecycle, RolloutState};

/// A wish of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin.
    Start,
    /// Hold at the present share.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Approve a stage; the number of stages approves completion.
    Approve {
        /// Index of the stage.
        stage: usize,
    },
    /// End, control for everyone.
    Abort,
    /// End at once, control for everyone, over anything else.
    EmergencyStop,
    /// Accept the share found after a foreign edit, or the share restored since.
    SettleForeignEdit {
        /// Share served now.
        share_bp: BasisPoints,
    },
    /// Begin anew after the end.
    Retry {
        /// Whether users are drawn anew.
        redraws_units: bool,
    },
}

impl Command {
    /// Whether the command can only lower or hold exposure, so that it need not wait to be written.
    #[must_use]
    pub const fn lowers_exposure(self) -> bool {
        matches!(self, Self::Pause | Self::Abort | Self::EmergencyStop)
    }
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The rollout is not where the command makes sense.
    #[error("{command} the rollout: it is {state}")]
    OutOfPlace {
        /// What was asked.
        command: &'static str,
        /// Where it stands.
        state: &'static str,
    },
    /// A freeze stops starts.
    #[error("start the rollout: frozen until {until_us} us ({reason})")]
    Frozen {
        /// When it ends, microseconds since the epoch.
        until_us: i64,
        /// Why.
        reason: String,
    },
    /// Too soon after a rollback.
    #[error("retry the rollout: cooling down for another {seconds} s")]
    CoolingDown {
        /// Seconds left.
        seconds: u64,
    },
    /// No such stage.
    #[error(
        "approve stage {stage}: the plan has {stages} stages, and {stages} approves completion"
    )]
    NoSuchStage {
        /// What was asked.
        stage: usize,
        /// How many there are.
        stages: usize,
    },
    /// A command that stops or approves needs a name and a reason.
    #[error("{command} the rollout: say who and why")]
    Anonymous {
        /// What was asked.
        command: &'static str,
    },
}

/// The log entry for a command, or why it is refused.
///
/// # Errors
/// The command does not fit the state, a freeze or the cool-down forbids it, or it lacks who or why.
pub fn admit(
    spec: &RolloutSpec,
    state: &RolloutState,
    command: Command,
    by: (&str, &str),
    now_us: i64,
) -> Result<RolloutEvent, CommandError> {
    let at_us = state.at_or_after_log(now_us);
    let name = command.name();
    if by.0.trim().is_empty() || (by.1.trim().is_empty() && command != Command::Start) {
        return Err(CommandError::Anonymous { command: name });
    }
    let (who, why) = (by.0.to_owned(), by.1.to_owned());
    let misplaced = CommandError::OutOfPlace {
        command: name,
        state: state.lifecycle.name(),
    };
    let when = |fits: bool, event: RolloutEvent| if fits { Ok(event) } else { Err(misplaced) };
    match command {
        Command::Start => {
            if let Some(freeze) = spec.freeze_at(now_us) {
                let (until_us, reason) = (freeze.until_us, freeze.reason.clone());
                return Err(CommandError::Frozen { until_us, reason });
            }
            when(
                state.lifecycle == Lifecycle::Draft,
                RolloutEvent::Started { at_us, who },
            )
        }
        Command::Pause => when(
            state.lifecycle == Lifecycle::Running,
            RolloutEvent::Paused { at_us, who, why },
        ),
        Command::Resume => when(
            matches!(state.lifecycle, Lifecycle::Paused { .. }),
            RolloutEvent::Resumed { at_us, who, why },
        ),
        Command::Approve { stage } => {
            let stages = spec.stages.len();
            if stage > stages {
                return Err(CommandError::NoSuchStage { stage, stages });
            }
            when(
                !state.is_terminal(),
                RolloutEvent::Approved {
                    at_us,
                    stage,
                    who,
                    why,
                },
            )
        }
        Command::Abort => when(
            !state.is_terminal(),
            RolloutEvent::Aborted { at_us, who, why },
        ),
        Command::EmergencyStop => when(
            !matches!(state.lifecycle, Lifecycle::RolledBack { .. }),
            RolloutEvent::EmergencyStopped { at_us, who, why },
        ),
        Command::SettleForeignEdit { share_bp } => when(
            state.foreign_edit.is_some(),
            RolloutEvent::ForeignEditSettled {
                at_us,
                share_bp,
                who,
            },
        ),
        Command::Retry { redraws_units } => {
            if let Some(seconds) = cooldown_left(spec, state, now_us) {
                return Err(CommandError::CoolingDown { seconds });
            }
            when(
                state.is_terminal(),
                RolloutEvent::Retried {
                    at_us,
                    who,
                    redraws_units,
                },
            )
        }
    }
}

/// Whole seconds of cool-down left after a rollback.
fn cooldown_left(spec: &RolloutSpec, state: &RolloutState, now_us: i64) -> Option<u64> {
    let until = state
        .rolled_back_us?
        .saturating_add(microseconds(spec.cooldown_seconds));
    let left_us = until.saturating_sub(state.at_or_after_log(now_us));
    u64::try_from(left_us)
        .ok()
        .filter(|left| *left > 0)
        .map(|left| left.div_ceil(1_000_000))
}

impl Command {
    const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve { .. } => "approve",
            Self::Abort => "abort",
            Self::EmergencyStop => "stop",
            Self::SettleForeignEdit { .. } => "settle the foreign edit of",
            Self::Retry { .. } => "retry",
        }
    }
}

impl Lifecycle {
    const fn name(&self) -> &'static str {
        match self {
            Self::Draft => "not started",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::RollingBack { .. } => "rolling back",
            Self::RolledBack { .. } => "rolled back",
            Self::Completed => "complete",
        }
    }
}
