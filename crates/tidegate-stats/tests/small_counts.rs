//! Two small counts: exact coverage, one p-value, agreement with the unconditional test, and bad input.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use tidegate_stats::comparison::Tail;
use tidegate_stats::exact::unconditional_p;
use tidegate_stats::proportions::Count;
use tidegate_stats::small_counts::{
    MAX_UNITS, SmallCountOptions, UNSEARCHED, compare, is_called_for,
};
use tidegate_stats::{Comparison, StatsError};

fn count(successes: u64, units: u64) -> Count {
    Count { successes, units }
}

fn answer(control: Count, treatment: Count) -> Comparison {
    compare(control, treatment, &SmallCountOptions::default()).unwrap()
}

/// Every table of arms of 6 and 7 units, with its answer.
fn all_answers() -> Vec<(u64, u64, Comparison)> {
    let tables = (0..=6).flat_map(|c| (0..=7).map(move |t| (c, t)));
    tables
        .map(|(c, t)| (c, t, answer(count(c, 6), count(t, 7))))
        .collect()
}

fn binomial(n: u64, k: u64, rate: f64) -> f64 {
    let ways = (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
    let power = |base: f64, times: u64| base.powi(i32::try_from(times).unwrap());
    ways * power(rate, k) * power(1.0 - rate, n - k)
}

/// The promise itself, by enumeration: no sampling, every pair of rates on a grid.
#[test]
fn intervals_cover_and_tests_keep_their_level_at_every_rate() {
    let answers = all_answers();
    for i in 1..20 {
        for j in 1..20 {
            let (rate_c, rate_t) = (f64::from(i) / 20.0, f64::from(j) / 20.0);
            let chance_of = |is_in: &dyn Fn(&Comparison) -> bool| -> f64 {
                answers
                    .iter()
                    .filter(|(_, _, found)| is_in(found))
                    .map(|(c, t, _)| binomial(6, *c, rate_c) * binomial(7, *t, rate_t))
                    .sum()
            };
            let difference = rate_t - rate_c;
            let lift = difference / rate_c;
            let slack = 1e-7;
            let near = |found: &tidegate_stats::Effect| {
                found.lower.unwrap() <= difference + slack
                    && found.upper.unwrap() >= difference - slack
            };
            let absolute = chance_of(&|found| near(&found.absolute));
            let relative = chance_of(&|found| {
                found.relative.contains(lift - slack) || found.relative.contains(lift + slack)
            });
            assert!(absolute >= 0.95, "{rate_c} {rate_t}: {absolute}");
            assert!(relative >= 0.95, "{rate_c} {rate_t}: {relative}");
            if i == j {
                let level = chance_of(&|found| found.p_value < 0.05);
                assert!(level <= 0.05, "{rate_c}: {level}");
            }
        }
    }
}

#[test]
fn p_value_and_both_intervals_never_contradict_each_other() {
    for (c, t, found) in all_answers() {
        let is_kept = found.p_value >= 0.05;
        assert_eq!(
            found.absolute.contains(0.0),
            is_kept,
            "{c}/6 {t}/7: {found:?}"
        );
        assert_eq!(
            found.relative.contains(0.0),
            is_kept,
            "{c}/6 {t}/7: {found:?}"
        );
        assert!(
            found.absolute.contains(found.absolute.estimate),
            "{found:?}"
        );
        let relative = found.relative.estimate;
        assert!(
            relative.is_none_or(|effect| found.relative.contains(effect)),
            "{found:?}"
        );
        assert!((0.0..=1.0).contains(&found.p_value));
    }
}

/// Swapping the arms mirrors the difference and leaves the p-value.
#[test]
fn the_arms_may_be_swapped() {
    let (forth, back) = (
        answer(count(2, 31), count(9, 28)),
        answer(count(9, 28), count(2, 31)),
    );
    assert!((forth.p_value / back.p_value - 1.0).abs() < 1e-3);
    let mirrored = back.absolute.upper.unwrap() + forth.absolute.lower.unwrap();
    assert!(mirrored.abs() < 1e-3, "{mirrored}");
}

/// No effect is the worst claim of no increase in ordinary tables, so p is that of the unconditional test.
#[test]
fn p_is_that_of_the_unconditional_test() {
    for (control, treatment) in [
        (count(3, 15), count(7, 12)),
        (count(0, 10), count(4, 10)),
        (count(7, 40), count(1, 38)),
    ] {
        let expected = unconditional_p(control, treatment, Tail::TwoSided).unwrap();
        let found = answer(control, treatment).p_value;
        assert!(
            found >= expected - 1e-5 && found <= 1.02 * expected + 4.0 * UNSEARCHED,
            "{found} {expected}"
        );
    }
}

/// Rare counts in large arms: the number of tables follows the counts, not the arms.
#[test]
fn rare_counts_in_large_arms_are_answered() {
    let found = answer(count(2, 50_000), count(11, 50_000));
    assert!(found.p_value > 0.005 && found.p_value < 0.05, "{found:?}");
    assert!(found.relative.lower.unwrap() > 0.0);
    assert!(is_called_for(count(2, 50_000), count(11, 50_000)));
    assert!(!is_called_for(count(20, 50_000), count(11, 50_000)));
    assert!(!is_called_for(count(0, MAX_UNITS + 1), count(11, 50_000)));
}

#[test]
fn nothing_seen_bounds_the_difference_and_not_the_ratio() {
    let found = answer(count(0, 20), count(0, 30));
    assert_eq!(found.p_value, 1.0);
    assert!(found.absolute.lower.unwrap() > -0.3 && found.absolute.upper.unwrap() < 0.25);
    assert_eq!(found.relative.estimate, None);
    assert_eq!(
        (found.relative.lower, found.relative.upper),
        (Some(-1.0), None)
    );
    let one = answer(count(1, 1), count(0, 1));
    assert!(one.p_value > 0.4 && one.absolute.contains(0.0) && one.relative.contains(0.0));
}

#[test]
fn one_tail_bounds_one_side() {
    let options = SmallCountOptions {
        tail: Tail::Greater,
        ..SmallCountOptions::default()
    };
    let found = compare(count(1, 20), count(8, 20), &options).unwrap();
    assert!(found.p_value < 0.05 && found.absolute.lower.unwrap() > 0.0);
    assert_eq!((found.absolute.upper, found.relative.upper), (None, None));
    let both = answer(count(1, 20), count(8, 20));
    assert!(found.p_value < both.p_value);
}

#[test]
fn what_is_no_pair_of_counts_is_refused() {
    let options = SmallCountOptions::default();
    let refused = |control, treatment| compare(control, treatment, &options).unwrap_err();
    assert!(matches!(
        refused(count(0, 0), count(1, 5)),
        StatsError::TooFewUnits { .. }
    ));
    assert!(matches!(
        refused(count(6, 5), count(1, 5)),
        StatsError::CountExceedsTotal { .. }
    ));
    assert!(matches!(
        refused(count(500, 1_000), count(510, 1_000)),
        StatsError::TooLarge { .. }
    ));
    assert!(matches!(
        refused(count(1, u64::MAX), count(1, 5)),
        StatsError::TooLarge { .. }
    ));
    let wrong = SmallCountOptions {
        alpha: f64::NAN,
        ..options
    };
    assert!(compare(count(1, 5), count(1, 5), &wrong).is_err());
}
