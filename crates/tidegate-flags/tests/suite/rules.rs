//! Editing rules: round trip, differences, and what is served around their edges.

use crate::support::{NOW, answer, compiled, compiled_with, flagd_json, object, one_flag};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_flags::{
    CompileOptions, FlagSpec, FlagType, Limits, Ruleset, Segments, parse_context, parse_flag_set,
};

fn full() -> Value {
    json!({
        "description": "New checkout", "tags": ["checkout"], "state": "ENABLED",
        "variants": {"on": 1.0, "off": 2, "third": -0.5}, "defaultVariant": null,
        "offVariant": "off", "killed": {"reason": "r", "by": "b", "at": 5}, "bucketing": "v3",
        "rules": [
            {"id": "a", "description": "d", "units": ["u"], "segments": ["s"], "if": {"var": "x"},
             "prerequisites": [{"flag": "other", "variants": ["on"]}],
             "from": 1, "until": "2026-09-01T00:00:00Z", "variant": "on"},
            {"id": "b", "split": {"weights": [["on", 5000], ["off", 5000]], "by": "company"}},
            {"id": "c", "rollout": {"treatment": "on", "control": "off", "share_bp": 1, "seed": "s"}},
            {"id": "d", "rollout": {"control": "off", "ranges": [["on", 0], ["third", 10]]}},
        ],
        "targeting": {"if": [true, "on"]}, "evaluators": {"e": {"var": "x"}},
        "metadata": {"a": 1, "b": "x", "c": true},
    })
}

#[test]
fn a_definition_survives_reading_and_writing_byte_for_byte() {
    let spec = FlagSpec::from_json("f", &full()).unwrap();
    assert_eq!(spec.to_json().to_string(), full().to_string());
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<FlagSpec>(&text).unwrap(), spec);
}

proptest! {
    #[test]
    fn plain_definitions_survive_too(
        state in prop_oneof![Just("ENABLED"), Just("DISABLED")],
        values in proptest::collection::btree_map("[a-z]{1,5}", any::<f64>().prop_filter("finite", |f| f.is_finite()), 1..5),
        default in prop_oneof![Just(None), Just(Some(false)), Just(Some(true))],
    ) {
        let mut flag = json!({"state": state, "variants": values});
        match default {
            Some(true) => flag["defaultVariant"] = json!(values.keys().next()),
            Some(false) => flag["defaultVariant"] = Value::Null,
            None => {}
        }
        let spec = FlagSpec::from_json("f", &flag).unwrap();
        prop_assert_eq!(spec.to_json().to_string(), flag.to_string());
    }
}

