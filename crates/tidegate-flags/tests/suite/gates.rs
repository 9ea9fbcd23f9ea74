//! The short way through the commonest rules gives what the long way gives.

use crate::support::{NOW, compiled, object};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_flags::Ruleset;

/// Targetings that a gate is made for, and near misses that it must leave alone.
fn targetings() -> Vec<Value> {
    let split = json!({"fractional": [["on", 50], ["off", 50]]});
    let lists = [
        json!({"in": [{"var": "plan"}, ["pro"]]}),
        json!({"in": [{"var": "plan"}, ["pro", "team", "1"]]}),
        json!({"in": [{"var": "plan"}, ["a", "b", "c", "d", "pro"]]}),
        json!({"==": [{"var": "plan"}, "1"]}),
        json!({"===": [{"var": "plan"}, "1"]}),
        json!({"==": ["pro", {"var": "plan"}]}),
        json!({"!": [{"in": [{"var": "plan"}, ["pro"]]}]}),
        json!({"in": [{"var": "targetingKey"}, ["u", "1"]]}),
    ];
    let splits = [
        split.clone(),
        json!({"fractional": [["on", 1], ["off", 9_999]]}),
        json!({"fractional": [["on", 0], ["off", 7]]}),
        json!({"fractional": [["on", 7], ["off", 0]]}),
        json!({"fractional": [["on", 3], ["off", 3], ["on", 3]]}),
        json!({"fractional": [["on", 2_147_483_646], ["off", 1]]}),
        json!({"or": [split, "off"]}),
        json!({"fractional": [{"var": "plan"}, ["on", 50], ["off", 50]]}),
        json!({"fractional": [["on", 1], ["gone", 1]]}),
    ];
    let mut all: Vec<Value> = splits.to_vec();
    for list in &lists {
        for split in &splits {
            all.push(json!({ "if": [list, split] }));
            all.push(json!({ "if": [list, split, "off"] }));
        }
        all.push(json!({ "if": [list, split, null] }));
        all.push(json!({ "if": [list, split, {"var": "plan"}] }));
    }
    all
}

fn rules() -> Ruleset {
    let mut flags = serde_json::Map::new();
    for (index, targeting) in targetings().into_iter().enumerate() {
        for dialect in ["v1", "v2", "v3"] {
            let flag = json!({
                "state": "ENABLED", "variants": {"on": true, "off": false}, "bucketing": dialect,
                "defaultVariant": if index % 2 == 0 { json!("off") } else { Value::Null },
                "targeting": targeting,
            });
            flags.insert(format!("flag-{index}-{dialect}"), flag);
        }
    }
    compiled(&json!({ "flags": flags })).0
}

fn values() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        prop_oneof!["pro", "team", "1", "", "[a-e]", "\\PC{0,20}"]
            .prop_map(|text| Some(json!(text))),
        prop_oneof![
            Just(json!(1)),
            Just(json!(1.0)),
            Just(json!(true)),
            Just(json!(null)),
            Just(json!(["pro"])),
            Just(json!({"a": 1})),
        ]
        .prop_map(Some),
    ]
}

proptest! {
    #[test]
    fn evaluating_and_explaining_agree(plan in values(), unit in values()) {
        thread_local!(static RULES: Ruleset = rules());
        let mut context = serde_json::Map::new();
        context.extend(plan.map(|plan| ("plan".to_owned(), plan)));
        context.extend(unit.map(|unit| ("targetingKey".to_owned(), unit)));
        let context = Value::Object(context);
        RULES.with(|rules| -> Result<(), TestCaseError> {
            let bound = rules.bind(object(&context), NOW);
            for handle in rules.handles() {
                let short = rules.evaluate(handle, &bound);
                let long = rules.explain(handle, &bound).unwrap();
                let key = rules.key(handle).unwrap();
                prop_assert_eq!(short.variant, long.variant.as_deref(), "{} {}", key, context);
                prop_assert_eq!(short.reason, long.reason, "{} {}", key, context);
                let code = short.error.as_ref().map(|error| error.code);
                prop_assert_eq!(code, long.error_code, "{} {}", key, context);
            }
            Ok(())
        })?;
    }
}

#[test]
fn every_boundary_of_the_hash_falls_to_the_entry_that_the_weights_say() {
    for (first, second) in [(1, 1), (1, 9_999), (9_999, 1), (3, 7), (1, 2_147_483_646)] {
        let targeting = json!({"fractional": [["on", first], ["off", second]]});
        let (rules, _) = compiled(&json!({"flags": {"f": {
            "state": "ENABLED", "variants": {"on": true, "off": false}, "targeting": targeting,
        }}}));
        let handle = rules.handle("f").unwrap();
        for unit in 0..20_000 {
            let context = json!({"targetingKey": format!("u{unit}")});
            let bound = rules.bind(object(&context), NOW);
            let split = rules.explain(handle, &bound).unwrap().splits.remove(0);
            let total = u64::from(split.total);
            let bucket = (u64::from(split.hash) * total) >> 32;
            let expected = if bucket < first { "on" } else { "off" };
            assert_eq!(
                rules.evaluate(handle, &bound).variant,
                Some(expected),
                "{unit}"
            );
        }
    }
}
