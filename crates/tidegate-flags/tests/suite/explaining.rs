//! Explanations say which rule decided and what was hashed.

use crate::support::{NOW, compiled, object};
use serde_json::{Value, json};
use tidegate_flags::Explanation;

fn explain(context: &Value) -> Explanation {
    let (rules, _) = compiled(&json!({"flags": {"checkout": {
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "rules": [
            {"id": "team", "units": ["alice"], "variant": "on"},
            {"id": "ramp", "if": {"==": [{"var": "country"}, "NL"]},
             "rollout": {"treatment": "on", "control": "off", "share_bp": 2_500}},
        ],
        "targeting": {"if": [{"==": [{"var": "country"}, "BE"]}, "on"]},
    }}}));
    let handle = rules.handle("checkout").unwrap();
    rules
        .explain(handle, &rules.bind(object(context), NOW))
        .unwrap()
}

#[test]
fn the_deciding_rule_and_its_bucket_are_named() {
    let team = explain(&json!({"targetingKey": "alice"}));
    assert_eq!(team.rule.as_ref().unwrap().id, "team");
    assert_eq!(team.because, "rule \"team\" (variant) decided");
    assert!(team.splits.is_empty());

    let ramp = explain(&json!({"targetingKey": "unit-1", "country": "NL"}));
    assert_eq!((ramp.rule.as_ref().unwrap().index, ramp.dialect), (1, "v2"));
    let split = &ramp.splits[0];
    assert_eq!(split.hashed_text.as_deref(), Some("checkoutunit-1"));
    assert_eq!(split.total, 10_000);
    assert!(split.bucket >= f64::from(split.from) && split.bucket < f64::from(split.to));
    assert_eq!(ramp.variant.as_deref() == Some("on"), split.entry == 0);
    assert!(
        ramp.because
            .contains("rule \"ramp\" (rollout) decided, bucket")
    );

    let own = explain(&json!({"targetingKey": "unit-1", "country": "BE"}));
    assert_eq!(
        (own.rule, own.because.as_str()),
        (None, "the flag's targeting decided")
    );
    let none = explain(&json!({"targetingKey": "unit-1"}));
    assert_eq!(
        (none.rule, none.because.as_str()),
        (None, "no rule matched")
    );
}

#[test]
fn explanations_serialize_and_agree_with_evaluation() {
    let explanation = explain(&json!({"targetingKey": "unit-1", "country": "NL"}));
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["reason"], "TARGETING_MATCH");
    assert_eq!(json["rule"]["id"], "ramp");
    assert!(
        json["program"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line == "  0..2500 of 10000")
    );
}

#[test]
fn kills_and_errors_are_explained() {
    let (rules, _) = compiled(&json!({"flags": {
        "k": {"state": "ENABLED", "variants": {"on": true, "off": false}, "offVariant": "off",
            "killed": {"reason": "errors tripled", "by": "alice", "at": 1}},
        "e": {"state": "ENABLED", "variants": {"on": true}, "targeting": {"if": [true, "gone"]}},
        "d": {"state": "DISABLED", "variants": {"on": true}},
    }}));
    let context = json!({});
    let bound = rules.bind(object(&context), NOW);
    let because = |key: &str| {
        rules
            .explain(rules.handle(key).unwrap(), &bound)
            .unwrap()
            .because
    };
    assert_eq!(because("k"), "killed by alice: errors tripled");
    assert_eq!(because("e"), "targeting gave \"gone\", which is no variant");
    assert_eq!(because("d"), "the flag is disabled");
}
