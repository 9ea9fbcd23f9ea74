//! Flags as delivery sees them: who was exposed when, what was rolled back, what was decided.

use std::collections::BTreeMap;

use crate::event::{DecisionSeen, ExposureSeen, RollbackSeen, StageSeen};
use crate::moment::Moment;

/// Everyone, in basis points.
const EVERYONE_BP: u16 = 10_000;

/// A rollout that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRollback {
    /// When.
    pub at: Moment,
    /// What is recorded.
    pub facts: RollbackSeen,
}

/// One flag's history, in time order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagHistory {
    /// Share of units exposed from each moment on, basis points.
    pub shares: Vec<(Moment, u16)>,
    /// Rollbacks.
    pub rollbacks: Vec<RolloutRollback>,
    /// Decisions.
    pub decisions: Vec<(Moment, String)>,
}

impl FlagHistory {
    /// First moment, not before `from`, at which at least one unit is exposed.
    #[must_use]
    pub fn first_exposed(&self, from: Moment) -> Option<Moment> {
        self.first_at_least(from, 1)
    }

    /// First moment, not before `from`, at which everyone is exposed.
    #[must_use]
    pub fn fully_exposed(&self, from: Moment) -> Option<Moment> {
        self.first_at_least(from, EVERYONE_BP)
    }

    /// First moment, not before `from`, at which nobody is exposed any more.
    #[must_use]
    pub fn closed_after(&self, from: Moment) -> Option<Moment> {
        self.shares
            .iter()
            .find(|&&(at, share)| at >= from && share == 0)
            .map(|&(at, _)| at)
    }

    /// First decision not before `from`.
    #[must_use]
    pub fn decided_after(&self, from: Moment) -> Option<Moment> {
        self.decisions
            .iter()
            .map(|&(at, _)| at)
            .find(|&at| at >= from)
    }

    fn first_at_least(&self, from: Moment, share_bp: u16) -> Option<Moment> {
        let standing = self
            .shares
            .iter()
            .take_while(|&&(at, _)| at <= from)
            .last()
            .is_some_and(|&(_, share)| share >= share_bp);
        if standing {
            return Some(from);
        }
        self.shares
            .iter()
            .find(|&&(at, share)| at > from && share >= share_bp)
            .map(|&(at, _)| at)
    }
}

#[derive(Default)]
pub(super) struct FlagFold {
    flags: BTreeMap<String, FlagHistory>,
}

impl FlagFold {
    pub(super) fn exposure(&mut self, at: Moment, seen: ExposureSeen) {
        self.share(at, seen.flag, seen.share_bp);
    }

    pub(super) fn stage(&mut self, at: Moment, seen: StageSeen) {
        self.share(at, seen.flag, seen.share_bp);
    }

    pub(super) fn rollback(&mut self, at: Moment, facts: RollbackSeen) {
        let history = self.flags.entry(facts.flag.clone()).or_default();
        history.rollbacks.push(RolloutRollback { at, facts });
    }

    pub(super) fn decision(&mut self, at: Moment, seen: DecisionSeen) {
        let history = self.flags.entry(seen.flag).or_default();
        history.decisions.push((at, seen.decision));
    }

    pub(super) fn finish(self) -> BTreeMap<String, FlagHistory> {
        self.flags
    }

    /// A stage and the exposure it causes are told as two rows; one entry says it all.
    fn share(&mut self, at: Moment, flag: String, share_bp: u16) {
        let shares = &mut self.flags.entry(flag).or_default().shares;
        if shares.last() != Some(&(at, share_bp)) {
            shares.push((at, share_bp));
        }
    }
}
