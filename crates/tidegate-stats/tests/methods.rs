//! Adjusted, stratified, capped, ranked and Bayesian estimates against direct computation.
//!
//! Long because each method is held to the same table of promises, side by side.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use tidegate_stats::bayes::{self, BayesOptions, Prior};
use tidegate_stats::betting::{self, BoundedMean, ContrastBet};
use tidegate_stats::comparison::Parameters;
use tidegate_stats::count_eprocess::{self, CountOptions, Phase};
use tidegate_stats::cuped;
use tidegate_stats::exact;
use tidegate_stats::fixed::{self, FixedOptions, Reference};
use tidegate_stats::poststratify::{self, Stratum};
use tidegate_stats::proportions::Count;
use tidegate_stats::quantile::{self, RankedSample};
use tidegate_stats::rank_sketch::RankSketch;
use tidegate_stats::ratio::{self, RatioColumns};
use tidegate_stats::sequential::{self, Boundary, SequentialOptions, Tuning};
use tidegate_stats::small_arm::SmallArm;
use tidegate_stats::special::normal_quantile;
use tidegate_stats::winsorise::{Cap, Population};
use tidegate_stats::{ArmSummary, JointMoments, Moments, Note, Side, StatsError, Tail};

/// A reproducible stream of numbers in (0, 1).
struct Stream(u64);

impl Stream {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + 1e-17
    }

    fn normal(&mut self) -> f64 {
        normal_quantile(self.uniform())
    }
}

fn joint(rows: &[Vec<f64>]) -> JointMoments {
    let mut moments = JointMoments::new(rows[0].len()).unwrap();
    for row in rows {
        moments.push(row).unwrap();
    }
    moments
}

fn close(left: f64, right: f64) {
    assert!(
        (left - right).abs() <= 1e-9 * right.abs().max(1e-6),
        "{left} is not {right}"
    );
}

/// Outcome, two covariates and their sum, with an effect of 0.5 in treatment.
fn history(seed: u64, units: usize, effect: f64) -> Vec<Vec<f64>> {
    let mut stream = Stream(seed);
    (0..units)
        .map(|_| {
            let (x, w) = (3.0 + stream.normal(), stream.uniform());
            let y = 10.0 + effect + 2.0 * x - w + stream.normal();
            vec![y, x, w, x + w]
        })
        .collect()
}

#[test]
fn adjustment_equals_subtracting_the_covariates_unit_by_unit() {
    let (control, treatment) = (history(1, 300, 0.0), history(2, 200, 0.5));
    let adjusted = cuped::means(&joint(&control), &joint(&treatment), 0, &[1, 2]).unwrap();
    assert!(adjusted.dropped.is_empty());
    close(adjusted.coefficients[0].round(), 2.0);
    let residual = |rows: &[Vec<f64>]| {
        let beta = &adjusted.coefficients;
        let values = rows
            .iter()
            .map(|row| row[0] - beta[0] * row[1] - beta[1] * row[2]);
        ArmSummary::from_moments(&Moments::from_values(values).unwrap(), Side::Control).unwrap()
    };
    let options = FixedOptions::default();
    let direct = fixed::compare(&residual(&control), &residual(&treatment), &options).unwrap();
    let ours = fixed::compare_contrast(&adjusted.contrast, &options).unwrap();
    close(ours.absolute.estimate, direct.absolute.estimate);
    close(ours.standard_error, direct.standard_error);
    close(ours.ln_p, direct.ln_p);
    assert_eq!(ours.relative.contains(0.0), ours.absolute.contains(0.0));
    assert!(adjusted.variance_reduction > 0.7 && adjusted.variance_reduction < 0.9);
    assert!(
        ours.notes
            .iter()
            .any(|note| matches!(note, Note::VarianceReduction { .. }))
    );
}

