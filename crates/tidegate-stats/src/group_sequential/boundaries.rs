//! Critical values of a group sequential plan, and what a plan does under a given effect.

use serde::Serialize;

use super::{DesignError, Sides, Spending, check_alpha, check_information};
use crate::bisection::bisect;
use crate::brownian::{Corridor, Monitoring, Slice};
use crate::special::normal_quantile;

/// Smallest one-look error that still moves a boundary; below it a look cannot reject.
const SMALLEST_SPEND: f64 = 1e-300;
const NEWTON_STEPS: usize = 60;

/// When the looks happen and how the error is spent over them.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// Error in all, over both sides.
    pub alpha: f64,
    /// One- or two-sided.
    pub sides: Sides,
    /// The spending function.
    pub spending: Spending,
    /// Information at each look, ascending, in any unit (usually both arms' units together).
    /// The last may exceed `information_max`: that is over-run.
    pub information: Vec<f64>,
    /// Information at which all of `alpha` is spent.
    pub information_max: f64,
    /// The last look is the last there will be: all that is left is spent on it (under-run).
    pub last_is_final: bool,
}

impl Design {
    /// A plan of looks at `fractions` of the maximum.
    #[must_use]
    pub fn at_fractions(alpha: f64, sides: Sides, spending: Spending, fractions: &[f64]) -> Self {
        Self {
            alpha,
            sides,
            spending,
            information: fractions.to_vec(),
            information_max: 1.0,
            last_is_final: false,
        }
    }

    /// A plan of `looks` equally spaced looks.
    #[must_use]
    pub fn equally_spaced(alpha: f64, sides: Sides, spending: Spending, looks: u16) -> Self {
        let fractions: Vec<f64> = (1..=looks)
            .map(|look| f64::from(look) / f64::from(looks))
            .collect();
        Self::at_fractions(alpha, sides, spending, &fractions)
    }

    fn alpha_per_side(&self) -> f64 {
        match self.sides {
            Sides::One => self.alpha,
            Sides::Two => self.alpha / 2.0,
        }
    }

    /// Error spent on one side by look `index`.
    fn spent_by(&self, index: usize) -> f64 {
        let alpha = self.alpha_per_side();
        if self.last_is_final && index + 1 == self.information.len() {
            return alpha;
        }
        self.spending
            .spent(alpha, self.information[index] / self.information_max)
    }
}

/// One look of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Boundary {
    /// Look, from 1.
    pub look: usize,
    /// Share of the maximal information, at most 1.
    pub fraction: f64,
    /// Reject when |z| (one-sided: z) reaches this; nothing when the look spends no error.
    pub z: Option<f64>,
    /// Error spent up to and including this look, both sides together.
    pub alpha_spent: f64,
}

/// The boundaries of a plan, exact to better than 1e-9 for the assumed normal process.
///
/// # Errors
/// When the plan is no plan: see [`DesignError`].
pub fn boundaries(design: &Design) -> Result<Vec<Boundary>, DesignError> {
    Ok(solve(design)?.rows)
}

/// Boundaries with the sub-densities they were found with.
pub(crate) struct Solved {
    pub(crate) rows: Vec<Boundary>,
    /// `slices[k]` holds the paths that go on after look `k`; `slices[0]` is the origin.
    pub(crate) slices: Vec<Slice>,
    pub(crate) times: Vec<f64>,
    pub(crate) corridors: Vec<Corridor>,
}

/// The boundary of the last look.
///
/// # Errors
/// When the plan is no plan.
pub fn solve_last(design: &Design) -> Result<Boundary, DesignError> {
    let rows = boundaries(design)?;
    rows.last().copied().ok_or(DesignError::Looks { looks: 0 })
}

pub(crate) fn solve(design: &Design) -> Result<Solved, DesignError> {
    check_alpha(design.alpha)?;
    design.spending.validate()?;
    check_information(&design.information, design.information_max)?;
    Ok(solve_unchecked(design))
}

/// The same for a design already known to be one, at any alpha.
pub(super) fn solve_unchecked(design: &Design) -> Solved {
    let times: Vec<f64> = design
        .information
        .iter()
        .map(|value| value / design.information_max)
        .collect();
    let sides = match design.sides {
        Sides::One => 1.0,
        Sides::Two => 2.0,
    };
    let open = Corridor {
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
    };
    let mut slices = vec![Slice::origin(open)];
    let mut rows = Vec::with_capacity(times.len());
    let mut corridors = Vec::with_capacity(times.len());
    let mut spent_before = 0.0;
    for (index, &time) in times.iter().enumerate() {
        let spent = design.spent_by(index).max(spent_before);
        let slice = &slices[index];
        let barrier = barrier_for(slice, time, spent - spent_before);
        let corridor = corridor_at(design.sides, barrier);
        rows.push(Boundary {
            look: index + 1,
            fraction: time.min(1.0),
            z: barrier.map(|value| value / time.sqrt()),
            alpha_spent: sides * spent,
        });
        let next_time = times.get(index + 1).copied().unwrap_or(time);
        if index + 1 < times.len() {
            let next = slice.advance(time, next_time, corridor, Monitoring::AtLooks);
            slices.push(next);
        }
        corridors.push(corridor);
        spent_before = spent;
    }
    Solved {
        rows,
        slices,
        times,
        corridors,
    }
}

