//! Rollouts over a million units: who moves when a share changes.

use crate::support::{NOW, compiled, object};
use serde_json::{Value, json};
use tidegate_flags::{Allocation, FlagSpec, Ruleset};

const UNITS: usize = 1_000_000;

fn flag(serve: &Value, dialect: &str) -> FlagSpec {
    let mut rule = json!({"id": "ramp"});
    for (name, value) in object(serve) {
        rule[name] = value.clone();
    }
    let definition = json!({
        "state": "ENABLED", "variants": {"A": 1, "B": 2, "control": 0}, "defaultVariant": "control",
        "bucketing": dialect, "rules": [rule],
    });
    FlagSpec::from_json("pricing", &definition).unwrap()
}

fn single(share_bp: u16, dialect: &str) -> FlagSpec {
    let rollout = json!({"treatment": "A", "control": "control", "share_bp": share_bp});
    flag(&json!({ "rollout": rollout }), dialect)
}

fn rules(spec: &FlagSpec) -> Ruleset {
    compiled(&json!({"flags": {"pricing": spec.to_json()}})).0
}

/// The variant of every unit, by its first letter; `step` thins the units out.
fn served(spec: &FlagSpec, step: usize) -> Vec<u8> {
    let rules = rules(spec);
    let handle = rules.handle("pricing").unwrap();
    let mut context = json!({"targetingKey": ""}).as_object().unwrap().clone();
    (0..UNITS)
        .step_by(step)
        .map(|unit| {
            context.insert("targetingKey".to_owned(), json!(format!("unit-{unit}")));
            let resolution = rules.evaluate(handle, &rules.bind(&context, NOW));
            resolution.variant.unwrap_or("?").as_bytes()[0]
        })
        .collect()
}

fn share(served: &[u8], variant: u8) -> f64 {
    let count = served.iter().filter(|unit| **unit == variant).count();
    f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(served.len()).unwrap())
}

#[test]
fn raising_moves_nobody_away_and_lowering_takes_the_last_in_first() {
    for dialect in ["v2", "v3"] {
        let mut before = served(&single(0, dialect), 1);
        assert!(before.iter().all(|unit| *unit == b'c'));
        let mut stages = vec![before.clone()];
        for share_bp in [1, 100, 500, 2_500, 10_000] {
            let after = served(&single(share_bp, dialect), 1);
            let moved_away = before
                .iter()
                .zip(&after)
                .filter(|(was, is)| **was == b'A' && **is != b'A');
            assert_eq!(moved_away.count(), 0, "{dialect} to {share_bp}");
            // Shares hold within five standard errors of a million coin tosses.
            let expected = f64::from(share_bp) / 10_000.0;
            let error = (share(&after, b'A') - expected).abs();
            assert!(
                error <= 5.0 * (expected * (1.0 - expected) / 1e6).sqrt(),
                "{share_bp}: {error}"
            );
            stages.push(after.clone());
            before = after;
        }
        // Lowering through the same stages gives the same people back.
        let spec = single(10_000, dialect);
        for (share_bp, stage) in [2_500, 500, 100, 1, 0]
            .into_iter()
            .zip(stages.iter().rev().skip(1))
        {
            assert!(served(&spec.with_rollout_share("ramp", share_bp).unwrap(), 1) == *stage);
        }
    }
}

#[test]
fn several_treatments_are_raised_lowered_and_raised_again_without_exchange() {
    let ranges = json!({"control": "control", "ranges": [["A", 500], ["B", 500]]});
    let mut spec = flag(&json!({ "rollout": ranges }), "v2");
    let mut before = served(&spec, 1);
    let first = before.clone();
    for share_bp in [2_000, 5_000, 3_000, 5_000, 10_000, 1_000] {
        let rising = spec.allocation("ramp").unwrap().treatment_bp < share_bp;
        spec = spec.with_rollout_share("ramp", share_bp).unwrap();
        let Allocation {
            treatment_bp,
            control_bp,
            treatments,
        } = spec.allocation("ramp").unwrap();
        assert_eq!(
            (treatment_bp, treatment_bp + control_bp),
            (share_bp, 10_000)
        );
        assert!(
            treatments.iter().all(|(_, share)| *share == share_bp / 2),
            "{treatments:?}"
        );
        let after = served(&spec, 1);
        for (was, is) in before.iter().zip(&after) {
            let stays = was == is;
            let is_allowed = if rising { *was == b'c' } else { *is == b'c' };
            assert!(stays || is_allowed, "to {share_bp}");
        }
        assert!((share(&after, b'A') - f64::from(share_bp) / 20_000.0).abs() < 0.003);
        before = after;
    }
    assert!(before == first);
}

#[test]
fn a_rollout_turned_into_a_split_of_the_same_share_moves_nobody() {
    for (dialect, share_bp) in [("v1", 1_200), ("v2", 137), ("v3", 137)] {
        let weights = json!({"weights": [["A", share_bp], ["control", 10_000 - share_bp]]});
        let split = flag(&json!({ "split": weights }), dialect);
        assert!(
            served(&split, 1) == served(&single(share_bp, dialect), 1),
            "{dialect}"
        );
    }
}

#[test]
fn nothing_and_everything_need_no_unit_and_the_rest_gives_control() {
    for (share_bp, variant) in [
        (0, "control"),
        (1, "control"),
        (9_999, "control"),
        (10_000, "A"),
    ] {
        for hashing in [json!({}), json!({"by": "company"}), json!({"seed": "s"})] {
            for dialect in ["v1", "v2", "v3"] {
                let mut rollout =
                    json!({"treatment": "A", "control": "control", "share_bp": share_bp});
                rollout
                    .as_object_mut()
                    .unwrap()
                    .extend(object(&hashing).clone());
                let rules = rules(&flag(&json!({ "rollout": rollout }), dialect));
                for context in [
                    json!({}),
                    json!({"targetingKey": ""}),
                    json!({"company": null}),
                ] {
                    let answer = rules.evaluate_key("pricing", &rules.bind(object(&context), NOW));
                    assert_eq!(
                        answer.variant,
                        Some(variant),
                        "{share_bp} {hashing} {dialect}"
                    );
                    assert_eq!(answer.reason.as_str(), "TARGETING_MATCH");
                }
            }
        }
    }
}

#[test]
fn every_basis_point_is_one_bucket_of_ten_thousand() {
    // Each boundary moves exactly the units of one bucket: compare neighbours in share.
    let units = 400;
    for share_bp in [1, 2, 4_999, 5_000, 9_999] {
        let (low, high) = (single(share_bp - 1, "v2"), single(share_bp, "v2"));
        let (low, high) = (rules(&low), rules(&high));
        for unit in 0..units * 50 {
            let context = json!({"targetingKey": format!("unit-{unit}")});
            let context = object(&context);
            let handle = high.handle("pricing").unwrap();
            let was = low.evaluate_key("pricing", &low.bind(context, NOW)).variant;
            let bound = high.bind(context, NOW);
            if was == high.evaluate(handle, &bound).variant {
                continue;
            }
            let split = high.explain(handle, &bound).unwrap().splits.remove(0);
            assert_eq!(split.bucket, f64::from(share_bp - 1));
        }
    }
}
