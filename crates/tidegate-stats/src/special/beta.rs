//! The beta function and its regularised incomplete integral.
//!
//! The prefactor `x^a y^b / B(a, b)` is computed in Loader's saddle-point form
//! `sqrt(a b / (2 pi n)) exp(-D(a; n x) - D(b; n y)) exp(s(n) - s(a) - s(b))` with `n = a + b`, the
//! deviance `D` and the Stirling correction `s`, so it keeps its digits for parameters in the millions.
//! The rest is the continued fraction of Didonato and Morris (ACM TOMS 18, 1992, eq. 9), on the side of
//! the mean where it converges in about `sqrt(max(a, b))` levels.

use std::f64::consts::PI;

use super::continued_fraction::Lentz;
use super::gamma::{deviance, ln_gamma, stirling_correction};

/// Above this both gamma functions of a beta function are taken from Stirling's series.
const STIRLING_FROM: f64 = 10.0;

/// `ln B(a, b)` for positive arguments, without cancellation for large ones.
///
/// NaN for a negative or NaN argument, infinite where one is zero.
#[must_use]
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a <= b { (a, b) } else { (b, a) };
    if small.is_nan() || large.is_nan() || small < 0.0 {
        f64::NAN
    } else if small == 0.0 {
        f64::INFINITY
    } else if large.is_infinite() {
        f64::NEG_INFINITY
    } else if small >= STIRLING_FROM {
        let correction = stirling_correction(small) + stirling_correction(large)
            - stirling_correction(small + large);
        0.5 * (2.0 * PI / large).ln() + correction + (small - 0.5) * (small / (small + large)).ln()
            - large * (small / large).ln_1p()
    } else if large >= STIRLING_FROM {
        let correction = stirling_correction(large) - stirling_correction(small + large);
        ln_gamma(small) + correction + small
            - small * (small + large).ln()
            - (large - 0.5) * (small / large).ln_1p()
    } else {
        ln_gamma(small) + ln_gamma(large) - ln_gamma(small + large)
    }
}

/// The regularised incomplete beta function `I_x(a, b)`, the distribution function of a Beta(a, b) variable.
///
/// Positive `a` and `b`, `x` in `[0, 1]`; NaN otherwise.
#[must_use]
pub fn beta_inc(a: f64, b: f64, x: f64) -> f64 {
    beta_inc_pair(a, b, x, 1.0 - x).0
}

/// `(I_x(a, b), 1 - I_x(a, b))` with `y = 1 - x` given apart, so that neither the argument nor the result
/// loses digits near 0 or 1.
#[must_use]
pub fn beta_inc_pair(a: f64, b: f64, x: f64, y: f64) -> (f64, f64) {
    let in_domain = a > 0.0 && b > 0.0 && a.is_finite() && b.is_finite() && x >= 0.0 && y >= 0.0;
    if !in_domain {
        return (f64::NAN, f64::NAN);
    }
    if x == 0.0 {
        return (0.0, 1.0);
    }
    if y == 0.0 {
        return (1.0, 0.0);
    }
    if x * (a + b) <= a {
        let lower = ln_lower_tail(a, b, x, y).exp();
        (lower, 1.0 - lower)
    } else {
        let upper = ln_lower_tail(b, a, y, x).exp();
        (1.0 - upper, upper)
    }
}

/// `ln I_x(a, b)`, finite far below where `I_x(a, b)` underflows; `y = 1 - x`.
#[must_use]
pub fn ln_beta_inc(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if y == 0.0 {
        0.0
    } else if x * (a + b) <= a {
        ln_lower_tail(a, b, x, y)
    } else {
        (-ln_lower_tail(b, a, y, x).exp()).ln_1p()
    }
}

