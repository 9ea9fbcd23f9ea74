//! The complementary error function, scaled so that it never underflows.
//!
//! `erfcx(x) = exp(x^2) erfc(x)` is smooth and falls like `1 / (x sqrt(pi))`.
//! Following Shepherd and Laframboise (Mathematics of Computation 36, 1981), the product
//! `(1 + 2x) erfcx(x)` is expanded in Chebyshev polynomials of `t = (x - 3.75) / (x + 3.75)`, which
//! maps `[0, inf)` onto `[-1, 1)`.
//! The coefficients were computed with 60 digits by `spec/stats/generate_oracle.py`; 26 of them leave
//! a truncation error below `1e-17`.

/// Chebyshev coefficients of `(1 + 2x) erfcx(x)`; the first is already halved.
const COEFFICIENTS: [f64; 26] = [
    1.1775789345674017,
    -0.004590054580646478,
    -0.08424913336651792,
    0.05920993999819189,
    -0.026658668435305753,
    0.009074997670705265,
    -0.002413163540417608,
    0.0004907758365258086,
    -6.916973302501207e-05,
    4.13902798607301e-06,
    7.74038306619849e-07,
    -2.1886401049234397e-07,
    1.076499946567091e-08,
    4.521959811218287e-09,
    -7.754400208831351e-10,
    -6.318088340886684e-11,
    2.86879501093067e-11,
    1.9455868545777347e-13,
    -9.65469674843344e-13,
    3.25254814814874e-14,
    3.3478119482868056e-14,
    -1.864562880419313e-15,
    -1.2507950530688648e-15,
    7.418235256624044e-17,
    5.068148904796111e-17,
    -2.2370566594359995e-18,
];

/// The point of `x` that the map sends to zero.
const CENTRE: f64 = 3.75;

/// `exp(x^2) erfc(x)` for `x >= 0`, to about `3e-16` relative; 0 at infinity, NaN for NaN.
pub(crate) fn erfcx(x: f64) -> f64 {
    let t = if x.is_infinite() {
        1.0
    } else {
        (x - CENTRE) / (x + CENTRE)
    };
    let mut next = 0.0;
    let mut after_next = 0.0;
    for coefficient in COEFFICIENTS.iter().skip(1).rev() {
        let current = 2.0 * t * next - after_next + coefficient;
        after_next = next;
        next = current;
    }
    (t * next - after_next + COEFFICIENTS[0]) / (1.0 + 2.0 * x)
}

/// `exp(-x^2)` with the square split in two, so that the relative error does not grow with `x^2`;
/// 0 from 30 on, where it underflows.
pub(crate) fn exp_minus_square(x: f64) -> f64 {
    if x.abs() > 30.0 {
        return 0.0;
    }
    let high = (x * 16.0).trunc() / 16.0;
    let low = (x - high) * (x + high);
    (-high * high).exp() * (-low).exp()
}