#[test]
fn differences_name_fields_variants_and_rules_by_id() {
    let before = FlagSpec::from_json("f", &full()).unwrap();
    let mut changed = full();
    changed["variants"]["third"] = json!(7);
    changed["rules"][1]["split"]["weights"] = json!([["on", 4000], ["off", 6000]]);
    changed["rules"].as_array_mut().unwrap().swap(2, 3);
    changed["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("b");
    let after = FlagSpec::from_json("f", &changed).unwrap();
    let pointers: Vec<String> = before.diff(&after).into_iter().map(|c| c.pointer).collect();
    assert_eq!(
        pointers,
        ["/variants/third", "/rules/b", "/metadata/b", "/rules"]
    );
    assert_eq!(before.diff(&before), []);
    let patch = before.diff(&after);
    assert_eq!(patch[2].after, None);
    assert_eq!(patch[3].before, Some(json!(["a", "b", "c", "d"])));
}

#[test]
fn floats_keep_their_fraction_from_file_to_answer() {
    let text = r#"{"flags": {"f": {"state": "ENABLED", "variants": {"a": 1.0, "b": 2}, "defaultVariant": "a"}}}"#;
    let source = parse_flag_set(text, &Limits::default()).unwrap();
    let options = CompileOptions::default();
    let (rules, _) = tidegate_flags::compile(&source, &Segments::default(), &options);
    let context = parse_context(b"{}", &Limits::default()).unwrap();
    let handle = rules.handle("f").unwrap();
    let answer = rules
        .evaluate_key("f", &rules.bind(&context, NOW))
        .value
        .unwrap()
        .to_string();
    assert_eq!(answer, "1.0");
    assert_eq!(rules.flag_type(handle), Some(FlagType::Float));
    assert!(rules.to_flagd_json(|_| true).contains(r#""a":1.0,"b":2"#));
}

#[test]
fn metadata_of_the_set_is_folded_into_flags_which_override_it() {
    let document = json!({
        "flags": {"f": {"state": "ENABLED", "variants": {"a": 1}, "metadata": {"owner": "me"}}},
        "metadata": {"flagSetId": "shop", "version": "7", "owner": "all"},
    });
    let (rules, _) = compiled(&document);
    let context = parse_context(b"{}", &Limits::default()).unwrap();
    let bound = rules.bind(&context, NOW);
    let folded = json!({"flagSetId": "shop", "version": "7", "owner": "me"});
    assert_eq!(json!(rules.evaluate_key("f", &bound).metadata), folded);
    assert_eq!(flagd_json(&rules)["flags"]["f"]["metadata"], folded);
    assert_eq!(rules.version(), Some("7"));
    assert_eq!(
        json!(rules.evaluate_key("none", &bound).metadata),
        document["metadata"]
    );
}

#[test]
fn digests_follow_content_and_contexts_follow_their_set() {
    let document = |variant: &str| {
        one_flag(&json!({"targeting": {"if": [{"==": [{"var": "x"}, "1"]}, variant]}}))
    };
    let (one, _) = compiled(&document("on"));
    let (same, _) = compiled(&document("on"));
    let (other, _) = compiled(&document("off"));
    assert_eq!(one.digest(), same.digest());
    assert_ne!(one.digest(), other.digest());
    assert_eq!(one.digest().len(), 64);
    // A context bound to another set is bound again, not misread.
    let (foreign, _) = compiled(&json!({"flags": {
        "z": {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"if": [{"==": [{"var": "y"}, "q"]}, "a"]}},
        "flag": document("on")["flags"]["flag"],
    }}));
    let context = json!({"y": "1", "x": "1"});
    let bound = foreign.bind(object(&context), NOW);
    assert_eq!(one.evaluate_key("flag", &bound).variant, Some("on"));
    assert_eq!(foreign.evaluate_key("flag", &bound).variant, Some("on"));
}

#[test]
fn what_an_answer_depends_on_is_known() {
    let targeting = |logic: Value| one_flag(&json!({ "targeting": logic }));
    for (document, time, key, attributes) in [
        (one_flag(&json!({})), false, false, vec![]),
        (
            targeting(json!({"fractional": [["on", 1], ["off", 1]]})),
            false,
            true,
            vec![],
        ),
        (
            targeting(json!({"if": [{"<": [{"var": "$flagd.timestamp"}, 5]}, "on"]})),
            true,
            false,
            vec![],
        ),
        (
            targeting(json!({"if": [{"==": [{"var": "a.b"}, 1]}, "on"]})),
            false,
            false,
            vec!["a.b"],
        ),
        (
            targeting(json!({"if": [{"var": ""}, "on"]})),
            true,
            true,
            vec![],
        ),
        (
            one_flag(&json!({"rules": [{"id": "r", "from": 5, "variant": "on"}]})),
            true,
            false,
            vec![],
        ),
        (
            one_flag(&json!({"rules": [{"id": "r", "units": ["u"], "variant": "on"}]})),
            false,
            true,
            vec!["targetingKey"],
        ),
    ] {
        let (rules, _) = compiled(&document);
        let handle = rules.handle("flag").unwrap();
        assert_eq!(rules.depends_on_time(handle), time, "{document}");
        assert_eq!(rules.depends_on_targeting_key(handle), key, "{document}");
        assert_eq!(rules.attributes(handle), attributes, "{document}");
    }
}

#[test]
fn reasons_follow_flagd() {
    for (fields, expected) in [
        (json!({}), "off STATIC"),
        (json!({"targeting": {}}), "off STATIC"),
        (json!({"defaultVariant": null}), "- DEFAULT"),
        (json!({"state": "DISABLED"}), "- DISABLED"),
        (
            json!({"targeting": {"if": [true, "on"]}}),
            "on TARGETING_MATCH",
        ),
        (json!({"targeting": {"if": [true, null]}}), "off DEFAULT"),
        (
            json!({"targeting": {"if": [true, null]}, "defaultVariant": null}),
            "- DEFAULT",
        ),
        (
            json!({"targeting": {"if": [true, "gone"]}}),
            "- ERROR GENERAL",
        ),
        (json!({"targeting": {"if": [true, [1]]}}), "- ERROR GENERAL"),
        (
            json!({"targeting": {"if": [true, {"a": 1, "b": 2}]}}),
            "- ERROR GENERAL",
        ),
        (
            json!({"targeting": {"unheard_of": []}}),
            "- ERROR PARSE_ERROR",
        ),
        (
            json!({"targeting": {"if": [false, {"unheard_of": []}]}}),
            "- ERROR PARSE_ERROR",
        ),
        (json!({"targeting": "on"}), "on TARGETING_MATCH"),
    ] {
        let (rules, _) = compiled(&one_flag(&fields));
        assert_eq!(
            answer(&rules, "flag", &json!({}), NOW),
            expected,
            "{fields}"
        );
    }
}

#[test]
fn a_bad_flag_keeps_its_last_good_version_and_harms_no_other() {
    let good = json!({"flags": {
        "flag": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
            "rules": [{"id": "pro", "if": {"==": [{"var": "plan"}, "pro"]}, "variant": "on"}]},
        "other": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a"},
    }});
    let (previous, warnings) = compiled(&good);
    assert!(warnings.is_empty());
    for (field, value) in [
        ("variants", json!({})),
        ("defaultVariant", json!("gone")),
        ("state", json!("MAYBE")),
        ("targeting", json!({"no_such": 1})),
        ("rules", json!([{"id": "x", "variant": "gone"}])),
    ] {
        let mut bad = good.clone();
        bad["flags"]["flag"][field] = value;
        let (alone, warnings) = compiled(&bad);
        assert_eq!(
            answer(&alone, "flag", &json!({}), NOW),
            "- ERROR PARSE_ERROR",
            "{field}"
        );
        assert_eq!(answer(&alone, "other", &json!({}), NOW), "a STATIC");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].pointer.starts_with(&format!("/{field}")),
            "{warnings:?}"
        );
        let options = CompileOptions {
            previous: Some(&previous),
            ..CompileOptions::default()
        };
        let (kept, warnings) = compiled_with(&bad, &Segments::default(), &options);
        assert_eq!(
            answer(&kept, "flag", &json!({"plan": "pro"}), NOW),
            "on TARGETING_MATCH"
        );
        assert!(warnings[0].message.contains("last good version"));
        assert!(kept.is_broken(kept.handle("flag").unwrap()));
        assert!(!kept.is_broken(kept.handle("other").unwrap()));
        // And once more: what was kept can be kept again.
        let options = CompileOptions {
            previous: Some(&kept),
            ..CompileOptions::default()
        };
        let (again, _) = compiled_with(&bad, &Segments::default(), &options);
        assert_eq!(
            answer(&again, "flag", &json!({"plan": "pro"}), NOW),
            "on TARGETING_MATCH"
        );
        assert_eq!(again.digest(), kept.digest());
    }
}

