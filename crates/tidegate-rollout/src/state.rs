//! Where a rollout stands: the fold of its log.
//!
//! The state holds no wish and no plan. It is rebuilt from the log at any time and is the same after any
//! number of restarts.
//!
//! # Time
//! Time comes from the log: the latest `at_us` written so far bounds `now` from below, so a clock running
//! backwards never advances anything. Baked time is *credited*, at most [`CREDIT_LIMIT_US`] per entry and
//! only while every guard had fresh data, so neither a clock that jumps forward nor downtime counts as
//! time under observation.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::basis_points::BasisPoints;
use crate::digest::Digest;
use crate::event::RolloutEvent;
use crate::spec::RolloutSpec;
use crate::verdict::Verdict;

/// Most monitored time one log entry can credit: two of the once-a-minute entries.
pub const CREDIT_LIMIT_US: i64 = 120 * 1_000_000;

/// What the rollout is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "lifecycle", rename_all = "snake_case")]
pub enum Lifecycle {
    /// Written down, not started.
    Draft,
    /// Ramping.
    Running,
    /// Held by a person.
    Paused {
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// Share zero is decided and not yet confirmed.
    RollingBack {
        /// The sentence for people.
        reason: String,
        /// Whether an emergency stop asked for it.
        is_emergency: bool,
    },
    /// Share zero is confirmed.
    RolledBack {
        /// The sentence for people.
        reason: String,
    },
    /// Ran to its end.
    Completed,
}

/// A change of share that was logged as intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Number of the step.
    pub step: u64,
    /// Stage to be entered; absent for completion.
    pub stage: Option<usize>,
    /// Share expected before.
    pub from_bp: BasisPoints,
    /// Share after.
    pub to_bp: BasisPoints,
    /// The plan that asked for it.
    pub plan: Digest,
}

/// The fold of a rollout's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutState {
    /// What the rollout is doing.
    pub lifecycle: Lifecycle,
    /// Stage in force; `None` before the first.
    pub stage: Option<usize>,
    /// Share in force as last confirmed.
    pub share_bp: BasisPoints,
    /// When it started, log time.
    pub started_us: Option<i64>,
    /// When the present share came into force, log time.
    pub stage_entered_us: Option<i64>,
    /// Monitored time in this stage.
    pub baked_us: i64,
    /// Time without data, running now; zero while data comes.
    pub without_data_us: i64,
    /// Latest time in the log.
    pub log_time_us: Option<i64>,
    /// Stages a person approved; the number of stages stands for completion.
    pub approved: BTreeSet<usize>,
    /// Share found when somebody else changed the flag, until settled.
    pub foreign_edit: Option<BasisPoints>,
    /// The last stored plan: parent of the next.
    pub last_plan: Option<Digest>,
    /// Verdict of the last stored plan.
    pub last_verdict: Option<Verdict>,
    /// Highest ingest sequence a stored plan has seen.
    pub watermark: u64,
    /// The change intended and neither confirmed nor given up.
    pub pending: Option<Pending>,
    /// Steps intended so far.
    pub steps: u64,
    /// When a rollback was confirmed, log time.
    pub rolled_back_us: Option<i64>,
    /// Times the rollout was begun anew.
    pub retries: u32,
}

