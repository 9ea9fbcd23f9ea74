//! Prerequisites are inlined, and refused with the reason where they cannot be.

use crate::support::{NOW, answer, compiled, compiled_with, object};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidegate_flags::{CompileOptions, Limits, Ruleset, Segments};

fn needing(flag: &str, variants: &[&str]) -> Value {
    json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "rules": [{
            "id": "after", "prerequisites": [{"flag": flag, "variants": variants}], "variant": "on",
        }],
    })
}

fn base(fields: &Value) -> Value {
    let mut flag = json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
    });
    for (name, value) in object(fields) {
        flag[name] = value.clone();
    }
    flag
}

/// The variant of `base`, and whether `flag`, which needs `base` to serve `on`, is on.
fn both(rules: &Ruleset, context: &Value) -> (Option<String>, bool) {
    let bound = rules.bind(object(context), NOW);
    let base = rules.evaluate_key("base", &bound);
    let dependant = rules.evaluate_key("flag", &bound);
    assert_eq!(dependant.error, None);
    (
        base.variant.map(str::to_owned),
        dependant.variant == Some("on"),
    )
}

fn targetings() -> Vec<Value> {
    vec![
        json!({"fractional": [["on", 50], ["off", 50]]}),
        json!({"fractional": [{"var": "company"}, ["on", 50], ["off", 50]]}),
        json!({"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "company"}]}, ["on", 1], ["off", 1]]}),
        json!({"if": [{"==": [{"var": "$flagd.flagKey"}, "base"]}, "on", "off"]}),
        json!({"if": [{"starts_with": [{"var": "company"}, "a"]}, "on"]}),
        json!({"if": [{"some": [{"var": "groups"}, {"==": [{"var": ""}, "beta"]}]}, "on", null]}),
        json!({"if": [{">": [{"var": "$flagd.timestamp"}, 1]}, {"fractional": [["on", 1], ["off", 3]]}]}),
    ]
}

proptest! {
    #[test]
    fn the_condition_holds_exactly_when_the_other_flag_serves_the_variant(
        which in 0usize..7, dialect in prop_oneof![Just("v1"), Just("v2")], wants_on: bool,
        default in prop_oneof![Just(json!("on")), Just(json!("off")), Just(json!(null))],
        key in prop_oneof![Just(json!(null)), Just(json!("")), Just(json!(7)), "[a-z]{1,6}".prop_map(|k| json!(k))],
        company in prop_oneof![Just(json!(null)), Just(json!(3)), "[a-c]{0,3}".prop_map(|c| json!(c))],
        beta: bool,
    ) {
        let wanted = if wants_on { "on" } else { "off" };
        let targeting = &targetings()[which];
        let mut flag = needing("base", &[wanted]);
        flag["bucketing"] = json!(dialect);
        let fields = json!({"targeting": targeting, "bucketing": dialect, "defaultVariant": default});
        let (rules, warnings) = compiled(&json!({"flags": {"flag": flag, "base": base(&fields)}}));
        prop_assert!(warnings.is_empty(), "{:?}", warnings);
        let groups = if beta { json!(["alpha", "beta"]) } else { json!([]) };
        let context = json!({"targetingKey": key, "company": company, "groups": groups});
        let (variant, is_on) = both(&rules, &context);
        prop_assert_eq!(variant.as_deref() == Some(wanted), is_on, "{} {}", targeting, context);
    }
}

#[test]
fn names_spelt_as_booleans_count_as_variants() {
    let flag = |variants: &[&str]| needing("base", variants);
    for (targeting, default) in [
        (json!({"starts_with": [{"var": "a"}, "x"]}), "other"),
        (json!({"starts_with": [{"var": "a"}, "x"]}), "false"),
        (json!({"!": [{"var": "a"}]}), "true"),
    ] {
        for wanted in ["true", "false", "other"] {
            let fields = json!({
                "variants": {"true": 1, "false": 2, "other": 3}, "defaultVariant": default,
                "targeting": targeting,
            });
            let (rules, _) =
                compiled(&json!({"flags": {"flag": flag(&[wanted]), "base": base(&fields)}}));
            for context in [
                json!({"a": "xy"}),
                json!({"a": "y"}),
                json!({"a": 1}),
                json!({}),
            ] {
                let (variant, is_on) = both(&rules, &context);
                assert_eq!(
                    variant.as_deref() == Some(wanted),
                    is_on,
                    "{targeting} {default} {wanted} {context}"
                );
            }
        }
    }
}

#[test]
fn fixed_disabled_killed_and_missing_flags_are_known_at_once() {
    let killed = json!({"killed": {"reason": "r", "by": "b", "at": 1}, "offVariant": "off", "defaultVariant": "on"});
    for (other, is_met, code) in [
        (Some(base(&json!({"defaultVariant": "on"}))), true, None),
        (Some(base(&json!({}))), false, None),
        (Some(base(&killed)), false, None),
        (
            Some(base(&json!({"state": "DISABLED", "defaultVariant": "on"}))),
            false,
            Some("idle_prerequisite"),
        ),
        (Some(base(&json!({"targeting": {"bogus": 1}}))), false, None),
        (None, false, Some("unknown_prerequisite")),
    ] {
        let mut document = json!({"flags": {"flag": needing("base", &["on"])}});
        if let Some(other) = &other {
            document["flags"]["base"] = other.clone();
        }
        let (rules, warnings) = compiled(&document);
        let expected = if is_met {
            "on TARGETING_MATCH"
        } else {
            "off DEFAULT"
        };
        let is_broken = other
            .as_ref()
            .is_some_and(|flag| flag["targeting"]["bogus"] == 1);
        if !is_broken {
            assert_eq!(
                answer(&rules, "flag", &json!({}), NOW),
                expected,
                "{document}"
            );
        }
        if let Some(code) = code {
            assert!(
                warnings
                    .iter()
                    .any(|w| w.code == code && w.flag.as_deref() == Some("flag"))
            );
        }
    }
}

fn refusals(document: &Value) -> Vec<(String, &'static str, String)> {
    let (_, warnings) = compiled(document);
    warnings
        .into_iter()
        .map(|w| (w.flag.unwrap_or_default(), w.code, w.message))
        .collect()
}

#[test]
fn cycles_are_refused_with_their_path_and_harm_no_other_flag() {
    let document = json!({"flags": {
        "a": needing("b", &["on"]), "b": needing("c", &["on"]), "c": needing("a", &["on"]),
        "leads-in": needing("a", &["on"]), "self": needing("self", &["on"]),
        "fine": base(&json!({})),
    }});
    let refused = refusals(&document);
    let about = |key: &str| refused.iter().find(|(flag, ..)| flag == key).cloned();
    for key in ["a", "b", "c", "leads-in", "self"] {
        assert_eq!(about(key).unwrap().1, "prerequisite_cycle", "{key}");
    }
    assert!(about("a").unwrap().2.contains("a -> b -> c -> a"));
    assert!(about("self").unwrap().2.contains("self -> self"));
    assert_eq!(about("fine"), None);
    let (rules, _) = compiled(&document);
    assert_eq!(answer(&rules, "a", &json!({}), NOW), "- ERROR PARSE_ERROR");
    assert_eq!(answer(&rules, "fine", &json!({}), NOW), "off STATIC");
}

#[test]
fn chains_hold_to_depth_eight_and_a_thousand_deep_is_refused() {
    let split = json!({"targeting": {"if": [{"==": [{"var": "x"}, 1]}, "on"]}});
    let mut flags = Map::from_iter([("f0".to_owned(), base(&split))]);
    for depth in 1..=1_000 {
        flags.insert(
            format!("f{depth}"),
            needing(&format!("f{}", depth - 1), &["on"]),
        );
    }
    let (rules, warnings) = compiled(&json!({ "flags": flags }));
    assert_eq!(
        answer(&rules, "f8", &json!({"x": 1}), NOW),
        "on TARGETING_MATCH"
    );
    assert_eq!(answer(&rules, "f8", &json!({"x": 2}), NOW), "off DEFAULT");
    assert_eq!(
        answer(&rules, "f9", &json!({"x": 1}), NOW),
        "- ERROR PARSE_ERROR"
    );
    assert_eq!(warnings.len(), 992);
    assert!(
        warnings
            .iter()
            .all(|warning| warning.code == "prerequisite_depth")
    );
    let last = warnings
        .iter()
        .find(|w| w.flag.as_deref() == Some("f1000"))
        .unwrap();
    assert!(last.message.contains("1000 deep"), "{}", last.message);
    assert!(last.message.contains("f1000 -> f999"), "{}", last.message);
}

#[test]
fn size_dialect_and_implicit_v3_are_refused_with_the_reason() {
    let units: Vec<String> = (0..30_000).map(|unit| format!("unit-{unit:06}")).collect();
    let large = base(&json!({"rules": [{"id": "r", "units": units, "variant": "on"}]}));
    let split = json!({"fractional": [["on", 50], ["off", 50]]});
    let v3 = |fields: Value| {
        let mut flag = fields;
        flag["bucketing"] = json!("v3");
        flag
    };
    for (flag, other, code) in [
        (needing("base", &["on"]), large, Some("prerequisite_size")),
        (
            needing("base", &["on"]),
            v3(base(&json!({"targeting": split}))),
            Some("prerequisite_dialect"),
        ),
        (
            v3(needing("base", &["on"])),
            v3(base(&json!({"targeting": split}))),
            Some("prerequisite_implicit_v3"),
        ),
        (
            v3(needing("base", &["on"])),
            v3(base(
                &json!({"targeting": {"fractional": [{"var": "company"}, ["on", 1], ["off", 1]]}}),
            )),
            None,
        ),
        (
            needing("base", &["on"]),
            base(&json!({"targeting": {"if": [{"var": ""}, "on"]}})),
            Some("prerequisite_context"),
        ),
        (
            needing("base", &["on"]),
            base(&json!({"targeting": {"if": [{"var": {"cat": ["a"]}}, "on"]}})),
            Some("prerequisite_context"),
        ),
    ] {
        let (rules, warnings) = compiled(&json!({"flags": {"flag": flag, "base": other}}));
        assert_eq!(
            warnings.first().map(|warning| warning.code),
            code,
            "{warnings:?}"
        );
        if code.is_some() {
            assert_eq!(
                answer(&rules, "flag", &json!({}), NOW),
                "- ERROR PARSE_ERROR"
            );
            assert_eq!(warnings[0].pointer, "/rules/0/prerequisites/0");
        } else {
            for company in 0..50 {
                let (variant, is_on) = both(&rules, &json!({"company": company}));
                assert_eq!(variant.as_deref() == Some("on"), is_on);
            }
        }
    }
}

#[test]
fn a_set_that_multiplies_by_prerequisites_stays_bounded() {
    let mut flags = Map::new();
    flags.insert(
        "f0".to_owned(),
        base(&json!({"targeting": {"if": [{"==": [{"var": "x"}, 1]}, "on"]}})),
    );
    for depth in 1..=8 {
        let below = format!("f{}", depth - 1);
        let rules: Vec<Value> = (0..60)
            .map(|index| {
                json!({
                    "id": format!("r{index}"), "variant": "on",
                    "prerequisites": [{"flag": below, "variants": ["on"]}],
                })
            })
            .collect();
        flags.insert(format!("f{depth}"), base(&json!({ "rules": rules })));
    }
    let (rules, warnings) = compiled(&json!({ "flags": flags }));
    assert!(
        warnings
            .iter()
            .any(|warning| warning.code == "prerequisite_size")
    );
    assert!(rules.to_flagd_json(|_| true).len() < 2 << 20);
}

#[test]
fn dependants_of_a_broken_flag_see_its_last_good_version() {
    let good = json!({"flags": {
        "flag": needing("base", &["on"]),
        "base": base(&json!({"targeting": {"if": [{"==": [{"var": "x"}, 1]}, "on"]}})),
    }});
    let (previous, _) = compiled(&good);
    let mut bad = good.clone();
    bad["flags"]["base"]["variants"] = json!([]);
    let options = CompileOptions {
        previous: Some(&previous),
        limits: Limits::default(),
    };
    let (rules, warnings) = compiled_with(&bad, &Segments::default(), &options);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("last good version"));
    for (x, flag) in [(1, "on TARGETING_MATCH"), (2, "off DEFAULT")] {
        assert_eq!(answer(&rules, "base", &json!({"x": x}), NOW), flag);
        assert_eq!(answer(&rules, "flag", &json!({"x": x}), NOW), flag);
    }
}
