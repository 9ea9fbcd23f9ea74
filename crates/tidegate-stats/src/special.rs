//! Special functions of the normal, t, beta, gamma and chi-square distributions.
//!
//! Everything an interval or a test needs, accurate to `1e-10` relative (measured: a few `1e-13`) in both
//! tails, on the log scale where a probability underflows, with no allocation and no table look-up by
//! interpolation.
//! Each function is total: outside its domain it returns NaN, which callers exclude by checking their
//! inputs first; nothing here panics.
//! `spec/stats/special_functions.json` holds values computed with 60 digits by
//! `spec/stats/generate_oracle.py`; the test reads that file.

/// Largest parameter of the incomplete beta and gamma functions, whose work grows with its square root.
const LARGEST_PARAMETER: f64 = 1e12;

mod beta;
mod continued_fraction;
mod error_function;
mod gamma;
mod lambert;
mod normal;
mod student_t;

pub use beta::{beta_inc, beta_inc_inv, beta_inc_pair, ln_beta, ln_beta_inc, ln_beta_prefactor};
pub use gamma::{chi_square_sf, gamma_inc_upper, ln_gamma};
pub(crate) use gamma::{deviance, stirling_correction};
pub use lambert::{lambert_root, lambert_w_m1};
pub use normal::{
    normal_cdf, normal_ln_sf, normal_pdf, normal_quantile, normal_sf, normal_upper_quantile_ln,
};
pub use student_t::{student_t_ln_sf, student_t_quantile, student_t_sf};
