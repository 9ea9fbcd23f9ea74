//! How much of the promised error has been spent at an information fraction.
//!
//! Lan and DeMets (1983): a non-decreasing function from the information fraction to the
//! error spent by then lets looks come at any time and in any number. A two-sided plan gives
//! half of its error to each side and spends each half by the same function, which turns the
//! O'Brien-Fleming type into the familiar `4 (1 - Phi(z_{a/4} / sqrt t))`.

use serde::Serialize;

use super::DesignError;
use crate::special::{normal_quantile, normal_sf};

/// A spending function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spending {
    /// Almost nothing early, almost all at the end; per side `2 (1 - Phi(z_{a/2} / sqrt t))`.
    ObrienFleming,
    /// Nearly even; per side `a ln(1 + (e - 1) t)`.
    Pocock,
    /// Per side `a t^k`, `k > 0` (Kim and DeMets 1987).
    Power(f64),
}

impl Spending {
    /// The error spent on one side by `fraction` (0 to 1) of the information, of `alpha` in all.
    #[must_use]
    pub fn spent(self, alpha: f64, fraction: f64) -> f64 {
        if fraction <= 0.0 {
            return 0.0;
        }
        if fraction >= 1.0 {
            return alpha;
        }
        match self {
            Self::ObrienFleming => {
                let final_z = -normal_quantile(alpha / 2.0);
                2.0 * normal_sf(final_z / fraction.sqrt())
            }
            Self::Pocock => alpha * (fraction * (std::f64::consts::E - 1.0)).ln_1p(),
            Self::Power(exponent) => alpha * fraction.powf(exponent),
        }
    }

    /// Refuses a power that does not spend.
    pub(crate) fn validate(self) -> Result<(), DesignError> {
        match self {
            Self::Power(exponent) if !(exponent.is_finite() && exponent > 0.0) => {
                Err(DesignError::Exponent { exponent })
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Spending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ObrienFleming => formatter.write_str("obrien-fleming"),
            Self::Pocock => formatter.write_str("pocock"),
            Self::Power(exponent) => write!(formatter, "power={exponent}"),
        }
    }
}

impl std::str::FromStr for Spending {
    type Err = DesignError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DesignError::UnknownSpending {
            name: text.chars().take(40).collect(),
        };
        let spending = match text {
            "obrien-fleming" => Self::ObrienFleming,
            "pocock" => Self::Pocock,
            _ => {
                let exponent = text.strip_prefix("power=").ok_or_else(unknown)?;
                Self::Power(exponent.parse().map_err(|_| unknown())?)
            }
        };
        spending.validate()?;
        Ok(spending)
    }
}
