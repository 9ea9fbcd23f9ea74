//! Planned looks: error spent, power as predicted, estimates median-unbiased at the stop.
//!
//! Normal data with a known variance: the sum of a batch is drawn at once, which is exact.
//! Standard time as in the planner: under the planned effect the score has drift `drift`.

use super::random::Stream;
use crate::group_sequential::{Boundary, Design, stage_wise};

/// The look at which a path stops, from 0, and the statistic there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) look: usize,
    pub(super) z: f64,
    pub(super) is_crossing: bool,
}

/// One path over the looks of a plan whose final z has mean `drift`.
pub(super) fn walk(stream: &mut Stream, design: &Design, rows: &[Boundary], drift: f64) -> Stop {
    let (mut score, mut before) = (0.0, 0.0);
    let mut stop = Stop {
        look: 0,
        z: 0.0,
        is_crossing: false,
    };
    for (look, row) in rows.iter().enumerate() {
        let time = design.information[look] / design.information_max;
        let step = time - before;
        score += drift * step + step.sqrt() * stream.normal();
        before = time;
        let z = score / time.sqrt();
        let is_crossing = row.z.is_some_and(|limit| z.abs() >= limit);
        stop = Stop {
            look,
            z,
            is_crossing,
        };
        if is_crossing {
            break;
        }
    }
    stop
}

/// Median-unbiased estimate at the stop less the truth, in standard errors; and whether the
/// stage-wise interval misses the truth.
pub(super) fn bias(design: &Design, stop: Stop, drift: f64) -> Option<(f64, bool)> {
    let mut seen = design.clone();
    seen.information.truncate(stop.look + 1);
    let found = stage_wise(&seen, stop.z).ok()?;
    let truth = drift * (seen.information[stop.look] / seen.information_max).sqrt();
    let misses = found.z_lower.is_none_or(|low| truth < low)
        || found.z_upper.is_none_or(|high| truth > high);
    Some((found.z_median_unbiased - truth, misses))
}
