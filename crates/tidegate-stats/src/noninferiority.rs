//! Non-inferiority: is the treatment at least not worse than a margin allows?
//!
//! # Promise
//! A small p refutes "worse by the margin or more".
//! The margin is tested as a linear contrast, so the uncertainty of the control mean counts:
//! `m_T - (1 - D) m_C > 0` with variance `v_T + (1 - D)^2 v_C`, and never `m_T > m_C - D m_C` with the
//! observed baseline plugged in as if it were known.
//! The decision agrees with the relative bound of the same method: inferiority by `D` is refuted exactly if
//! `-D` lies outside the one-sided relative set.
//!
//! Works with every method that takes a [`Null`] and a [`Tail`].

use crate::bayes::{BayesOptions, Posterior};
use crate::comparison::{Comparison, Null, Tail};
use crate::effect::Contrast;
use crate::error::StatsError;
use crate::fixed::{self, FixedOptions};
use crate::sequential::{self, SequentialOptions};

/// Which way a metric should move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Conversion, revenue.
    Higher,
    /// Errors, latency.
    Lower,
}

/// How much worse is still acceptable; not negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// In units of the metric.
    Absolute(f64),
    /// As a share of the baseline.
    Relative(f64),
}

/// The null "worse by the margin" and the tail that refutes it.
///
/// # Errors
/// If the margin is negative or not finite.
pub fn null(margin: Margin, better: Better) -> Result<(Null, Tail), StatsError> {
    let (Margin::Absolute(size) | Margin::Relative(size)) = margin;
    if !(size >= 0.0 && size.is_finite()) {
        return Err(StatsError::Option {
            name: "margin",
            value: size,
            rule: "finite and not negative",
        });
    }
    let (signed, tail) = match better {
        Better::Higher => (-size, Tail::Greater),
        Better::Lower => (size, Tail::Less),
    };
    let null = match margin {
        Margin::Absolute(_) => Null::Absolute(signed),
        Margin::Relative(_) => Null::Relative(signed),
    };
    Ok((null, tail))
}

/// Tests non-inferiority once, at a horizon fixed in advance; null and tail of `options` are replaced.
///
/// # Errors
/// As for [`fixed::compare_contrast`].
pub fn fixed(
    contrast: &Contrast,
    margin: Margin,
    better: Better,
    options: &FixedOptions,
) -> Result<Comparison, StatsError> {
    let (null, tail) = null(margin, better)?;
    fixed::compare_contrast(
        contrast,
        &FixedOptions {
            null,
            tail,
            ..*options
        },
    )
}

/// Tests non-inferiority at any time; null and tail of `options` are replaced.
///
/// # Errors
/// As for [`sequential::compare_contrast`].
pub fn sequential(
    contrast: &Contrast,
    margin: Margin,
    better: Better,
    options: &SequentialOptions,
) -> Result<Comparison, StatsError> {
    let (null, tail) = null(margin, better)?;
    sequential::compare_contrast(
        contrast,
        &SequentialOptions {
            null,
            tail,
            ..*options
        },
    )
}

/// The posterior probability that the treatment is not worse than the margin allows.
///
/// # Errors
/// As for [`crate::bayes::compare_contrast`].
pub fn bayesian(
    contrast: &Contrast,
    margin: Margin,
    better: Better,
    options: &BayesOptions,
) -> Result<f64, StatsError> {
    let (null, tail) = null(margin, better)?;
    let posterior = Posterior::of(contrast, &options.prior)?;
    posterior.probability_beyond(null, tail == Tail::Greater)
}