#[test]
fn the_relative_set_of_an_adjusted_metric_inverts_its_own_contrast() {
    // For every end theta: the per-unit contrast with kappa = beta (1 + w_T theta) is at the multiplier.
    let (control, treatment) = (history(3, 150, 0.0), history(4, 250, 0.5));
    let adjusted = cuped::means(&joint(&control), &joint(&treatment), 0, &[1]).unwrap();
    let options = FixedOptions {
        reference: Reference::Normal,
        ..FixedOptions::default()
    };
    let set = fixed::compare_contrast(&adjusted.contrast, &options)
        .unwrap()
        .relative;
    let share = 250.0 / 400.0;
    for theta in [set.lower.unwrap(), set.upper.unwrap()] {
        let kappa = adjusted.coefficients[0] * (1.0 + share * theta);
        let moments = |rows: &[Vec<f64>], phi: f64| {
            Moments::from_values(rows.iter().map(|row| phi * row[0] - kappa * row[1])).unwrap()
        };
        let (untreated, treated) = (moments(&control, 1.0 + theta), moments(&treatment, 1.0));
        let variance = treated.variance().unwrap() / 250.0 + untreated.variance().unwrap() / 150.0;
        let z = (treated.mean().unwrap() - untreated.mean().unwrap()) / variance.sqrt();
        close(z.abs(), -normal_quantile(0.025));
    }
}

#[test]
fn covariates_that_add_nothing_are_dropped_and_named() {
    let (control, treatment) = (history(5, 100, 0.0), history(6, 100, 0.5));
    let with_sum = cuped::means(&joint(&control), &joint(&treatment), 0, &[1, 2, 3]).unwrap();
    let without = cuped::means(&joint(&control), &joint(&treatment), 0, &[1, 2]).unwrap();
    assert_eq!(with_sum.dropped, [2]);
    close(
        with_sum.contrast.difference(),
        without.contrast.difference(),
    );
    let constant =
        |rows: &[Vec<f64>]| joint(&rows.iter().map(|row| vec![row[0], 7.0]).collect::<Vec<_>>());
    let unadjusted = cuped::means(&constant(&control), &constant(&treatment), 0, &[1]).unwrap();
    assert_eq!(
        (unadjusted.dropped, unadjusted.variance_reduction),
        (vec![0], 0.0)
    );
    assert!(cuped::means(&joint(&control), &joint(&treatment), 0, &[9]).is_err());
}

#[test]
fn units_without_history_form_a_stratum_through_their_indicator() {
    let blank = |mut rows: Vec<Vec<f64>>| {
        for (index, row) in rows.iter_mut().enumerate() {
            // Column 2 says whether there is history; newcomers differ in level.
            let known = index % 3 != 0;
            row[2] = f64::from(u8::from(known));
            row[0] += 5.0 * row[2];
            row[1] *= row[2];
        }
        joint(&rows)
    };
    let (control, treatment) = (blank(history(7, 3000, 0.0)), blank(history(8, 3000, 0.5)));
    let ignoring = cuped::means(&control, &treatment, 0, &[1]).unwrap();
    let knowing = cuped::means(&control, &treatment, 0, &[1, 2]).unwrap();
    assert!(knowing.variance_reduction > ignoring.variance_reduction);
    let se = knowing.contrast.standard_error().unwrap();
    assert!((knowing.contrast.difference() - 0.5).abs() < 4.0 * se);
}

