//! Evaluation of continued fractions from the front (modified Lentz, Thompson and Barnett 1986).
//!
//! `b0 + a1 / (b1 + a2 / (b2 + ...))` is built up one level at a time; partial denominators that vanish
//! are replaced by a tiny number, which leaves the value unchanged to rounding.

/// Stands in for a vanishing partial value.
const TINY: f64 = 1e-300;

/// A continued fraction under evaluation.
#[derive(Debug)]
pub(crate) struct Lentz {
    value: f64,
    numerator_ratio: f64,
    denominator_ratio: f64,
}

impl Lentz {
    /// Starts with the leading term `b0`.
    pub(crate) fn start(b0: f64) -> Self {
        let value = if b0 == 0.0 { TINY } else { b0 };
        Self {
            value,
            numerator_ratio: value,
            denominator_ratio: 0.0,
        }
    }

    /// Adds the level `a / (b + ...)`; true once another level changes nothing.
    pub(crate) fn advance(&mut self, a: f64, b: f64) -> bool {
        self.denominator_ratio = 1.0 / away_from_zero(b + a * self.denominator_ratio);
        self.numerator_ratio = away_from_zero(b + a / self.numerator_ratio);
        let factor = self.denominator_ratio * self.numerator_ratio;
        self.value *= factor;
        (factor - 1.0).abs() < 3e-16
    }

    /// The value so far.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }
}

fn away_from_zero(x: f64) -> f64 {
    if x.abs() < TINY { TINY } else { x }
}
