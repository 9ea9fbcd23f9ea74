//! One number over many samples, and how sure it is.
//!
//! * `mean`; `median` (interpolated, type 7); `lower_median` (the largest sample whose percent rank is at most ½).
//! * Intervals at 95 %: for statistics over samples, the percentile bootstrap (Efron 1979) with a seeded generator;
//!   for shares, the equal-tailed Jeffreys interval, a Beta(k + ½, n − k + ½) with its limits set to 0 at k = 0 and
//!   to 1 at k = n (Brown, Cai and DasGupta 2001).
//! * With one sample there is no interval; with none there is no number.
//!
//! The bootstrap treats samples as exchangeable.
//! Changes of one deployment are not quite, so the intervals of lead times are somewhat too narrow; the report says
//! which method made them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tidegate_stats::special::beta_inc_inv;

/// Confidence of every interval here.
pub const LEVEL: f64 = 0.95;
const REPLICATES: usize = 400;
/// Draws per interval: large samples get fewer replicates, never fewer than [`MIN_REPLICATES`].
const MAX_DRAWS: usize = 2_000_000;
const MIN_REPLICATES: usize = 100;

/// What is computed over samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Interpolated median.
    Median,
    /// Lower median.
    LowerMedian,
}

impl Statistic {
    /// Over samples in ascending order; `None` without samples.
    #[must_use]
    pub fn over_sorted(self, sorted: &[f64]) -> Option<f64> {
        match self {
            Self::Mean => mean(sorted),
            Self::Median => quantile(sorted, 0.5),
            Self::LowerMedian => sorted.get(sorted.len().checked_sub(1)? / 2).copied(),
        }
    }

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median => "median",
            Self::LowerMedian => "lower median",
        }
    }
}

/// Arithmetic mean; `None` without samples.
#[must_use]
pub fn mean(samples: &[f64]) -> Option<f64> {
    if samples.is_empty() {
        return None;
    }
    Some(samples.iter().sum::<f64>() / samples.len() as f64)
}

/// Interpolated quantile of ascending samples (type 7 of Hyndman and Fan); `None` without samples.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * p.clamp(0.0, 1.0);
    let below = floor_index(position).min(last);
    let above = (below + 1).min(last);
    let share = position - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * share)
}

/// Largest index not above a position that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the position is a fraction of a slice length, so it is finite, not negative and in range"
)]
pub(crate) fn floor_index(position: f64) -> usize {
    position.max(0.0).floor() as usize
}

/// An interval and how it was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
    /// Confidence.
    pub level: f64,
    /// `jeffreys` or `bootstrap`.
    pub method: &'static str,
}

/// Jeffreys interval of a share.
#[must_use]
pub fn share_interval(successes: usize, trials: usize) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (hits, misses) = (successes as f64 + 0.5, (trials - successes) as f64 + 0.5);
    let tail = (1.0 - LEVEL) / 2.0;
    let low = if successes == 0 {
        0.0
    } else {
        beta_inc_inv(hits, misses, tail)
    };
    let high = if successes == trials {
        1.0
    } else {
        beta_inc_inv(hits, misses, 1.0 - tail)
    };
    Some(Interval {
        low,
        high,
        level: LEVEL,
        method: "jeffreys",
    })
}

/// Percentile bootstrap of a statistic over ascending samples.
#[must_use]
pub fn bootstrap_interval(sorted: &[f64], statistic: Statistic, seed: u64) -> Option<Interval> {
    if sorted.len() < 2 {
        return None;
    }
    let replicates = (MAX_DRAWS / sorted.len()).clamp(MIN_REPLICATES, REPLICATES);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = vec![0_u32; sorted.len()];
    let mut values: Vec<f64> = (0..replicates)
        .filter_map(|_| {
            counts.fill(0);
            for _ in 0..sorted.len() {
                counts[below(&mut rng, sorted.len())] += 1;
            }
            over_counts(statistic, sorted, &counts)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval {
        low: quantile(&values, tail)?,
        high: quantile(&values, 1.0 - tail)?,
        level: LEVEL,
        method: "bootstrap",
    })
}

/// A number in `0..n`, by multiplication; the bias is below n / 2^32.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    let wide = u64::from(rng.next_u32()) * (n as u64);
    usize::try_from(wide >> 32).unwrap_or(0)
}

