//! How a method behaves in standard time: power and stop as functions of the drift.
//!
//! Wald's formulas for the probability ratio test are exact for a watched Brownian motion:
//! log boundaries `ln((1 - b) / a)` and `ln(b / (1 - a))`, their hitting chances from the root of
//! `E exp(h L) = 1`, the mean stop from Wald's identity.

use super::curve::{
    StoppingCurve, TestPaths, group_curve, group_inflation, looked_mixture_paths, mixture_paths,
    standard_drift,
};
use super::{Contrast, PlanError, PlanMethod, Question};
use crate::group_sequential::{Design, Sides};
use crate::special::normal_sf;

/// The probability ratio test has no maximum; its plan ends where this share has stopped.
const SPRT_SHARE: f64 = 0.99;
const SPRT_HORIZON: f64 = 4.0;

/// A method with its maximum in multiples of the fixed-horizon sample.
pub(super) struct Behaviour {
    pub(super) maximum: f64,
    engine: Engine,
}

enum Engine {
    Fixed { alpha: f64, sides: Sides },
    Group(Design),
    Mixture(TestPaths),
    Sprt(Sprt, TestPaths),
}

impl Behaviour {
    pub(super) fn of(
        question: &Question,
        contrast: &Contrast,
        drift: f64,
        units_fixed: f64,
    ) -> Result<Self, PlanError> {
        let (alpha, sides, power) = (question.alpha, contrast.sides, question.power);
        Ok(match question.method {
            PlanMethod::Fixed => Self {
                maximum: 1.0,
                engine: Engine::Fixed { alpha, sides },
            },
            PlanMethod::Group { spending, looks } => Self {
                maximum: group_inflation(alpha, sides, spending, looks, power)?,
                engine: Engine::Group(Design::equally_spaced(alpha, sides, spending, looks)),
            },
            PlanMethod::Sequential { tune_at, looks } => {
                let tuned_at = tune_at.map_or(1.0, |units| units / units_fixed);
                let (level, goal) = ((alpha, sides), (drift, power));
                let found = match looks {
                    Some(looks) => looked_mixture_paths(tuned_at, level, goal, looks),
                    None => mixture_paths(tuned_at, level, goal),
                };
                let (paths, maximum) = found.ok_or(PlanError::TooManyUnits)?;
                Self {
                    maximum,
                    engine: Engine::Mixture(paths),
                }
            }
            PlanMethod::Sprt => {
                let per_side = if sides == Sides::Two {
                    alpha / 2.0
                } else {
                    alpha
                };
                let test = Sprt {
                    alpha: per_side,
                    power,
                    planned: drift,
                };
                let (lower, upper) = test.limits();
                let paths = TestPaths::between_lines(
                    SPRT_HORIZON,
                    (lower / drift, upper / drift),
                    0.5 * drift,
                );
                let maximum = paths
                    .curve(drift)
                    .quantile(SPRT_SHARE)
                    .unwrap_or(SPRT_HORIZON);
                Self {
                    maximum,
                    engine: Engine::Sprt(test, paths),
                }
            }
        })
    }

    pub(super) fn curve(&self, drift: f64) -> Result<StoppingCurve, PlanError> {
        Ok(match &self.engine {
            Engine::Fixed { .. } => StoppingCurve {
                times: vec![self.maximum],
                survival: vec![0.0],
                watched: false,
            },
            Engine::Group(design) => group_curve(design, self.maximum, drift)?.0,
            Engine::Mixture(paths) | Engine::Sprt(_, paths) => paths.curve(drift),
        })
    }

    pub(super) fn mean_stop(&self, drift: f64) -> Result<f64, PlanError> {
        Ok(match &self.engine {
            Engine::Sprt(test, _) => test.mean_stop(drift),
            _ => self.curve(drift)?.mean_until(self.maximum),
        })
    }

    pub(super) fn power(&self, drift: f64) -> Result<f64, PlanError> {
        Ok(match &self.engine {
            Engine::Fixed { alpha, sides } => fixed_power(*alpha, *sides, drift),
            Engine::Group(design) => group_curve(design, self.maximum, drift)?.1,
            Engine::Mixture(paths) => 1.0 - paths.curve(drift).survival_at(self.maximum),
            Engine::Sprt(test, _) => test.power_at(drift),
        })
    }
}

fn fixed_power(alpha: f64, sides: Sides, drift: f64) -> f64 {
    let critical = standard_drift(alpha, sides, 0.5);
    match sides {
        Sides::One => normal_sf(critical - drift),
        Sides::Two => normal_sf(critical - drift) + normal_sf(critical + drift),
    }
}

/// Wald's test of no drift against the drift `planned`.
struct Sprt {
    alpha: f64,
    power: f64,
    planned: f64,
}

impl Sprt {
    /// Log boundaries: accept none, accept the effect.
    fn limits(&self) -> (f64, f64) {
        (
            ((1.0 - self.power) / (1.0 - self.alpha)).ln(),
            (self.power / self.alpha).ln(),
        )
    }

    fn power_at(&self, drift: f64) -> f64 {
        let (lower, upper) = self.limits();
        let exponent = 1.0 - 2.0 * drift / self.planned;
        if exponent.abs() < 1e-9 {
            return -lower / (upper - lower);
        }
        (exponent * lower).exp_m1() / ((exponent * lower).exp() - (exponent * upper).exp())
    }

    fn mean_stop(&self, drift: f64) -> f64 {
        let (lower, upper) = self.limits();
        let accept = self.power_at(drift);
        let slope = self.planned * drift - 0.5 * self.planned * self.planned;
        if slope.abs() < 1e-9 * self.planned * self.planned {
            return -upper * lower / (self.planned * self.planned);
        }
        (accept * upper + (1.0 - accept) * lower) / slope
    }
}
