//! Ranks of very many observations in a fixed amount of memory.
//!
//! # Promise
//! Any quantile within 0.4 % of its value, from counts that merge in any order to the same contents; the
//! variance of a quantile as in `quantile`, for as many observations as there are.
//!
//! # How
//! A bucket holds all values that share sign, exponent and the seven leading bits of the fraction, thus
//! 128 buckets to an octave; the bucket of a value is read off its bits, so no platform rounds it
//! differently.
//! Within a bucket observations are taken as evenly spread.
//! Clustering is not visible in counts: it comes from joint moments over units of the number of observations
//! at or below a threshold near the quantile (column 0) and of all observations (column 1), as a live aggregate
//! keeps them for a threshold that was fixed beforehand.
//!
//! # When it fails
//! The threshold has to lie near the quantile, because the design effect is taken from there.
//! Refusals are those of `quantile`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::effect::Estimate;
use crate::error::{Side, StatsError, finite, in_range};
use crate::moments::JointMoments;
use crate::quantile::{RANK_Z, checked_observations};
use crate::ratio::{self, RatioColumns};

/// Bits of a double below those that choose its bucket.
const DROPPED_BITS: u32 = 45;

/// Counts by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RankSketch {
    /// Bucket, in the order of the values, and the observations in it.
    buckets: BTreeMap<i32, u64>,
}

impl RankSketch {
    /// A sketch of no observation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an observation.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn push(&mut self, value: f64) -> Result<(), StatsError> {
        let count = self
            .buckets
            .entry(bucket(finite("observation", value)?))
            .or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Adds the observations of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in &other.buckets {
            let count = self.buckets.entry(*bucket).or_default();
            *count = count.saturating_add(*more);
        }
    }

    /// Number of observations.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.buckets
            .values()
            .fold(0, |total, count| total.saturating_add(*count))
    }

    /// The `nu` quantile with the variance of its estimate; `below` holds, by unit, the observations at or
    /// below a threshold near it and all observations.
    ///
    /// # Errors
    /// If `nu` is out of range, there are too few observations or units, or `below` has no such columns.
    pub fn estimate(
        &self,
        nu: f64,
        below: &JointMoments,
        side: Side,
    ) -> Result<Estimate, StatsError> {
        let n = checked_observations(self.observations(), nu, side)?;
        let spread = RANK_Z * (nu * (1.0 - nu) / n).sqrt();
        let width = self.value_at(n * (nu + spread)) - self.value_at(n * (nu - spread));
        let sigma = in_range("the spread at a quantile", width)? / (2.0 * RANK_Z);
        let share = ratio::estimate(
            below,
            RatioColumns {
                numerator: 0,
                denominator: 1,
            },
            side,
        )?;
        let independent = share.value * (1.0 - share.value) / n;
        let inflation = if independent > 0.0 {
            share.variance / independent
        } else {
            1.0
        };
        Ok(Estimate {
            value: self.value_at(n * nu),
            variance: in_range("the variance of a quantile", sigma * sigma * inflation)?,
            units: share.units,
            events: share.units,
        })
    }

    /// The value at a rank, interpolated within its bucket.
    fn value_at(&self, rank: f64) -> f64 {
        let mut before = 0.0;
        let mut last = 0.0;
        for (bucket, count) in &self.buckets {
            let (low, high) = ends(*bucket);
            let count = *count as f64;
            last = high;
            if rank <= before + count {
                return low + (high - low) * ((rank - before) / count).clamp(0.0, 1.0);
            }
            before += count;
        }
        last
    }
}

/// The bucket of a value: its leading bits with the sign of the value.
fn bucket(value: f64) -> i32 {
    // Nineteen bits remain of the magnitude, so the conversion always succeeds.
    let magnitude = i32::try_from(value.abs().to_bits() >> DROPPED_BITS).unwrap_or(i32::MAX);
    if value < 0.0 {
        -magnitude - 1
    } else {
        magnitude
    }
}

/// The least and the largest value of a bucket, in ascending order.
fn ends(bucket: i32) -> (f64, f64) {
    let magnitude = if bucket < 0 { -(bucket + 1) } else { bucket };
    let bits = u64::try_from(magnitude).unwrap_or(0) << DROPPED_BITS;
    let low = f64::from_bits(bits);
    let high = f64::from_bits(bits | ((1 << DROPPED_BITS) - 1));
    if bucket < 0 {
        (-high, -low)
    } else {
        (low, high)
    }
}
