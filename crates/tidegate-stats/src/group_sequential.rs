//! Group sequential designs: a few planned looks, all of the power, none of the inflation.
//!
//! **What is promised.** Over all looks together a plan rejects a true null with chance at most
//! `alpha`, whatever the number and timing of looks, provided neither was chosen by the effect
//! seen. With O'Brien-Fleming type spending it needs 1.04 times the units of a fixed-horizon
//! test at most and about 0.79 times on average when the effect is the planned one
//! (14 looks, power 80 %).
//!
//! **Assumptions.** The maximum of units is known or revised blind to the effect; the statistic
//! is approximately normal with independent increments.
//!
//! **Parts.** [`Spending`] says how fast the error is spent, [`boundaries()`] solves for critical
//! values by recursive integration, [`stopping_chances`] gives power and expected stop,
//! [`stage_wise`] corrects estimate and interval at the stop, and [`compare`] applies all of it
//! to two arms.
//!
//! **When it fails.** When the maximum moves with the results, or looks are added *because* a
//! result is near: use the always-valid method then.
//!
//! Sources: Armitage, McPherson and Rowe (1969); Lan and DeMets (1983); Jennison and Turnbull
//! (2000), chapters 2, 7, 8 and 19.

mod boundaries;
mod comparison;
mod spending;
mod stagewise;

use thiserror::Error;

pub use boundaries::{
    Boundary, Design, LookChance, boundaries, crossing_chance, solve_last, stopping_chances,
    wang_tsiatis,
};
pub use comparison::{AtStop, GroupComparison, GroupOptions, compare, compare_contrast};
pub use spending::Spending;
pub use stagewise::{StageWise, stage_wise};

/// Most looks a plan may have.
pub const LOOKS_MAX: usize = 1_000;
/// Smallest step of information between two looks, as a share of the maximum.
pub const FRACTION_STEP_MIN: f64 = 1e-5;

/// One- or two-sided rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// Reject for large z only.
    One,
    /// Reject for large |z|.
    Two,
}

/// Why a plan is no plan.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DesignError {
    /// The error is not a probability strictly between 0 and 1/2.
    #[error("alpha {alpha} is not between 1e-12 and 0.5; use for example 0.05")]
    Alpha {
        /// As given.
        alpha: f64,
    },
    /// No look or too many.
    #[error("{looks} looks asked for; a plan has 1 to {LOOKS_MAX}")]
    Looks {
        /// As given.
        looks: usize,
    },
    /// Looks must move forward.
    #[error(
        "look {look} is at fraction {fraction}, not at least {FRACTION_STEP_MIN} after {before}; \
         give ascending fractions"
    )]
    Order {
        /// From 1.
        look: usize,
        /// Its fraction.
        fraction: f64,
        /// The fraction before.
        before: f64,
    },
    /// A look far beyond the planned maximum is another plan.
    #[error("look {look} is at {fraction} times the planned maximum; at most 10 is over-run")]
    OverRun {
        /// From 1.
        look: usize,
        /// Its fraction.
        fraction: f64,
    },
    /// The maximal information is no positive number.
    #[error(
        "the maximum {maximum} is not a positive finite number; give the planned total of units"
    )]
    Maximum {
        /// As given.
        maximum: f64,
    },
    /// A power that does not spend.
    #[error("the exponent {exponent} of power spending is not a positive number")]
    Exponent {
        /// As given.
        exponent: f64,
    },
    /// No such spending function.
    #[error("unknown spending {name:?}; use obrien-fleming, pocock or power=R with R > 0")]
    UnknownSpending {
        /// As given, cut to 40 characters.
        name: String,
    },
    /// A statistic that is no number.
    #[error("the statistic {z} is not finite")]
    Statistic {
        /// As given.
        z: f64,
    },
    /// The arms allow no comparison.
    #[error(transparent)]
    Data(#[from] crate::StatsError),
}

fn check_alpha(alpha: f64) -> Result<(), DesignError> {
    if (1e-12..0.5).contains(&alpha) {
        Ok(())
    } else {
        Err(DesignError::Alpha { alpha })
    }
}

fn check_information(information: &[f64], maximum: f64) -> Result<(), DesignError> {
    if !(maximum.is_finite() && maximum > 0.0) {
        return Err(DesignError::Maximum { maximum });
    }
    let looks = information.len();
    if looks == 0 || looks > LOOKS_MAX {
        return Err(DesignError::Looks { looks });
    }
    let mut before = 0.0;
    for (index, value) in information.iter().enumerate() {
        let (look, fraction) = (index + 1, value / maximum);
        if fraction.is_nan() || fraction - before < FRACTION_STEP_MIN * (1.0 - 1e-9) {
            return Err(DesignError::Order {
                look,
                fraction,
                before,
            });
        }
        if fraction > 10.0 {
            return Err(DesignError::OverRun { look, fraction });
        }
        before = fraction;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
