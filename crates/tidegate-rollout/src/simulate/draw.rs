//! Seeded random numbers for simulation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A stream of draws, fixed by its seed.
#[derive(Debug, Clone)]
pub struct Draw(ChaCha8Rng);

/// 2^-53: spacing of the uniform draws.
const SPACING: f64 = 1.0 / 9_007_199_254_740_992.0;

impl Draw {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in the open interval (0, 1).
    pub fn uniform(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let whole = (self.bits() >> 11) as f64;
        (whole + 0.5) * SPACING
    }

    /// Whether an event of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Exponential waiting time at `rate` per second.
    pub fn wait(&mut self, rate: f64) -> f64 {
        -self.uniform().ln() / rate
    }

    /// Uniform in `0..bound`; zero for an empty range.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// Poisson count: waiting times below 30, a rounded normal above.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= 30.0 {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
            return whole(mean.sqrt().mul_add(normal, mean).round());
        }
        let (mut count, mut passed) = (0, self.wait(1.0));
        while passed < mean {
            count += 1;
            passed += self.wait(1.0);
        }
        count
    }
}

/// A non-negative whole number held in a float; negatives give zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what u64 holds; simulated counts are small"
)]
fn whole(x: f64) -> u64 {
    x.clamp(0.0, 1e15) as u64
}

/// A fixed scrambling of 64 bits (the finalizer of SplitMix64): stands in for a bucketing hash.
#[must_use]
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
