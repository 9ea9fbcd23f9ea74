//! Always-valid quantiles: held against a slow search, exact at small sizes, honest where ranks do not bound.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use proptest::prelude::*;
use tidegate_stats::StatsError;
use tidegate_stats::comparison::{Note, RelativeSet};
use tidegate_stats::order_statistics::{QuantileComparison, QuantileOptions, compare};
use tidegate_stats::quantile::RankedSample;
use tidegate_stats::special::ln_beta;

/// One observation a unit.
fn sample(values: impl IntoIterator<Item = f64>) -> RankedSample {
    RankedSample::new(values.into_iter().zip(0..).collect()).unwrap()
}

/// Values spread like a skewed distribution, without chance.
fn spread(units: u32, shift: f64) -> RankedSample {
    let values = (0..units).map(|unit| {
        let share = (f64::from(unit) + 0.5) / f64::from(units);
        100.0 * (-share.ln()) + shift
    });
    sample(values)
}

fn answer(control: &RankedSample, treatment: &RankedSample, nu: f64) -> QuantileComparison {
    compare(control, treatment, nu, &QuantileOptions::default()).unwrap()
}

#[test]
fn a_few_observations_do_not_bound_a_high_quantile() {
    let found = answer(&spread(5, 0.0), &spread(6, 50.0), 0.9);
    assert_eq!((found.absolute.lower, found.absolute.upper), (None, None));
    assert_eq!(found.relative.set, RelativeSet::Line);
    assert_eq!(found.p_value, 1.0);
    let one = answer(&sample([3.0]), &sample([4.0]), 0.5);
    assert!(one.absolute.lower.is_none() && one.p_value > 1.0 - 1e-9);
}

#[test]
fn a_large_shift_is_found_and_bounded_on_both_scales() {
    let found = answer(&spread(2_000, 0.0), &spread(2_000, 60.0), 0.5);
    assert!(found.p_value < 1e-4, "{found:?}");
    assert!(found.absolute.lower.unwrap() > 0.0 && found.absolute.contains(60.0));
    assert!(found.relative.lower.unwrap() > 0.0 && found.relative.contains(60.0 / 69.3));
    let none = answer(&spread(2_000, 0.0), &spread(2_000, 0.0), 0.5);
    assert_eq!(none.p_value, 1.0);
    assert!(none.absolute.contains(0.0) && none.relative.contains(0.0));
}

#[test]
fn clustered_observations_count_for_less_and_wait_for_units() {
    let repeated = |units: u64, shift: f64| {
        let rows = (0..units).flat_map(|unit| {
            let value = 100.0 * (unit as f64 * 0.618_034).fract() + shift;
            (0..8).map(move |_| (value, unit))
        });
        RankedSample::new(rows.collect()).unwrap()
    };
    let (control, treatment) = (repeated(400, 0.0), repeated(400, 15.0));
    let clustered = answer(&control, &treatment, 0.5);
    assert_eq!(
        (clustered.units, clustered.observations),
        ([400; 2], [3_200; 2])
    );
    let as_if = |sample: &RankedSample| {
        let rows: Vec<(f64, u64)> = sample.clone().into();
        self::sample(rows.into_iter().map(|(value, _)| value))
    };
    let naive = answer(&as_if(&control), &as_if(&treatment), 0.5);
    assert!(clustered.p_value > 100.0 * naive.p_value, "{clustered:?}");
    let early = answer(&repeated(12, 0.0), &repeated(400, 15.0), 0.5);
    assert_eq!(early.p_value, 1.0);
    assert!(matches!(early.notes[0], Note::BurnIn { events: 12, .. }));
}

