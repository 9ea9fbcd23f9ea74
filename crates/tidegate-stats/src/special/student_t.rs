//! Student's t distribution in the tail.
//!
//! `P(T > t) = I_x(nu/2, 1/2) / 2` with `x = nu / (nu + t^2)` and `t >= 0`.
//! From 30 degrees of freedom on, the incomplete beta integral with the fixed second parameter 1/2 is
//! taken from the large-`a` expansion of Didonato and Morris (ACM TOMS 18, 1992, section 9) in complementary
//! error functions, a dozen terms at a fixed cost; below, and far out in the tail, from the continued
//! fraction.
//! The quantile inverts the logarithm of the tail by Newton's step: from 30 degrees of freedom on started at the
//! expansion of Fisher and Cornish (1960) around the normal quantile, which leaves one step or two; else inside
//! a bracket.

use std::f64::consts::{LN_2, PI};

use super::beta::ln_beta_inc;
use super::error_function::erfcx;
use super::gamma::stirling_correction;
use super::normal::{normal_ln_sf, normal_upper_quantile_ln};

/// Degrees of freedom from which the expansion for large parameters is used.
const EXPANSION_FROM: f64 = 30.0;

/// The expansion is used up to this `t^2 / nu`; further out the fraction converges fast.
const EXPANSION_WITHIN: f64 = 0.4;

/// Beyond this the difference to the normal, about `z^4 / (4 nu)` relative, is below rounding.
const NORMAL_FROM: f64 = 1e17;

/// Number of terms of the expansion.
const TERMS: usize = 14;

/// `P(T > t)` with `degrees > 0` degrees of freedom, which need not be whole.
#[must_use]
pub fn student_t_sf(t: f64, degrees: f64) -> f64 {
    student_t_ln_sf(t, degrees).exp()
}

/// `ln P(T > t)`; NaN unless `degrees > 0`.
#[must_use]
pub fn student_t_ln_sf(t: f64, degrees: f64) -> f64 {
    if t.is_nan() || degrees.is_nan() || degrees <= 0.0 {
        f64::NAN
    } else if degrees > NORMAL_FROM {
        normal_ln_sf(t)
    } else if t == 0.0 {
        -LN_2
    } else if t > 0.0 {
        ln_upper_tail(t, degrees)
    } else {
        (-ln_upper_tail(-t, degrees).exp()).ln_1p()
    }
}

/// The `t` with `P(T <= t) = p`; infinite at 0 and 1, NaN outside `[0, 1]`.
#[must_use]
pub fn student_t_quantile(p: f64, degrees: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) || degrees.is_nan() || degrees <= 0.0 {
        f64::NAN
    } else if p == 0.5 {
        0.0
    } else if p < 0.5 {
        -upper_quantile_ln(p.ln(), degrees)
    } else {
        upper_quantile_ln((1.0 - p).ln(), degrees)
    }
}

/// The `t > 0` with `ln P(T > t) = ln_p`, for `ln_p < ln(1/2)`.
fn upper_quantile_ln(ln_p: f64, degrees: f64) -> f64 {
    if ln_p == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    let z = normal_upper_quantile_ln(ln_p);
    if degrees > NORMAL_FROM {
        return z;
    }
    if degrees >= EXPANSION_FROM
        && let Some(t) = quantile_near_normal(ln_p, z, degrees)
    {
        return t;
    }
    // The t tail lies above the normal one, so z is a lower bound.
    let mut low = z;
    let mut high = 2.0 * z.max(1e-300);
    while ln_upper_tail(high, degrees) > ln_p {
        low = high;
        high *= 4.0;
        if high.is_infinite() {
            return high;
        }
    }
    let mut t = (z + z * (z * z + 1.0) / (4.0 * degrees)).clamp(low, high);
    for _ in 0..200 {
        let value = ln_upper_tail(t, degrees);
        if value > ln_p {
            low = t;
        } else {
            high = t;
        }
        // d ln sf / d ln t = -t pdf / sf; near a power law the step in ln t is exact.
        let hazard = (ln_density(t, degrees) - value).exp();
        let newton = if t * hazard > 0.5 && degrees < EXPANSION_FROM {
            t * ((value - ln_p) / (t * hazard)).exp()
        } else {
            t + (value - ln_p) / hazard
        };
        let inside = newton > low && newton < high;
        let next = if inside { newton } else { (low * high).sqrt() };
        let converged = (next - t).abs() <= 4e-16 * t;
        t = next;
        if converged {
            break;
        }
    }
    t
}

