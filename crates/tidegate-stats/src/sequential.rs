//! Always-valid comparison of two estimates: look whenever you like, stop when you like.
//!
//! # Promise
//! With probability at least `1 - alpha`, *all* the intervals ever shown cover the true effect at once, on
//! the absolute and on the relative scale; under the null, `p` is ever below `alpha` with probability at
//! most `alpha`.
//! The promise is asymptotic: it holds to the accuracy of the normal approximation from the first look on,
//! which is why nothing is claimed before a burn-in.
//!
//! # Assumptions
//! Units are independent, arms have finite variance, the allocation is not driven by the outcome.
//! The burn-in counts *events* per arm (units whose value is not zero), never a metric total: a revenue
//! total of 150 may come from three orders.
//!
//! # Formula
//! The normal-mixture boundary of Robbins (1970) in the asymptotic form of Waudby-Smith, Arbour, Sinha,
//! Kennedy and Ramdas (Annals of Statistics 2024, arXiv 2103.06476).
//! With `x = n rho^2`, `n` the units of both arms, the half-width in standard errors is
//!
//! - two-sided: `sqrt(2 (x+1)/x ln(sqrt(x+1)/alpha))`,
//! - one-sided: `sqrt(2 (x+1)/x ln(1 + sqrt(x+1)/(2 alpha)))`,
//!
//! and `ln E = x z^2 / (2 (x+1)) - ln(x+1)/2`, `p = min(1, 1/E)`; one-sided
//! `p = min(1, sqrt(x+1) / (2 (exp(x z^2 / (2 (x+1))) - 1)))` for `z > 0`.
//! Both p-values are the exact inverses of their boundaries.
//! The same multiplier inverts the linear contrast of `effect` over the relative effect: for every theta
//! the contrast is a mean difference of its own, so each is tested by a valid sequence and the set of those
//! not refuted covers the true one at all times.
//!
//! `rho` decides where the boundary is tight.
//! The default is exactly optimal at `tune_at` units: `rho^2 N = -W_{-1}(-alpha^2 / e) - 1`; the
//! approximation `-2 ln alpha + ln(1 - 2 ln alpha)` that is common in the field can be chosen to compare
//! figures.
//!
//! # When it fails
//! Sparse or very heavy-tailed metrics right after the burn-in: `count_eprocess` and `betting` are exact at
//! any size.
//! It needs 1.64 times the units of a single look for the same power at the tuned size; with a known
//! maximum, a group-sequential plan needs 1.04 times.

use std::f64::consts::LN_2;

use crate::arm::ArmSummary;
use crate::comparison::{Comparison, Effect, Method, Note, Null, Parameters, Tail};
use crate::effect::Contrast;
use crate::error::{Side, StatsError, open_unit, positive};
use crate::special::{lambert_root, normal_ln_sf};

/// Units of both arms at which the boundary is tightest, unless told otherwise.
pub const DEFAULT_TUNE_AT: f64 = 10_000.0;

/// Events each arm needs before anything is claimed, unless told otherwise.
pub const DEFAULT_BURN_IN_EVENTS: u64 = 20;

/// How the mixture variance follows from the size it is tuned for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tuning {
    /// The exact minimum of the boundary.
    #[default]
    Exact,
    /// The first-order approximation of other products.
    Common,
}

/// How to monitor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequentialOptions {
    /// Level, strictly between 0 and 1, below 1/2 where one-sided.
    pub alpha: f64,
    /// Which departures count.
    pub tail: Tail,
    /// The effect tested against.
    pub null: Null,
    /// Units of both arms at which the boundary is tightest.
    pub tune_at: f64,
    /// How that is achieved.
    pub tuning: Tuning,
    /// Events each arm needs before anything is claimed.
    pub burn_in_events: u64,
}

impl Default for SequentialOptions {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tail: Tail::TwoSided,
            null: Null::Zero,
            tune_at: DEFAULT_TUNE_AT,
            tuning: Tuning::Exact,
            burn_in_events: DEFAULT_BURN_IN_EVENTS,
        }
    }
}

/// Compares two arm means at any time.
///
/// # Errors
/// For arms or options that allow no answer; see [`StatsError`].
pub fn compare(
    control: &ArmSummary,
    treatment: &ArmSummary,
    options: &SequentialOptions,
) -> Result<Comparison, StatsError> {
    compare_contrast(&Contrast::of_means(control, treatment)?, options)
}

/// Compares any two estimates at any time.
///
/// # Errors
/// For estimates or options that allow no answer; see [`StatsError`].
pub fn compare_contrast(
    contrast: &Contrast,
    options: &SequentialOptions,
) -> Result<Comparison, StatsError> {
    let boundary = Boundary::new(options)?;
    let information = boundary.information(contrast.units_total());
    let statistic = contrast.statistic(options.null)?;
    let burn_in = burn_in(contrast, options.burn_in_events);
    let (multiplier, ln_p, ln_e) = if burn_in.is_some() {
        (f64::INFINITY, 0.0, 0.0)
    } else {
        (
            boundary.multiplier_at(information),
            boundary.ln_p_at(information, statistic),
            boundary.ln_e_at(information, statistic),
        )
    };
    let method = Method {
        name: "sequential",
        alpha: options.alpha,
        tail: options.tail,
        multiplier: Some(multiplier).filter(|value| value.is_finite()),
        parameters: Parameters::Sequential {
            tune_at: options.tune_at,
            rho_squared: boundary.rho_squared,
            ln_e: ln_e.clamp(f64::MIN, f64::MAX),
            burn_in_events: options.burn_in_events,
        },
        promise: "all intervals ever shown cover the true effect at once with probability 1 - alpha",
        assumptions: &[
            "units are independent",
            "arm means are normal to the accuracy of the central limit theorem after the burn-in",
            "allocation does not depend on outcomes",
        ],
    };
    let mut comparison = contrast.comparison(options.null, ln_p, multiplier, method)?;
    comparison.notes.extend(burn_in);
    Ok(comparison)
}

