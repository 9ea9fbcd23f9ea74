//! From units to days: weekly seasons and a falling rate of new units.
//!
//! An experiment counts each unit once, so a site with the same visitors every day soon runs
//! dry: of a day's visitors the share not seen before falls from all of them toward a floor.

use serde::{Deserialize, Serialize};

use super::PlanError;

/// Days looked ahead: ten years.
const DAYS_MAX: u32 = 3_650;

/// A model of arriving units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Visitors on an average day, all arms, before de-duplication.
    pub units_per_day: f64,
    /// Relative traffic of seven consecutive days, the first of them the first day.
    pub weekday_weights: [f64; 7],
    /// Share of a day's visitors never seen before, in the long run (1: everybody is new).
    pub new_share_floor: f64,
    /// Days after which half of the way from 1 to the floor is done.
    pub new_share_half_life_days: f64,
}

impl Traffic {
    /// The same number of new units every day.
    #[must_use]
    pub fn steady(units_per_day: f64) -> Self {
        Self {
            units_per_day,
            weekday_weights: [1.0; 7],
            new_share_floor: 1.0,
            new_share_half_life_days: 7.0,
        }
    }

    /// Refuses a model that is none.
    ///
    /// # Errors
    /// When a number is out of range; the error says which and what it may be.
    pub fn validate(&self) -> Result<(), PlanError> {
        let refuse = |what| Err(PlanError::Traffic { what });
        if !(self.units_per_day.is_finite() && self.units_per_day > 0.0) {
            return refuse("units per day must be a positive number");
        }
        let sum: f64 = self.weekday_weights.iter().sum();
        if !(self.weekday_weights.iter().all(|w| *w >= 0.0) && sum.is_finite() && sum > 0.0) {
            return refuse("the seven weekday weights must be at least 0 and not all 0");
        }
        if !(0.0..=1.0).contains(&self.new_share_floor) {
            return refuse("the long-run share of new units must be between 0 and 1");
        }
        if !(self.new_share_half_life_days.is_finite() && self.new_share_half_life_days > 0.0) {
            return refuse(
                "the half-life of the share of new units must be a positive number of days",
            );
        }
        Ok(())
    }

    /// New units on `day`, from 0.
    #[must_use]
    pub fn new_units_on(&self, day: u32) -> f64 {
        let mean_weight = self.weekday_weights.iter().sum::<f64>() / 7.0;
        let season = self.weekday_weights[(day % 7) as usize] / mean_weight;
        let fall = (-f64::from(day) / self.new_share_half_life_days).exp2();
        let new_share = self.new_share_floor + (1.0 - self.new_share_floor) * fall;
        self.units_per_day * season * new_share
    }

    /// Units reached by the end of `days` days.
    #[must_use]
    pub fn units_within(&self, days: u32) -> f64 {
        (0..days.min(DAYS_MAX))
            .map(|day| self.new_units_on(day))
            .sum()
    }

    /// Days until `units` have arrived, the last day in part; nothing within ten years.
    #[must_use]
    pub fn days_until(&self, units: f64) -> Option<f64> {
        let mut left = units;
        for day in 0..DAYS_MAX {
            let today = self.new_units_on(day);
            if left <= today {
                let part = if today > 0.0 { left / today } else { 0.0 };
                return Some(f64::from(day) + part);
            }
            left -= today;
        }
        None
    }
}
