//! Shares in basis points: hundredths of a per cent, 0 to 10000, never a float.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share of the audience in basis points (0..=10000; 10000 is everyone).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u16", try_from = "u16")]
pub struct BasisPoints(u16);

/// A number above 10000 was offered as a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read a share: {found} basis points is more than everyone (10000)")]
pub struct BasisPointsError {
    found: u16,
}

impl BasisPoints {
    /// Nobody.
    pub const ZERO: Self = Self(0);
    /// Everyone.
    pub const ALL: Self = Self(10_000);

    /// A share, or `None` above 10000.
    #[must_use]
    pub const fn new(basis_points: u16) -> Option<Self> {
        if basis_points <= 10_000 {
            Some(Self(basis_points))
        } else {
            None
        }
    }

    /// The number of basis points.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What is left of everyone.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(10_000 - self.0)
    }

    /// The share as a fraction of one.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// The largest share not above `fraction` of everyone; NaN and negatives give zero.
    #[must_use]
    pub fn floor_of(fraction: f64) -> Self {
        let scaled = (fraction * 10_000.0).floor().clamp(0.0, 10_000.0);
        if scaled.is_nan() {
            return Self::ZERO;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=10000 and not NaN on the lines above"
        )]
        Self(scaled as u16)
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole} %"),
            rest if rest % 10 == 0 => write!(f, "{whole}.{} %", rest / 10),
            rest => write!(f, "{whole}.{rest:02} %"),
        }
    }
}

impl From<BasisPoints> for u16 {
    fn from(share: BasisPoints) -> Self {
        share.0
    }
}

impl TryFrom<u16> for BasisPoints {
    type Error = BasisPointsError;

    fn try_from(found: u16) -> Result<Self, BasisPointsError> {
        Self::new(found).ok_or(BasisPointsError { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_fewest_digits_and_floors_fractions() {
        let printed: Vec<String> = [0, 1, 50, 100, 125, 10_000]
            .map(|bp| BasisPoints(bp).to_string())
            .to_vec();
        assert_eq!(
            printed,
            ["0 %", "0.01 %", "0.5 %", "1 %", "1.25 %", "100 %"]
        );
        assert_eq!(BasisPoints::floor_of(0.05), BasisPoints(500));
        assert_eq!(BasisPoints::floor_of(f64::NAN), BasisPoints::ZERO);
        assert_eq!(BasisPoints::floor_of(7.0), BasisPoints::ALL);
        assert_eq!(BasisPoints::new(10_001), None);
    }
}
