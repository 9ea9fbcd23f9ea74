//! One simulated rollout: failures in, outcome out.

use super::draw::Draw;
use super::workload::{Arrivals, Workload};
use crate::basis_points::BasisPoints;
use crate::evidence::{FirstEventProcess, RatioPrior, Shares};
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
}

/// One guard's evidence and the units it has already counted.
#[derive(Debug)]
struct Watched {
    process: FirstEventProcess,
    ln_threshold: f64,
    counted: Vec<bool>,
}

impl<'a> History<'a> {
    fn new(spec: &'a RolloutSpec, workload: Workload) -> Self {
        let total: f64 = spec.guards.iter().map(|guard| guard.weight).sum();
        let population = workload.shape.population();
        let guards = spec
            .guards
            .iter()
            .map(|guard| Watched {
                process: FirstEventProcess::new(
                    match guard.direction {
                        Direction::Increase => RatioPrior::increase(),
                        Direction::Decrease => RatioPrior::decrease(),
                    },
                    guard.harmless_ratio(),
                ),
                ln_threshold: (total / (spec.alpha * guard.weight)).ln(),
                counted: vec![false; population],
            })
            .collect();
        let mut history = Self {
            spec,
            workload,
            guards,
            stage: 0,
            share_bp: BasisPoints::ZERO,
            entered: 0.0,
            events_in_stage: 0,
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

    /// When the stage in force may end, by time and units; `None` while events or suspicion hold it.
    fn may_end_at(&self) -> Option<f64> {
        let stage = self.spec.stages.get(self.stage)?;
        let is_suspicious = self.guards.iter().any(|guard| {
            let ln_weight = -self.spec.alpha.ln() - guard.ln_threshold;
            guard.process.ln_e() + ln_weight >= suspicion_threshold(self.spec.alpha)
        });
        if self.events_in_stage < stage.min_events || is_suspicious {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "policy limits are far below 2^52"
        )]
        let (seconds, units) = (stage.min_seconds as f64, stage.min_units as f64);
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
        watched.process.push(is_treatment);
        watched.process.has_reached(watched.ln_threshold)
    }
}

/// Plays one rollout whose first guard fails `ratio` times as often in the treatment.
#[must_use]
pub(super) fn play(spec: &RolloutSpec, workload: &Workload, ratio: f64, seed: u64) -> Outcome {
    let mut draw = Draw::new(seed);
    let mut history = History::new(spec, *workload);
    #[expect(clippy::cast_precision_loss, reason = "a handful of guards")]
    let guards = spec.guards.len().max(1) as f64;
    let boost = ratio.max(1.0);
    let mut arrivals = Arrivals::new(*workload, guards * boost, &mut draw);
    let mut excess_failures = 0.0;
    let mut seconds = 0.0;
    for _ in 0..MAX_CANDIDATES {
        let failure = arrivals.next(&mut draw);
        if let Some(done) = history.advance_until(failure.at) {
            return Outcome {
                is_rolled_back: false,
                seconds: done,
                excess_failures,
            };
        }
        seconds = failure.at;
        let guard = usize::try_from(draw.below(u64::try_from(spec.guards.len()).unwrap_or(1)))
            .unwrap_or_default();
        let is_treatment = arrivals.bucket(failure.unit) < u64::from(history.share_bp.get());
        let effect = if is_treatment && guard == 0 {
            ratio
        } else {
            1.0
        };
        if !draw.happens(effect / boost) {
            continue;
        }
        if is_treatment && guard == 0 {
            #[expect(clippy::cast_precision_loss, reason = "requests of one burst")]
            let requests = failure.requests as f64;
            excess_failures += requests * (1.0 - 1.0 / ratio);
        }
        if history.count(guard, failure.unit, is_treatment) {
            return Outcome {
                is_rolled_back: true,
                seconds,
                excess_failures,
            };
        }
    }
    Outcome {
        is_rolled_back: false,
        seconds,
        excess_failures,
    }
}
