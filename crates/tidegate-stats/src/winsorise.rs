//! Capping extreme values, the same way for every arm.
//!
//! # Promise
//! A capped metric answers a slightly different question (the mean of `min(Y, cap)`), with far less noise
//! for revenue; the answer to that question keeps its level.
//!
//! # How
//! A cap is a number, chosen beforehand or as a percentile of *all arms pooled*, and applied to the
//! per-unit total before it enters the moments.
//! One cap serves every arm, every dimension and, in a ratio, the same units in numerator and denominator:
//! capping arms or populations apart can flip the sign of an effect.
//!
//! # When it fails
//! A percentile at which most units are zero (few buyers) would cap everything at zero: it is refused, with
//! the cure to take a percentile of the units that are not zero.

use crate::error::{StatsError, finite};

/// Bounds put on a per-unit value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cap {
    /// Smaller values are raised to this.
    pub lower: Option<f64>,
    /// Larger values are lowered to this.
    pub upper: Option<f64>,
}

/// Over which units a percentile is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// All units.
    All,
    /// Units whose value is not zero.
    NonZero,
}

impl Cap {
    /// An upper cap at a percentile (a share in `(0, 1)`) of the values of all arms.
    ///
    /// The smallest value with at least that share at or below it.
    ///
    /// # Errors
    /// If the share is out of range, a value is not finite, or the cap would be zero or below.
    pub fn at_percentile(
        values: impl IntoIterator<Item = f64>,
        share: f64,
        population: Population,
    ) -> Result<Self, StatsError> {
        crate::error::open_unit("percentile", share)?;
        let mut kept = Vec::new();
        for value in values {
            let value = finite("value", value)?;
            if population == Population::All || value != 0.0 {
                kept.push(value);
            }
        }
        kept.sort_unstable_by(f64::total_cmp);
        let rank = crate::quantile::rank(kept.len(), share);
        let upper = kept.get(rank.saturating_sub(1)).copied().unwrap_or(0.0);
        if upper <= 0.0 {
            return Err(StatsError::Option {
                name: "percentile",
                value: share,
                rule: "high enough that the cap is above zero, or taken over non-zero units",
            });
        }
        Ok(Self {
            lower: None,
            upper: Some(upper),
        })
    }

    /// The value within the bounds.
    #[must_use]
    pub fn apply(&self, value: f64) -> f64 {
        let raised = self.lower.map_or(value, |lower| value.max(lower));
        self.upper.map_or(raised, |upper| raised.min(upper))
    }
}
