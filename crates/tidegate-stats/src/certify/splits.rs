//! Sample ratio checks watched at every unit: silent on healthy traffic, quick on skewed traffic.
//!
//! The evidence is carried along by its predictive factor, one multiplication a unit; where it
//! comes within 1 % of the limit (on the log scale) the product's own check is asked.

use super::random::Stream;
use crate::srm::{PRIOR_STRENGTH, Phase, SrmOptions, check, log_e};

/// A stretch of traffic: served share of the second arm, true share, units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) served: f64,
    pub(super) actual: f64,
    pub(super) units: u32,
}

/// The unit at which the check first alarms, if it does.
pub(super) fn first_alarm(stream: &mut Stream, stretches: &[Stretch], alpha: f64) -> Option<u64> {
    let options = SrmOptions {
        alpha,
        prior_strength: PRIOR_STRENGTH,
    };
    let limit = -alpha.ln();
    let mut phases: Vec<Phase> = Vec::new();
    let mut before = 0.0;
    let mut seen = 0_u64;
    for stretch in stretches {
        let shares = [1.0 - stretch.served, stretch.served];
        phases.push(Phase {
            weights: shares.to_vec(),
            counts: vec![0, 0],
        });
        let (mut counts, mut factor) = ([0.0_f64; 2], 1.0_f64);
        let mut total = 0.0;
        let near = (0.99 * limit - before).exp();
        for _ in 0..stretch.units {
            let arm = usize::from(stream.coin(stretch.actual));
            let predicted = (PRIOR_STRENGTH * shares[arm] + counts[arm]) / (PRIOR_STRENGTH + total);
            factor *= predicted / shares[arm];
            counts[arm] += 1.0;
            total += 1.0;
            seen += 1;
            if factor >= near {
                if let Some(phase) = phases.last_mut() {
                    phase.counts = counts.iter().map(|count| whole(*count)).collect();
                }
                if check(&phases, &options).is_ok_and(|report| report.sequential.alarm) {
                    return Some(seen);
                }
            }
        }
        if let Some(phase) = phases.last_mut() {
            phase.counts = counts.iter().map(|count| whole(*count)).collect();
        }
        before += log_e(&shares, &counts, PRIOR_STRENGTH);
    }
    None
}

/// Counts here are whole numbers far below 2^53.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value was made by adding one, at most four billion times"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
