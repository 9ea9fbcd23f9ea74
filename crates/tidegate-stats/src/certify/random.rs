//! Reproducible draws: ChaCha8 seeded by configuration and repetition, so that a result depends
//! neither on threads nor on order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::special::normal_quantile;

/// A stream of random numbers.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of one repetition of one study.
    pub(super) fn new(seed: u64, study: &str, repetition: u32) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&repetition.to_le_bytes());
        key[16..24].copy_from_slice(&fnv(study).to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform on the open unit interval, 53 bits.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// True with chance `share`, to 2^-32.
    pub(super) fn coin(&mut self, share: f64) -> bool {
        f64::from(self.0.next_u32()) < share * 4_294_967_296.0
    }

    /// Standard normal, by inversion.
    pub(super) fn normal(&mut self) -> f64 {
        normal_quantile(self.uniform())
    }

    /// Poisson, by multiplying uniforms; for small means.
    pub(super) fn poisson(&mut self, mean: f64) -> f64 {
        let limit = (-mean).exp();
        let (mut count, mut product) = (0.0, self.uniform());
        while product > limit {
            count += 1.0;
            product *= self.uniform();
        }
        count
    }
}

/// FNV-1a, so that the stream belongs to the study's name and not to its place in a list.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
