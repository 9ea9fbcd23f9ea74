//! One simulated rollout: failures in, outcome out.

use super::draw::Draw;
use super::workload::{Arrivals, Workload};
use crate::basis_points::BasisPoints;
use crate::evidence::{BAKE_PERIODS, FirstEventProcess, LateProcess, RatioPrior, Shares, late};
use crate::observation::ArmCounts;
use crate::plan::suspicion_threshold;
use crate::spec::{Direction, RolloutSpec};

/// How one simulated rollout ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Whether it was rolled back.
    pub is_rolled_back: bool,
    /// Seconds from the start until then, or until the plan was done.
    pub seconds: f64,
    /// Failed requests above those control would have had.
    pub excess_failures: f64,
    /// Seconds from the start until harm began; absent if it never did.
    pub harm_began: Option<f64>,
}

/// What a simulated change does to its users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Harm {
    /// Failures in the treatment per failure in control.
    pub ratio: f64,
    /// Whether all is well until the middle of the last stage, or of its bake.
    pub is_late: bool,
}

impl Harm {
    /// Harm from the first exposed user on; none at ratio 1.
    #[must_use]
    pub const fn at_once(ratio: f64) -> Self {
        Self {
            ratio,
            is_late: false,
        }
    }

    /// Harm that begins in the middle of the last stage.
    #[must_use]
    pub const fn late(ratio: f64) -> Self {
        Self {
            ratio,
            is_late: true,
        }
    }
}

/// Candidates after which a history is cut off.
const MAX_CANDIDATES: u64 = 5_000_000;

/// A rollout under way in a simulated service.
#[derive(Debug)]
pub struct History<'a> {
    spec: &'a RolloutSpec,
    workload: Workload,
    guards: Vec<Watched>,
    stage: usize,
    share_bp: BasisPoints,
    entered: f64,
    events_in_stage: u64,
    /// Seconds of a period of the bake, and how many have begun.
    period_seconds: Option<f64>,
    periods: u32,
}

/// One guard's evidence and the units it has already counted.
#[derive(Debug)]
struct Watched {
    process: FirstEventProcess,
    late: Option<LateProcess>,
    ln_threshold: f64,
    counted: Vec<bool>,
}

impl Watched {
    fn ln_e(&self) -> f64 {
        match &self.late {
            None => self.process.ln_e(),
            Some(late) => late::combined(self.process.ln_e(), late.ln_e()),
        }
    }

    /// Folds in one first failing event; true when the evidence has reached the threshold.
    fn push(&mut self, is_treatment: bool) -> bool {
        self.process.push(is_treatment);
        let Some(late) = &mut self.late else {
            return self.process.has_reached(self.ln_threshold);
        };
        late.add(ArmCounts {
            treatment: u64::from(is_treatment),
            control: u64::from(!is_treatment),
        });
        self.ln_e() >= self.ln_threshold
    }
}

