//! What `quality` promises, held against published values, properties and bad input.

use super::*;
use crate::srm::{Phase, SrmOptions, check};

fn arm(name: &str, units: u64, missing: u64, events: u64) -> ArmQuality {
    ArmQuality {
        arm: name.to_owned(),
        units,
        missing,
        events,
    }
}

fn trust_of(input: &QualityInput<'_>) -> Trust {
    gate(input, &QualityLimits::default()).trust
}

fn status_of(input: &QualityInput<'_>, name: &str) -> CheckStatus {
    let report = gate(input, &QualityLimits::default());
    report
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap()
        .status
}

#[test]
fn healthy_data_is_trusted() {
    let arms = [
        arm("control", 10_000, 120, 900),
        arm("treatment", 10_050, 131, 950),
    ];
    let phase = Phase {
        weights: vec![1.0, 1.0],
        counts: vec![10_000, 10_050],
    };
    let srm = check(&[phase], &SrmOptions::default()).unwrap();
    let pre = [PrePeriod {
        metric: "orders".to_owned(),
        p_value: 0.4,
    }];
    let input = QualityInput {
        srm: Some(&srm),
        arms: &arms,
        units_in_several_arms: 3,
        pre_period: &pre,
    };
    assert_eq!(trust_of(&input), Trust::Trusted);
}

#[test]
fn each_fault_fails_its_own_check() {
    let arms = [
        arm("control", 10_000, 0, 900),
        arm("treatment", 10_050, 0, 950),
    ];
    let base = QualityInput {
        srm: None,
        arms: &arms,
        units_in_several_arms: 0,
        pre_period: &[],
    };
    assert_eq!(status_of(&base, "split"), CheckStatus::NotChecked);
    assert_eq!(
        status_of(&base, "pre-period balance"),
        CheckStatus::NotChecked
    );

    let skewed = Phase {
        weights: vec![1.0, 1.0],
        counts: vec![10_000, 12_000],
    };
    let srm = check(&[skewed], &SrmOptions::default()).unwrap();
    assert_eq!(
        status_of(
            &QualityInput {
                srm: Some(&srm),
                ..base.clone()
            },
            "split"
        ),
        CheckStatus::Fail
    );

    let warned = QualityInput {
        units_in_several_arms: 300,
        ..base.clone()
    };
    assert_eq!(status_of(&warned, "multiple exposure"), CheckStatus::Warn);
    assert_eq!(trust_of(&warned), Trust::Trusted);
    let mixed = QualityInput {
        units_in_several_arms: 3_000,
        ..base.clone()
    };
    assert_eq!(trust_of(&mixed), Trust::Untrusted);

    let lossy = [
        arm("control", 10_000, 100, 900),
        arm("treatment", 10_050, 900, 950),
    ];
    assert_eq!(
        status_of(
            &QualityInput {
                arms: &lossy,
                ..base.clone()
            },
            "missing data"
        ),
        CheckStatus::Fail
    );

    let pre = [PrePeriod {
        metric: "orders".to_owned(),
        p_value: 1e-7,
    }];
    assert_eq!(
        status_of(
            &QualityInput {
                pre_period: &pre,
                ..base
            },
            "pre-period balance"
        ),
        CheckStatus::Fail
    );
}

#[test]
fn few_events_are_too_early_however_large_their_total() {
    let arms = [
        arm("control", 10_000, 0, 24),
        arm("treatment", 10_050, 0, 950),
    ];
    let input = QualityInput {
        srm: None,
        arms: &arms,
        units_in_several_arms: 0,
        pre_period: &[],
    };
    assert_eq!(trust_of(&input), Trust::TooEarly);
    let empty = QualityInput { arms: &[], ..input };
    assert_eq!(trust_of(&empty), Trust::TooEarly);
}
