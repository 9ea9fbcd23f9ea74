//! One p-value for both scales: sets and p-values never contradict each other, whatever the input.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use proptest::prelude::*;
use tidegate_stats::bayes::{self, BayesOptions};
use tidegate_stats::count_eprocess::{self, CountOptions, Phase};
use tidegate_stats::cuped;
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::noninferiority::{self, Better, Margin};
use tidegate_stats::poststratify::{self, Stratum};
use tidegate_stats::proportions::{self, Count, ProportionOptions};
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, SequentialOptions};
use tidegate_stats::{
    ArmSummary, Comparison, Contrast, JointMoments, Moments, Null, RelativeSet, StatsError, Tail,
};

fn arm() -> impl Strategy<Value = ArmSummary> {
    (2..100_000_u64, -50.0..50.0_f64, 1e-3..1e3_f64)
        .prop_map(|(units, mean, variance)| ArmSummary::new(units, mean, variance).unwrap())
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![Just(Tail::TwoSided), Just(Tail::Greater), Just(Tail::Less)]
}

fn fixed(pair: (&ArmSummary, &ArmSummary), tail: Tail, null: Null) -> Comparison {
    fixed::compare(
        pair.0,
        pair.1,
        &FixedOptions {
            tail,
            null,
            ..FixedOptions::default()
        },
    )
    .unwrap()
}

fn sequential(pair: (&ArmSummary, &ArmSummary), tail: Tail, null: Null) -> Comparison {
    let options = SequentialOptions {
        tail,
        null,
        burn_in_events: 0,
        tune_at: 900.0,
        ..Default::default()
    };
    sequential::compare(pair.0, pair.1, &options).unwrap()
}

/// Both sets contain the null exactly if p does not refute it, away from the last digits.
fn agrees(comparison: &Comparison) -> Result<(), TestCaseError> {
    let alpha = comparison.method.alpha;
    if (comparison.p_value / alpha - 1.0).abs() < 1e-9 {
        return Ok(());
    }
    let refuted = comparison.p_value < alpha;
    match comparison.null {
        Null::Zero => {
            prop_assert_eq!(comparison.absolute.contains(0.0), !refuted);
            prop_assert_eq!(comparison.relative.contains(0.0), !refuted);
        }
        Null::Relative(theta) => prop_assert_eq!(comparison.relative.contains(theta), !refuted),
        Null::Absolute(shift) => prop_assert_eq!(comparison.absolute.contains(shift), !refuted),
    }
    Ok(())
}

