//! The standard normal distribution in both tails and on the log scale.
//!
//! With `erfcx` from the neighbouring module, `P(Z > z) = exp(-z^2 / 2) erfcx(z / sqrt 2) / 2` for
//! `z >= 0`, so a tail of `1e-300` keeps its digits and its logarithm exists at any `z`.
//! The quantile solves `ln P(Z > z) = ln p` by Halley's iteration from the rational start of Abramowitz
//! and Stegun 26.2.23; the logarithm of the tail is nearly quadratic, so three steps reach the last
//! digits from `p = 1/2` down to `exp(-1e300)`.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2};

use super::error_function::{erfcx, exp_minus_square};

/// `1 / sqrt(2 pi)`.
const INV_SQRT_2_PI: f64 = 0.398_942_280_401_432_7;

/// `sqrt(2 / pi)`: the hazard of the normal at zero.
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// The density at `z`.
#[must_use]
pub fn normal_pdf(z: f64) -> f64 {
    INV_SQRT_2_PI * exp_minus_square(z * FRAC_1_SQRT_2)
}

/// `P(Z <= z)`, accurate in the lower tail.
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    normal_sf(-z)
}

/// `P(Z > z)`, accurate in the upper tail; 0 only where it underflows (`z > 38.4`).
#[must_use]
pub fn normal_sf(z: f64) -> f64 {
    if z >= 0.0 {
        upper_tail(z)
    } else {
        1.0 - upper_tail(-z)
    }
}

/// `ln P(Z > z)`, finite for every finite `z` whose square is.
#[must_use]
pub fn normal_ln_sf(z: f64) -> f64 {
    if z >= 0.0 {
        (0.5 * erfcx(z * FRAC_1_SQRT_2)).ln() - 0.5 * z * z
    } else {
        (-upper_tail(-z)).ln_1p()
    }
}

/// The `z` with `P(Z <= z) = p`.
///
/// Infinite at 0 and 1, NaN outside `[0, 1]`.
/// For an upper tail near zero call it with the tail probability and change the sign.
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        f64::NAN
    } else if p == 0.5 {
        0.0
    } else if p < 0.5 {
        -normal_upper_quantile_ln(p.ln())
    } else {
        normal_upper_quantile_ln((1.0 - p).ln())
    }
}

/// The `z` with `ln P(Z > z) = ln_p`, for any `ln_p <= 0`.
#[must_use]
pub fn normal_upper_quantile_ln(ln_p: f64) -> f64 {
    if ln_p.is_nan() || ln_p > 0.0 {
        return f64::NAN;
    }
    if ln_p == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    if ln_p > -LN_2 {
        let complement = -ln_p.exp_m1();
        return if complement == 0.0 {
            f64::NEG_INFINITY
        } else {
            -upper_half_quantile(complement.ln())
        };
    }
    upper_half_quantile(ln_p)
}

/// The quantile for `ln_p <= ln(1/2)`, thus `z >= 0`.
fn upper_half_quantile(ln_p: f64) -> f64 {
    let t = (-2.0 * ln_p).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut z = (t - numerator / denominator).max(0.0);
    for _ in 0..4 {
        let hazard = SQRT_2_OVER_PI / erfcx(z * FRAC_1_SQRT_2);
        let excess = normal_ln_sf(z) - ln_p;
        let newton = excess / hazard;
        // The second derivative of ln sf is -hazard (hazard - z).
        let curvature = (hazard - z).max(0.0);
        let step = newton / (1.0 + 0.5 * newton * curvature).max(0.5);
        z += step;
        if step.abs() <= 1e-16 * z.abs() {
            break;
        }
    }
    z
}

/// `P(Z > z)` for `z >= 0`.
fn upper_tail(z: f64) -> f64 {
    0.5 * exp_minus_square(z * FRAC_1_SQRT_2) * erfcx(z * FRAC_1_SQRT_2)
}
