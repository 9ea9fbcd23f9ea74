//! When a design stops: the survival curve of a test in standard time.
//!
//! Standard time counts units in multiples of what a fixed-horizon test needs, so under the
//! planned effect the score process has drift `z_a + z_b` per unit of time whatever the metric.
//! Group sequential designs stop at their looks; an always-valid test is watched at every unit,
//! so its curved boundary is crossed in continuous time.

use crate::bisection::bisect;
use crate::brownian::{Corridor, Monitoring, Slice};
use crate::group_sequential::{Design, DesignError, Sides, Spending, stopping_chances};
use crate::special::{lambert_w_m1, normal_quantile};

/// Steps of the continuous recursion over the whole horizon.
const STEPS: u16 = 160;
/// Horizons tried in turn, in multiples of the fixed-horizon sample.
const HORIZONS: [f64; 4] = [2.5, 6.0, 20.0, 80.0];

/// Chance of going on past each time, under one drift; linear between times for a watched
/// process, a staircase for looks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoppingCurve {
    pub(crate) times: Vec<f64>,
    pub(crate) survival: Vec<f64>,
    pub(crate) watched: bool,
}

impl StoppingCurve {
    /// Mean of the stopping time, capped at `cap`.
    pub(crate) fn mean_until(&self, cap: f64) -> f64 {
        let mut mean = 0.0;
        let (mut time, mut survival) = (0.0, 1.0);
        for (&next, &after) in self.times.iter().zip(&self.survival) {
            let end = next.min(cap);
            if end <= time {
                break;
            }
            let width = end - time;
            mean += if self.watched {
                let share = width / (next - time);
                width * (survival + 0.5 * share * (after - survival))
            } else {
                width * survival
            };
            (time, survival) = (next, after);
        }
        mean
    }

    /// Chance of going on past `time`.
    pub(crate) fn survival_at(&self, time: f64) -> f64 {
        let (mut from, mut before) = (0.0, 1.0);
        for (&next, &after) in self.times.iter().zip(&self.survival) {
            if next >= time {
                return before + (after - before) * (time - from) / (next - from);
            }
            (from, before) = (next, after);
        }
        before
    }

    /// First time by which a share `level` has stopped; nothing when that never happens.
    pub(crate) fn quantile(&self, level: f64) -> Option<f64> {
        let (mut time, mut survival) = (0.0, 1.0);
        for (&next, &after) in self.times.iter().zip(&self.survival) {
            if 1.0 - after >= level {
                let share = (survival - (1.0 - level)) / (survival - after);
                return Some(if self.watched {
                    time + share * (next - time)
                } else {
                    next
                });
            }
            (time, survival) = (next, after);
        }
        None
    }
}

/// Curves of a group sequential design whose maximum is `maximum` in standard time.
pub(crate) fn group_curve(
    design: &Design,
    maximum: f64,
    drift: f64,
) -> Result<(StoppingCurve, f64), DesignError> {
    let chances = stopping_chances(design, drift * maximum.sqrt())?;
    let mut left = 1.0;
    let mut power = 0.0;
    let mut curve = StoppingCurve {
        times: Vec::new(),
        survival: Vec::new(),
        watched: false,
    };
    for chance in &chances {
        left -= chance.above + chance.below;
        power += match design.sides {
            Sides::One => chance.above,
            Sides::Two => chance.above + chance.below,
        };
        curve.times.push(chance.fraction * maximum);
        curve.survival.push(left.max(0.0));
    }
    Ok((curve, power))
}

/// The factor by which the maximal sample of a design exceeds the fixed-horizon one.
pub(crate) fn group_inflation(
    alpha: f64,
    sides: Sides,
    spending: Spending,
    looks: u16,
    power: f64,
) -> Result<f64, DesignError> {
    let design = Design::equally_spaced(alpha, sides, spending, looks);
    let fixed_drift = standard_drift(alpha, sides, power);
    // A design whose looks cannot be solved is refused here, so the search below cannot fail.
    group_curve(&design, 1.0, fixed_drift)?;
    let falls_short = |maximum: f64| {
        group_curve(&design, maximum, fixed_drift).is_ok_and(|(_, reached)| reached < power)
    };
    Ok(bisect(1.0, 4.0, 1e-12, falls_short).middle())
}

/// `z_a + z_b`: the drift in standard time under which a fixed test has its power.
pub(crate) fn standard_drift(alpha: f64, sides: Sides, power: f64) -> f64 {
    let per_side = match sides {
        Sides::One => alpha,
        Sides::Two => alpha / 2.0,
    };
    normal_quantile(power) - normal_quantile(per_side)
}

/// The paths of a test that goes on between two boundaries.
pub(crate) struct TestPaths {
    slices: Vec<Slice>,
    watched: bool,
}