/// The statistic over a resample given as how often each ascending sample was drawn: no sorting needed.
fn over_counts(statistic: Statistic, sorted: &[f64], counts: &[u32]) -> Option<f64> {
    let n = sorted.len();
    match statistic {
        Statistic::Mean => {
            let sum: f64 = sorted
                .iter()
                .zip(counts)
                .map(|(x, &c)| x * f64::from(c))
                .sum();
            Some(sum / n as f64)
        }
        Statistic::LowerMedian => nth_drawn(sorted, counts, (n - 1) / 2),
        Statistic::Median => {
            let low = nth_drawn(sorted, counts, (n - 1) / 2)?;
            let high = if n.is_multiple_of(2) {
                nth_drawn(sorted, counts, n / 2)?
            } else {
                low
            };
            Some(f64::midpoint(low, high))
        }
    }
}

fn nth_drawn(sorted: &[f64], counts: &[u32], rank: usize) -> Option<f64> {
    let mut drawn = 0_usize;
    for (sample, &count) in sorted.iter().zip(counts) {
        drawn += count as usize;
        if drawn > rank {
            return Some(*sample);
        }
    }
    None
}

/// A seed that differs between the numbers of one report and is the same on every run (FNV-1a).
#[must_use]
pub(crate) fn seed_of(seed: u64, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_at_their_edges() {
        let cases: [(&[f64], Statistic, Option<f64>); 7] = [
            (&[], Statistic::Median, None),
            (&[], Statistic::LowerMedian, None),
            (&[7.0], Statistic::Median, Some(7.0)),
            (&[1.0, 2.0], Statistic::Median, Some(1.5)),
            (&[1.0, 2.0], Statistic::LowerMedian, Some(1.0)),
            (&[1.0, 2.0, 2.0, 9.0], Statistic::LowerMedian, Some(2.0)),
            (&[1.0, 2.0, 6.0], Statistic::Mean, Some(3.0)),
        ];
        for (samples, statistic, expected) in cases {
            assert_eq!(
                statistic.over_sorted(samples),
                expected,
                "{samples:?} {statistic:?}"
            );
        }
        assert_eq!(quantile(&[0.0, 10.0], 0.25), Some(2.5));
        assert_eq!(quantile(&[0.0, 10.0], 1.0), Some(10.0));
    }

    #[test]
    fn jeffreys_limits_agree_with_published_values() {
        // Brown, Cai and DasGupta (2001), table of Jeffreys limits, n = 10.
        let one = share_interval(1, 10).unwrap();
        assert!(
            (one.low - 0.011).abs() < 5e-4 && (one.high - 0.381).abs() < 5e-4,
            "{one:?}"
        );
        let none = share_interval(0, 10).unwrap();
        assert!(
            none.low == 0.0 && (none.high - 0.217).abs() < 5e-4,
            "{none:?}"
        );
        assert_eq!(share_interval(0, 0), None);
    }

    #[test]
    fn the_bootstrap_covers_and_repeats() {
        let samples: Vec<f64> = (0..200).map(f64::from).collect();
        let interval = bootstrap_interval(&samples, Statistic::Median, 7).unwrap();
        assert!(interval.low < 99.5 && 99.5 < interval.high);
        // The median of 200 uniform values has standard error near 200 / (2 sqrt 200) = 7.1.
        assert!(
            (20.0..36.0).contains(&(interval.high - interval.low)),
            "{interval:?}"
        );
        assert_eq!(
            bootstrap_interval(&samples, Statistic::Median, 7),
            Some(interval)
        );
        assert_eq!(bootstrap_interval(&samples[..1], Statistic::Mean, 7), None);
    }
}