#[test]
fn a_ratio_with_history_reproduces_gbstats_s5() {
    // gbstats (MIT), packages/stats/tests/frequentist/test_tests.py, the ratio test with CUPED.
    let control = JointMoments::from_sums(
        100,
        &[
            485.112_236_689_623,
            679.909_327_584_491_7,
            192.591_380_699_915_36,
            290.139_839_975_023_3,
        ],
        &[
            2_715.484_666_118_136,
            3_602.146_836_776_702,
            1_113.621_575_931_835_2,
            1_559.287_843_494_467_6,
            4_939.424_001_640_236,
            1_460.318_107_927_698_3,
            2_130.940_407_444_674_7,
            460.076_026_390_857,
            634.239_482_353_647,
            920.946_138_503_889_8,
        ],
    )
    .unwrap();
    let treatment = JointMoments::from_sums(
        100,
        &[
            514.775_782_660_877_7,
            705.409_087_438_375_9,
            206.941_572_274_025_36,
            302.543_891_391_073_26,
        ],
        &[
            2_994.897_482_705_013,
            3_918.156_143_160_071_7,
            1_237.095_302_112_599_7,
            1_701.028_727_004_026_5,
            5_291.366_041_463_92,
            1_604.075_950_326_652_2,
            2_292.081_739_775_257,
            514.290_370_224_675_7,
            698.417_342_581_790_8,
            994.450_620_812_566_3,
        ],
    )
    .unwrap();
    let outcome = RatioColumns {
        numerator: 0,
        denominator: 1,
    };
    let before = RatioColumns {
        numerator: 2,
        denominator: 3,
    };
    let adjusted = cuped::ratio(&control, &treatment, outcome, &[before]).unwrap();
    let effect = DeltaOfAdjusted::of([&control, &treatment], &adjusted, [outcome, before]);
    let printed = |actual: f64, digits: f64| {
        assert!(
            (actual - digits).abs() < 0.51e-5,
            "{actual} is not {digits}"
        );
    };
    let degrees = adjusted.contrast.degrees();
    let once = fixed::multiplier(0.05, degrees, Tail::TwoSided) * effect.standard_error;
    printed(effect.estimate, -0.0007);
    printed(effect.estimate - once, -0.00841);
    printed(effect.estimate + once, 0.00700);
    let z = effect.estimate / effect.standard_error;
    printed(fixed::ln_p_value(z, degrees, Tail::TwoSided).exp(), 0.85771);
    let options = SequentialOptions {
        tune_at: 5000.0,
        tuning: Tuning::Common,
        ..Default::default()
    };
    let always = Boundary::new(&options).unwrap().multiplier(200.0) * effect.standard_error;
    printed(effect.estimate - always, -0.02063);
    printed(effect.estimate + always, 0.01923);
    // Ours is a share of the adjusted baseline and has the p-value of the absolute effect.
    let ours = fixed::compare_contrast(&adjusted.contrast, &FixedOptions::default()).unwrap();
    assert!((ours.relative.lower.unwrap() - (effect.estimate - once)).abs() < 2e-4);
    assert!((ours.relative.upper.unwrap() - (effect.estimate + once)).abs() < 2e-4);
    assert!((ours.p_value - 0.85771).abs() < 1e-3);
}

/// The delta-method relative effect with history that gbstats publishes, from the moments.
struct DeltaOfAdjusted {
    estimate: f64,
    standard_error: f64,
}

impl DeltaOfAdjusted {
    fn of(
        arms: [&JointMoments; 2],
        adjusted: &cuped::Adjustment,
        columns: [RatioColumns; 2],
    ) -> Self {
        let ratio = |arm: &JointMoments, of: RatioColumns| {
            arm.mean(of.numerator).unwrap() / arm.mean(of.denominator).unwrap()
        };
        let baseline = ratio(arms[0], columns[0]);
        let estimate = adjusted.contrast.difference() / baseline;
        // Variance of k times the outcome minus the explained part, per unit.
        let variance = |arm: &JointMoments, k: f64| {
            let mut weights = [0.0; 4];
            for (of, scale) in [(columns[0], k), (columns[1], -adjusted.coefficients[0])] {
                let denominator = arm.mean(of.denominator).unwrap();
                weights[of.numerator] += scale / denominator;
                weights[of.denominator] -= scale * ratio(arm, of) / denominator;
            }
            let mut total = 0.0;
            for (i, left) in weights.iter().enumerate() {
                for (j, right) in weights.iter().enumerate() {
                    total += left * right * arm.covariance(i, j).unwrap();
                }
            }
            total / arm.units() as f64
        };
        let total = variance(arms[1], 1.0) + variance(arms[0], 1.0 + estimate);
        Self {
            estimate,
            standard_error: total.sqrt() / baseline.abs(),
        }
    }
}

#[test]
fn a_ratio_has_the_variance_of_its_linearised_score() {
    let mut stream = Stream(9);
    let rows: Vec<Vec<f64>> = (0..500)
        .map(|_| {
            let d = 1.0 + (5.0 * stream.uniform()).floor();
            vec![d * 2.0 + stream.normal(), d]
        })
        .collect();
    let columns = RatioColumns {
        numerator: 0,
        denominator: 1,
    };
    let estimate = ratio::estimate(&joint(&rows), columns, Side::Control).unwrap();
    let total = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>();
    close(estimate.value, total(0) / total(1));
    let mean = total(1) / 500.0;
    let scores = rows
        .iter()
        .map(|row| (row[0] - estimate.value * row[1]) / mean);
    close(
        estimate.variance,
        Moments::from_values(scores).unwrap().variance().unwrap() / 500.0,
    );
    let empty = joint(&[vec![1.0, 0.0], vec![2.0, 0.0]]);
    let refused = ratio::estimate(&empty, columns, Side::Treatment);
    assert_eq!(
        refused,
        Err(StatsError::ZeroDenominator {
            side: Side::Treatment
        })
    );
}