/// The `x` with `I_x(a, b) = p`; 0 and 1 at the ends, NaN outside the domain.
///
/// Solved on the smaller of the two tails in the logit of `x`, Newton's step inside a bracket, to about
/// `1e-13` relative.
#[must_use]
pub fn beta_inc_inv(a: f64, b: f64, p: f64) -> f64 {
    let in_domain =
        a > 0.0 && b > 0.0 && a.is_finite() && b.is_finite() && (0.0..=1.0).contains(&p);
    if !in_domain {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return p;
    }
    let mean = a / (a + b);
    let at_mean = beta_inc_pair(a, b, mean, b / (a + b)).0;
    if p <= at_mean {
        lower_tail_point(a, b, p.ln()).0
    } else {
        lower_tail_point(b, a, (-p).ln_1p()).1
    }
}

/// `(x, 1 - x)` with `ln I_x(a, b) = ln_p`, where the solution lies below the mean.
fn lower_tail_point(a: f64, b: f64, ln_p: f64) -> (f64, f64) {
    let mut high = (a / b).ln();
    // I_x(a, b) >= x^a y^b / (a B(a, b)), and y^b is bounded below by its value at the mean.
    let at_mean = b * (b / (a + b)).ln();
    let mut low = ((ln_p + a.ln() + ln_beta(a, b)) / a).min(high) - 1.0;
    while low > -700.0 && ln_lower_tail_at_logit(a, b, low) > ln_p {
        low -= 1.0 + (at_mean / a).abs();
    }
    let mut logit = 0.5 * (low + high);
    for _ in 0..200 {
        let (x, y) = from_logit(logit);
        let value = ln_lower_tail(a, b, x, y);
        if value > ln_p {
            high = logit;
        } else {
            low = logit;
        }
        // d/dlogit ln I = x^a y^b / (B I).
        let slope = (ln_beta_prefactor(a, b, x, y) - value).exp();
        let newton = logit - (value - ln_p) / slope;
        let next = if newton > low && newton < high {
            newton
        } else {
            0.5 * (low + high)
        };
        let converged = (next - logit).abs() <= 1e-15 * (1.0 + logit.abs());
        logit = next;
        if converged {
            break;
        }
    }
    from_logit(logit)
}

fn ln_lower_tail_at_logit(a: f64, b: f64, logit: f64) -> f64 {
    let (x, y) = from_logit(logit);
    ln_lower_tail(a, b, x, y)
}

fn from_logit(logit: f64) -> (f64, f64) {
    let odds = (-logit.abs()).exp();
    let (near_one, near_zero) = (1.0 / (1.0 + odds), odds / (1.0 + odds));
    if logit > 0.0 {
        (near_one, near_zero)
    } else {
        (near_zero, near_one)
    }
}

/// `ln(x^a y^b / B(a, b))` for positive `a`, `b`, `x` and `y = 1 - x`, without cancellation.
#[must_use]
pub fn ln_beta_prefactor(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let n = a + b;
    0.5 * (a * (b / n) / (2.0 * PI)).ln() - deviance(a, n * x) - deviance(b, n * y)
        + stirling_correction(n)
        - stirling_correction(a)
        - stirling_correction(b)
}

/// `ln I_x(a, b)` for `x` at or below the mean, by the continued fraction.
fn ln_lower_tail(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let lambda = a - (a + b) * x;
    let mut fraction = Lentz::start(a * (lambda + 1.0) / (a + 1.0));
    let limit = 1000.0 + 20.0 * a.max(b).sqrt();
    let mut m = 0.0;
    while m < limit {
        m += 1.0;
        let step = a + 2.0 * m - 1.0;
        let numerator = (a + m - 1.0) * (a + b + m - 1.0) / step * m * (b - m) / step * x * x;
        let denominator =
            m + m * (b - m) * x / step + (a + m) * (lambda + 1.0 + m * (1.0 + y)) / (step + 2.0);
        if fraction.advance(numerator, denominator) {
            break;
        }
    }
    ln_beta_prefactor(a, b, x, y) - fraction.value().ln()
}
