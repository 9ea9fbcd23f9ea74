//! The planner's promise for the always-valid method: power as predicted, and the day of the stop.
//!
//! A Brownian path in the planner's standard time, watched as planned, against the product's own boundary.

use super::random::Stream;
use crate::group_sequential::Sides;
use crate::planner::{Baseline, Plan, PlanMethod, Question, Target, Traffic, plan};
use crate::sequential::{Boundary, SequentialOptions};

/// Drift at which a fixed test has power .8 at level .05.
const PLANNED_DRIFT: f64 = 2.801_585;
/// Steps that stand for watching at every unit.
const STEPS: u16 = 16_000;
/// Days by which the predicted median day may be off.
const DAYS: f64 = 1.0;

/// A plan with what is needed to try it out.
pub(super) struct Watched {
    plan: Plan,
    traffic: Traffic,
    boundary: Boundary,
    steps: u16,
}

/// How a path went: found the effect, missed it, stopped over a day later or earlier than the predicted median.
pub(super) type Outcome = [bool; 4];

impl Watched {
    /// The plan looked at `looks` times, or at every unit.
    pub(super) fn new(looks: Option<u16>) -> Option<Self> {
        let mut traffic = Traffic::steady(1_000.0);
        traffic.weekday_weights = [1.2, 1.2, 1.1, 1.1, 1.0, 0.7, 0.7];
        traffic.new_share_floor = 0.6;
        traffic.new_share_half_life_days = 14.0;
        let question = Question {
            baseline: Baseline::Mean { mean: 1.0, sd: 1.0 },
            target: Target::Absolute(0.05),
            alpha: 0.05,
            power: 0.8,
            sides: Sides::Two,
            treatment_share: 0.5,
            method: PlanMethod::Sequential {
                tune_at: None,
                looks,
            },
        };
        let plan = plan(&question, Some(&traffic)).ok()?;
        let boundary = Boundary::new(&SequentialOptions {
            tune_at: plan.units_fixed,
            ..SequentialOptions::default()
        })
        .ok()?;
        Some(Self {
            plan,
            traffic,
            boundary,
            steps: looks.unwrap_or(STEPS),
        })
    }

    pub(super) fn walk(&self, stream: &mut Stream) -> Outcome {
        let step = self.plan.inflation / f64::from(self.steps);
        let (mut score, mut stop) = (0.0, None);
        for index in 1..=self.steps {
            let time = step * f64::from(index);
            score += PLANNED_DRIFT * step + step.sqrt() * stream.normal();
            let multiplier = self.boundary.multiplier(time * self.plan.units_fixed);
            if score.abs() >= multiplier * time.sqrt() {
                stop = Some(time);
                break;
            }
        }
        let units = stop.unwrap_or(self.plan.inflation) * self.plan.units_fixed;
        let day = self.traffic.days_until(units);
        let median = self
            .plan
            .duration
            .as_ref()
            .and_then(|found| found.days_median);
        let off = day.zip(median).map(|(day, median)| day - median);
        [
            stop.is_some(),
            stop.is_none(),
            off.is_none_or(|off| off > DAYS),
            off.is_none_or(|off| off < -DAYS),
        ]
    }
}
