//! Count, mean and spread of a stream of numbers.
//!
//! Welford's update and Chan's merge, which do not cancel for numbers far from zero:
//! B. P. Welford, Technometrics 4 (1962) 419-420; T. F. Chan, G. H. Golub, R. J. LeVeque, The
//! American Statistician 37 (1983) 242-247.

use serde::{Deserialize, Serialize};

/// Count, mean and sum of squared deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueMoments {
    /// How many numbers.
    pub count: u64,
    /// Their mean; 0 for none.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub squared_deviations: f64,
}

impl ValueMoments {
    /// Adds one number.
    pub fn push(&mut self, value: f64) {
        self.count += 1;
        let delta = value - self.mean;
        self.mean += delta / to_f64(self.count);
        self.squared_deviations += delta * (value - self.mean);
    }

    /// Adds another stream's numbers.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (a, b) = (to_f64(self.count), to_f64(other.count));
        let delta = other.mean - self.mean;
        self.count += other.count;
        self.mean += delta * b / (a + b);
        self.squared_deviations += other.squared_deviations + delta * delta * a * b / (a + b);
    }

    /// The sum of the numbers.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.mean * to_f64(self.count)
    }

    /// The sample variance, with `count - 1` in the denominator; `None` below two numbers.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squared_deviations / to_f64(self.count - 1))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of events stay far below 2^53"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> ValueMoments {
        let mut moments = ValueMoments::default();
        for value in values {
            moments.push(*value);
        }
        moments
    }

    #[test]
    fn does_not_cancel_far_from_zero() {
        let moments = of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
        assert_eq!(moments.variance(), Some(30.0));
        assert_eq!(of(&[3.0]).variance(), None);
    }

    proptest! {
        #[test]
        fn merging_parts_equals_the_whole(
            a in prop::collection::vec(-1e6..1e6f64, 0..40),
            b in prop::collection::vec(-1e6..1e6f64, 0..40),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let whole = of(&[a, b].concat());
            prop_assert_eq!(merged.count, whole.count);
            prop_assert!((merged.mean - whole.mean).abs() <= 1e-9 * (1.0 + whole.mean.abs()));
            let scale = 1.0 + whole.squared_deviations;
            prop_assert!((merged.squared_deviations - whole.squared_deviations).abs() <= 1e-9 * scale);
        }
    }
}
