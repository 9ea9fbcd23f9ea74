//! Guards of every form, judged through a whole plan.

use proptest::prelude::*;
use serde_json::json;
use tidegate_rollout::evidence::{NumericFrame, NumericProcess, Shares};
use tidegate_rollout::{
    Action, ArmCounts, ArmMoments, BasisPoints, Block, GuardObservation, Measured, Moments,
    Observations, Phase, Plan, RolloutEvent, RolloutSpec, RolloutState, SourceStatus, Verdict,
    plan,
};

const NOW_US: i64 = 120_000_000;

fn spec(guards: &serde_json::Value) -> RolloutSpec {
    RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off", "guards": guards,
        "stages": [{"share_bp": 5000, "min_seconds": 0}, {"share_bp": 6000, "min_seconds": 60}],
    }))
    .unwrap()
}

fn observed(metric: &str, measured: Measured) -> GuardObservation {
    GuardObservation {
        metric: metric.to_owned(),
        source: SourceStatus::Ok,
        as_of_us: NOW_US,
        proven: true,
        dropped_samples: 0,
        measured,
    }
}

fn judge(spec: &RolloutSpec, guards: Vec<GuardObservation>) -> Plan {
    let half = BasisPoints::new(5_000).unwrap();
    let log = [
        RolloutEvent::Started {
            at_us: 0,
            who: "ann".to_owned(),
        },
        RolloutEvent::StageEntered {
            at_us: 1,
            stage: 0,
            share_bp: half,
        },
    ];
    let units = ArmCounts {
        treatment: 10_000,
        control: 10_000,
    };
    let phase = Phase {
        treatment_bp: half,
        control_bp: half,
        started_us: 1,
        units,
        exposed: units,
    };
    let observations = Observations {
        watermark: 9,
        as_of_us: NOW_US,
        last_unit_us: Some(NOW_US),
        phases: vec![phase],
        guards,
        ..Observations::default()
    };
    plan(spec, &RolloutState::fold(spec, &log), &observations, NOW_US)
}

fn rolls_back(made: &Plan) -> bool {
    matches!(made.actions.first(), Some(Action::RollBack { .. }))
}

fn events(treatment: u64, control: u64) -> Measured {
    Measured::FirstEvents {
        phases: vec![ArmCounts { treatment, control }],
    }
}

#[test]
fn a_decrease_harms_where_the_policy_says_so() {
    let spec = spec(&json!([{"metric": "orders", "direction": "decrease", "margin": 0.05}]));
    assert!(rolls_back(&judge(
        &spec,
        vec![observed("orders", events(500, 700))]
    )));
    assert!(!rolls_back(&judge(
        &spec,
        vec![observed("orders", events(700, 500))]
    )));
    assert!(!rolls_back(&judge(
        &spec,
        vec![observed("orders", events(970, 1_000))]
    )));
}

#[test]
fn a_margin_tolerates_certain_but_small_harm() {
    let strict = spec(&json!([{"metric": "errors"}]));
    let lenient = spec(&json!([{"metric": "errors", "margin": 0.5}]));
    let counts = || vec![observed("errors", events(1_250, 1_000))];
    assert!(rolls_back(&judge(&strict, counts())));
    assert!(!rolls_back(&judge(&lenient, counts())));
}

#[test]
fn aggregated_counters_hold_until_their_self_test_passed() {
    let spec = spec(&json!([{"metric": "errors"}]));
    let block = Block {
        requests: ArmCounts {
            treatment: 1_000,
            control: 1_000,
        },
        failures: ArmCounts {
            treatment: 30,
            control: 8,
        },
    };
    let measured = |self_test_passed| Measured::Aggregated {
        blocks: vec![block; 5],
        self_test_passed,
    };
    let unproven = judge(&spec, vec![observed("errors", measured(false))]);
    assert_eq!(unproven.actions, [Action::Hold]);
    assert!(
        unproven.report.sentence.contains("suspicious"),
        "{}",
        unproven.report.sentence
    );
    assert!(rolls_back(&judge(
        &spec,
        vec![observed("errors", measured(true))]
    )));
}

fn moments(mean: f64) -> Moments {
    Moments {
        count: 10_000,
        mean,
        sum_of_squares: 90_000.0,
    }
}

#[test]
fn numeric_guards_roll_back_by_moments_and_by_values() {
    let spec = spec(&json!([{"metric": "seconds", "margin": 0.01}]));
    let phases = |mean| {
        vec![ArmMoments {
            treatment: moments(mean),
            control: moments(10.0),
        }]
    };
    assert!(rolls_back(&judge(
        &spec,
        vec![observed(
            "seconds",
            Measured::Moments {
                phases: phases(10.6)
            }
        )]
    )));
    assert!(!rolls_back(&judge(
        &spec,
        vec![observed(
            "seconds",
            Measured::Moments {
                phases: phases(10.05)
            }
        )]
    )));
    let half = BasisPoints::new(5_000).unwrap();
    let shares = Shares {
        treatment_bp: half,
        control_bp: half,
    };
    let mut process = NumericProcess::new(
        NumericFrame {
            centre: 10.0,
            scale: 3.0,
            cap: 60.0,
        },
        1.01,
        true,
    );
    for i in 0..4_000_u32 {
        let noise = f64::from(i % 13) - 6.0;
        process.push(
            shares,
            i % 2 == 0,
            10.0 + noise + if i % 2 == 0 { 0.9 } else { 0.0 },
        );
    }
    let evidence = process.evidence().clone();
    let measured = Measured::Values {
        phases: phases(10.9),
        evidence,
    };
    assert!(rolls_back(&judge(
        &spec,
        vec![observed("seconds", measured)]
    )));
}

