//! Shrinking a programme's effects: known cases and bad input.
use tidegate_stats::StatsError;
use tidegate_stats::shrinkage::{Finding, shrink};

fn findings(estimates: &[f64], standard_error: f64) -> Vec<Finding> {
    let of = |estimate: &f64| Finding {
        estimate: *estimate,
        standard_error,
    };
    estimates.iter().map(of).collect()
}

/// With equal standard errors the spread has a closed form: variance of the estimates less the noise.
#[test]
fn equal_errors_give_the_estimator_of_james_and_stein() {
    let estimates = [4.0, -2.0, 1.0, 0.0, 6.0, -3.0, 2.0];
    let found = shrink(&findings(&estimates, 1.0), 0.05).unwrap();
    let mean = 8.0 / 7.0;
    let squares: f64 = estimates.iter().map(|d| (d - mean) * (d - mean)).sum();
    let variance = squares / 6.0 - 1.0;
    assert!((found.spread - variance.sqrt()).abs() < 1e-12);
    let kept = 1.0 - 6.0 / squares;
    assert!((found.effects[4] - (mean + kept * (6.0 - mean))).abs() < 1e-12);
    assert_eq!(found.winners, [0, 4, 6]);
    assert_eq!(found.sum_naive, 12.0);
    assert!(found.sum_shrunken < found.sum_naive && found.sum_standard_error > 0.0);
}

#[test]
fn no_more_spread_than_noise_leaves_the_mean_alone() {
    let found = shrink(&findings(&[0.1, 0.2, 0.0, 0.1, 0.3, 0.2], 1.0), 0.05).unwrap();
    assert_eq!(found.spread, 0.0);
    assert!(
        found
            .effects
            .iter()
            .all(|effect| (effect - 0.15).abs() < 1e-12)
    );
    assert!(found.winners.is_empty() && found.sum_shrunken == 0.0);
}

#[test]
fn bad_input_is_refused() {
    assert!(matches!(
        shrink(&findings(&[1.0; 5], 1.0), 0.05),
        Err(StatsError::Option { .. })
    ));
    for (estimate, error) in [(f64::NAN, 1.0), (1.0, 0.0), (1.0, f64::INFINITY)] {
        assert!(shrink(&findings(&[estimate; 6], error), 0.05).is_err());
    }
    let far = [1e308, -1e308, 1e308, -1e308, 1e308, -1e308];
    assert!(shrink(&findings(&far, 1.0), 0.05).is_err());
}
