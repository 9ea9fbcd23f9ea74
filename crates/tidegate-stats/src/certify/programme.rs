//! A programme of experiments: is the sum of what the winners won right, once shrunk?

use super::random::Stream;
use crate::shrinkage::{Finding, shrink};

/// Experiments of a programme.
const EXPERIMENTS: u32 = 300;
/// Tolerance of the sum of wins.
const TOLERANCE: f64 = 0.05;

/// Whether the shrunken sum of wins is more than 5 % above the truth, more than 5 % below it, and whether the
/// naive sum is more than 5 % above it.
///
/// True effects are as large as the noise of a typical experiment, whose size varies fourfold.
pub(super) fn wins_off(stream: &mut Stream) -> [bool; 3] {
    let mut truths = Vec::new();
    let mut findings = Vec::new();
    for _ in 0..EXPERIMENTS {
        let truth = 0.2 + stream.normal();
        let standard_error = 0.5 + 1.5 * stream.uniform();
        truths.push(truth);
        findings.push(Finding {
            estimate: truth + standard_error * stream.normal(),
            standard_error,
        });
    }
    let Ok(found) = shrink(&findings, 0.05) else {
        return [true; 3];
    };
    let truth: f64 = found.winners.iter().map(|index| truths[*index]).sum();
    [
        found.sum_shrunken > truth + TOLERANCE * truth.abs(),
        found.sum_shrunken < truth - TOLERANCE * truth.abs(),
        found.sum_naive > truth + TOLERANCE * truth.abs(),
    ]
}
