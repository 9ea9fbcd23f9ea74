//! One look at a horizon fixed in advance.
//!
//! # Promise
//! If the data are looked at once, at a number of units chosen without looking, the interval covers the
//! true effect with probability `1 - alpha`, and `p` is below `alpha` under the null with probability at
//! most `alpha`, both to the accuracy of the central limit theorem.
//! Looked at again and again, the promise is void: with 14 looks the error at 5 % is 22 %.
//!
//! # Formula
//! Welch (1947): `t = d / sqrt(v_T + v_C)` with the degrees of freedom of `effect::Contrast`; the same
//! multiplier inverts the relative contrast (`effect`).
//!
//! # When it fails
//! Few units of a heavy-tailed metric: cap it (`winsorise`) or use `count_eprocess` on its events.
//! Rare conversions: use `proportions` with its score or exact method.

use crate::arm::ArmSummary;
use crate::comparison::{Comparison, Method, Null, Parameters, Tail};
use crate::effect::Contrast;
use crate::error::{StatsError, open_unit};
use crate::special::{normal_ln_sf, normal_upper_quantile_ln, student_t_ln_sf, student_t_quantile};

/// The distribution a standardised difference is held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reference {
    /// Student's t with Welch's degrees of freedom.
    #[default]
    Student,
    /// The normal distribution.
    Normal,
}

/// How to look once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedOptions {
    /// Level, strictly between 0 and 1.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
    /// The effect tested against.
    pub null: Null,
    /// The reference distribution.
    pub reference: Reference,
}

impl Default for FixedOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tail: Tail::TwoSided,
            null: Null::Zero,
            reference: Reference::Student,
        }
    }
}

/// Compares two arm means.
///
/// # Errors
/// For arms or options that allow no answer; see [`StatsError`].
pub fn compare(
    control: &ArmSummary,
    treatment: &ArmSummary,
    options: &FixedOptions,
) -> Result<Comparison, StatsError> {
    compare_contrast(&Contrast::of_means(control, treatment)?, options)
}

/// Compares any two estimates.
///
/// # Errors
/// For estimates or options that allow no answer; see [`StatsError`].
pub fn compare_contrast(
    contrast: &Contrast,
    options: &FixedOptions,
) -> Result<Comparison, StatsError> {
    let alpha = open_unit("alpha", options.alpha)?;
    let degrees = match options.reference {
        Reference::Student => contrast.degrees,
        Reference::Normal => f64::INFINITY,
    };
    let statistic = contrast.statistic(options.null)?;
    let ln_p = ln_p_value(statistic, degrees, options.tail);
    let multiplier = multiplier(alpha, degrees, options.tail);
    let method = Method {
        name: "fixed",
        alpha,
        tail: options.tail,
        multiplier: Some(multiplier).filter(|value| value.is_finite()),
        parameters: Parameters::Fixed {
            degrees: Some(degrees).filter(|value| value.is_finite()),
        },
        promise: "covers the true effect with probability 1 - alpha if looked at once, at a horizon \
                  fixed in advance",
        assumptions: &[
            "units are independent",
            "arm means are normal to the accuracy of the central limit theorem",
            "the horizon was chosen without looking at the effect",
        ],
    };
    contrast.comparison(options.null, ln_p, multiplier, method)
}

/// The half-width of the interval in standard errors.
#[must_use]
pub fn multiplier(alpha: f64, degrees: f64, tail: Tail) -> f64 {
    let tail_probability = if tail == Tail::TwoSided {
        0.5 * alpha
    } else {
        alpha
    };
    if degrees.is_finite() {
        -student_t_quantile(tail_probability, degrees)
    } else {
        normal_upper_quantile_ln(tail_probability.ln())
    }
}

/// `ln p` of a standardised departure, normal where `degrees` is infinite.
#[must_use]
pub fn ln_p_value(statistic: f64, degrees: f64, tail: Tail) -> f64 {
    let ln_sf = |t: f64| {
        if degrees.is_finite() {
            student_t_ln_sf(t, degrees)
        } else {
            normal_ln_sf(t)
        }
    };
    match tail {
        Tail::TwoSided => (std::f64::consts::LN_2 + ln_sf(statistic.abs())).min(0.0),
        Tail::Greater => ln_sf(statistic),
        Tail::Less => ln_sf(-statistic),
    }
}
