//! The decision: which one of roll back, hold, advance or complete. Order as in [`plan`](super).

use super::Action;
use super::budget;
use super::gates;
use super::judge::Judgement;
use crate::basis_points::BasisPoints;
use crate::observation::{ArmCounts, Observations};
use crate::report::Wait;
use crate::spec::{EndPolicy, NoDataPolicy, RolloutSpec, microseconds};
use crate::state::{Lifecycle, RolloutState};
use crate::verdict::Verdict;

/// What to do, and what is waited for.
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    pub(super) waiting_for: Vec<Wait>,
}

impl Decision {
    fn hold(wait: Wait) -> Self {
        Self {
            actions: vec![Action::Hold],
            waiting_for: vec![wait],
        }
    }

    fn hold_for(waiting_for: Vec<Wait>) -> Self {
        Self {
            actions: vec![Action::Hold],
            waiting_for,
        }
    }

    fn act(action: Action) -> Self {
        Self {
            actions: vec![action],
            waiting_for: Vec::new(),
        }
    }

    /// Rolls back; the reason is the report's sentence, filled in by the caller.
    fn roll_back() -> Self {
        Self::act(Action::RollBack {
            reason: String::new(),
            is_emergency: false,
        })
    }

    fn and(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }
}

/// Everything a decision looks at.
struct Situation<'a> {
    spec: &'a RolloutSpec,
    state: &'a RolloutState,
    observations: &'a Observations,
    judgement: &'a Judgement,
    now_us: i64,
}

pub(super) fn decide(
    spec: &RolloutSpec,
    state: &RolloutState,
    observations: &Observations,
    judgement: &Judgement,
    now_us: i64,
) -> Decision {
    let at = Situation {
        spec,
        state,
        observations,
        judgement,
        now_us,
    };
    match &state.lifecycle {
        Lifecycle::Draft => return Decision::hold(Wait::Start),
        Lifecycle::RolledBack { .. } | Lifecycle::Completed => {
            return Decision::hold_for(Vec::new());
        }
        Lifecycle::RollingBack {
            reason,
            is_emergency,
        } => {
            return Decision::act(Action::RollBack {
                reason: reason.clone(),
                is_emergency: *is_emergency,
            });
        }
        Lifecycle::Running | Lifecycle::Paused { .. } => {}
    }
    at.protect()
        .or_else(|| at.hold())
        .unwrap_or_else(|| at.go_on())
}