fn corridor_at(sides: Sides, barrier: Option<f64>) -> Corridor {
    let upper = barrier.unwrap_or(f64::INFINITY);
    let lower = match sides {
        Sides::One => f64::NEG_INFINITY,
        Sides::Two => -upper,
    };
    Corridor { lower, upper }
}

/// The barrier at `time` that the paths of `slice` reach with chance `error`.
///
/// Newton on the logarithm: the log of a Gaussian-smoothed tail is concave, so the iteration
/// cannot overshoot to the far side and holds its relative accuracy at errors of 1e-250.
fn barrier_for(slice: &Slice, time: f64, error: f64) -> Option<f64> {
    if error < SMALLEST_SPEND {
        return None;
    }
    let mut barrier = -normal_quantile(error) * time.sqrt();
    let target = error.ln();
    for _ in 0..NEWTON_STEPS {
        let chance = slice.chance_above(time, barrier, 0.0);
        let density = slice.density_at(time, barrier);
        if chance <= 0.0 || density <= 0.0 {
            barrier *= 0.9;
            continue;
        }
        let step = (chance.ln() - target) * chance / density;
        barrier += step;
        if step.abs() <= 1e-13 * barrier.abs().max(time.sqrt()) {
            break;
        }
    }
    barrier.is_finite().then_some(barrier)
}

/// Where a plan ends under a given effect.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LookChance {
    /// Information fraction of the look.
    pub fraction: f64,
    /// Chance of first crossing the upper boundary here.
    pub above: f64,
    /// Chance of first crossing the lower boundary here.
    pub below: f64,
}

/// Chances of stopping at each look when the final z has mean `drift` (at fraction 1).
///
/// # Errors
/// When the plan is no plan.
pub fn stopping_chances(design: &Design, drift: f64) -> Result<Vec<LookChance>, DesignError> {
    let solved = solve(design)?;
    Ok(solved.chances(drift))
}

impl Solved {
    pub(crate) fn chances(&self, drift: f64) -> Vec<LookChance> {
        self.corridors
            .iter()
            .enumerate()
            .map(|(index, corridor)| {
                let (slice, time) = (&self.slices[index], self.times[index]);
                LookChance {
                    fraction: time,
                    above: finite_chance(corridor.upper, |barrier| {
                        slice.chance_above(time, barrier, drift)
                    }),
                    below: finite_chance(corridor.lower, |barrier| {
                        slice.chance_below(time, barrier, drift)
                    }),
                }
            })
            .collect()
    }
}

fn finite_chance(barrier: f64, chance: impl Fn(f64) -> f64) -> f64 {
    if barrier.is_finite() {
        chance(barrier)
    } else {
        0.0
    }
}

/// The family of boundaries `z_k = C (k/K)^(shape - 1/2)` of Wang and Tsiatis (1987):
/// `shape` 0.5 is Pocock's (1977), 0 is O'Brien and Fleming's (1979).
///
/// Returns the two-sided boundaries at `looks` equal looks.
///
/// # Errors
/// When `alpha` is not between 0 and 1 or there are no or too many looks.
pub fn wang_tsiatis(alpha: f64, looks: u16, shape: f64) -> Result<Vec<f64>, DesignError> {
    check_alpha(alpha)?;
    let fractions: Vec<f64> = (1..=looks)
        .map(|look| f64::from(look) / f64::from(looks))
        .collect();
    check_information(&fractions, 1.0)?;
    let scaled = |constant: f64| -> Vec<f64> {
        fractions
            .iter()
            .map(|fraction| constant * fraction.powf(shape - 0.5))
            .collect()
    };
    let crosses_too_often = |constant: f64| crossing_chance(&fractions, &scaled(constant)) > alpha;
    Ok(scaled(bisect(0.0, 40.0, 1e-12, crosses_too_often).middle()))
}

/// The chance, without an effect, that |z| ever reaches `critical` over looks at `fractions`.
///
/// With the same critical value at every look this is the price of naive peeking.
#[must_use]
pub fn crossing_chance(fractions: &[f64], critical: &[f64]) -> f64 {
    let open = Corridor {
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
    };
    let mut slice = Slice::origin(open);
    let mut crossed = 0.0;
    for (index, (&time, z)) in fractions.iter().zip(critical).enumerate() {
        let barrier = z * time.sqrt();
        crossed += 2.0 * slice.chance_above(time, barrier, 0.0);
        if let Some(&next) = fractions.get(index + 1) {
            let corridor = Corridor {
                lower: -barrier,
                upper: barrier,
            };
            slice = slice.advance(time, next, corridor, Monitoring::AtLooks);
        }
    }
    crossed
}