/// Nothing is NaN or infinite, and the estimate lies in its own set.
fn is_sound(comparison: &Comparison) -> Result<(), TestCaseError> {
    let relative = &comparison.relative;
    let numbers = [
        Some(comparison.p_value),
        Some(comparison.ln_p),
        Some(comparison.standard_error),
        Some(comparison.absolute.estimate),
        comparison.absolute.lower,
        comparison.absolute.upper,
        relative.estimate,
        relative.lower,
        relative.upper,
        comparison.method.multiplier,
    ];
    for number in numbers.into_iter().flatten() {
        prop_assert!(number.is_finite(), "{comparison:?}");
    }
    prop_assert!((0.0..=1.0).contains(&comparison.p_value));
    prop_assert!(comparison.absolute.contains(comparison.absolute.estimate));
    if let (Some(lower), Some(upper)) = (relative.lower, relative.upper) {
        prop_assert!(lower <= upper, "{relative:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn sets_and_p_values_agree_about_every_null(
        control in arm(),
        treatment in arm(),
        tail in tail(),
        theta in -0.9..3.0_f64,
    ) {
        for null in [Null::Zero, Null::Relative(theta), Null::Absolute(theta)] {
            for comparison in [
                fixed((&control, &treatment), tail, null),
                sequential((&control, &treatment), tail, null),
            ] {
                agrees(&comparison)?;
                is_sound(&comparison)?;
            }
        }
    }

    #[test]
    fn the_p_value_is_one_on_both_scales(control in arm(), treatment in arm(), tail in tail()) {
        for method in [fixed, sequential] {
            let pair = (&control, &treatment);
            let absolute = method(pair, tail, Null::Absolute(0.0)).p_value;
            let relative = method(pair, tail, Null::Relative(0.0)).p_value;
            prop_assert!((absolute - relative).abs() <= 1e-12);
            prop_assert_eq!(absolute, method(pair, tail, Null::Zero).p_value);
        }
    }

    #[test]
    fn swapping_the_arms_mirrors_the_difference_and_keeps_p(control in arm(), treatment in arm()) {
        for method in [fixed, sequential] {
            let one = method((&control, &treatment), Tail::TwoSided, Null::Zero);
            let other = method((&treatment, &control), Tail::TwoSided, Null::Zero);
            prop_assert_eq!(one.ln_p, other.ln_p);
            prop_assert_eq!(one.absolute.estimate, -other.absolute.estimate);
            prop_assert_eq!(one.absolute.lower, other.absolute.upper.map(|end| -end));
            let up = method((&control, &treatment), Tail::Greater, Null::Zero);
            let down = method((&treatment, &control), Tail::Less, Null::Zero);
            prop_assert_eq!(up.ln_p, down.ln_p);
        }
    }

    #[test]
    fn the_unit_of_the_metric_does_not_matter(
        control in arm(),
        treatment in arm(),
        tail in tail(),
        power in -200..200_i32,
    ) {
        let scale = 2f64.powi(power);
        let scaled = |arm: &ArmSummary| {
            ArmSummary::new(arm.units, arm.mean * scale, arm.variance * scale * scale).unwrap()
        };
        let one = fixed((&control, &treatment), tail, Null::Zero);
        let other = fixed((&scaled(&control), &scaled(&treatment)), tail, Null::Zero);
        prop_assert_eq!(one.ln_p, other.ln_p);
        prop_assert_eq!(one.relative.set, other.relative.set);
        for (left, right) in [
            (one.relative.lower, other.relative.lower),
            (one.relative.upper, other.relative.upper),
        ] {
            prop_assert_eq!(left.is_some(), right.is_some());
            if let (Some(left), Some(right)) = (left, right) {
                prop_assert!((left - right).abs() <= 1e-9 * left.abs().max(1e-3), "{left} {right}");
            }
        }
    }

    #[test]
    fn a_negative_baseline_mirrors_a_positive_one(control in arm(), treatment in arm()) {
        let negated = |arm: &ArmSummary| ArmSummary::new(arm.units, -arm.mean, arm.variance).unwrap();
        let one = fixed((&control, &treatment), Tail::TwoSided, Null::Zero);
        let other = fixed((&negated(&control), &negated(&treatment)), Tail::TwoSided, Null::Zero);
        prop_assert_eq!(one.relative.estimate, other.relative.estimate.map(|value| -value));
        prop_assert_eq!(one.relative.lower, other.relative.upper.map(|value| -value));
        prop_assert_eq!(one.relative.set, other.relative.set);
    }

    #[test]
    fn a_monitored_set_is_never_tighter_than_a_single_look(control in arm(), treatment in arm()) {
        let once = FixedOptions { reference: fixed::Reference::Normal, ..FixedOptions::default() };
        let once = fixed::compare(&control, &treatment, &once).unwrap();
        let always = sequential((&control, &treatment), Tail::TwoSided, Null::Zero);
        prop_assert!(always.p_value >= once.p_value);
        prop_assert!(always.method.multiplier > once.method.multiplier);
    }

    #[test]
    fn scores_and_their_intervals_agree(
        counts in (1..400_u64, 1..400_u64).prop_flat_map(|(n, m)| (0..=n, Just(n), 0..=m, Just(m))),
        tail in tail(),
    ) {
        let control = Count { successes: counts.0, units: counts.1 };
        let treatment = Count { successes: counts.2, units: counts.3 };
        let options = ProportionOptions { tail, ..ProportionOptions::default() };
        let comparison = proportions::compare(control, treatment, &options).unwrap();
        agrees(&comparison)?;
        is_sound(&comparison)?;
        prop_assert!(comparison.absolute.lower.is_none_or(|end| end >= -1.0));
        prop_assert!(comparison.relative.lower.is_none_or(|end| end >= -1.0));
    }

    #[test]
    fn count_sets_agree_with_their_p_values(
        phases in prop::collection::vec((0.01..0.99_f64, 0..300_u64, 0..300_u64), 1..4),
        tail in tail(),
        null_ratio in 0.3..3.0_f64,
    ) {
        let phases: Vec<Phase> = phases
            .into_iter()
            .map(|(treatment_share, events_control, events_treatment)| Phase {
                treatment_share,
                events_control,
                events_treatment,
            })
            .collect();
        let options = CountOptions { tail, null_ratio, ..CountOptions::default() };
        let actual = count_eprocess::compare(&phases, &options).unwrap();
        prop_assert!((0.0..=1.0).contains(&actual.p_value));
        if !actual.ratio_varies && (actual.p_value / 0.05 - 1.0).abs() > 1e-6 {
            prop_assert_eq!(actual.relative.contains(null_ratio - 1.0), actual.p_value > 0.05, "{:?}", actual);
        }
    }

    #[test]
    fn non_inferiority_is_the_one_sided_relative_bound(
        control in arm(),
        treatment in arm(),
        margin in 0.0..0.5_f64,
    ) {
        let contrast = Contrast::of_means(&control, &treatment).unwrap();
        for better in [Better::Higher, Better::Lower] {
            let options = FixedOptions::default();
            let once =
                noninferiority::fixed(&contrast, Margin::Relative(margin), better, &options).unwrap();
            agrees(&once)?;
            let options = SequentialOptions::default();
            let always =
                noninferiority::sequential(&contrast, Margin::Relative(margin), better, &options)
                    .unwrap();
            agrees(&always)?;
        }
    }
}

#[test]
fn phases_that_contradict_each_other_are_named() {
    let phase = |treatment_share, events_control, events_treatment| Phase {
        treatment_share,
        events_control,
        events_treatment,
    };
    let phases = [phase(0.86, 33, 0), phase(0.01, 0, 17)];
    let actual = count_eprocess::compare(&phases, &CountOptions::default()).unwrap();
    assert!(actual.ratio_varies && actual.p_value < 1e-10);
    assert_eq!(actual.relative.set, RelativeSet::Line);
    let steady = [phase(0.5, 33, 30), phase(0.1, 90, 11)];
    let actual = count_eprocess::compare(&steady, &CountOptions::default()).unwrap();
    assert!(!actual.ratio_varies && actual.relative.contains(0.0));
}

#[test]
fn the_margin_counts_the_noise_of_the_baseline() {
    let control = ArmSummary::new(1000, 10.0, 400.0).unwrap();
    let treatment = ArmSummary::new(1000, 10.2, 400.0).unwrap();
    let contrast = Contrast::of_means(&control, &treatment).unwrap();
    let comparison = noninferiority::fixed(
        &contrast,
        Margin::Relative(0.1),
        Better::Higher,
        &FixedOptions {
            reference: fixed::Reference::Normal,
            ..FixedOptions::default()
        },
    )
    .unwrap();
    // z = (10.2 - 0.9 * 10) / sqrt(0.4 + 0.81 * 0.4)
    let z = 1.2 / (0.4_f64 + 0.81 * 0.4).sqrt();
    assert!((comparison.p_value / tidegate_stats::special::normal_sf(z) - 1.0).abs() < 1e-12);
    for margin in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(noninferiority::null(Margin::Relative(margin), Better::Higher).is_err());
    }
}

