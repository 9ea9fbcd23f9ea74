//! Quantiles of observations that cluster in units: latency percentiles by user.
//!
//! # Promise
//! The `nu` quantile of all observations of an arm with a variance that treats the *unit* as independent,
//! not the observation.
//!
//! # Formula
//! The order statistics at the ranks `n (nu ± z sqrt(nu (1 - nu) / n))` give `L` and `U`, and
//! `sigma_iid = (U - L) / (2 z)`, which needs no density estimate.
//! Clustering multiplies the variance by `V_I / (nu (1 - nu) / n)`, where `V_I` is the variance of the
//! share of observations at or below the quantile, computed as a ratio of per-unit sums (Deng, Knoblich
//! and Lu, KDD 2018, section 4.2; Yao, Li and Lu, arXiv 2401.14549).
//!
//! # Assumptions
//! Units are independent; the distribution has a density at the quantile.
//!
//! # When it fails
//! With too few observations for the ranks to exist, `n <= z^2 max(nu / (1-nu), (1-nu) / nu)`, it
//! is refused; the 99.9th percentile needs 3,838.
//! Where many observations tie at the quantile, `U = L` and the variance is zero, which comparison
//! refuses: take the share of observations above a threshold instead, as a `ratio`.
//! The variance stands for one look at a sample that is not small; whoever looks again and again takes
//! `order_statistics`, which needs no variance of a quantile.

use serde::{Deserialize, Serialize};

use crate::effect::{Contrast, Estimate, enough_units};
use crate::error::{Side, StatsError, finite, in_range, open_unit};
use crate::moments::JointMoments;
use crate::ratio::{self, RatioColumns};

/// Standard normal quantile at which the two order statistics are read.
pub const RANK_Z: f64 = 1.959_963_984_540_054;

/// Observations sorted by value, each with its unit; samples merge in any order to the same contents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(f64, u64)>", into = "Vec<(f64, u64)>")]
pub struct RankedSample {
    observations: Vec<(f64, u64)>,
}

impl RankedSample {
    /// A sample of observations `(value, unit)` in any order.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn new(mut observations: Vec<(f64, u64)>) -> Result<Self, StatsError> {
        for (value, _) in &observations {
            finite("observation", *value)?;
        }
        observations.sort_unstable_by(order);
        Ok(Self { observations })
    }

    /// Adds the observations of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.observations.extend_from_slice(&other.observations);
        self.observations.sort_unstable_by(order);
    }

    /// Number of observations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there is no observation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// The quantile of one arm with the variance of its estimate.
    ///
    /// # Errors
    /// If `nu` is out of range or there are too few observations or units.
    pub fn estimate(&self, nu: f64, side: Side) -> Result<Estimate, StatsError> {
        let n = checked_observations(self.len() as u64, nu, side)?;
        let spread = RANK_Z * (nu * (1.0 - nu) / n).sqrt();
        let at = |share: f64| {
            let index = rank(self.len(), share).saturating_sub(1);
            self.observations
                .get(index)
                .map_or(0.0, |(value, _)| *value)
        };
        let value = at(nu);
        let sigma = in_range(
            "the spread at a quantile",
            at(nu + spread) - at(nu - spread),
        )? / (2.0 * RANK_Z);
        let share = self.share_at_or_below(value, side)?;
        let inflation = share.variance / (nu * (1.0 - nu) / n);
        let variance = in_range("the variance of a quantile", sigma * sigma * inflation)?;
        Ok(Estimate {
            value,
            variance,
            units: share.units,
            events: share.units,
        })
    }

    /// The observations in ascending order, each with its unit.
    pub(crate) fn observations(&self) -> &[(f64, u64)] {
        &self.observations
    }

    /// Tells, unit by unit, how many of its observations are at or below `value`, and how many there are.
    pub(crate) fn for_each_unit(&self, value: f64, mut tell: impl FnMut(f64, f64)) {
        let mut by_unit: Vec<(u64, bool)> = self
            .observations
            .iter()
            .map(|(observation, unit)| (*unit, *observation <= value))
            .collect();
        by_unit.sort_unstable();
        for unit in by_unit.chunk_by(|left, right| left.0 == right.0) {
            let below = unit.iter().filter(|(_, is_below)| *is_below).count();
            tell(below as f64, unit.len() as f64);
        }
    }

    /// The share of observations at or below `value` as a ratio of per-unit sums.
    fn share_at_or_below(&self, value: f64, side: Side) -> Result<Estimate, StatsError> {
        // Whole numbers far below 2^53, so plain sums are exact.
        let (mut units, mut sums, mut products) = (0, [0.0; 2], [0.0; 3]);
        self.for_each_unit(value, |below, all| {
            units += 1;
            sums = [sums[0] + below, sums[1] + all];
            products = [
                products[0] + below * below,
                products[1] + below * all,
                products[2] + all * all,
            ];
        });
        enough_units(side, units, 2)?;
        let moments = JointMoments::from_sums(units, &sums, &products)?;
        ratio::estimate(
            &moments,
            RatioColumns {
                numerator: 0,
                denominator: 1,
            },
            side,
        )
    }
}

impl TryFrom<Vec<(f64, u64)>> for RankedSample {
    type Error = StatsError;

    fn try_from(observations: Vec<(f64, u64)>) -> Result<Self, StatsError> {
        Self::new(observations)
    }
}

impl From<RankedSample> for Vec<(f64, u64)> {
    fn from(sample: RankedSample) -> Self {
        sample.observations
    }
}

/// The contrast of the `nu` quantiles of two arms.
///
/// # Errors
/// As for [`RankedSample::estimate`].
pub fn contrast(
    control: &RankedSample,
    treatment: &RankedSample,
    nu: f64,
) -> Result<Contrast, StatsError> {
    Contrast::of_estimates(
        &control.estimate(nu, Side::Control)?,
        &treatment.estimate(nu, Side::Treatment)?,
    )
}

/// The number of observations, refused where the ranks that bound a quantile do not exist.
pub(crate) fn checked_observations(count: u64, nu: f64, side: Side) -> Result<f64, StatsError> {
    open_unit("quantile", nu)?;
    let needed = RANK_Z * RANK_Z * (nu / (1.0 - nu)).max((1.0 - nu) / nu);
    if count as f64 <= needed {
        return Err(StatsError::TooFewUnits {
            side,
            units: count,
            needed: whole(needed) + 1,
        });
    }
    Ok(count as f64)
}

/// The rank, from 1, of the smallest value with at least `share` of `count` values at or below it.
pub(crate) fn rank(count: usize, share: f64) -> usize {
    // A hair below the product, so that 0.1 * 30 does not become the fourth value.
    let exact = share * count as f64;
    let rank = (exact - 1e-12 * exact.abs()).ceil();
    usize::try_from(whole(rank))
        .unwrap_or(count)
        .clamp(1, count.max(1))
}

fn order(left: &(f64, u64), right: &(f64, u64)) -> std::cmp::Ordering {
    left.0.total_cmp(&right.0).then(left.1.cmp(&right.1))
}

/// The integer part of a number, 0 if negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, which is the wanted value at both ends"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}
