//! The rollout policy: what somebody wrote down before the first user saw the change.
//!
//! A [`RolloutSpec`] is immutable once a rollout has started; everything that happens later is an event.
//! It knows nothing of storage, of flag compilation or of how a metric is measured: the audience is an
//! opaque JSON value here, a guard names its metric, and the edges resolve both.
//!
//! Reading is in [`RolloutSpec::from_json`], which reports every violation at once with JSON pointers;
//! what is legal but unwise is in [`RolloutSpec::lint`]; what can only be said against the living system
//! (does this metric exist, has it ever moved) is in [`check_start`].

mod lint;
mod parse;
mod reader;
mod start;

use serde::Serialize;
use serde_json::Value;

use crate::basis_points::BasisPoints;
use crate::evidence::BAKE_PERIODS;

pub use parse::{SpecError, Violation};
pub use start::{Finding, MetricFacts, Severity, StartFacts, check_start};

/// The policy of one guarded rollout; durations are in seconds, shares in basis points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutSpec {
    /// Key of the flag that is rolled out.
    pub flag: String,
    /// Variant that is being introduced.
    pub treatment: String,
    /// Variant that everyone else of the audience keeps.
    pub control: String,
    /// Who takes part; everybody when absent. A rule condition in the flag's own language.
    pub audience: Option<Value>,
    /// Probability, over the whole rollout and any number of looks, of rolling back a harmless change.
    pub alpha: f64,
    /// Steps of exposure, shares strictly rising.
    pub stages: Vec<Stage>,
    /// Metrics that may end the rollout.
    pub guards: Vec<Guard>,
    /// What happens when nothing is measured.
    pub no_data: NoDataPolicy,
    /// What happens when the plan has run out and the verdict is still undecided.
    pub at_end: EndPolicy,
    /// Time from the start after which a rollout without traffic is rolled back and any other asks.
    pub deadline_seconds: Option<u64>,
    /// True for a ramp by clock alone, without guards; needs a reason.
    pub blind: bool,
    /// Why this rollout exists, or why it may be blind.
    pub reason: Option<String>,
    /// Periods in which nothing starts and no share is raised; rollbacks are never frozen.
    pub freezes: Vec<Freeze>,
    /// Bound on what the change may cost in excess failures; the share follows from it.
    pub harm_budget: Option<HarmBudget>,
    /// Share that keeps control during the last stage, so that late regressions can be seen.
    pub holdback_bp: BasisPoints,
    /// A last watch over harm that begins late, before the holdback is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// Age of a measurement after which it counts as missing.
    pub staleness_seconds: u64,
    /// False-alarm probability of the sample-ratio check, kept apart from `alpha`.
    pub srm_alpha: f64,
    /// Time after a rollback in which a retry is refused.
    pub cooldown_seconds: u64,
}

/// The last watch: the last stage keeps a holdback on control for a time known beforehand, and change
/// detection looks for harm that begins in it ([`crate::evidence::late`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bake {
    /// Share of the audience that keeps control, also the policy's [`RolloutSpec::holdback_bp`].
    pub holdback_bp: BasisPoints,
    /// Monitored time before the holdback is released.
    pub seconds: u64,
}

/// One step of exposure and what must be seen before the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Share of the audience that gets the treatment.
    pub share_bp: BasisPoints,
    /// Monitored time before the next stage.
    pub min_seconds: u64,
    /// Units first seen in the treatment during this stage.
    pub min_units: u64,
    /// Guard events counted, over both arms, during this stage, by the guard that has fewest.
    pub min_events: u64,
    /// Whether a person must approve before this stage is entered.
    pub approval: bool,
}

/// A metric, the direction that harms, and how much of it is tolerated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guard {
    /// Key of the metric.
    pub metric: String,
    /// Direction of change that counts as harm.
    pub direction: Direction,
    /// Relative change that is tolerated: 0.1 lets the metric move 10 % in the harmful direction.
    pub margin: f64,
    /// Relative change, beyond the margin, that must be excluded before the guard is called safe.
    pub tolerance: f64,
    /// Part of `alpha` this guard may spend, relative to the other guards.
    pub weight: f64,
}

/// Which way a metric must move to be harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is worse: errors, latency.
    Increase,
    /// Less is worse: completed checkouts.
    Decrease,
}