#[test]
fn strata_are_weighed_by_their_pooled_share() {
    let mut stream = Stream(10);
    let mut sample = |units: usize, level: f64| {
        Moments::from_values((0..units).map(|_| level + stream.normal())).unwrap()
    };
    let strata = [
        Stratum {
            control: sample(900, 1.0),
            treatment: sample(100, 1.5),
        },
        Stratum {
            control: sample(500, 9.0),
            treatment: sample(500, 9.5),
        },
    ];
    let contrast = poststratify::contrast(&strata).unwrap();
    let mean = |moments: &Moments| moments.mean().unwrap();
    let expected = 0.5 * (mean(&strata[0].treatment) - mean(&strata[0].control))
        + 0.5 * (mean(&strata[1].treatment) - mean(&strata[1].control));
    close(contrast.difference(), expected);
    // Pooling the ramp instead would confound the effect with the level of the strata.
    assert!((contrast.difference() - 0.5).abs() < 0.3);
    close(
        contrast.control(),
        0.5 * mean(&strata[0].control) + 0.5 * mean(&strata[1].control),
    );
    assert_eq!(
        poststratify::contrast(&[]).unwrap_err(),
        too_few(Side::Control, 0)
    );
}

fn too_few(side: Side, units: u64) -> StatsError {
    StatsError::TooFewUnits {
        side,
        units,
        needed: 2,
    }
}

#[test]
fn thin_strata_are_pooled_and_counted() {
    let of = |values: &[f64]| Moments::from_values(values.iter().copied()).unwrap();
    let strata = [
        Stratum {
            control: of(&[1.0, 2.0, 3.0]),
            treatment: of(&[2.0, 3.0, 5.0]),
        },
        Stratum {
            control: of(&[4.0]),
            treatment: of(&[5.0]),
        },
        Stratum {
            control: of(&[6.0]),
            treatment: of(&[7.0]),
        },
    ];
    let contrast = poststratify::contrast(&strata).unwrap();
    let comparison = fixed::compare_contrast(&contrast, &FixedOptions::default()).unwrap();
    assert_eq!(
        (comparison.units_control, comparison.units_treatment),
        (5, 5)
    );
    assert_eq!(comparison.notes[0], Note::PooledStrata { strata: 2 });
}

#[test]
fn a_stratified_contrast_of_one_stratum_is_the_plain_one() {
    let (control, treatment) = (history(11, 80, 0.0), history(12, 90, 0.5));
    let column = |rows: &[Vec<f64>]| Moments::from_values(rows.iter().map(|row| row[0])).unwrap();
    let stratum = Stratum {
        control: column(&control),
        treatment: column(&treatment),
    };
    let plain = fixed::compare(
        &ArmSummary::from_moments(&stratum.control, Side::Control).unwrap(),
        &ArmSummary::from_moments(&stratum.treatment, Side::Treatment).unwrap(),
        &FixedOptions::default(),
    )
    .unwrap();
    let contrast = poststratify::contrast(&[stratum]).unwrap();
    let stratified = fixed::compare_contrast(&contrast, &FixedOptions::default()).unwrap();
    close(stratified.ln_p, plain.ln_p);
    close(
        stratified.relative.upper.unwrap(),
        plain.relative.upper.unwrap(),
    );
}