#[test]
fn flags_may_come_as_a_list() {
    let text = r#"{"flags": [{"key": "a", "state": "ENABLED", "variants": {"x": 1}, "defaultVariant": "x"}]}"#;
    let source = parse_flag_set(text, &Limits::default()).unwrap();
    assert_eq!(source.flags[0].0, "a");
    assert!(source.flags[0].1.is_ok());
    assert_eq!(source.to_json()["flags"]["a"]["variants"]["x"], 1);
}

#[test]
fn two_sets_agree_on_a_flag_that_only_the_version_of_the_set_tells_apart() {
    let set = |version: &str, owner: &str, flag: Value| {
        let document = json!({
            "flags": {"f": flag, "own": {
                "state": "ENABLED", "variants": {"on": true}, "metadata": {"version": "mine"},
            }},
            "metadata": {"version": version, "owner": owner},
        });
        compiled(&document).0
    };
    let flag = |dialect: &str, name: &str| {
        json!({
            "state": "ENABLED", "variants": {"on": true}, "bucketing": dialect,
            "metadata": {"name": name},
        })
    };
    let base = set("1", "sales", flag("v2", "n"));
    let same = |other: &Ruleset, key: &str| base.means_the_same(other, key);
    let next = set("2", "sales", flag("v2", "n"));
    assert!(same(&next, "f") && same(&next, "own"));
    assert!(
        !same(&set("1", "sales", flag("v3", "n")), "f"),
        "the dialect"
    );
    assert!(
        !same(&set("1", "sales", flag("v2", "m")), "f"),
        "its metadata"
    );
    assert!(
        !same(&set("1", "legal", flag("v2", "n")), "f"),
        "the set's metadata"
    );
    assert!(!same(&base, "missing"));
}
