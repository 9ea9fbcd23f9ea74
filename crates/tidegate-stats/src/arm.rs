//! What a comparison needs to know of one arm.
//!
//! An arm is summarised by the number of its units, the mean and variance of the metric over them, and
//! the number of units with an event (a value that is not zero), which decides how soon an asymptotic
//! statement can be trusted.

use serde::{Deserialize, Serialize};

use crate::error::{Side, StatsError, finite, in_range};
use crate::moments::Moments;

/// Units, mean, variance and events of one arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSummary {
    /// Independent units in the arm.
    pub units: u64,
    /// Mean over the units.
    pub mean: f64,
    /// Variance over the units (of one unit, not of the mean).
    pub variance: f64,
    /// Units whose value is not zero.
    pub events: u64,
}

impl ArmSummary {
    /// An arm given by its mean and the variance of a unit; every unit counts as an event.
    ///
    /// # Errors
    /// If a number is not finite or the variance is negative.
    pub fn new(units: u64, mean: f64, variance: f64) -> Result<Self, StatsError> {
        let arm = Self {
            units,
            mean,
            variance,
            events: units,
        };
        arm.check().map(|()| arm)
    }

    /// An arm read from exact moments; `side` names it in an error.
    ///
    /// # Errors
    /// With fewer than two units, or where mean or variance leave the range of a double.
    pub fn from_moments(moments: &Moments, side: Side) -> Result<Self, StatsError> {
        let too_few = StatsError::TooFewUnits {
            side,
            units: moments.units(),
            needed: 2,
        };
        let (mean, variance) = moments.mean_and_variance().ok_or(too_few)?;
        Ok(Self {
            units: moments.units(),
            mean: in_range("the mean", mean)?,
            variance: in_range("the variance", variance)?,
            events: moments.events(),
        })
    }

    /// An arm of yes-or-no units, with variance `p (1 - p)`.
    ///
    /// # Errors
    /// If there are more successes than units, or no units.
    pub fn from_counts(successes: u64, units: u64, side: Side) -> Result<Self, StatsError> {
        if successes > units {
            return Err(StatsError::CountExceedsTotal {
                count: successes,
                total: units,
            });
        }
        if units == 0 {
            return Err(StatsError::TooFewUnits {
                side,
                units,
                needed: 1,
            });
        }
        let n = units as f64;
        let mean = successes as f64 / n;
        let variance = mean * ((units - successes) as f64 / n);
        Ok(Self {
            units,
            mean,
            variance,
            events: successes,
        })
    }

    /// The same arm with a known number of events.
    #[must_use]
    pub fn with_events(mut self, events: u64) -> Self {
        self.events = events;
        self
    }

    /// Refuses what no arm can be.
    pub(crate) fn check(&self) -> Result<(), StatsError> {
        finite("the mean", self.mean)?;
        finite("the variance", self.variance)?;
        if self.variance < 0.0 {
            return Err(StatsError::NegativeVariance {
                what: "the variance",
                value: self.variance,
            });
        }
        Ok(())
    }
}