impl RolloutState {
    /// The state before anything happened.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lifecycle: Lifecycle::Draft,
            stage: None,
            share_bp: BasisPoints::ZERO,
            started_us: None,
            stage_entered_us: None,
            baked_us: 0,
            without_data_us: 0,
            log_time_us: None,
            approved: BTreeSet::new(),
            foreign_edit: None,
            last_plan: None,
            last_verdict: None,
            watermark: 0,
            pending: None,
            steps: 0,
            rolled_back_us: None,
            retries: 0,
        }
    }

    /// Folds a whole log.
    #[must_use]
    pub fn fold(spec: &RolloutSpec, log: &[RolloutEvent]) -> Self {
        log.iter()
            .fold(Self::new(), |state, event| state.apply(spec, event))
    }

    /// The state after one more event. Events that cannot follow are recorded in time only.
    #[must_use]
    pub fn apply(mut self, spec: &RolloutSpec, event: &RolloutEvent) -> Self {
        let at_us = self.at_or_after_log(event.at_us());
        let elapsed_us = self.elapsed_since_log_us(at_us);
        self.log_time_us = Some(at_us);
        match event {
            RolloutEvent::Started { .. } => self.start(at_us),
            RolloutEvent::Evidence {
                watermark,
                plan,
                verdict,
                monitored,
                ..
            } => {
                self.last_plan = Some(*plan);
                self.last_verdict = Some(*verdict);
                self.watermark = self.watermark.max(*watermark);
                self.credit(elapsed_us, *verdict, *monitored);
            }
            RolloutEvent::Intended {
                step,
                stage,
                from_bp,
                to_bp,
                plan,
                ..
            } => {
                self.last_plan = Some(*plan);
                self.steps = self.steps.max(*step);
                let (step, stage, from_bp) = (*step, *stage, *from_bp);
                self.pending = Some(Pending {
                    step,
                    stage,
                    from_bp,
                    to_bp: *to_bp,
                    plan: *plan,
                });
            }
            RolloutEvent::Abandoned { step, .. } => {
                self.pending = self.pending.take().filter(|pending| pending.step != *step);
            }
            RolloutEvent::StageEntered {
                stage, share_bp, ..
            } => {
                self.enter(spec, *stage, *share_bp, at_us);
            }
            RolloutEvent::Approved { stage, .. } => {
                self.approved.insert(*stage);
            }
            RolloutEvent::ForeignEdit { found_bp, .. } => {
                self.foreign_edit = Some(*found_bp);
                self.pending = None;
            }
            RolloutEvent::ForeignEditSettled { share_bp, .. } => {
                self.foreign_edit = None;
                self.share_bp = *share_bp;
            }
            RolloutEvent::Retried { .. } => self.retry(at_us),
            _ => self.change_lifecycle(event, at_us),
        }
        self
    }

    fn change_lifecycle(&mut self, event: &RolloutEvent, at_us: i64) {
        match event {
            RolloutEvent::Paused { who, why, .. } if self.lifecycle == Lifecycle::Running => {
                self.lifecycle = Lifecycle::Paused {
                    who: who.clone(),
                    why: why.clone(),
                };
            }
            RolloutEvent::Resumed { .. } if matches!(self.lifecycle, Lifecycle::Paused { .. }) => {
                self.lifecycle = Lifecycle::Running;
            }
            RolloutEvent::Aborted { who, why, .. } => {
                self.begin_rollback(format!("aborted by {who}: {why}"), false);
            }
            RolloutEvent::EmergencyStopped { who, why, .. } => {
                self.begin_rollback(format!("emergency stop by {who}: {why}"), true);
            }
            RolloutEvent::RollbackDecided { reason, plan, .. } => {
                self.last_plan = Some(*plan);
                self.begin_rollback(reason.clone(), false);
            }
            RolloutEvent::RolledBack { .. } => self.confirm_rollback(at_us),
            RolloutEvent::Completed { share_bp, .. } if self.is_active() => {
                self.lifecycle = Lifecycle::Completed;
                self.share_bp = *share_bp;
                self.pending = None;
            }
            _ => {}
        }
    }

    /// `now` as the log allows it: never before its latest entry.
    #[must_use]
    pub fn at_or_after_log(&self, now_us: i64) -> i64 {
        self.log_time_us.map_or(now_us, |latest| latest.max(now_us))
    }

    /// Time since the latest entry, at most [`CREDIT_LIMIT_US`], never negative.
    #[must_use]
    pub fn elapsed_since_log_us(&self, now_us: i64) -> i64 {
        self.log_time_us.map_or(0, |latest| {
            now_us.saturating_sub(latest).clamp(0, CREDIT_LIMIT_US)
        })
    }

    /// Whether the rollout has started and not ended.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(
            self.lifecycle,
            Lifecycle::Running | Lifecycle::Paused { .. } | Lifecycle::RollingBack { .. }
        )
    }

    /// Whether nothing more will happen without a person.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(
            self.lifecycle,
            Lifecycle::RolledBack { .. } | Lifecycle::Completed
        )
    }

    fn start(&mut self, at_us: i64) {
        if self.lifecycle == Lifecycle::Draft {
            self.lifecycle = Lifecycle::Running;
            self.started_us = Some(at_us);
        }
    }

    /// Adds time to the stage's bake, or to the time without data.
    fn credit(&mut self, elapsed_us: i64, verdict: Verdict, monitored: bool) {
        if monitored && self.lifecycle == Lifecycle::Running {
            self.baked_us = self.baked_us.saturating_add(elapsed_us);
        }
        self.without_data_us = match verdict {
            Verdict::NoData => self.without_data_us.saturating_add(elapsed_us),
            _ => 0,
        };
    }

    fn enter(&mut self, spec: &RolloutSpec, stage: usize, share_bp: BasisPoints, at_us: i64) {
        let is_legal = stage < spec.stages.len()
            && matches!(
                self.lifecycle,
                Lifecycle::Running | Lifecycle::Paused { .. }
            );
        self.pending = None;
        self.share_bp = share_bp;
        if is_legal {
            self.stage = Some(stage);
            self.stage_entered_us = Some(at_us);
            self.baked_us = 0;
        }
    }

    fn begin_rollback(&mut self, reason: String, is_emergency: bool) {
        let already = match &self.lifecycle {
            Lifecycle::RollingBack {
                is_emergency: was, ..
            } => *was || !is_emergency,
            Lifecycle::RolledBack { .. } => true,
            Lifecycle::Completed => !is_emergency,
            _ => false,
        };
        if !already {
            self.lifecycle = Lifecycle::RollingBack {
                reason,
                is_emergency,
            };
            self.pending = None;
        }
    }

    fn confirm_rollback(&mut self, at_us: i64) {
        self.share_bp = BasisPoints::ZERO;
        self.pending = None;
        self.rolled_back_us = Some(at_us);
        if let Lifecycle::RollingBack { reason, .. } = &self.lifecycle {
            self.lifecycle = Lifecycle::RolledBack {
                reason: reason.clone(),
            };
        }
    }

    /// Resets everything derived: evidence clocks, share, approvals. The plan chain goes on.
    fn retry(&mut self, at_us: i64) {
        if !self.is_terminal() {
            return;
        }
        *self = Self {
            lifecycle: Lifecycle::Running,
            started_us: Some(at_us),
            log_time_us: Some(at_us),
            last_plan: self.last_plan,
            watermark: self.watermark,
            steps: self.steps,
            retries: self.retries.saturating_add(1),
            ..Self::new()
        };
    }
}

impl Default for RolloutState {
    fn default() -> Self {
        Self::new()
    }
}