/// The note that too few events have been seen, if so.
fn burn_in(contrast: &Contrast, needed: u64) -> Option<Note> {
    let [control, treatment] = contrast.events;
    let (side, events) = if control <= treatment {
        (Side::Control, control)
    } else {
        (Side::Treatment, treatment)
    };
    (events < needed).then_some(Note::BurnIn {
        side,
        events,
        needed,
    })
}

/// A normal-mixture boundary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boundary {
    alpha: f64,
    tail: Tail,
    rho_squared: f64,
}

impl Boundary {
    /// The boundary of some options.
    ///
    /// # Errors
    /// If the level or the tuning is out of range.
    pub fn new(options: &SequentialOptions) -> Result<Self, StatsError> {
        let alpha = open_unit("alpha", options.alpha)?;
        let tune_at = positive("tune_at", options.tune_at)?;
        let effective = if options.tail == Tail::TwoSided {
            alpha
        } else {
            2.0 * alpha
        };
        if effective >= 1.0 {
            return Err(StatsError::Option {
                name: "alpha",
                value: alpha,
                rule: "below 1/2 for a one-sided test",
            });
        }
        let level = -2.0 * effective.ln();
        let at_tuning = match options.tuning {
            Tuning::Exact => lambert_root(1.0 + level) - 1.0,
            Tuning::Common => level + level.ln_1p(),
        };
        let rho_squared = positive("tune_at", at_tuning / tune_at)?;
        Ok(Self {
            alpha,
            tail: options.tail,
            rho_squared,
        })
    }

    /// The mixture variance.
    #[must_use]
    pub fn rho_squared(&self) -> f64 {
        self.rho_squared
    }

    /// The half-width in standard errors after `units` units of both arms.
    #[must_use]
    pub fn multiplier(&self, units: f64) -> f64 {
        self.multiplier_at(self.information(units))
    }

    /// `ln p` of a standardised departure after `units` units of both arms.
    #[must_use]
    pub fn ln_p(&self, units: f64, statistic: f64) -> f64 {
        self.ln_p_at(self.information(units), statistic)
    }

    fn information(&self, units: f64) -> f64 {
        (units * self.rho_squared).min(f64::MAX)
    }

    fn multiplier_at(&self, x: f64) -> f64 {
        let half_ln = 0.5 * x.ln_1p();
        let threshold = if self.tail == Tail::TwoSided {
            half_ln - self.alpha.ln()
        } else {
            ((half_ln - self.alpha.ln() - LN_2).exp()).ln_1p()
        };
        (2.0 * (1.0 + 1.0 / x) * threshold).sqrt()
    }

    /// `ln p`, the exact inverse of the boundary.
    fn ln_p_at(&self, x: f64, statistic: f64) -> f64 {
        let half_ln = 0.5 * x.ln_1p();
        let drift = drift(x, statistic);
        match self.tail {
            Tail::TwoSided => (half_ln - drift).min(0.0),
            Tail::Greater => one_sided_ln_p(half_ln, drift, statistic),
            Tail::Less => one_sided_ln_p(half_ln, drift, -statistic),
        }
    }

    /// `ln E` of the mixture over both signs, or over the half of it that the tail allows.
    fn ln_e_at(&self, x: f64, statistic: f64) -> f64 {
        let two_sided = drift(x, statistic) - 0.5 * x.ln_1p();
        let scaled = statistic * (x / (1.0 + x)).sqrt();
        match self.tail {
            Tail::TwoSided => two_sided,
            Tail::Greater => two_sided + LN_2 + normal_ln_sf(-scaled),
            Tail::Less => two_sided + LN_2 + normal_ln_sf(scaled),
        }
    }
}

/// `x z^2 / (2 (x + 1))`.
fn drift(x: f64, statistic: f64) -> f64 {
    let scaled = statistic * (0.5 / (1.0 + 1.0 / x)).sqrt();
    (scaled * scaled).min(f64::MAX)
}

fn one_sided_ln_p(half_ln: f64, drift: f64, towards: f64) -> f64 {
    if towards <= 0.0 {
        return 0.0;
    }
    // ln(exp(drift) - 1) without overflow.
    let ln_excess = if drift > 1.0 {
        drift + (-(-drift).exp()).ln_1p()
    } else {
        drift.exp_m1().ln()
    };
    (half_ln - LN_2 - ln_excess).min(0.0)
}

/// The running conclusion of one monitored comparison: the smallest p-value and the intersection of the
/// absolute intervals seen so far, both of which the promise covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// Smallest `ln p` so far.
    pub ln_p: f64,
    /// Largest lower end so far.
    pub lower: Option<f64>,
    /// Smallest upper end so far.
    pub upper: Option<f64>,
}

impl Running {
    /// Before the first look.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ln_p: 0.0,
            lower: None,
            upper: None,
        }
    }

    /// Takes another look into account.
    pub fn observe(&mut self, ln_p: f64, absolute: &Effect) {
        self.ln_p = self.ln_p.min(ln_p);
        self.lower = tightest(self.lower, absolute.lower, f64::max);
        self.upper = tightest(self.upper, absolute.upper, f64::min);
    }
}

impl Default for Running {
    fn default() -> Self {
        Self::new()
    }
}

fn tightest(old: Option<f64>, new: Option<f64>, tighter: fn(f64, f64) -> f64) -> Option<f64> {
    match (old, new) {
        (Some(old), Some(new)) => Some(tighter(old, new)),
        (old, new) => old.or(new),
    }
}
