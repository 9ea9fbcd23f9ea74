//! Sums of numbers that are only representable by their logarithms.

/// `ln(sum(exp(x)))` over finite or `-inf` terms; `-inf` for none. Fixed order, hence reproducible.
#[must_use]
pub fn ln_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    largest + terms.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Adds up terms one by one in the log domain, without keeping them.
#[derive(Debug, Clone, Copy)]
pub struct LnSum {
    largest: f64,
    scaled: f64,
}

impl LnSum {
    /// The empty sum, `ln 0`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            scaled: 0.0,
        }
    }

    /// Adds `exp(term)`.
    pub fn add(&mut self, term: f64) {
        if term == f64::NEG_INFINITY {
            return;
        }
        if term <= self.largest {
            self.scaled += (term - self.largest).exp();
        } else {
            self.scaled = self.scaled.mul_add((self.largest - term).exp(), 1.0);
            self.largest = term;
        }
    }

    /// The logarithm of the sum.
    #[must_use]
    pub fn ln(self) -> f64 {
        if self.scaled == 0.0 {
            f64::NEG_INFINITY
        } else {
            self.largest + self.scaled.ln()
        }
    }
}

impl Default for LnSum {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_direct_evaluation_and_survive_overflow() {
        let terms: [f64; 4] = [-1.0, 0.5, 2.0, -3.0];
        let direct = terms.iter().map(|x| x.exp()).sum::<f64>().ln();
        assert!((ln_sum_exp(&terms) - direct).abs() < 1e-14);
        let mut sum = LnSum::new();
        terms.iter().for_each(|t| sum.add(*t));
        assert!((sum.ln() - direct).abs() < 1e-14);
        assert!((ln_sum_exp(&[5_000.0, 5_000.0]) - (5_000.0 + 2_f64.ln())).abs() < 1e-9);
        assert_eq!(ln_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(LnSum::new().ln(), f64::NEG_INFINITY);
    }
}