impl<'a> History<'a> {
    fn new(spec: &'a RolloutSpec, workload: Workload) -> Self {
        let total: f64 = spec.guards.iter().map(|guard| guard.weight).sum();
        let population = workload.shape.population();
        let guards = spec
            .guards
            .iter()
            .map(|guard| {
                let prior = match guard.direction {
                    Direction::Increase => RatioPrior::increase(),
                    Direction::Decrease => RatioPrior::decrease(),
                };
                let null = guard.harmless_ratio();
                let late = spec.bake.map(|_| LateProcess::new(prior.clone(), null));
                Watched {
                    process: FirstEventProcess::new(prior, null),
                    late,
                    ln_threshold: (total / (spec.alpha * guard.weight)).ln(),
                    counted: vec![false; population],
                }
            })
            .collect();
        #[expect(
            clippy::cast_precision_loss,
            reason = "policy limits are far below 2^52"
        )]
        let period_seconds = spec.bake_period_us().map(|us| us as f64 / 1e6);
        let mut history = Self {
            spec,
            workload,
            guards,
            stage: 0,
            share_bp: BasisPoints::ZERO,
            entered: 0.0,
            events_in_stage: 0,
            period_seconds,
            periods: 0,
        };
        history.enter(0, 0.0);
        history
    }

    fn enter(&mut self, stage: usize, at: f64) {
        self.stage = stage;
        self.entered = at;
        self.events_in_stage = 0;
        self.share_bp = self.spec.target_bp(stage).unwrap_or(self.share_bp);
        let shares = Shares {
            treatment_bp: self.share_bp,
            control_bp: self.share_bp.complement(),
        };
        self.guards
            .iter_mut()
            .for_each(|guard| guard.process.enter_phase(shares));
    }

    /// Begins every period of the bake that is due before `at`.
    fn begin_periods(&mut self, at: f64) {
        let Some(length) = self.period_seconds.filter(|_| self.is_baking()) else {
            return;
        };
        let shares = Shares {
            treatment_bp: self.share_bp,
            control_bp: self.share_bp.complement(),
        };
        while self.entered + f64::from(self.periods) * length <= at
            && usize::try_from(self.periods).is_ok_and(|begun| begun < BAKE_PERIODS)
        {
            self.periods += 1;
            let late = self
                .guards
                .iter_mut()
                .filter_map(|guard| guard.late.as_mut());
            late.for_each(|late| late.begin_period(shares));
        }
    }

    fn is_baking(&self) -> bool {
        self.spec.bakes_at(self.share_bp)
    }

    /// When harm that begins late begins, in the middle of the last stage, once that is known.
    fn late_onset(&self) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "policy limits are far below 2^52"
        )]
        let half = self.spec.min_seconds(self.stage) as f64 / 2.0;
        let is_last = self.stage + 1 == self.spec.stages.len();
        is_last.then_some(self.entered + half)
    }

    /// When the stage in force may end, by time and units; `None` while events or suspicion hold it.
    fn may_end_at(&self) -> Option<f64> {
        let stage = self.spec.stages.get(self.stage)?;
        let is_suspicious = self.guards.iter().any(|guard| {
            let ln_weight = -self.spec.alpha.ln() - guard.ln_threshold;
            guard.ln_e() + ln_weight >= suspicion_threshold(self.spec.alpha)
        });
        if self.events_in_stage < stage.min_events || is_suspicious {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "policy limits are far below 2^52"
        )]
        let (seconds, units) = (
            self.spec.min_seconds(self.stage) as f64,
            stage.min_units as f64,
        );
        let for_units = units / (self.workload.requests_per_second * self.share_bp.fraction());
        Some(self.entered + seconds.max(for_units))
    }

    /// Enters every stage that became due before `at`; true once the plan is done.
    fn advance_until(&mut self, at: f64) -> Option<f64> {
        while let Some(due) = self.may_end_at().filter(|due| *due <= at) {
            if self.stage + 1 >= self.spec.stages.len() {
                return Some(due);
            }
            self.enter(self.stage + 1, due);
        }
        self.begin_periods(at);
        None
    }

    /// Counts a failing request for a guard; true when its evidence reached the threshold.
    fn count(&mut self, guard: usize, unit: u64, is_treatment: bool) -> bool {
        self.events_in_stage += 1;
        let Some(watched) = self.guards.get_mut(guard) else {
            return false;
        };
        let slot = usize::try_from(unit)
            .ok()
            .and_then(|unit| watched.counted.get_mut(unit));
        if slot.is_some_and(|counted| std::mem::replace(counted, true)) {
            return false;
        }
        watched.push(is_treatment)
    }
}

/// Plays one rollout whose first guard fails more often in the treatment.
#[must_use]
pub(super) fn play(spec: &RolloutSpec, workload: &Workload, harm: Harm, seed: u64) -> Outcome {
    let ratio = harm.ratio;
    let mut draw = Draw::new(seed);
    let mut history = History::new(spec, *workload);
    #[expect(clippy::cast_precision_loss, reason = "a handful of guards")]
    let guards = spec.guards.len().max(1) as f64;
    let boost = ratio.max(1.0);
    let mut arrivals = Arrivals::new(*workload, guards * boost, &mut draw);
    let mut excess_failures = 0.0;
    let mut seconds = 0.0;
    let mut harm_began = (!harm.is_late).then_some(0.0);
    for _ in 0..MAX_CANDIDATES {
        let failure = arrivals.next(&mut draw);
        if let Some(done) = history.advance_until(failure.at) {
            return Outcome {
                is_rolled_back: false,
                seconds: done,
                excess_failures,
                harm_began,
            };
        }
        seconds = failure.at;
        let guard = usize::try_from(draw.below(u64::try_from(spec.guards.len()).unwrap_or(1)))
            .unwrap_or_default();
        let is_treatment = arrivals.bucket(failure.unit) < u64::from(history.share_bp.get());
        if harm_began.is_none() {
            harm_began = history.late_onset().filter(|onset| *onset <= failure.at);
        }
        let is_harmful = is_treatment && guard == 0 && harm_began.is_some();
        let effect = if is_harmful { ratio } else { 1.0 };
        if !draw.happens(effect / boost) {
            continue;
        }
        if is_harmful {
            #[expect(clippy::cast_precision_loss, reason = "requests of one burst")]
            let requests = failure.requests as f64;
            excess_failures += requests * (1.0 - 1.0 / ratio);
        }
        if history.count(guard, failure.unit, is_treatment) {
            return Outcome {
                is_rolled_back: true,
                seconds,
                excess_failures,
                harm_began,
            };
        }
    }
    Outcome {
        is_rolled_back: false,
        seconds,
        excess_failures,
        harm_began,
    }
}
