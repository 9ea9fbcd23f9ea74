//! Estimate, interval and p-value after a group sequential plan has stopped.
//!
//! **Why.** At an early stop the plain estimate is too large in size: the plan stops because it
//! was large. Outcomes are therefore ordered by stage (Fairbanks and Madsen 1982; Tsiatis,
//! Rosner and Mehta 1984): an upper crossing at an earlier look is more extreme than any at a
//! later look, and within a look a larger z is more extreme.
//! `U(d)`, the chance under drift `d` of an outcome at least as high as the one seen, grows with
//! `d`; the drift with `U = 1/2` is median-unbiased, `U = a/2` and `U = 1 - a/2` bound the exact
//! interval, and `U(0)` gives the p-value.
//!
//! **Over-run.** A look beyond the planned maximum enters with its own information.
//!
//! **When it fails.** Information must not have been chosen by the effect seen.

use serde::Serialize;

use super::boundaries::{Solved, solve};
use super::{Design, DesignError, Sides};
use crate::bisection::bisect;

const WIDEST_DRIFT: f64 = 1e4;

/// Inference in units of the standard error at the stopping look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageWise {
    /// Look at which the plan stopped, from 1.
    pub look: usize,
    /// Median-unbiased z: multiply by the standard error of the effect at the stop.
    pub z_median_unbiased: f64,
    /// Lower end of the exact interval, likewise.
    pub z_lower: Option<f64>,
    /// Upper end, likewise.
    pub z_upper: Option<f64>,
    /// Stage-wise p-value, two-sided or for "greater".
    pub p_value: f64,
}

/// Inference when `design` stopped at its last look with statistic `z`.
///
/// `design.information` holds the looks that took place, the last of them the stop.
///
/// # Errors
/// When the plan is no plan, or `z` is not finite.
pub fn stage_wise(design: &Design, z: f64) -> Result<StageWise, DesignError> {
    if !z.is_finite() {
        return Err(DesignError::Statistic { z });
    }
    let solved = solve(design)?;
    let last = solved.times.len() - 1;
    let scale = solved.times[last].sqrt();
    let naive = z / scale;
    let exceed = |drift: f64| at_least_as_high(&solved, last, z, drift);
    let (above, below) = (exceed(0.0), at_most_as_high(&solved, last, z, 0.0));
    let (p_value, tail) = match design.sides {
        Sides::One => (above, design.alpha),
        Sides::Two => ((2.0 * above.min(below)).min(1.0), design.alpha / 2.0),
    };
    let lower = drift_where(&exceed, tail, naive);
    let upper = match design.sides {
        Sides::One => None,
        Sides::Two => drift_where(&exceed, 1.0 - tail, naive),
    };
    Ok(StageWise {
        look: last + 1,
        z_median_unbiased: drift_where(&exceed, 0.5, naive).unwrap_or(naive) * scale,
        z_lower: lower.map(|drift| drift * scale),
        z_upper: upper.map(|drift| drift * scale),
        p_value,
    })
}

fn at_least_as_high(solved: &Solved, last: usize, z: f64, drift: f64) -> f64 {
    let time = solved.times[last];
    let earlier: f64 = (0..last)
        .filter(|&look| solved.corridors[look].upper.is_finite())
        .map(|look| {
            let barrier = solved.corridors[look].upper;
            solved.slices[look].chance_above(solved.times[look], barrier, drift)
        })
        .sum();
    earlier + solved.slices[last].chance_above(time, z * time.sqrt(), drift)
}

fn at_most_as_high(solved: &Solved, last: usize, z: f64, drift: f64) -> f64 {
    let time = solved.times[last];
    let earlier: f64 = (0..last)
        .filter(|&look| solved.corridors[look].lower.is_finite())
        .map(|look| {
            let barrier = solved.corridors[look].lower;
            solved.slices[look].chance_below(solved.times[look], barrier, drift)
        })
        .sum();
    earlier + solved.slices[last].chance_below(time, z * time.sqrt(), drift)
}

/// The drift at which the increasing `exceed` takes `level`, searched outward from `start`.
fn drift_where(exceed: &impl Fn(f64) -> f64, level: f64, start: f64) -> Option<f64> {
    let (mut low, mut high) = (start - 1.0, start + 1.0);
    let mut reach = 2.0;
    while exceed(low) > level {
        low -= reach;
        reach *= 2.0;
        if reach > WIDEST_DRIFT {
            return None;
        }
    }
    reach = 2.0;
    while exceed(high) < level {
        high += reach;
        reach *= 2.0;
        if reach > WIDEST_DRIFT {
            return None;
        }
    }
    Some(bisect(low, high, 0.0, |drift| exceed(drift) < level).middle())
}
