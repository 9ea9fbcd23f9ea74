//! What `srm` promises, held against published values, properties and bad input.

use proptest::prelude::*;

use super::*;

fn bing() -> Phase {
    Phase {
        weights: vec![1.0, 1.0],
        counts: vec![821_588, 815_482],
    }
}

fn report(phase: Phase) -> SrmReport {
    check(&[phase], &SrmOptions::default()).unwrap()
}

#[test]
fn bing_example_of_the_kohavi_book() {
    let report = report(bing());
    assert_eq!(format!("{:.4e}", report.chi_square.p_value), "1.8218e-6");
    assert_eq!(
        format!("{:.4e}", report.exact.unwrap().p_value),
        "1.8288e-6"
    );
    assert!(report.alarm);
}

#[test]
fn bing_evidence_by_prior_strength() {
    for (strength, expected) in [
        (2.0, "4.459"),
        (1e3, "7.679"),
        (1e4, "8.766"),
        (1e5, "9.304"),
    ] {
        let options = SrmOptions {
            alpha: 0.001,
            prior_strength: strength,
        };
        let found = check(&[bing()], &options).unwrap().sequential.log_e;
        assert_eq!(format!("{found:.3}"), expected);
    }
}

#[test]
fn zero_weight_arm_adds_no_degree_of_freedom_and_its_traffic_alarms() {
    let clean = Phase {
        weights: vec![1.0, 1.0, 0.0],
        counts: vec![10_000, 10_282, 0],
    };
    let found = report(clean);
    assert_eq!(found.chi_square.df, 1);
    assert!((found.chi_square.p_value - 0.0477).abs() < 5e-5);
    assert!(!found.alarm);
    let leaked = Phase {
        weights: vec![1.0, 1.0, 0.0],
        counts: vec![10_000, 10_000, 1],
    };
    let found = report(leaked);
    assert_eq!(found.unserved_arms_with_units, vec![2]);
    assert!(found.alarm);
    assert!(!found.sequential.alarm);
}

#[test]
fn a_legitimate_ramp_is_silent_and_the_pooled_view_would_not_be() {
    let ramp = [
        Phase {
            weights: vec![1.0, 0.0],
            counts: vec![50_000, 0],
        },
        Phase {
            weights: vec![9.0, 1.0],
            counts: vec![45_100, 4_900],
        },
        Phase {
            weights: vec![1.0, 1.0],
            counts: vec![25_050, 24_950],
        },
    ];
    let found = check(&ramp, &SrmOptions::default()).unwrap();
    assert!(!found.alarm, "{found:?}");
    let pooled = Phase {
        weights: vec![1.0, 1.0],
        counts: vec![120_150, 29_850],
    };
    assert!(report(pooled).alarm);
}

#[test]
fn exact_multinomial_agrees_with_the_binomial_when_an_arm_is_split() {
    // Three arms of a dice-like split, by hand: P of outcomes no likelier than (3, 0, 0).
    let found = report(Phase {
        weights: vec![1.0, 1.0, 1.0],
        counts: vec![3, 0, 0],
    });
    assert!((found.exact.unwrap().p_value - 3.0 / 27.0).abs() < 1e-12);
    let found = report(Phase {
        weights: vec![1.0, 1.0, 2.0],
        counts: vec![1, 1, 2],
    });
    assert!((found.exact.unwrap().p_value - 1.0).abs() < 1e-12);
}

#[test]
fn bounds_on_the_share_exclude_the_served_share_exactly_when_the_alarm_rings() {
    let found = report(bing());
    let (lower, upper) = found.arms[0].share_bounds.unwrap();
    assert!(lower < 821_588.0 / 1_637_070.0 && upper > 821_588.0 / 1_637_070.0);
    assert_eq!(lower > 0.5, found.sequential.alarm);
}

#[test]
fn refusals_name_the_place() {
    let refused = |weights: Vec<f64>, counts: Vec<u64>| {
        check(&[Phase { weights, counts }], &SrmOptions::default()).unwrap_err()
    };
    assert_eq!(
        refused(vec![0.0, 0.0], vec![1, 1]),
        SrmError::WeightSum { phase: 1, sum: 0.0 }
    );
    assert!(matches!(
        refused(vec![1.0, f64::NAN], vec![1, 1]),
        SrmError::Weight { arm: 2, .. }
    ));
    assert!(matches!(
        refused(vec![1e308, 1e308], vec![1, 1]),
        SrmError::WeightSum { .. }
    ));
    assert!(matches!(
        refused(vec![1.0], vec![1]),
        SrmError::OneArm { phase: 1 }
    ));
    assert!(matches!(
        refused(vec![1.0, 1.0], vec![1]),
        SrmError::Shape { .. }
    ));
    assert!(matches!(
        refused(vec![1.0, 1.0], vec![u64::MAX, 1]),
        SrmError::Count { .. }
    ));
    assert_eq!(
        check(&[], &SrmOptions::default()).unwrap_err(),
        SrmError::NoPhase
    );
}

/// The textbook form, by log-gamma, where it does not cancel.
fn textbook_log_e(shares: &[f64], counts: &[f64], strength: f64) -> f64 {
    use crate::special::ln_gamma;
    let total: f64 = counts.iter().sum();
    let arms: f64 = shares
        .iter()
        .zip(counts)
        .map(|(share, count)| {
            ln_gamma(strength * share + count) - ln_gamma(strength * share) - count * share.ln()
        })
        .sum();
    arms + ln_gamma(strength) - ln_gamma(strength + total)
}

proptest! {
    #[test]
    fn evidence_agrees_with_the_textbook_form(
        counts in prop::collection::vec(0_u32..500, 2..5),
        strength in 0.5_f64..2_000.0,
        tilt in 0.1_f64..0.9,
    ) {
        let arms = counts.len() as f64;
        let mut shares = vec![(1.0 - tilt) / (arms - 1.0); counts.len()];
        shares[0] = tilt;
        let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
        let found = log_e(&shares, &counts, strength);
        let expected = textbook_log_e(&shares, &counts, strength);
        prop_assert!((found - expected).abs() < 1e-8 * expected.abs().max(1.0));
    }

    #[test]
    fn every_number_is_finite(
        left in 0_u64..1_000_000_000,
        right in 0_u64..1_000_000_000,
        weight in 1e-6_f64..1e6,
    ) {
        let found = report(Phase { weights: vec![weight, 1.0], counts: vec![left, right] });
        prop_assert!(found.sequential.log_e.is_finite());
        prop_assert!((0.0..=1.0).contains(&found.sequential.p_value));
        prop_assert!((0.0..=1.0).contains(&found.chi_square.p_value));
        prop_assert!(found.exact.is_none_or(|exact| (0.0..=1.0).contains(&exact.p_value)));
    }
}
