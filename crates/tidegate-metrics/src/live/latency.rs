//! A histogram of latencies with a bounded relative error, for choosing a ladder's rungs.
//!
//! Bucket `i` covers `(g^(i-1), g^i]` milliseconds with `g = 1.04`; a quantile is answered by the
//! geometric middle of its bucket, at most 2 % off. The construction is DDSketch (Masson, Rim,
//! Lee, PVLDB 12 (2019) 2195-2205) with fixed bounds: below 1 microsecond and above 28 hours
//! everything falls into the first or last bucket, so there are never more than 1 200.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const GROWTH: f64 = 1.04;
const LOWEST_MS: f64 = 1e-3;
const HIGHEST_MS: f64 = 1e8;

/// Counts of latencies by logarithmic bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyHistogram {
    buckets: BTreeMap<i16, u64>,
    count: u64,
}

impl LatencyHistogram {
    /// Counts one latency in milliseconds.
    pub fn record(&mut self, latency_ms: f64) {
        let bounded = latency_ms.clamp(LOWEST_MS, HIGHEST_MS);
        let bucket = (bounded.ln() / GROWTH.ln()).ceil();
        *self.buckets.entry(bucket_index(bucket)).or_default() += 1;
        self.count += 1;
    }

    /// How many latencies were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency below which a share `q` of the requests stays, within 2 %; `None` if nothing
    /// was counted or `q` lies outside 0 to 1.
    #[must_use]
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of requests stay far below 2^53"
        )]
        let rank = q * (self.count as f64);
        let mut seen = 0u64;
        for (bucket, count) in &self.buckets {
            seen += count;
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of requests stay far below 2^53"
            )]
            let reached = seen as f64 >= rank;
            if reached {
                return Some(GROWTH.powf(f64::from(*bucket) - 0.5));
            }
        }
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the clamp keeps the logarithm between -177 and 470"
)]
fn bucket_index(bucket: f64) -> i16 {
    bucket as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_per_cent() {
        let mut histogram = LatencyHistogram::default();
        for latency in 1..=10_000 {
            histogram.record(f64::from(latency) / 10.0);
        }
        for (q, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let estimate = histogram.quantile_ms(q).unwrap();
            assert!((estimate / exact - 1.0).abs() < 0.0201, "{q}: {estimate}");
        }
        assert_eq!(histogram.quantile_ms(1.5), None);
        assert_eq!(LatencyHistogram::default().quantile_ms(0.5), None);
    }

    #[test]
    fn extremes_cannot_grow_it() {
        let mut histogram = LatencyHistogram::default();
        for exponent in -300..300 {
            histogram.record(10f64.powi(exponent));
        }
        assert!(histogram.buckets.len() < 1200);
        assert_eq!(histogram.count(), 600);
    }
}