impl TestPaths {
    /// A normal mixture tuned at `tuned_at` (standard time), up to `horizon`: its boundary is
    /// `sqrt(2 (t + 1/r) ln(L))` with `r` the exact optimum at `tuned_at`.
    pub(crate) fn of_mixture(horizon: f64, tuned_at: f64, alpha: f64, sides: Sides) -> Self {
        Self::within(horizon, |time| {
            mixture_corridor(time, tuned_at, alpha, sides)
        })
    }

    /// The same mixture looked at `looks` times, equally spaced up to `horizon`.
    pub(crate) fn of_mixture_at_looks(
        horizon: f64,
        tuned_at: f64,
        (alpha, sides): (f64, Sides),
        looks: u16,
    ) -> Self {
        Self::recurse(horizon, looks, Monitoring::AtLooks, |time| {
            mixture_corridor(time, tuned_at, alpha, sides)
        })
    }

    /// Chance of having crossed by the horizon.
    pub(crate) fn power(&self, drift: f64) -> f64 {
        1.0 - self
            .slices
            .last()
            .map_or(1.0, |slice| slice.survival(drift))
    }

    /// Two parallel lines that start at `(lower, upper)` and rise by `slope`.
    pub(crate) fn between_lines(horizon: f64, (lower, upper): (f64, f64), slope: f64) -> Self {
        Self::within(horizon, |time| Corridor {
            lower: lower + slope * time,
            upper: upper + slope * time,
        })
    }

    fn within(horizon: f64, corridor: impl Fn(f64) -> Corridor) -> Self {
        Self::recurse(horizon, STEPS, Monitoring::Continuous, corridor)
    }

    fn recurse(
        horizon: f64,
        steps: u16,
        monitoring: Monitoring,
        corridor: impl Fn(f64) -> Corridor,
    ) -> Self {
        let time_of = |step: u16| horizon * f64::from(step) / f64::from(steps);
        let mut slices = vec![Slice::origin(corridor(0.0))];
        for step in 1..=steps {
            let (time, next) = (time_of(step), time_of((step + 1).min(steps)));
            if let Some(before) = slices.last() {
                let slice = before.advance(time, next, corridor(time), monitoring);
                slices.push(slice);
            }
        }
        Self {
            slices,
            watched: monitoring == Monitoring::Continuous,
        }
    }

    pub(crate) fn curve(&self, drift: f64) -> StoppingCurve {
        let reached = &self.slices[1..];
        StoppingCurve {
            times: reached.iter().map(Slice::time).collect(),
            survival: reached.iter().map(|slice| slice.survival(drift)).collect(),
            watched: self.watched,
        }
    }
}

/// Paths long enough to reach `power` under `drift`, or nothing within 80 times the fixed sample.
pub(crate) fn mixture_paths(
    tuned_at: f64,
    (alpha, sides): (f64, Sides),
    (drift, power): (f64, f64),
) -> Option<(TestPaths, f64)> {
    HORIZONS.iter().find_map(|&horizon| {
        let paths = TestPaths::of_mixture(horizon, tuned_at, alpha, sides);
        let reached = paths.curve(drift).quantile(power)?;
        Some((paths, reached))
    })
}

/// The same for a test looked at `looks` times: the maximum that gives `power`.
pub(crate) fn looked_mixture_paths(
    tuned_at: f64,
    (alpha, sides): (f64, Sides),
    (drift, power): (f64, f64),
    looks: u16,
) -> Option<(TestPaths, f64)> {
    let paths = |horizon| TestPaths::of_mixture_at_looks(horizon, tuned_at, (alpha, sides), looks);
    let enough = HORIZONS
        .into_iter()
        .find(|horizon| paths(*horizon).power(drift) >= power)?;
    let maximum = bisect(enough, 0.5, 1e-7, |horizon| {
        paths(horizon).power(drift) >= power
    })
    .inside;
    Some((paths(maximum), maximum))
}

fn mixture_corridor(time: f64, tuned_at: f64, alpha: f64, sides: Sides) -> Corridor {
    let tuned_alpha = match sides {
        Sides::One => 2.0 * alpha,
        Sides::Two => alpha,
    };
    let precision = optimal_precision(tuned_alpha) / tuned_at;
    let x = precision * time;
    let log_level = match sides {
        Sides::Two => 0.5 * x.ln_1p() - alpha.ln(),
        Sides::One => ((x + 1.0).sqrt() / (2.0 * alpha)).ln_1p(),
    };
    let upper = (2.0 * (time + 1.0 / precision) * log_level).sqrt();
    let lower = match sides {
        Sides::Two => -upper,
        Sides::One => f64::NEG_INFINITY,
    };
    Corridor { lower, upper }
}

/// `-W_{-1}(-a^2 / e) - 1`: the mixture precision that is tightest at one unit of time.
pub(crate) fn optimal_precision(alpha: f64) -> f64 {
    -lambert_w_m1(-alpha * alpha / std::f64::consts::E) - 1.0
}
