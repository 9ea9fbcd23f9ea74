//! What `group_sequential` promises, held against published values, properties and bad input.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Published and measured tables, one file for every implementation.
fn table() -> Value {
    serde_json::from_str(include_str!("../../../../spec/stats/group_sequential.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn agrees(found: f64, expected: f64, decimals: i32) -> bool {
    (found - expected).abs() <= 0.5 * 10.0_f64.powi(-decimals) * 1.02
}

#[test]
fn naive_peeking_inflates_as_published() {
    for row in table()["naive_peeking"].as_array().unwrap() {
        let looks = row["looks"].as_u64().unwrap();
        let fractions: Vec<f64> = (1..=looks).map(|look| look as f64 / looks as f64).collect();
        let critical = vec![1.959_963_984_540_054; fractions.len()];
        let found = crossing_chance(&fractions, &critical);
        assert!(
            agrees(found, row["rate"].as_f64().unwrap(), 4),
            "{looks}: {found}"
        );
    }
}

#[test]
fn classical_constants_as_published() {
    for row in table()["classical"].as_array().unwrap() {
        let alpha = row["alpha"].as_f64().unwrap();
        let shape = row["shape"].as_f64().unwrap();
        for (looks, expected) in (2_u16..).zip(numbers(&row["constants"])) {
            let found = wang_tsiatis(alpha, looks, shape).unwrap();
            let last = found.last().copied().unwrap();
            assert!(agrees(last, expected, 4), "{alpha} {shape} {looks}: {last}");
        }
    }
}

#[test]
fn spending_boundaries_as_published() {
    for row in table()["spending"].as_array().unwrap() {
        let spending: Spending = row["spending"].as_str().unwrap().parse().unwrap();
        let expected = numbers(&row["z"]);
        let looks = u16::try_from(expected.len()).unwrap();
        let design = Design::equally_spaced(0.05, Sides::Two, spending, looks);
        for (found, expected) in boundaries(&design).unwrap().iter().zip(expected) {
            assert!(
                agrees(found.z.unwrap(), expected, 4),
                "{spending} {found:?} {expected}"
            );
        }
    }
}

/// An oracle that shares nothing with the recursion: the trapezoid rule on a uniform grid.
fn slow_crossing(fractions: &[f64], critical: &[f64]) -> f64 {
    let cells = 3_000_i32;
    let mut crossed = 0.0;
    let mut grid = vec![0.0];
    let mut masses = vec![1.0];
    let mut before = 0.0;
    for (time, z) in fractions.iter().zip(critical) {
        let deviation = (time - before).sqrt();
        let barrier = z * time.sqrt();
        let tail = |x: f64| crate::special::normal_sf((barrier - x) / deviation);
        crossed += 2.0
            * grid
                .iter()
                .zip(&masses)
                .map(|(x, m)| m * tail(*x))
                .sum::<f64>();
        let width = 2.0 * barrier / f64::from(cells);
        let next: Vec<f64> = (0..=cells)
            .map(|cell| -barrier + width * f64::from(cell))
            .collect();
        let density = |y: f64| -> f64 {
            let kernel = |x: f64| crate::special::normal_pdf((y - x) / deviation) / deviation;
            grid.iter().zip(&masses).map(|(x, m)| m * kernel(*x)).sum()
        };
        let ends = |y: f64| {
            if (y.abs() - barrier).abs() < 1e-12 {
                0.5
            } else {
                1.0
            }
        };
        masses = next
            .iter()
            .map(|y| density(*y) * width * ends(*y))
            .collect();
        grid = next;
        before = *time;
    }
    crossed
}

#[test]
fn boundaries_agree_with_a_slow_oracle_at_uneven_looks() {
    let fractions = [0.11, 0.4, 0.55, 1.0];
    let design = Design::at_fractions(0.05, Sides::Two, Spending::Power(1.5), &fractions);
    let rows = boundaries(&design).unwrap();
    let critical: Vec<f64> = rows.iter().map(|row| row.z.unwrap()).collect();
    assert!((slow_crossing(&fractions, &critical) - 0.05).abs() < 1e-6);
    assert!((crossing_chance(&fractions, &critical) - 0.05).abs() < 1e-12);
}

#[test]
fn many_looks_stay_exact() {
    let design = Design::equally_spaced(0.05, Sides::Two, Spending::ObrienFleming, 100);
    let rows = boundaries(&design).unwrap();
    let total: f64 = stopping_chances(&design, 0.0)
        .unwrap()
        .iter()
        .map(|c| c.above + c.below)
        .sum();
    assert!((total - 0.05).abs() < 1e-12, "{total}");
    assert!(
        rows.windows(2)
            .all(|pair| pair[0].z.unwrap() > pair[1].z.unwrap())
    );
}

#[test]
fn over_run_and_under_run_spend_exactly_alpha() {
    let spending = Spending::ObrienFleming;
    let mut design = Design::at_fractions(0.05, Sides::Two, spending, &[0.5, 1.2]);
    let over = boundaries(&design).unwrap();
    assert!((over[1].alpha_spent - 0.05).abs() < 1e-15);
    assert!((over[1].fraction - 1.0).abs() < 1e-15);
    design.information = vec![0.5, 0.8];
    design.last_is_final = true;
    let under = boundaries(&design).unwrap();
    assert!((under[1].alpha_spent - 0.05).abs() < 1e-15);
    assert!(over[1].z.unwrap() > 1.95 && under[1].z.unwrap() > 1.95);
}

#[test]
fn one_look_is_the_fixed_test() {
    let design = Design::equally_spaced(0.05, Sides::Two, Spending::Pocock, 1);
    assert!((boundaries(&design).unwrap()[0].z.unwrap() - 1.959_963_984_540_054).abs() < 1e-12);
    let found = stage_wise(&design, 2.5).unwrap();
    assert!((found.z_median_unbiased - 2.5).abs() < 1e-9);
    assert!((found.z_lower.unwrap() - (2.5 - 1.959_963_984_540_054)).abs() < 1e-9);
    assert!((found.p_value - 2.0 * crate::special::normal_sf(2.5)).abs() < 1e-15);
}

#[test]
fn the_estimate_at_an_early_stop_is_pulled_toward_zero() {
    let mut design = Design::equally_spaced(0.05, Sides::Two, Spending::Pocock, 5);
    design.information.truncate(2);
    let found = stage_wise(&design, 2.6).unwrap();
    assert!(found.z_median_unbiased < 2.6 && found.z_median_unbiased > 0.0);
    assert!(found.z_lower.unwrap() > 0.0, "{found:?}");
    assert!(found.p_value < 0.05);
}

/// Jennison and Turnbull (2000), section 8.2: the stage-wise interval rejects exactly when the
/// plan does.
#[test]
fn the_stage_wise_interval_agrees_with_the_plan_at_its_boundary() {
    let design = Design::equally_spaced(0.05, Sides::Two, Spending::ObrienFleming, 4);
    let last = boundaries(&design).unwrap()[3].z.unwrap();
    let at_edge = stage_wise(&design, last).unwrap();
    assert!(at_edge.z_lower.unwrap().abs() < 1e-9);
    assert!((at_edge.p_value - 0.05).abs() < 1e-12);
}

#[test]
fn refusals_name_the_look() {
    let refused = |fractions: &[f64]| {
        boundaries(&Design::at_fractions(
            0.05,
            Sides::Two,
            Spending::Pocock,
            fractions,
        ))
        .unwrap_err()
    };
    assert!(matches!(refused(&[]), DesignError::Looks { looks: 0 }));
    assert!(matches!(
        refused(&[0.5, 0.5]),
        DesignError::Order { look: 2, .. }
    ));
    assert!(matches!(
        refused(&[f64::NAN]),
        DesignError::Order { look: 1, .. }
    ));
    assert!(matches!(
        refused(&[0.5, 100.0]),
        DesignError::OverRun { look: 2, .. }
    ));
    let mut design = Design::equally_spaced(0.7, Sides::Two, Spending::Pocock, 2);
    assert!(matches!(
        boundaries(&design),
        Err(DesignError::Alpha { .. })
    ));
    design.alpha = 0.05;
    design.information_max = 0.0;
    assert!(matches!(
        boundaries(&design),
        Err(DesignError::Maximum { .. })
    ));
    assert!("power=-1".parse::<Spending>().is_err());
    assert!("pocok".parse::<Spending>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_schedule_spends_alpha_and_no_more(
        gaps in prop::collection::vec(0.02_f64..1.0, 1..12),
        alpha in 0.001_f64..0.2,
        exponent in 0.5_f64..4.0,
        two_sided in any::<bool>(),
    ) {
        let sum: f64 = gaps.iter().sum();
        let mut at = 0.0;
        let mut fractions: Vec<f64> = gaps.iter().map(|gap| { at += gap / sum; at }).collect();
        *fractions.last_mut().unwrap() = 1.0;
        let sides = if two_sided { Sides::Two } else { Sides::One };
        for spending in [Spending::ObrienFleming, Spending::Pocock, Spending::Power(exponent)] {
            let design = Design::at_fractions(alpha, sides, spending, &fractions);
            let chances = stopping_chances(&design, 0.0).unwrap();
            let spent: f64 = chances.iter().map(|c| c.above + c.below).sum();
            prop_assert!((spent - alpha).abs() < 1e-9 * alpha.max(1e-3), "{spent} {alpha}");
        }
    }

    #[test]
    fn median_unbiased_lies_within_its_interval(z in -6.0_f64..6.0, looks in 1_u16..6) {
        let design = Design::equally_spaced(0.05, Sides::Two, Spending::ObrienFleming, looks);
        let found = stage_wise(&design, z).unwrap();
        let (lower, upper) = (found.z_lower.unwrap(), found.z_upper.unwrap());
        prop_assert!(lower < found.z_median_unbiased && found.z_median_unbiased < upper);
        prop_assert!((0.0..=1.0).contains(&found.p_value));
    }
}

fn hillstrom(look_of: u16, units_max: f64) -> GroupComparison {
    let control = crate::ArmSummary::from_counts(2_262, 21_306, crate::Side::Control).unwrap();
    let treatment = crate::ArmSummary::from_counts(2_500, 21_307, crate::Side::Treatment).unwrap();
    let units = 42_613.0;
    let spending = Spending::ObrienFleming;
    let options = GroupOptions::equally_spaced(0.05, spending, units_max, look_of, units);
    compare(&control, &treatment, &options).unwrap()
}

#[test]
fn a_plan_of_one_look_is_the_fixed_normal_test() {
    let found = hillstrom(1, 42_613.0);
    let expected = 2.0 * crate::special::normal_sf(found.z.abs());
    assert!((found.comparison.p_value - expected).abs() < 1e-9 * expected);
    let stop = found.at_stop.unwrap();
    assert!((stop.p_value - expected).abs() < 1e-12);
    assert!((stop.absolute.estimate - found.comparison.absolute.estimate).abs() < 1e-9);
}

#[test]
fn p_interval_and_boundary_agree_at_every_look() {
    for units_max in [45_000.0, 60_000.0, 100_000.0, 200_000.0, 400_000.0] {
        let found = hillstrom(8, units_max);
        let comparison = &found.comparison;
        assert_eq!(found.is_crossing, comparison.p_value <= 0.05);
        assert_eq!(found.is_crossing, !comparison.absolute.contains(0.0));
        assert_eq!(found.is_crossing, !comparison.relative.contains(0.0));
        assert_eq!(found.at_stop.is_some(), found.is_crossing);
    }
}

#[test]
fn overwhelming_evidence_keeps_a_positive_p() {
    let control = crate::ArmSummary::new(50_000, 1.0, 1.0).unwrap();
    let treatment = crate::ArmSummary::new(50_000, 2.0, 1.0).unwrap();
    let options = GroupOptions::equally_spaced(0.05, Spending::Pocock, 200_000.0, 4, 100_000.0);
    let found = compare(&control, &treatment, &options).unwrap();
    assert!(found.comparison.p_value > 0.0 && found.comparison.p_value < 1e-290);
    assert!(found.is_crossing && found.at_stop.is_some());
}
