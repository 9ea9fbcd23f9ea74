//! What happens next in a guarded rollout.
//!
//! A change goes from the team to 1 % to everyone while its users are watched, and is taken back when it
//! hurts. This crate decides each step. It is pure: policy, log, counts and `now` go in; a plan that explains
//! itself comes out; equal inputs give equal bytes. It has no clock, store, network or random source.
//!
//! # The decision
//! 1. A [`RolloutSpec`] is what somebody wrote down: audience, stages, guards, how often a harmless change
//!    may be rolled back (`alpha`).
//! 2. The [`RolloutState`] is the fold of an append-only log of [`RolloutEvent`]s.
//! 3. [`Observations`] are counts per phase of constant shares: how many units of each arm failed at least
//!    once, were slow at least once. Control is the rest of the same audience under the same split.
//! 4. [`evidence`] turns counts into e-values: numbers that exceed `1/alpha` with probability at most `alpha`
//!    over the whole rollout when there is no harm, at any peeking and any schedule.
//! 5. [`plan()`] takes the worst [`Verdict`] (harmed > invalid > no data > undecided > safe) and yields a [`Plan`].
//!    Only *undecided* and *safe* may raise the share. Evidence at `1/alpha` rolls back. Silence, faults and
//!    nonsense hold.
//! 6. The [`executor`] applies a plan step by step, at most one effect at a time, resumable anywhere.
//!
//! Before a start, [`check_start`] proves the guards and [`forecast`] says how soon harm would be seen.
//! [`simulate`] replays the same decision against synthetic services with known truth.

mod basis_points;
pub mod command;
mod digest;
mod event;
pub mod evidence;
pub mod executor;
pub mod forecast;
mod observation;
mod plan;
mod report;
pub mod simulate;
mod spec;
mod state;
mod verdict;

pub use basis_points::{BasisPoints, BasisPointsError};
pub use digest::{Digest, DigestError, canonical_bytes};
pub use event::RolloutEvent;
pub use observation::{
    AggregatedRung, ArmCounts, ArmMoments, Block, GuardObservation, Measured, Moments,
    Observations, Phase, Rung, SourceStatus,
};
pub use plan::{Action, Plan, budget_share, next_look_us, plan, plan_again, suspicion_threshold};
pub use report::{GuardReport, JointEvidence, LateReport, Report, SampleRatioReport, Wait};
pub use spec::{
    Bake, Direction, EndPolicy, Finding, Freeze, Guard, HarmBudget, MetricFacts, NoDataPolicy,
    RolloutSpec, Severity, SpecError, Stage, StartFacts, Violation, check_start,
};
pub use state::{CREDIT_LIMIT_US, Lifecycle, Pending, RolloutState};
pub use verdict::Verdict;
