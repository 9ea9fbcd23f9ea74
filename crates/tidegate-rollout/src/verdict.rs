//! The verdict lattice: what the measurements allow to be said, worst first.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of a guard or of a whole rollout. Ordered: the smaller verdict is the worse and wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Evidence of harm reached its threshold.
    Harmed,
    /// The measurement is not to be trusted.
    Invalid,
    /// Nothing was measured, or the source is late or failing.
    NoData,
    /// Too little evidence either way.
    Undecided,
    /// Harm beyond margin and tolerance is excluded.
    Safe,
}

impl Verdict {
    /// The worse of two verdicts.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.min(other)
    }

    /// Whether exposure may be raised under this verdict.
    #[must_use]
    pub const fn allows_raise(self) -> bool {
        matches!(self, Self::Undecided | Self::Safe)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harmed => "harmed",
            Self::Invalid => "invalid",
            Self::NoData => "no data",
            Self::Undecided => "undecided",
            Self::Safe => "safe",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Harmed, Invalid, NoData, Safe, Undecided};

    #[test]
    fn the_worst_verdict_wins_in_the_documented_order() {
        let order = [Harmed, Invalid, NoData, Undecided, Safe];
        for (i, a) in order.into_iter().enumerate() {
            for (j, b) in order.into_iter().enumerate() {
                assert_eq!(a.worst(b), order[i.min(j)]);
            }
        }
        assert_eq!(
            order.map(super::Verdict::allows_raise),
            [false, false, false, true, true]
        );
    }
}