/// The quantile by Newton's step from the expansion around the normal one; none where that is too far off.
fn quantile_near_normal(ln_p: f64, z: f64, degrees: f64) -> Option<f64> {
    let (square, n) = (z * z, 1.0 / degrees);
    let third = ((3.0 * square + 19.0) * square + 17.0) * square - 15.0;
    let second = (5.0 * square + 16.0) * square + 3.0;
    let mut t = z * (1.0 + n * (0.25 * (square + 1.0) + n * (second / 96.0 + n * third / 384.0)));
    for _ in 0..4 {
        let value = ln_upper_tail(t, degrees);
        let hazard = (ln_density(t, degrees) - value).exp();
        let next = t + (value - ln_p) / hazard;
        let is_usable = next > 0.0 && next.is_finite();
        // Newton's step squares the error, so what is left after this one is below rounding.
        if is_usable && (next - t).abs() <= 1e-8 * t {
            return Some(next);
        }
        if !is_usable {
            return None;
        }
        t = next;
    }
    None
}

fn ln_upper_tail(t: f64, degrees: f64) -> f64 {
    if t.is_infinite() {
        return f64::NEG_INFINITY;
    }
    if degrees >= EXPANSION_FROM && t * t <= EXPANSION_WITHIN * degrees {
        ln_two_tails_expansion(t, degrees) - LN_2
    } else {
        let square = t * t;
        if square.is_infinite() {
            // x^(nu/2) / (nu/2 B(nu/2, 1/2)), the leading term far out.
            let a = 0.5 * degrees;
            return a * (degrees.ln() - 2.0 * t.ln())
                - a.ln()
                - super::beta::ln_beta(a, 0.5)
                - LN_2;
        }
        let total = degrees + square;
        ln_beta_inc(0.5 * degrees, 0.5, degrees / total, square / total) - LN_2
    }
}

/// The log density at `t`.
fn ln_density(t: f64, degrees: f64) -> f64 {
    ln_gamma_half_ratio(0.5 * degrees)
        - 0.5 * (degrees * PI).ln()
        - 0.5 * (degrees + 1.0) * ln_one_plus_square_over(t, degrees)
}

/// `ln(1 + t^2 / nu)` where `t^2` may overflow.
fn ln_one_plus_square_over(t: f64, degrees: f64) -> f64 {
    let square = t * t / degrees;
    if square.is_finite() {
        square.ln_1p()
    } else {
        2.0 * t.ln() - degrees.ln()
    }
}

/// `ln(Gamma(a + 1/2) / Gamma(a))` without cancellation for large `a`.
fn ln_gamma_half_ratio(a: f64) -> f64 {
    a * (0.5 / a).ln_1p() + 0.5 * a.ln() - 0.5 + stirling_correction(a + 0.5)
        - stirling_correction(a)
}

/// `ln P(|T| > t)` by the expansion of the incomplete beta integral for a large first parameter.
fn ln_two_tails_expansion(t: f64, degrees: f64) -> f64 {
    let a = 0.5 * degrees;
    let scale = a - 0.25;
    let ln_x = -ln_one_plus_square_over(t, degrees);
    let u = -scale * ln_x;
    // First term: Q(1/2, u) over its prefactor h = sqrt(u / pi) e^-u, written without e^-u.
    let mut j = erfcx(u.sqrt()) * (PI / u).sqrt();
    if u == 0.0 {
        return 0.0;
    }
    let half_ln_square = 0.25 * ln_x * ln_x;
    let four_scale_square = 4.0 * scale * scale;
    let mut power = 1.0;
    let mut b = 0.5;
    let mut sum = j;
    for coefficient in COEFFICIENTS.iter().skip(1) {
        j = (b * (b + 1.0) * j + (u + b + 1.0) * power) / four_scale_square;
        power *= half_ln_square;
        b += 2.0;
        let term = coefficient * j;
        sum += term;
        if term.abs() <= 1e-17 * sum.abs() {
            break;
        }
    }
    let ln_h = 0.5 * (u / PI).ln() - u;
    ln_h + ln_gamma_half_ratio(a) - 0.5 * scale.ln() + sum.ln()
}

/// The coefficients `p_n` of the expansion for `b = 1/2`:
/// `p_n = (b - 1) / (2n + 1)! + (1/n) sum_{m=1}^{n-1} (m b - n) p_{n-m} / (2m + 1)!`.
const COEFFICIENTS: [f64; TERMS] = expansion_coefficients();

const fn expansion_coefficients() -> [f64; TERMS] {
    const B: f64 = 0.5;
    let mut inverse_factorials = [1.0; TERMS];
    let mut order = 1.0;
    let mut n = 1;
    while n < TERMS {
        inverse_factorials[n] = inverse_factorials[n - 1] / ((order + 1.0) * (order + 2.0));
        order += 2.0;
        n += 1;
    }
    let mut p = [1.0; TERMS];
    let mut n = 1;
    let mut n_real = 1.0;
    while n < TERMS {
        let mut sum = 0.0;
        let mut m = 1;
        let mut m_real = 1.0;
        while m < n {
            sum += (m_real * B - n_real) * p[n - m] * inverse_factorials[m];
            m += 1;
            m_real += 1.0;
        }
        p[n] = sum / n_real + (B - 1.0) * inverse_factorials[n];
        n += 1;
        n_real += 1.0;
    }
    p
}
