//! Adjusting any measure by any history, and the cheap readings that loops take.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use tidegate_stats::count_eprocess::{self, CountOptions, Phase};
use tidegate_stats::cuped::{self, Measure};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::{JointMoments, StatsError};

const OUTCOME: RatioColumns = RatioColumns {
    numerator: 0,
    denominator: 1,
};

/// Clicks, views and a taste known beforehand, of one unit.
fn unit(k: u32, lift: f64) -> [f64; 3] {
    let taste = f64::from(k * 7_919 % 101) / 10.0;
    let views = 1.0 + f64::from(k * 104_729 % 7);
    let noise = f64::from(k * 31_607 % 13);
    [views * (taste + lift) + noise, views, taste]
}

fn arm(units: std::ops::Range<u32>, lift: f64) -> JointMoments {
    let mut moments = JointMoments::new(3).unwrap();
    for k in units {
        moments.push(&unit(k, lift)).unwrap();
    }
    moments
}

/// The definition: regress each unit's linearised score on its taste, arms pooled, and take the residuals.
#[test]
fn a_ratio_is_adjusted_by_a_plain_column_through_its_score() {
    let (control, treatment) = (arm(0..900, 0.0), arm(900..2_000, 0.4));
    let found = cuped::adjusted(
        &control,
        &treatment,
        Measure::Ratio(OUTCOME),
        &[Measure::Mean(2)],
    )
    .unwrap();
    let scores = |units: std::ops::Range<u32>, lift: f64| {
        let rows: Vec<[f64; 3]> = units.map(|k| unit(k, lift)).collect();
        let n = rows.len() as f64;
        let mean = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>() / n;
        let (value, views, taste) = (mean(0) / mean(1), mean(1), mean(2));
        let pairs: Vec<(f64, f64)> = rows
            .iter()
            .map(|row| ((row[0] - value * row[1]) / views, row[2] - taste))
            .collect();
        (value, taste, pairs)
    };
    let (left, right) = (scores(0..900, 0.0), scores(900..2_000, 0.4));
    let sum =
        |pick: &dyn Fn(&(f64, f64)) -> f64| left.2.iter().chain(&right.2).map(pick).sum::<f64>();
    let beta = sum(&|(l, x)| l * x) / sum(&|(_, x)| x * x);
    assert!((found.coefficients[0] / beta - 1.0).abs() < 1e-10);
    let difference = (right.0 - left.0) - beta * (right.1 - left.1);
    assert!((found.contrast.difference() / difference - 1.0).abs() < 1e-10);
    let unadjusted = ratio::contrast(&control, &treatment, OUTCOME).unwrap();
    let kept = found.contrast.variance_difference() / unadjusted.variance_difference();
    assert!((1.0 - kept - found.variance_reduction).abs() < 1e-12);
    assert!(found.variance_reduction > 0.3, "{found:?}");
}

#[test]
fn a_mean_may_be_adjusted_by_a_ratio() {
    let (control, treatment) = (arm(0..900, 0.0), arm(900..2_000, 0.4));
    let history = [Measure::Ratio(OUTCOME)];
    let found = cuped::adjusted(&control, &treatment, Measure::Mean(2), &history).unwrap();
    assert!(found.variance_reduction > 0.5, "{found:?}");
    let missing = cuped::adjusted(&control, &treatment, Measure::Mean(3), &history);
    assert!(matches!(missing, Err(StatsError::Mismatch { .. })));
}

#[test]
fn events_may_be_told_beside_sums() {
    let moments = || JointMoments::from_sums(4, &[3.0, 9.0], &[3.0, 5.0, 30.0]).unwrap();
    assert_eq!(moments().events(0), Some(4));
    let told = moments().with_events(&[3, 2]).unwrap();
    assert_eq!((told.events(0), told.events(1)), (Some(3), Some(2)));
    assert!(moments().with_events(&[3]).is_err());
    assert!(moments().with_events(&[5, 1]).is_err());
}

#[test]
fn evidence_alone_is_that_of_the_whole_answer() {
    let phase = Phase {
        treatment_share: 0.3,
        events_control: 91,
        events_treatment: 70,
    };
    let options = CountOptions {
        null_ratio: 1.2,
        ..CountOptions::default()
    };
    let whole = count_eprocess::compare(&[phase], &options).unwrap();
    let alone = count_eprocess::ln_e(&[phase], &options).unwrap();
    assert_eq!(whole.ln_p, (-alone).min(0.0));
    assert!(count_eprocess::ln_e(&[], &options).is_err());
}