#[test]
fn a_baseline_near_zero_gives_a_complement_or_a_line_never_a_cut_interval() {
    let noisy = ArmSummary::new(50, 0.2, 64.0).unwrap();
    let far = ArmSummary::new(60, 40.0, 70.0).unwrap();
    let near = ArmSummary::new(60, 0.9, 70.0).unwrap();
    let options = FixedOptions::default();
    let complement = fixed::compare(&noisy, &far, &options).unwrap().relative;
    assert_eq!(complement.set, RelativeSet::Complement);
    assert!(complement.contains(1e6) && complement.contains(-1e6) && !complement.contains(0.0));
    let line = fixed::compare(&noisy, &near, &options).unwrap().relative;
    assert_eq!(
        (line.set, line.lower, line.upper),
        (RelativeSet::Line, None, None)
    );
    let zero = ArmSummary::new(50, 0.0, 64.0).unwrap();
    assert_eq!(
        fixed::compare(&zero, &near, &options)
            .unwrap()
            .relative
            .estimate,
        None
    );
}

#[test]
fn nothing_is_claimed_before_the_burn_in() {
    let control = ArmSummary::new(5000, 0.002, 0.002).unwrap().with_events(10);
    let treatment = ArmSummary::new(5000, 0.02, 0.02).unwrap().with_events(100);
    let comparison =
        sequential::compare(&control, &treatment, &SequentialOptions::default()).unwrap();
    assert_eq!((comparison.p_value, comparison.absolute.lower), (1.0, None));
    assert_eq!(comparison.relative.set, RelativeSet::Line);
    assert_eq!(
        serde_json::to_value(&comparison.notes[1]).unwrap(),
        serde_json::json!({ "kind": "burn_in", "side": "control", "events": 10, "needed": 20 })
    );
}