#[test]
fn a_clustered_quantile_covers_the_truth_over_replications() {
    // Users with a speed of their own: 40 users, 10 requests each; the true median is known.
    let mut covered = [0; 2];
    let mut stream = Stream(13);
    for _ in 0..400 {
        let mut observations = Vec::new();
        for user in 0..60_u64 {
            let speed = stream.normal();
            for _ in 0..10 {
                observations.push((100.0 + 10.0 * speed + 5.0 * stream.normal(), user));
            }
        }
        let independent: Vec<(f64, u64)> = observations
            .iter()
            .enumerate()
            .map(|(i, row)| (row.0, i as u64))
            .collect();
        for (index, sample) in [observations, independent].into_iter().enumerate() {
            let estimate = RankedSample::new(sample)
                .unwrap()
                .estimate(0.5, Side::Control)
                .unwrap();
            let z = (estimate.value - 100.0) / estimate.variance.sqrt();
            covered[index] += i32::from(z.abs() < 1.96);
        }
    }
    assert!(covered[0] >= 364, "clustered: {} of 400", covered[0]);
    // Treating requests as independent is what must not be done.
    assert!(covered[1] < 300, "independent: {} of 400", covered[1]);
}

#[test]
fn quantiles_need_enough_observations_and_merge_in_any_order() {
    let sample = |from: u32, to: u32| {
        RankedSample::new(
            (from..to)
                .map(|k| (f64::from(k * 7919 % 1009), u64::from(k)))
                .collect(),
        )
        .unwrap()
    };
    assert!(matches!(
        sample(0, 3837).estimate(0.999, Side::Control),
        Err(StatsError::TooFewUnits { needed: 3838, .. })
    ));
    assert!(sample(0, 3838).estimate(0.999, Side::Control).is_ok());
    let mut merged = sample(500, 1000);
    merged.merge(&sample(0, 500));
    assert_eq!(merged, sample(0, 1000));
    let text = serde_json::to_string(&merged).unwrap();
    assert_eq!(serde_json::from_str::<RankedSample>(&text).unwrap(), merged);
    let contrast = quantile::contrast(&sample(0, 900), &sample(0, 1000), 0.9).unwrap();
    assert!(fixed::compare_contrast(&contrast, &FixedOptions::default()).is_ok());
    assert!(RankedSample::new(vec![(f64::NAN, 0)]).is_err());
    let tied = RankedSample::new((0..100).map(|unit| (1.0, unit)).collect()).unwrap();
    let tied = quantile::contrast(&tied, &tied, 0.5).unwrap();
    let refused = fixed::compare_contrast(&tied, &FixedOptions::default());
    assert_eq!(refused, Err(StatsError::ZeroVariance));
}

#[test]
fn a_sketch_ranks_like_the_sorted_sample() {
    let mut stream = Stream(16);
    let mut observations = Vec::new();
    let mut below = JointMoments::new(2).unwrap();
    let (mut sketch, mut shard) = (RankSketch::new(), RankSketch::new());
    for user in 0..3000_u64 {
        let speed = stream.normal();
        let mut fast = 0.0;
        for request in 0..10 {
            let latency = (4.0 + 0.5 * speed + 0.5 * stream.normal()).exp();
            observations.push((latency, user));
            if request % 2 == 0 {
                &mut sketch
            } else {
                &mut shard
            }
            .push(latency)
            .unwrap();
            fast += f64::from(u8::from(latency <= 140.0));
        }
        below.push(&[fast, 10.0]).unwrap();
    }
    shard.merge(&sketch);
    let exact = RankedSample::new(observations).unwrap();
    for nu in [0.5, 0.9, 0.99] {
        let (left, right) = (
            shard.estimate(nu, &below, Side::Control).unwrap(),
            exact.estimate(nu, Side::Control).unwrap(),
        );
        assert!(
            (left.value / right.value - 1.0).abs() < 0.004,
            "{left:?} {right:?}"
        );
        // The threshold of 140 lies near the 0.9 quantile, so the variance is right there.
        let near = nu == 0.9;
        assert!(
            !near || (left.variance / right.variance - 1.0).abs() < 0.2,
            "{left:?} {right:?}"
        );
    }
    let text = serde_json::to_string(&shard).unwrap();
    assert_eq!(serde_json::from_str::<RankSketch>(&text).unwrap(), shard);
    assert_eq!(shard.observations(), 30_000);
    assert!(shard.push(f64::NAN).is_err());
    assert!(
        RankSketch::new()
            .estimate(0.5, &below, Side::Control)
            .is_err()
    );
}

