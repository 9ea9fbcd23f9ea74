//! Families of metrics and the whole decision, stopped at any time.
//!
//! Correlated metrics (a common factor of weight one half), 28 looks, always-valid p-values and
//! e-values from the product's own comparison of normal arms with unit variance.

use super::random::Stream;
use crate::arm::ArmSummary;
use crate::comparison::{Comparison, Parameters};
use crate::decision::{Desired, Evidence, Role, Verdict, decide};
use crate::multiplicity::{e_benjamini_hochberg, holm};
use crate::quality::Trust;
use crate::sequential::{SequentialOptions, compare};

const LOOKS: u32 = 28;
const UNITS_PER_ARM_AND_LOOK: u64 = 500;
const CONTROL_MEAN: f64 = 10.0;

/// Sums of one metric in both arms.
#[derive(Clone, Copy, Default)]
struct Metric {
    sums: [f64; 2],
}

/// The running comparisons of `effects.len()` correlated metrics at each look.
fn looks(
    stream: &mut Stream,
    effects: &[f64],
    options: &SequentialOptions,
    mut at_look: impl FnMut(&[Comparison]) -> bool,
) {
    let mut metrics = vec![Metric::default(); effects.len()];
    let per_look = UNITS_PER_ARM_AND_LOOK as f64;
    for look in 1..=LOOKS {
        for arm in 0..2 {
            let common = stream.normal();
            for (metric, effect) in metrics.iter_mut().zip(effects) {
                let noise = 0.5_f64.sqrt() * (common + stream.normal());
                let mean = CONTROL_MEAN + if arm == 1 { *effect } else { 0.0 };
                metric.sums[arm] += per_look * mean + per_look.sqrt() * noise;
            }
        }
        let units = UNITS_PER_ARM_AND_LOOK * u64::from(look);
        let compared: Vec<Comparison> = metrics
            .iter()
            .filter_map(|metric| {
                let arm = |sum: f64| ArmSummary::new(units, sum / units as f64, 1.0).ok();
                compare(&arm(metric.sums[0])?, &arm(metric.sums[1])?, options).ok()
            })
            .collect();
        if at_look(&compared) {
            return;
        }
    }
}

/// Whether Holm on always-valid p-values ever rejects one of `metrics` true nulls.
pub(super) fn holm_ever_errs(stream: &mut Stream, metrics: usize, effects: usize) -> bool {
    let options = SequentialOptions::default();
    let mut shifts = vec![0.0; metrics];
    shifts[..effects].fill(0.05);
    let mut smallest = vec![1.0_f64; metrics];
    let mut has_erred = false;
    looks(stream, &shifts, &options, |compared| {
        for (low, found) in smallest.iter_mut().zip(compared) {
            *low = low.min(found.p_value);
        }
        let adjusted = holm(&smallest).unwrap_or_default();
        has_erred = adjusted.iter().skip(effects).any(|p| *p <= options.alpha);
        has_erred
    });
    has_erred
}

/// A draw with the false discovery proportion of e-BH at a random stop as its chance.
pub(super) fn e_bh_false_discovery(stream: &mut Stream, metrics: usize, effects: usize) -> bool {
    let options = SequentialOptions::default();
    let mut shifts = vec![0.0; metrics];
    shifts[..effects].fill(0.05);
    let mut worst: f64 = 0.0;
    let stop_at = 1.0 + (f64::from(LOOKS) * stream.uniform()).floor();
    let mut look = 0.0;
    looks(stream, &shifts, &options, |compared| {
        look += 1.0;
        if look < stop_at {
            return false;
        }
        let log_e: Vec<f64> = compared
            .iter()
            .map(|found| match found.method.parameters {
                Parameters::Sequential { ln_e, .. } => ln_e,
                _ => 0.0,
            })
            .collect();
        let rejected = e_benjamini_hochberg(&log_e, options.alpha).unwrap_or_default();
        let found = rejected.iter().filter(|rejected| **rejected).count();
        let wrong = rejected
            .iter()
            .skip(effects)
            .filter(|rejected| **rejected)
            .count();
        worst = wrong as f64 / found.max(1) as f64;
        true
    });
    stream.uniform() < worst
}

/// Whether the decision rule ever says ship: two success metrics sharing alpha, two guardrails.
pub(super) fn ever_ships(stream: &mut Stream, success: f64, guardrail: f64) -> bool {
    let options = SequentialOptions {
        alpha: 0.025,
        ..SequentialOptions::default()
    };
    let mut ships = false;
    looks(
        stream,
        &[success, success, guardrail, guardrail],
        &options,
        |compared| {
            let evidence: Vec<Evidence> = compared
                .iter()
                .enumerate()
                .map(|(index, found)| Evidence {
                    metric: format!("metric {index}"),
                    role: if index < 2 {
                        Role::Success { zone: None }
                    } else {
                        Role::Guardrail { margin: 0.02 }
                    },
                    desired: Desired::Increase,
                    estimate: found.relative.estimate,
                    lower: found.relative.lower,
                    upper: found.relative.upper,
                    alpha: options.alpha,
                    method: found.method.name.to_owned(),
                })
                .collect();
            let verdict = decide(&evidence, Trust::Trusted, false).map(|decision| decision.verdict);
            ships = verdict == Ok(Verdict::Ship);
            ships || verdict == Ok(Verdict::DoNotShip)
        },
    );
    ships
}