/// What happens when nothing is measured. The first reaction is always to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoDataPolicy {
    /// Hold for as long as it lasts and go on by itself afterwards.
    Hold,
    /// Roll back once nothing has been measured for this long.
    RollBack {
        /// Monitored time without data.
        after_seconds: u64,
    },
    /// Ask for synthetic load once nothing has been measured for this long; keep holding.
    SyntheticLoad {
        /// Monitored time without data.
        after_seconds: u64,
    },
}

/// What happens at the end of the plan when the verdict is still undecided; never silently "safe".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndPolicy {
    /// Keep the last stage until the guards are safe or the deadline asks a person.
    Extend,
    /// Ask a person.
    Ask,
    /// Complete, and say in the report that harm inside the interval is not excluded.
    Ship,
}

/// A period in which nothing starts and no share is raised.
///
/// Both ends are instants, so daylight-saving time cannot make one ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Freeze {
    /// First frozen instant, microseconds since the Unix epoch.
    pub from_us: i64,
    /// First instant that is no longer frozen, microseconds since the Unix epoch.
    pub until_us: i64,
    /// Why, for the report.
    pub reason: String,
}

/// Bound on the damage a release may do before it is known to be harmless.
///
/// The next share is the largest with (budget - harm so far) / (traffic x harm per unit x reaction),
/// rollouts.md section 6.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HarmBudget {
    /// Failing units, beyond those control would have had, that the whole rollout may cost.
    pub excess_failures: f64,
    /// Units of the audience seen per second, used until it has been measured.
    pub units_per_second: f64,
    /// Time from a failure to the share being zero everywhere.
    pub reaction_seconds: f64,
}

impl RolloutSpec {
    /// Share of the stage at `index` with the holdback kept out of the last stage; `None` past the end.
    #[must_use]
    pub fn target_bp(&self, index: usize) -> Option<BasisPoints> {
        let share = self.stages.get(index)?.share_bp;
        let is_last = index + 1 == self.stages.len();
        Some(if is_last {
            share.min(self.holdback_bp.complement())
        } else {
            share
        })
    }

    /// Monitored time that the stage at `index` needs, the bake included.
    #[must_use]
    pub fn min_seconds(&self, index: usize) -> u64 {
        let own = self.stages.get(index).map_or(0, |stage| stage.min_seconds);
        let is_last = index + 1 == self.stages.len();
        match &self.bake {
            Some(bake) if is_last => own.max(bake.seconds),
            _ => own,
        }
    }

    /// Whether a share is that of the last stage of a policy with a bake.
    #[must_use]
    pub fn bakes_at(&self, share_bp: BasisPoints) -> bool {
        let last = self.stages.len().checked_sub(1);
        self.bake.is_some() && last.and_then(|index| self.target_bp(index)) == Some(share_bp)
    }

    /// Length of a period of the bake in microseconds; none without a bake.
    #[must_use]
    pub fn bake_period_us(&self) -> Option<i64> {
        let bake = self.bake.as_ref()?;
        let periods = i64::try_from(BAKE_PERIODS).unwrap_or(i64::MAX);
        Some((microseconds(bake.seconds) / periods).max(1))
    }

    /// Share the flag keeps after completion: that of the last stage, holdback released.
    #[must_use]
    pub fn final_bp(&self) -> BasisPoints {
        self.stages
            .last()
            .map_or(BasisPoints::ZERO, |stage| stage.share_bp)
    }

    /// Age after which a measurement counts as missing, microseconds.
    #[must_use]
    pub fn staleness_us(&self) -> i64 {
        microseconds(self.staleness_seconds)
    }

    /// The freeze in force at `now_us`, if any.
    #[must_use]
    pub fn freeze_at(&self, now_us: i64) -> Option<&Freeze> {
        self.freezes
            .iter()
            .find(|freeze| freeze.from_us <= now_us && now_us < freeze.until_us)
    }
}

/// Whole seconds as microseconds, saturating.
#[must_use]
pub(crate) fn microseconds(seconds: u64) -> i64 {
    i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
}

impl Guard {
    /// The largest ratio treatment / control that is still no harm (`Increase`), or the smallest (`Decrease`).
    #[must_use]
    pub fn harmless_ratio(&self) -> f64 {
        match self.direction {
            Direction::Increase => 1.0 + self.margin,
            Direction::Decrease => 1.0 - self.margin,
        }
    }

    /// The ratio that must be excluded before the guard is called safe.
    #[must_use]
    pub fn excluded_ratio(&self) -> f64 {
        match self.direction {
            Direction::Increase => (1.0 + self.margin) * (1.0 + self.tolerance),
            Direction::Decrease => (1.0 - self.margin) / (1.0 + self.tolerance),
        }
    }
}
