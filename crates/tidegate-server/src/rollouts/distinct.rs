//! How many distinct units there were, in bounded memory and without keeping any name.
//!
//! Adaptive sampling (Wegman; analysed by Flajolet, 1990): keep the hashes whose low `level` bits
//! are zero; when more than [`ROOM`] would be kept, raise the level and forget the rest. Each kept
//! hash stands for `2^level` units. Exact up to [`ROOM`], then within about `1.2 / sqrt(ROOM)`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The most hashes kept.
const ROOM: usize = 512;

/// A sample of the units seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Distinct {
    level: u32,
    kept: BTreeSet<u64>,
}

impl Distinct {
    /// Sees a unit, known by a well-mixed hash.
    pub(super) fn see(&mut self, hash: u64) {
        if hash.trailing_zeros() < self.level {
            return;
        }
        self.kept.insert(hash);
        while self.kept.len() > ROOM && self.level < u64::BITS {
            self.level += 1;
            let level = self.level;
            self.kept.retain(|hash| hash.trailing_zeros() >= level);
        }
    }

    /// About how many distinct units were seen.
    #[expect(clippy::cast_precision_loss, reason = "at most ROOM hashes are kept")]
    pub(super) fn count(&self) -> f64 {
        self.kept.len() as f64 * f64::from(self.level).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_metrics::unit_hash;

    #[test]
    fn few_are_counted_exactly_and_many_within_a_tenth_however_often_they_come() {
        for (units, allowed) in [
            (0_u32, 0.0),
            (1, 0.0),
            (500, 0.0),
            (20_000, 0.1),
            (100_000, 0.1),
        ] {
            let mut seen = Distinct::default();
            for visit in 0..3 * units {
                seen.see(unit_hash(&format!("unit-{}", visit % units)));
            }
            let found = seen.count();
            let error = (found - f64::from(units)).abs();
            assert!(error <= allowed * f64::from(units), "{units}: {found}");
            assert!(seen.kept.len() <= ROOM);
        }
    }
}