#[test]
fn a_sketch_orders_every_sign_and_magnitude() {
    let mut sketch = RankSketch::new();
    for power in 0..100 {
        sketch.push(10f64.powi(power)).unwrap();
        sketch.push(-(10f64.powi(-power))).unwrap();
        sketch.push(0.0).unwrap();
    }
    let mut units = JointMoments::new(2).unwrap();
    for unit in 0..300 {
        units.push(&[f64::from(unit % 2), 1.0]).unwrap();
    }
    let at = |nu: f64| sketch.estimate(nu, &units, Side::Control).unwrap().value;
    assert!(at(0.1) < 0.0 && at(0.5).abs() < 1e-300 && at(0.9) > 1e60);
}

#[test]
fn a_small_arm_of_a_skewed_metric_raises_no_false_alarm() {
    // 300 null experiments on revenue (5 % buyers, lognormal), split 10/90, looked at every 50 units.
    let mut alarms = [0; 2];
    let mut stream = Stream(17);
    for _ in 0..300 {
        let mut is_alarm = [false; 2];
        let (mut units, mut sums, mut squares, mut events) =
            ([0_u64; 2], [0.0; 2], [0.0; 2], [0; 2]);
        for unit in 0..12_000 {
            let arm = usize::from(stream.uniform() < 0.1);
            units[arm] += 1;
            if stream.uniform() < 0.05 {
                let order = (1.5 * stream.normal()).exp();
                sums[arm] += order;
                squares[arm] += order * order;
                events[arm] += 1;
            }
            if unit % 50 != 0 || events.iter().any(|count| *count < 20) {
                continue;
            }
            let [control, treatment] = [0, 1].map(|arm| {
                let moments = Moments::from_sums(units[arm], sums[arm], squares[arm]).unwrap();
                ArmSummary::from_moments(&moments, Side::Control).unwrap()
            });
            for (index, small_arm) in [SmallArm::Guarded, SmallArm::AsObserved]
                .into_iter()
                .enumerate()
            {
                let options = SequentialOptions {
                    tail: Tail::Less,
                    tune_at: 5000.0,
                    small_arm,
                    ..SequentialOptions::default()
                };
                let comparison = sequential::compare(&control, &treatment, &options).unwrap();
                is_alarm[index] |= comparison.is_significant();
            }
        }
        for (count, is_alarm) in alarms.iter_mut().zip(is_alarm) {
            *count += i32::from(is_alarm);
        }
    }
    assert!(alarms[0] <= 15, "guarded: {} of 300", alarms[0]);
    // What the guard is for: the variances as observed break the promise many times over.
    assert!(alarms[1] > 30, "as observed: {} of 300", alarms[1]);
}

#[test]
fn a_cap_is_pooled_and_never_zero() {
    let values: Vec<f64> = (0..1000)
        .map(|k| if k < 980 { 0.0 } else { f64::from(k) })
        .collect();
    assert!(Cap::at_percentile(values.iter().copied(), 0.9, Population::All).is_err());
    let buyers = Cap::at_percentile(values.iter().copied(), 0.9, Population::NonZero).unwrap();
    assert_eq!(buyers.upper, Some(997.0));
    assert_eq!((buyers.apply(999.0), buyers.apply(-3.0)), (997.0, -3.0));
    assert_eq!(
        Cap {
            lower: Some(0.0),
            upper: None
        }
        .apply(-3.0),
        0.0
    );
    assert!(Cap::at_percentile([], 0.9, Population::All).is_err());
    assert!(Cap::at_percentile([f64::NAN], 0.9, Population::All).is_err());
}

#[test]
fn the_posterior_agrees_with_numerical_integration() {
    let control = ArmSummary::new(400, 2.0, 9.0).unwrap();
    let treatment = ArmSummary::new(500, 2.3, 8.0).unwrap();
    let prior = Prior::Absolute { mean: 0.1, sd: 0.2 };
    let actual =
        bayes::compare(&control, &treatment, &BayesOptions { alpha: 0.05, prior }).unwrap();
    let (estimate, variance) = (0.3, 9.0 / 400.0 + 8.0 / 500.0);
    let density = |x: f64| {
        (-(x - estimate) * (x - estimate) / (2.0 * variance) - (x - 0.1) * (x - 0.1) / 0.08).exp()
    };
    let [mut mass, mut win, mut loss] = [0.0; 3];
    // The midpoint rule is exact to rounding for a smooth density; zero falls between two points.
    for k in -200_000..200_000 {
        let x = (f64::from(k) + 0.5) * 1e-5;
        mass += density(x);
        win += if x > 0.0 { density(x) } else { 0.0 };
        loss += (-x).max(0.0) * density(x);
    }
    close(actual.chance_to_win, win / mass);
    assert!((actual.loss_if_shipped / (loss / mass) - 1.0).abs() < 1e-6);
    close(
        actual.loss_if_kept - actual.loss_if_shipped,
        actual.absolute.estimate,
    );
}