#[test]
fn impossible_arms_and_options_are_refused_by_name() {
    let good = ArmSummary::new(10, 1.0, 1.0).unwrap();
    let constant = ArmSummary::new(10, 1.0, 0.0).unwrap();
    let single = ArmSummary::new(1, 1.0, 1.0).unwrap();
    let options = FixedOptions::default();
    assert_eq!(
        fixed::compare(&constant, &constant, &options),
        Err(StatsError::ZeroVariance)
    );
    assert!(matches!(
        fixed::compare(&single, &good, &options),
        Err(StatsError::TooFewUnits {
            units: 1,
            needed: 2,
            ..
        })
    ));
    assert!(fixed::compare(&constant, &good, &options).is_ok());
    assert!(ArmSummary::new(10, f64::NAN, 1.0).is_err());
    assert!(ArmSummary::new(10, 1.0, -1.0).is_err());
    for alpha in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(fixed::compare(&good, &good, &FixedOptions { alpha, ..options }).is_err());
    }
    let one_sided = SequentialOptions {
        alpha: 0.6,
        tail: Tail::Greater,
        ..SequentialOptions::default()
    };
    assert!(sequential::compare(&good, &good, &one_sided).is_err());
    let count = Count {
        successes: 3,
        units: 2,
    };
    assert!(proportions::compare(count, count, &ProportionOptions::default()).is_err());
    assert!(count_eprocess::compare(&[], &CountOptions::default()).is_err());
}

#[test]
fn no_bit_pattern_makes_a_comparison_panic_or_answer_with_nan() {
    bolero::check!()
        .with_type::<([u64; 6], u8)>()
        .for_each(|(bits, choice)| {
            let number = |index: usize| f64::from_bits(bits[index]);
            let arm = |at: usize| ArmSummary {
                units: bits[at],
                mean: number(at + 1),
                variance: number(at + 2),
                events: bits[at],
            };
            let tail = [Tail::TwoSided, Tail::Greater, Tail::Less][usize::from(choice % 3)];
            let null = [
                Null::Zero,
                Null::Relative(number(0)),
                Null::Absolute(number(3)),
            ][usize::from(choice / 3 % 3)];
            let options = FixedOptions {
                tail,
                null,
                ..FixedOptions::default()
            };
            let monitored = SequentialOptions {
                tail,
                null,
                ..SequentialOptions::default()
            };
            for comparison in [
                fixed::compare(&arm(0), &arm(3), &options),
                sequential::compare(&arm(0), &arm(3), &monitored),
            ]
            .into_iter()
            .flatten()
            {
                is_sound(&comparison).unwrap();
            }
        });
}

#[test]
fn no_bit_pattern_breaks_an_adjusted_metric() {
    let generator = bolero::generator::produce::<([[u64; 3]; 4], [[u64; 3]; 4], u8)>();
    bolero::check!()
        .with_generator(generator)
        .for_each(|(control, treatment, choice)| {
            // Half of the runs with ordinary magnitudes, where everything must be answered for.
            let number = |bits: u64| {
                if choice % 2 == 0 {
                    f64::from_bits(bits)
                } else {
                    f64::from(u8::try_from(bits % 7).unwrap()) - 2.0
                }
            };
            let rows = |bits: &[[u64; 3]; 4]| {
                let mut moments = JointMoments::new(3).unwrap();
                for row in bits {
                    // Rows that are not finite are refused here and leave fewer units.
                    let _ = moments.push(&row.map(number));
                }
                moments
            };
            let column = |bits: &[[u64; 3]; 4], at: usize| {
                let values = bits
                    .iter()
                    .map(|row| number(row[at]))
                    .filter(|value| value.is_finite());
                Moments::from_values(values).unwrap()
            };
            let (left, right) = (rows(control), rows(treatment));
            let strata = [0, 1].map(|at| Stratum {
                control: column(control, at),
                treatment: column(treatment, at),
            });
            let columns = RatioColumns {
                numerator: 0,
                denominator: 1,
            };
            let contrasts = [
                cuped::means(&left, &right, 0, &[1, 2]).map(|adjusted| adjusted.contrast),
                cuped::ratio(
                    &left,
                    &right,
                    columns,
                    &[RatioColumns {
                        numerator: 2,
                        denominator: 1,
                    }],
                )
                .map(|adjusted| adjusted.contrast),
                ratio::contrast(&left, &right, columns),
                poststratify::contrast(&strata),
            ];
            for contrast in contrasts.into_iter().flatten() {
                let monitored = SequentialOptions {
                    burn_in_events: 0,
                    ..SequentialOptions::default()
                };
                for comparison in [
                    fixed::compare_contrast(&contrast, &FixedOptions::default()),
                    sequential::compare_contrast(&contrast, &monitored),
                ]
                .into_iter()
                .flatten()
                {
                    is_sound(&comparison).unwrap();
                }
                if let Ok(posterior) = bayes::compare_contrast(&contrast, &BayesOptions::default())
                {
                    assert!(
                        (0.0..=1.0).contains(&posterior.chance_to_win),
                        "{posterior:?}"
                    );
                    for number in [
                        posterior.loss_if_shipped,
                        posterior.loss_if_kept,
                        posterior.posterior_sd,
                    ] {
                        assert!(number.is_finite() && number >= 0.0, "{posterior:?}");
                    }
                }
            }
        });
}