impl Situation<'_> {
    /// Rollbacks: nothing that holds a ramp stands in their way.
    fn protect(&self) -> Option<Decision> {
        if self.judgement.verdict == Verdict::Harmed {
            return Some(Decision::roll_back());
        }
        if self.has_failed_to_start() {
            return Some(Decision::roll_back());
        }
        let without_data_us = self.without_data_us();
        match self.spec.no_data {
            NoDataPolicy::RollBack { after_seconds }
                if without_data_us > 0 && without_data_us >= microseconds(after_seconds) =>
            {
                Some(Decision::roll_back())
            }
            _ => None,
        }
    }

    /// Exposed, deadline passed, and not one unit ever seen in the treatment.
    fn has_failed_to_start(&self) -> bool {
        let exposed = ArmCounts::sum(self.observations.phases.iter().map(|p| &p.exposed)).treatment;
        !self.spec.blind && self.is_past_deadline() && exposed == 0
    }

    fn is_past_deadline(&self) -> bool {
        match (self.spec.deadline_seconds, self.state.started_us) {
            (Some(seconds), Some(started)) => {
                self.now_us.saturating_sub(started) >= microseconds(seconds)
            }
            _ => false,
        }
    }

    /// Time without data including that since the latest log entry.
    fn without_data_us(&self) -> i64 {
        if self.judgement.verdict != Verdict::NoData {
            return 0;
        }
        let running = if self.state.last_verdict == Some(Verdict::NoData) {
            self.state.elapsed_since_log_us(self.now_us)
        } else {
            0
        };
        self.state.without_data_us.saturating_add(running)
    }

    /// Everything that keeps the share where it is.
    fn hold(&self) -> Option<Decision> {
        if let Some(found_bp) = self.state.foreign_edit {
            let reason = format!("the flag was changed from outside: {found_bp} is served");
            return Some(
                Decision::hold(Wait::ForeignEdit { found_bp }).and(Action::Page { reason }),
            );
        }
        if let Lifecycle::Paused { who, why } = &self.state.lifecycle {
            return Some(Decision::hold(Wait::Resume {
                who: who.clone(),
                why: why.clone(),
            }));
        }
        if let Some(pending) = &self.state.pending {
            return Some(Decision::hold(Wait::Application {
                to_bp: pending.to_bp,
            }));
        }
        match self.judgement.verdict {
            Verdict::Invalid => Some(self.hold_invalid()),
            // Before the first stage there is nobody to measure, but the sources must answer.
            Verdict::NoData if self.is_exposed() || self.judgement.has_silent_source => {
                Some(self.hold_without_data())
            }
            _ => None,
        }
    }

    /// Whether anybody may have the treatment.
    fn is_exposed(&self) -> bool {
        self.state.stage.is_some() || self.state.share_bp > BasisPoints::ZERO
    }

    fn hold_invalid(&self) -> Decision {
        let mut reasons: Vec<String> = self.judgement.untrusted.iter().cloned().collect();
        if self.judgement.sample_ratio.verdict == Verdict::Invalid {
            reasons.push("units do not arrive in the arms at the shares that were set".to_owned());
        }
        reasons.extend(
            self.judgement
                .guards
                .iter()
                .filter(|g| g.verdict == Verdict::Invalid)
                .map(|g| {
                    format!(
                        "{}: {}",
                        g.metric,
                        g.remark.as_deref().unwrap_or("not trusted")
                    )
                }),
        );
        let reason = reasons.join("; ");
        Decision::hold(Wait::TrustedMeasurement {
            reason: reason.clone(),
        })
        .and(Action::Page { reason })
    }

    fn hold_without_data(&self) -> Decision {
        let mut waits: Vec<Wait> = self
            .judgement
            .guards
            .iter()
            .filter(|g| g.verdict == Verdict::NoData)
            .map(|g| Wait::Data {
                metric: g.metric.clone(),
                reason: g.remark.clone().unwrap_or_default(),
            })
            .collect();
        if let Some(reason) = &self.judgement.no_traffic {
            waits.push(Wait::Data {
                metric: "traffic".to_owned(),
                reason: reason.clone(),
            });
        }
        let decision = Decision::hold_for(waits);
        match self.spec.no_data {
            NoDataPolicy::SyntheticLoad { after_seconds }
                if self.without_data_us() >= microseconds(after_seconds) =>
            {
                decision.and(Action::RequestSyntheticLoad)
            }
            _ => decision,
        }
    }

    /// Undecided or safe, and nothing holds: stage conditions, then the next step.
    fn go_on(&self) -> Decision {
        let unmet = gates::unmet(
            self.spec,
            self.state,
            self.observations,
            self.judgement,
            self.now_us,
        );
        if !unmet.is_empty() {
            return self.with_overdue_page(Decision::hold_for(unmet));
        }
        match self.next_stage() {
            Some(stage) => self.raise(stage),
            None => self.finish(),
        }
    }

    /// A rollout past its deadline asks a person instead of waiting for ever.
    fn with_overdue_page(&self, decision: Decision) -> Decision {
        if self.is_past_deadline() {
            let reason = "the deadline has passed and the plan is not done".to_owned();
            return decision.and(Action::Page { reason });
        }
        decision
    }

    /// The stage to enter: the one in force while its share is not reached (harm budget), else the next.
    ///
    /// When blind, stages whose time is over are folded into one change, but never past an approval.
    fn next_stage(&self) -> Option<usize> {
        let Some(stage) = self.state.stage else {
            return Some(0);
        };
        if self
            .spec
            .target_bp(stage)
            .is_some_and(|target| self.state.share_bp < target)
        {
            return Some(stage);
        }
        let mut next = stage + 1;
        self.spec.stages.get(next)?;
        if self.spec.blind {
            let mut overdue_us = self.overdue_us(stage);
            while let (Some(here), Some(after)) =
                (self.spec.stages.get(next), self.spec.stages.get(next + 1))
            {
                let needed = microseconds(here.min_seconds);
                let may_pass = !here.approval || self.state.approved.contains(&next);
                if !may_pass || after.approval || overdue_us < needed {
                    break;
                }
                overdue_us = overdue_us.saturating_sub(needed);
                next += 1;
            }
        }
        Some(next)
    }

    /// How long ago the stage in force should have ended.
    fn overdue_us(&self, stage: usize) -> i64 {
        let entered = self.state.stage_entered_us.unwrap_or(self.now_us);
        let min_seconds = self.spec.min_seconds(stage);
        self.now_us
            .saturating_sub(entered)
            .saturating_sub(microseconds(min_seconds))
    }

    fn raise(&self, stage: usize) -> Decision {
        if let Some(freeze) = self.spec.freeze_at(self.now_us) {
            return Decision::hold(Wait::Freeze {
                until_us: freeze.until_us,
                reason: freeze.reason.clone(),
            });
        }
        let needs_approval = self.spec.stages.get(stage).is_some_and(|s| s.approval);
        if needs_approval && !self.state.approved.contains(&stage) {
            return Decision::hold(Wait::Approval { stage }).and(Action::AskApproval { stage });
        }
        let from_bp = self.state.share_bp;
        let target = self.spec.target_bp(stage).unwrap_or(from_bp);
        let allowance = budget::allowance(self.spec, self.observations, self.judgement);
        let to_bp = allowance.map_or(target, |a| target.min(a.share_bp));
        if to_bp <= from_bp {
            return self.with_overdue_page(Decision::hold(self.budget_wait(allowance)));
        }
        Decision::act(Action::SetShare {
            from_bp,
            to_bp,
            stage,
        })
    }

    /// Why the share cannot rise: the budget is spent, or somebody already raised it beyond the plan.
    fn budget_wait(&self, allowance: Option<budget::Allowance>) -> Wait {
        match (allowance, self.spec.harm_budget.as_ref()) {
            (Some(allowance), Some(budget)) => Wait::HarmBudget {
                spent: allowance.spent,
                budget: budget.excess_failures,
            },
            _ => Wait::ForeignEdit {
                found_bp: self.state.share_bp,
            },
        }
    }

    /// The end of the plan: never silently "safe".
    fn finish(&self) -> Decision {
        let end = self.spec.stages.len();
        let is_settled = self.judgement.verdict == Verdict::Safe
            || self.spec.blind
            || self.judgement.is_unobservable
            || self.state.approved.contains(&end)
            || self.spec.at_end == EndPolicy::Ship;
        if !is_settled {
            let must_ask = self.spec.at_end == EndPolicy::Ask || self.is_past_deadline();
            return if must_ask {
                Decision::hold(Wait::Approval { stage: end })
                    .and(Action::AskApproval { stage: end })
            } else {
                Decision::hold(Wait::Safety)
            };
        }
        let (from_bp, to_bp) = (self.state.share_bp, self.spec.final_bp());
        if to_bp > from_bp
            && let Some(freeze) = self.spec.freeze_at(self.now_us)
        {
            return Decision::hold(Wait::Freeze {
                until_us: freeze.until_us,
                reason: freeze.reason.clone(),
            });
        }
        Decision::act(Action::Complete { from_bp, to_bp })
    }
}