#[test]
fn a_wide_prior_leaves_the_estimate_and_an_improper_one_is_refused() {
    let control = ArmSummary::new(400, 2.0, 9.0).unwrap();
    let treatment = ArmSummary::new(500, 2.3, 8.0).unwrap();
    let with = |prior| bayes::compare(&control, &treatment, &BayesOptions { alpha: 0.05, prior });
    let wide = with(Prior::Relative { mean: 0.0, sd: 1e6 }).unwrap();
    let options = FixedOptions {
        reference: Reference::Normal,
        ..FixedOptions::default()
    };
    let once = fixed::compare(&control, &treatment, &options).unwrap();
    close(wide.absolute.lower.unwrap(), once.absolute.lower.unwrap());
    close(wide.relative.upper.unwrap(), once.relative.upper.unwrap());
    let narrow = with(Prior::Relative {
        mean: 0.0,
        sd: 0.01,
    })
    .unwrap();
    assert!(narrow.absolute.estimate < 0.1 * wide.absolute.estimate);
    assert_eq!(narrow.relative.contains(0.0), narrow.absolute.contains(0.0));
    for sd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(with(Prior::Absolute { mean: 0.0, sd }).is_err());
    }
}

#[test]
fn exact_tests_reproduce_textbook_tables() {
    // Fisher's tea tasting and Barnard's 1947 example of 7 of 15 against 12 of 15.
    let tea = (
        Count {
            successes: 1,
            units: 4,
        },
        Count {
            successes: 3,
            units: 4,
        },
    );
    close(
        exact::fisher_p(tea.0, tea.1, Tail::Greater).unwrap(),
        17.0 / 70.0,
    );
    close(
        exact::fisher_p(tea.0, tea.1, Tail::TwoSided).unwrap(),
        34.0 / 70.0,
    );
    let barnard = (
        Count {
            successes: 7,
            units: 15,
        },
        Count {
            successes: 12,
            units: 15,
        },
    );
    let unconditional = exact::unconditional_p(barnard.0, barnard.1, Tail::Greater).unwrap();
    let conditional = exact::fisher_p(barnard.0, barnard.1, Tail::Greater).unwrap();
    assert!((unconditional - 0.0341).abs() < 5e-5, "{unconditional}");
    assert!(unconditional < conditional);
    let too_large = Count {
        successes: 1,
        units: 500,
    };
    assert!(exact::unconditional_p(too_large, too_large, Tail::TwoSided).is_err());
    let none = Count {
        successes: 0,
        units: 9,
    };
    assert_eq!(
        exact::unconditional_p(none, none, Tail::TwoSided).unwrap(),
        1.0
    );
    assert_eq!(exact::fisher_p(none, none, Tail::TwoSided).unwrap(), 1.0);
}

#[test]
fn the_unconditional_test_never_exceeds_its_level() {
    for rate in [0.05, 0.2, 0.5] {
        let mut rejected = 0.0;
        for x in 0..=12_u64 {
            for y in 0..=10_u64 {
                let (control, treatment) = (
                    Count {
                        successes: x,
                        units: 12,
                    },
                    Count {
                        successes: y,
                        units: 10,
                    },
                );
                if exact::unconditional_p(control, treatment, Tail::Greater).unwrap() <= 0.05 {
                    rejected += binomial(12, x, rate) * binomial(10, y, rate);
                }
            }
        }
        assert!(rejected <= 0.05, "{rejected} at {rate}");
    }
}

fn binomial(n: u64, k: u64, rate: f64) -> f64 {
    let ways: f64 = (0..k).map(|i| (n - i) as f64 / (k - i) as f64).product();
    ways * rate.powf(k as f64) * (1.0 - rate).powf((n - k) as f64)
}