#[test]
fn a_baseline_that_may_be_zero_is_bounded_by_sign_alone() {
    let around_zero = sample((0..400).map(|k| f64::from(k) / 200.0 - 1.0));
    let far = sample((0..400).map(|k| f64::from(k) / 200.0 + 4.0));
    let found = answer(&around_zero, &far, 0.5);
    assert!(found.p_value < 0.05);
    assert!(found.relative.lower.unwrap() > 0.0 && found.relative.upper.is_none());
    let negative = answer(
        &sample((0..400).map(|k| f64::from(k) / 200.0 - 9.0)),
        &sample((0..400).map(|k| f64::from(k) / 200.0 - 4.0)),
        0.5,
    );
    assert!(negative.relative.contains(5.0 / 8.0) && negative.relative.lower.unwrap() > 0.0);
    assert!(negative.notes.contains(&Note::BaselineNegative));
}

#[test]
fn bad_input_is_refused() {
    let (some, none) = (sample([1.0, 2.0]), sample([]));
    let options = QuantileOptions::default();
    assert!(matches!(
        compare(&none, &some, 0.5, &options),
        Err(StatsError::TooFewUnits { .. })
    ));
    for nu in [0.0, 1.0, f64::NAN] {
        assert!(compare(&some, &some, nu, &options).is_err());
    }
    let clustered = RankedSample::new(vec![(1.0, 1), (2.0, 1)]).unwrap();
    assert!(compare(&clustered, &some, 0.5, &options).is_err());
    let huge = sample([-1e308, 1e308, 1e308]);
    assert!(compare(&huge, &sample([-1e308]), 0.5, &options).is_err());
}

/// `ln E` from its formula, with the order of ties that favours the claim.
fn slow_ln_e(values: &[f64], claimed: f64, nu: f64, strength: f64) -> f64 {
    let n = values.len() as f64;
    let below = values.iter().filter(|value| **value < claimed).count();
    let most = values.iter().filter(|value| **value <= claimed).count();
    (below..=most)
        .map(|k| {
            let k = k as f64;
            let (a, b) = (nu * strength, (1.0 - nu) * strength);
            ln_beta(a + k, b + n - k) - ln_beta(a, b) - k * nu.ln() - (n - k) * (1.0 - nu).ln()
        })
        .fold(f64::INFINITY, f64::min)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ties included: p is one over the least evidence at a common value, and 0 is in both sets unless p says no.
    #[test]
    fn agrees_with_a_slow_search(
        control in proptest::collection::vec(1_i32..60, 1..120),
        treatment in proptest::collection::vec(1_i32..60, 1..120),
        shift in 0_i32..40,
        nu in 0.2_f64..0.8,
    ) {
        let left: Vec<f64> = control.iter().map(|v| f64::from(*v)).collect();
        let right: Vec<f64> = treatment.iter().map(|v| f64::from(*v + shift)).collect();
        let options = QuantileOptions { alpha: 0.2, tune_at: 200.0, burn_in_units: 0 };
        let found = compare(&sample(left.clone()), &sample(right.clone()), nu, &options).unwrap();
        let strength = {
            let boundary = tidegate_stats::sequential::Boundary::new(
                &tidegate_stats::sequential::SequentialOptions {
                    alpha: 0.2, tune_at: 200.0, ..Default::default()
                }).unwrap();
            0.5 / boundary.rho_squared()
        };
        let least = left.iter().chain(&right)
            .map(|q| slow_ln_e(&left, *q, nu, strength) + slow_ln_e(&right, *q, nu, strength))
            .fold(f64::INFINITY, f64::min);
        prop_assert!((found.ln_p + least.max(0.0)).abs() < 1e-9, "{} {}", found.ln_p, least);
        let is_kept = found.p_value > 0.2;
        prop_assert_eq!(found.absolute.contains(0.0), is_kept);
        prop_assert_eq!(found.relative.contains(0.0), is_kept);
        prop_assert!(found.absolute.contains(found.absolute.estimate));
        // Every pair of claimed quantiles that the evidence keeps lies in both sets.
        for c in &left {
            for t in &right {
                let evidence = slow_ln_e(&left, *c, nu, strength) + slow_ln_e(&right, *t, nu, strength);
                if evidence < -(0.2_f64.ln()) - 1e-9 {
                    prop_assert!(found.absolute.contains(t - c));
                    prop_assert!(found.relative.contains((t - c) / c));
                }
            }
        }
    }
}
