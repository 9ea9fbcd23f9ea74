//! The lower real branch of Lambert's function.
//!
//! `w = W_{-1}(x)` is the solution of `w e^w = x` with `w <= -1`, for `-1/e <= x < 0`.
//! With `y = -w` it solves `y - ln y = L` where `L = -ln(-x) >= 1`; that form is also defined where `x`
//! itself underflows, and Newton's iteration on it converges from any start above the root.

/// `W_{-1}(x)` for `-1/e <= x < 0`; minus infinity at zero, NaN outside.
#[must_use]
pub fn lambert_w_m1(x: f64) -> f64 {
    if x.is_nan() || x > 0.0 {
        f64::NAN
    } else if x == 0.0 {
        f64::NEG_INFINITY
    } else {
        -lambert_root(-(-x).ln())
    }
}

/// The `y >= 1` with `y - ln y = level`, that is `-W_{-1}(-exp(-level))`; NaN for `level < 1`.
#[must_use]
pub fn lambert_root(level: f64) -> f64 {
    if level.is_nan() || level < 1.0 - 1e-15 {
        return f64::NAN;
    }
    if level.is_infinite() {
        return level;
    }
    let above = (level - 1.0).max(0.0);
    // y - ln y - 1 >= (y - 1)^2 / 2 - (y - 1)^3 / 3, so this start lies above the root.
    let mut excess = (2.0 * above).sqrt() + above;
    for _ in 0..50 {
        if excess == 0.0 {
            break;
        }
        let residual = log_gap(excess) - above;
        let step = residual * (1.0 + excess) / excess;
        excess -= step;
        if step.abs() <= 1e-16 * (1.0 + excess) {
            break;
        }
    }
    1.0 + excess
}

/// `e - ln(1 + e)` without cancellation for small `e`.
fn log_gap(e: f64) -> f64 {
    if e > 0.05 {
        return e - e.ln_1p();
    }
    let mut power = e;
    let mut sum = 0.0;
    let mut k = 1.0;
    for _ in 0..16 {
        power *= -e;
        k += 1.0;
        sum -= power / k;
    }
    sum
}