#[test]
fn a_mis_wired_metric_is_invalid_and_pages() {
    let spec = spec(&json!([{"metric": "seconds"}]));
    let constant = Moments {
        count: 10_000,
        mean: 0.0,
        sum_of_squares: 0.0,
    };
    let phases = vec![ArmMoments {
        treatment: constant,
        control: constant,
    }];
    let made = judge(
        &spec,
        vec![observed("seconds", Measured::Moments { phases })],
    );
    assert_eq!(made.verdict, Verdict::Invalid);
    assert!(matches!(
        made.actions.as_slice(),
        [Action::Hold, Action::Page { .. }]
    ));
    let nonsense = Moments {
        mean: f64::NAN,
        ..constant
    };
    let phases = vec![ArmMoments {
        treatment: nonsense,
        control: constant,
    }];
    let made = judge(
        &spec,
        vec![observed("seconds", Measured::Moments { phases })],
    );
    assert_eq!(made.verdict, Verdict::Invalid);
}

#[test]
fn only_the_guilty_guard_is_named() {
    let spec = spec(&json!([{"metric": "errors"}, {"metric": "crashes"}]));
    let made = judge(
        &spec,
        vec![
            observed("crashes", events(60, 10)),
            observed("errors", events(100, 100)),
        ],
    );
    let guilty: Vec<&str> = made
        .report
        .guards
        .iter()
        .filter(|guard| guard.is_guilty)
        .map(|guard| guard.metric.as_str())
        .collect();
    assert_eq!(guilty, ["crashes"]);
    assert!(
        made.report.sentence.contains("crashes at 6.0x control"),
        "{}",
        made.report.sentence
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A fault of any source never leads to more exposure, and never alone to a rollback.
    #[test]
    fn a_fault_neither_raises_nor_rolls_back(
        treatment in 0_u64..60, control in 0_u64..60, which in 0_u8..4,
    ) {
        let spec = spec(&json!([{"metric": "errors"}]));
        let healthy = judge(&spec, vec![observed("errors", events(treatment, control))]);
        let mut guard = observed("errors", events(treatment, control));
        match which {
            0 => guard.source = SourceStatus::Failed { query: "q".into(), response: "500".into() },
            1 => guard.source = SourceStatus::Untrustworthy { reason: "NaN".into() },
            2 => guard.as_of_us = NOW_US - 3_600_000_000,
            _ => guard.metric = "another".into(),
        }
        let faulty = judge(&spec, vec![guard]);
        let raises = |made: &Plan| {
            made.actions.iter().any(|a| matches!(a, Action::SetShare { .. } | Action::Complete { .. }))
        };
        prop_assert!(!raises(&faulty));
        prop_assert!(!rolls_back(&faulty) || rolls_back(&healthy));
    }

    /// What the sentence says lies inside what the report shows.
    #[test]
    fn a_rollback_names_an_effect_inside_its_interval(
        treatment in 0_u64..400, control in 0_u64..400,
    ) {
        let spec = spec(&json!([{"metric": "errors"}]));
        let made = judge(&spec, vec![observed("errors", events(treatment, control))]);
        let guard = &made.report.guards[0];
        if let (Some(estimate), Some(lower), Some(upper)) =
            (guard.effect.estimate, guard.effect.lower, guard.effect.upper)
        {
            prop_assert!(lower <= estimate && estimate <= upper);
        }
        if rolls_back(&made) {
            prop_assert!(guard.effect.lower.is_some_and(|lower| lower > 1.0), "{:?}", guard.effect);
            prop_assert!(made.report.sentence.contains("% CI"));
        }
    }
}

#[test]
fn a_policy_with_a_bake_spends_no_more_before_it_than_it_keeps_for_it() {
    let plain = spec(&json!([{"metric": "errors"}]));
    let baking = RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off", "guards": [{"metric": "errors"}],
        "stages": [{"share_bp": 5000, "min_seconds": 0}, {"share_bp": 10_000, "min_seconds": 60}],
        "bake": {"holdback_bp": 500, "seconds": 1_800},
    }))
    .unwrap();
    for (treatment, control) in [(40, 40), (30, 60), (90, 40)] {
        let ln_e = |spec: &RolloutSpec| {
            let made = judge(spec, vec![observed("errors", events(treatment, control))]);
            assert!(made.report.guards[0].late.is_none(), "nothing bakes yet");
            made.report.guards[0].ln_e
        };
        // Four fifths of the capital bet on harm from the start; the rest waits, worth what it was.
        let expected = (0.8 * ln_e(&plain).exp() + 0.2).ln();
        assert!(
            (ln_e(&baking) - expected).abs() < 1e-9,
            "{treatment} to {control}: {} instead of {expected}",
            ln_e(&baking)
        );
    }
}
