//! When did the pace change: change points in a series of counts or means.
//!
//! Binary segmentation: the split that most reduces the squared deviation from segment means is kept if a
//! permutation test (seeded, 199 shuffles) says that chance does as well in at most 1 % of cases; then both halves are
//! searched.
//! Segments have at least four points; a change nearer to an end cannot be told from noise.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::statistic::{below, mean};

const MIN_SEGMENT: usize = 4;
const SHUFFLES: usize = 199;
/// At most this many shuffles may do as well: 1 of 200, counting the data itself.
const MAX_AS_GOOD: usize = 1;
/// Longest series searched; ten years of days.
const MAX_POINTS: usize = 3660;

/// A change in level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChangePoint {
    /// First point of the new level.
    pub index: usize,
    /// Mean before, since the previous change.
    pub before: f64,
    /// Mean after, until the next change.
    pub after: f64,
}

/// Finds changes of level, in order; a series too long to search has its newest part searched.
#[must_use]
pub fn change_points(series: &[f64], seed: u64) -> Vec<ChangePoint> {
    let skipped = series.len().saturating_sub(MAX_POINTS);
    let series = &series[skipped..];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cuts = vec![0, series.len()];
    let mut open = vec![(0, series.len())];
    while let Some((start, end)) = open.pop() {
        if let Some(cut) = significant_cut(&series[start..end], &mut rng) {
            cuts.push(start + cut);
            open.extend([(start, start + cut), (start + cut, end)]);
        }
    }
    cuts.sort_unstable();
    cuts.windows(3)
        .filter_map(|cut| {
            Some(ChangePoint {
                index: skipped + cut[1],
                before: mean(&series[cut[0]..cut[1]])?,
                after: mean(&series[cut[1]..cut[2]])?,
            })
        })
        .collect()
}

fn significant_cut(segment: &[f64], rng: &mut ChaCha8Rng) -> Option<usize> {
    let (cut, gain) = best_cut(segment)?;
    let mut shuffled = segment.to_vec();
    let mut as_good = 0;
    for _ in 0..SHUFFLES {
        for last in (1..shuffled.len()).rev() {
            shuffled.swap(last, below(rng, last + 1));
        }
        as_good += usize::from(best_cut(&shuffled).is_some_and(|(_, by_chance)| by_chance >= gain));
        if as_good > MAX_AS_GOOD {
            return None;
        }
    }
    Some(cut)
}

/// The split with the largest fall in squared deviation, and that fall: (sum a)²/n + (sum b)²/m - (sum)²/(n+m).
fn best_cut(segment: &[f64]) -> Option<(usize, f64)> {
    let n = segment.len();
    if n < 2 * MIN_SEGMENT {
        return None;
    }
    let total: f64 = segment.iter().sum();
    let mut left = 0.0;
    let mut best: Option<(usize, f64)> = None;
    for cut in 1..=n - MIN_SEGMENT {
        left += segment[cut - 1];
        if cut < MIN_SEGMENT {
            continue;
        }
        let right = total - left;
        let gain =
            left * left / cut as f64 + right * right / (n - cut) as f64 - total * total / n as f64;
        if gain > 1e-9 && best.is_none_or(|(_, held)| gain > held) {
            best = Some((cut, gain));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;

    #[test]
    fn finds_a_step_and_stays_silent_on_noise() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut noise = |level: u32| f64::from(level + rng.next_u32() % 5);
        let step: Vec<f64> = (0..60)
            .map(|week| noise(if week < 25 { 10 } else { 16 }))
            .collect();
        let found = change_points(&step, 1);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].index.abs_diff(25) <= 1 && found[0].after > found[0].before);
        let flat_worlds = (0..50).filter(|&world| {
            let flat: Vec<f64> = (0..52).map(|_| noise(10)).collect();
            !change_points(&flat, world).is_empty()
        });
        assert!(flat_worlds.count() <= 3);
        assert_eq!(change_points(&[1.0; 30], 1), vec![]);
        assert_eq!(change_points(&[], 1), vec![]);
    }
}
