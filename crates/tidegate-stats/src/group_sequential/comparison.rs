//! Two arms at one look of a group sequential plan.
//!
//! **While the plan runs** the interval is the repeated confidence interval of Jennison and
//! Turnbull (1989): the estimate and as many standard errors as the look's boundary. The
//! intervals of all looks cover at once with chance `1 - alpha`, and zero is outside exactly when
//! the plan rejects. The relative set inverts the linear contrast with the same multiplier; the
//! p-value is the smallest `alpha` at which the same plan would reject at this look, so the three
//! never disagree. Above one half it is reported as 1, below 1e-300 as 1e-300.
//!
//! **At the stop**, that is at a crossing or at the last look, [`AtStop`] adds the stage-wise
//! median-unbiased estimate with its exact interval and p-value.

use serde::Serialize;

use super::boundaries::solve_unchecked;
use super::{
    Boundary, Design, DesignError, FRACTION_STEP_MIN, Sides, Spending, solve_last, stage_wise,
};
use crate::bisection::root_between;
use crate::comparison::Parameters;
use crate::{ArmSummary, Comparison, Contrast, Effect, Method, Null, Tail};

const SMALLEST_LN_P: f64 = -690.0;
const LARGEST_P: f64 = 0.499;

/// The plan that a look belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// Error over all looks, two-sided.
    pub alpha: f64,
    /// Spending function.
    pub spending: Spending,
    /// Units in both arms at which all of alpha is spent.
    pub units_max: f64,
    /// Units in both arms at the looks already taken, ascending.
    pub past_looks: Vec<f64>,
    /// No further look will come.
    pub is_final: bool,
}

impl GroupOptions {
    /// A plan of `looks` equally spaced looks, of which those before `units_now` were taken.
    #[must_use]
    pub fn equally_spaced(
        alpha: f64,
        spending: Spending,
        units_max: f64,
        looks: u16,
        units_now: f64,
    ) -> Self {
        let past_looks = (1..looks)
            .map(|look| units_max * f64::from(look) / f64::from(looks))
            .filter(|units| units_now - units >= 2.0 * FRACTION_STEP_MIN * units_max)
            .collect();
        Self {
            alpha,
            spending,
            units_max,
            past_looks,
            is_final: false,
        }
    }

    /// The boundary of a look at so many units in both arms.
    ///
    /// # Errors
    /// When the plan is no plan.
    pub fn boundary(&self, units_now: f64) -> Result<Boundary, DesignError> {
        solve_last(&self.design(self.alpha, units_now))
    }

    fn design(&self, alpha: f64, units_now: f64) -> Design {
        let mut information = self.past_looks.clone();
        information.push(units_now);
        Design {
            alpha,
            sides: Sides::Two,
            spending: self.spending,
            information,
            information_max: self.units_max,
            last_is_final: self.is_final,
        }
    }
}

/// Inference once the plan has stopped, on the absolute scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtStop {
    /// Median-unbiased estimate with its exact interval.
    pub absolute: Effect,
    /// Stage-wise p-value.
    pub p_value: f64,
}

/// A look's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupComparison {
    /// Effects, p-value and method while the plan runs.
    pub comparison: Comparison,
    /// The boundary for |z| at this look, if it may reject.
    pub critical_z: Option<f64>,
    /// The statistic.
    pub z: f64,
    /// The plan rejects at this look.
    pub is_crossing: bool,
    /// Corrected inference, once the plan has stopped.
    pub at_stop: Option<AtStop>,
}

/// Compares two arm means at a look.
///
/// # Errors
/// When the arms allow no comparison or the plan is no plan.
pub fn compare(
    control: &ArmSummary,
    treatment: &ArmSummary,
    options: &GroupOptions,
) -> Result<GroupComparison, DesignError> {
    compare_contrast(&Contrast::of_means(control, treatment)?, options)
}

/// Compares any two estimates at a look.
///
/// # Errors
/// When the estimates allow no comparison or the plan is no plan.
pub fn compare_contrast(
    contrast: &Contrast,
    options: &GroupOptions,
) -> Result<GroupComparison, DesignError> {
    let units = contrast.units_total();
    let design = options.design(options.alpha, units);
    let row = solve_last(&design)?;
    let z = contrast.statistic(Null::Zero)?;
    let is_crossing = row.z.is_some_and(|limit| z.abs() >= limit);
    let ln_p = ln_repeated_p(options, units, z.abs());
    let method = Method {
        name: "group_sequential",
        alpha: options.alpha,
        tail: Tail::TwoSided,
        multiplier: row.z,
        parameters: Parameters::GroupSequential {
            look: row.look,
            fraction: row.fraction,
            alpha_spent: row.alpha_spent,
        },
        promise: "the intervals of all planned looks cover the true effect at once with \
                  probability 1 - alpha",
        assumptions: &[
            "units are independent",
            "arm means are normal to the accuracy of the central limit theorem",
            "neither the looks nor the maximum were chosen by the effect",
        ],
    };
    let multiplier = row.z.unwrap_or(f64::INFINITY);
    let comparison = contrast.comparison(Null::Zero, ln_p, multiplier, method)?;
    let has_stopped = is_crossing || options.is_final || row.fraction >= 1.0;
    let at_stop = if has_stopped {
        Some(at_stop(&design, z, contrast.standard_error()?)?)
    } else {
        None
    };
    Ok(GroupComparison {
        comparison,
        critical_z: row.z,
        z,
        is_crossing,
        at_stop,
    })
}

fn at_stop(design: &Design, z: f64, standard_error: f64) -> Result<AtStop, DesignError> {
    let found = stage_wise(design, z)?;
    let scaled = |value: f64| Some(value * standard_error).filter(|end| end.is_finite());
    Ok(AtStop {
        absolute: Effect {
            estimate: found.z_median_unbiased * standard_error,
            lower: found.z_lower.and_then(scaled),
            upper: found.z_upper.and_then(scaled),
        },
        p_value: found.p_value,
    })
}

/// The logarithm of the smallest alpha whose boundary at this look is at or below `z`.
fn ln_repeated_p(options: &GroupOptions, units: f64, z: f64) -> f64 {
    let excess = |ln_alpha: f64| {
        let design = options.design(ln_alpha.exp(), units);
        // A look that may not reject has its boundary beyond any statistic.
        z - solve_unchecked(&design)
            .rows
            .last()
            .and_then(|row| row.z)
            .unwrap_or(40.0 + z)
    };
    let highest = LARGEST_P.ln();
    if excess(highest) < 0.0 {
        return 0.0;
    }
    if excess(SMALLEST_LN_P) >= 0.0 {
        return SMALLEST_LN_P;
    }
    root_between((SMALLEST_LN_P, highest), 1e-12, excess)
}