#[test]
fn the_count_process_is_a_martingale_under_its_null() {
    // The expectation of E after n events, over all ways they can fall, is one at the null ratio and at most
    // one on the null side of a one-sided test.
    let expectation = |tail, null_ratio: f64, true_ratio: f64| -> f64 {
        let share = 0.2;
        let probability = true_ratio * share / (true_ratio * share + 1.0 - share);
        (0..=60_u64)
            .map(|treated| {
                let phase = Phase {
                    treatment_share: share,
                    events_control: 60 - treated,
                    events_treatment: treated,
                };
                let options = CountOptions {
                    tail,
                    null_ratio,
                    ..CountOptions::default()
                };
                let comparison = count_eprocess::compare(&[phase], &options).unwrap();
                let Parameters::Count { ln_e, .. } = comparison.method.parameters else {
                    panic!("not a count: {comparison:?}");
                };
                binomial(60, treated, probability) * ln_e.exp()
            })
            .sum()
    };
    for tail in [Tail::TwoSided, Tail::Greater, Tail::Less] {
        for null_ratio in [1.0, 1.5] {
            close(expectation(tail, null_ratio, null_ratio), 1.0);
        }
    }
    assert!(expectation(Tail::Greater, 1.2, 0.8) < 1.0);
    assert!(expectation(Tail::Less, 0.8, 1.2) < 1.0);
    assert!(expectation(Tail::Greater, 1.0, 2.0) > 10.0);
}

#[test]
fn bets_hold_their_level_at_every_unit() {
    // 600 null experiments on 2 % conversion, looked at after every one of 2,000 units.
    let mut stream = Stream(14);
    let (mut missed, mut alarms) = (0, 0);
    for _ in 0..600 {
        let mut mean = BoundedMean::new(1.0, 0.05).unwrap();
        let mut bet = ContrastBet::new(1.0, 0.3, 0.0).unwrap();
        let (mut is_missed, mut is_alarm) = (false, false);
        for _ in 0..2000 {
            let outcome = f64::from(u8::from(stream.uniform() < 0.02));
            let side = if stream.uniform() < 0.3 {
                Side::Treatment
            } else {
                Side::Control
            };
            mean.push(outcome).unwrap();
            bet.push(side, outcome).unwrap();
            is_missed |= !mean.interval().contains(0.02);
            is_alarm |= bet.p_value() <= 0.05;
        }
        missed += i32::from(is_missed);
        alarms += i32::from(is_alarm);
    }
    assert!(
        missed <= 30 && alarms <= 30,
        "{missed} missed, {alarms} alarms of 600"
    );
}

#[test]
fn bets_find_harm_and_agree_about_both_scales() {
    let mut stream = Stream(15);
    let mut arms = [
        BoundedMean::new(2.0, 0.025).unwrap(),
        BoundedMean::new(2.0, 0.025).unwrap(),
    ];
    let mut bet = ContrastBet::new(2.0, 0.5, 0.0).unwrap();
    for unit in 0..20_000 {
        let (side, rate) = if unit % 2 == 0 {
            (Side::Control, 0.2)
        } else {
            (Side::Treatment, 0.3)
        };
        let outcome = if stream.uniform() < rate { 2.0 } else { 0.0 };
        arms[usize::from(side == Side::Treatment)]
            .push(outcome)
            .unwrap();
        bet.push(side, outcome).unwrap();
    }
    let comparison = betting::compare(&arms[0], &arms[1]);
    assert!(comparison.absolute.lower.unwrap() > 0.0 && comparison.relative.lower.unwrap() > 0.0);
    assert!(comparison.relative.contains(0.5));
    assert!(bet.p_value() < 1e-6 && bet.ln_e_greater() > bet.ln_e() && bet.ln_e_less() < 0.0);
    for outcome in [-0.1, 2.1, f64::NAN] {
        assert!(arms[0].push(outcome).is_err() && bet.push(Side::Control, outcome).is_err());
    }
    assert!(ContrastBet::new(1.0, 0.5, -1.0).is_err() && BoundedMean::new(0.0, 0.05).is_err());
}
