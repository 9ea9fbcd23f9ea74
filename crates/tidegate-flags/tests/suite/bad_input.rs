//! Malformed definitions and contexts: typed, placed, bounded, never a panic.

use crate::support::{NOW, answer, compiled, one_flag};
use serde_json::{Value, json};
use tidegate_flags::{FlagSpec, Limits, Violation, parse_flag_set};

fn violations(text: &str) -> Vec<Violation> {
    parse_flag_set(text, &Limits::default()).unwrap_err()
}

#[test]
fn documents_are_refused_with_line_and_column() {
    for (text, code, pointer, line) in [
        (
            "{\"flags\": {\n  \"a\": {\"state\": \"ENABLED\",}\n}}",
            "syntax",
            "/flags/a",
            2,
        ),
        (
            "{\"flags\": {\n \"a\": {},\n \"a\": {}}}",
            "duplicate_key",
            "/flags/a",
            3,
        ),
        (
            "{\"flags\": {\"a\": {\"variants\": {\"x\": NaN}}}}",
            "syntax",
            "/flags/a/variants/x",
            1,
        ),
        ("{\"flags\": {}} trailing", "syntax", "", 1),
        ("", "syntax", "", 1),
        ("{\"flags\": \"\\ud800\"}", "syntax", "/flags", 1),
    ] {
        let found = &violations(text)[0];
        assert_eq!(
            (found.code, found.pointer.as_str()),
            (code, pointer),
            "{text}: {found}"
        );
        assert_eq!(found.line, Some(line), "{text}");
    }
    for (text, code, pointer) in [
        ("[]", "not_an_object", ""),
        ("{}", "missing", "/flags"),
        ("{\"flags\": 3}", "wrong_type", "/flags"),
        ("{\"flags\": [{}]}", "missing", "/flags/0"),
        (
            "{\"flags\": [{\"key\": \"a\"}, {\"key\": \"a\"}]}",
            "duplicate_key",
            "/flags/1/key",
        ),
        (
            "{\"flags\": {}, \"metadata\": {\"a\": []}}",
            "wrong_type",
            "/metadata/a",
        ),
        (
            "{\"flags\": {}, \"$evaluators\": []}",
            "wrong_type",
            "/$evaluators",
        ),
    ] {
        let found = &violations(text)[0];
        assert_eq!(
            (found.code, found.pointer.as_str()),
            (code, pointer),
            "{text}"
        );
    }
    let small = Limits {
        document_bytes: 10,
        ..Limits::default()
    };
    assert_eq!(
        parse_flag_set("{\"flags\": {}}", &small).unwrap_err()[0].code,
        "too_large"
    );
    let few = Limits {
        flags: 1,
        ..Limits::default()
    };
    let two = "{\"flags\": {\"a\": {}, \"b\": {}}}";
    assert_eq!(parse_flag_set(two, &few).unwrap_err()[0].code, "too_many");
    assert_eq!(violations(&"[".repeat(100_000))[0].code, "too_deep");
}

#[test]
fn other_top_level_fields_such_as_schema_are_let_be() {
    let text = "{\"$schema\": \"https://flagd.dev/schema/v0/flags.json\", \"flags\": {}}";
    assert!(
        parse_flag_set(text, &Limits::default())
            .unwrap()
            .flags
            .is_empty()
    );
}

#[test]
fn definitions_report_every_violation_at_once() {
    let flag = json!({
        "state": "ON", "variants": {"on": true, "": 1, "list": [], "nothing": null},
        "defaultVariant": "gone", "offVariant": 3, "bucketing": "v9", "colour": "red",
        "metadata": {"a": {}}, "killed": {"reason": "", "at": "now"},
        "rules": [
            {"id": "a"}, {"id": "", "variant": "on"}, {"id": "b", "variant": "on", "colour": 1},
            {"id": "c", "split": {"weights": [["on", 5000], ["on", 4000]]}},
            {"id": "d", "split": {"weights": [["on", 0.5], "x"]}},
            {"id": "e", "rollout": {"treatment": "on", "control": "on", "share_bp": 5}},
            {"id": "f", "rollout": {"treatment": "on", "control": "off", "share_bp": 10_001}},
            {"id": "g", "rollout": {"control": "off", "ranges": [["on", 6000], ["on", 6000]]}},
            {"id": "h", "from": 5, "until": 5, "variant": "on"},
            {"id": "i", "from": "tomorrow", "variant": "on"},
            {"id": "j", "prerequisites": [{"flag": "x", "variants": []}, 3], "variant": "on"},
            {"id": "k", "variant": "on", "split": {}},
            7,
        ],
    });
    let found = FlagSpec::from_json("f", &flag).unwrap_err();
    let has = |pointer: &str, code: &str| {
        let listed = found.iter().any(|v| v.pointer == pointer && v.code == code);
        assert!(listed, "{code} at {pointer} missing in {found:#?}");
    };
    has("/state", "unknown_state");
    has("/variants/", "empty");
    has("/variants/list", "wrong_type");
    has("/variants/nothing", "wrong_type");
    has("/offVariant", "wrong_type");
    has("/bucketing", "unknown_bucketing");
    has("/colour", "unknown_field");
    has("/metadata/a", "wrong_type");
    has("/killed/reason", "empty");
    has("/killed/by", "missing");
    has("/killed/at", "wrong_type");
    has("/rules/0/variant", "one_outcome");
    has("/rules/1/id", "empty");
    has("/rules/2/colour", "unknown_field");
    has("/rules/3/split/weights", "weights_do_not_sum");
    has("/rules/4/split/weights/0", "wrong_type");
    has("/rules/4/split/weights/1", "wrong_type");
    has("/rules/5/rollout", "no_treatment");
    has("/rules/6/rollout/share_bp", "wrong_type");
    has("/rules/7/rollout/ranges", "weights_do_not_sum");
    has("/rules/8/until", "empty_schedule");
    has("/rules/9/from", "wrong_type");
    has("/rules/10/prerequisites/0/variants", "empty");
    has("/rules/10/prerequisites/1", "not_an_object");
    has("/rules/11/variant", "one_outcome");
    has("/rules/12", "not_an_object");
}

#[test]
fn names_must_be_known_and_ids_unique() {
    let flag = json!({
        "state": "ENABLED", "variants": {"on": true}, "defaultVariant": "off", "offVariant": "no",
        "rules": [{"id": "a", "variant": "gone"}, {"id": "a", "variant": "on"}],
    });
    let found = FlagSpec::from_json("f", &flag).unwrap_err();
    let places: Vec<(&str, &str)> = found.iter().map(|v| (v.pointer.as_str(), v.code)).collect();
    assert_eq!(
        places,
        [
            ("/rules/1/id", "duplicate_id"),
            ("/defaultVariant", "unknown_variant"),
            ("/offVariant", "unknown_variant"),
            ("/rules/0/variant", "unknown_variant"),
        ]
    );
    assert!(found[1].message.contains("variants: on"));
    assert_eq!(
        FlagSpec::from_json(&"k".repeat(300), &flag).unwrap_err()[0].code,
        "too_long"
    );
}

#[test]
fn an_unknown_variant_is_named_at_its_place_whatever_else_is_wrong() {
    let flag = json!({
        "variants": {"on": true, "off": false},
        "rules": [
            {"id": "unreadable"},
            {"id": "one", "variant": "gone"},
            {"id": "split", "split": {"weights": [["on", 5000], ["gone", 5000]]}},
            {"id": "share", "rollout": {"treatment": "gone", "control": "lost", "share_bp": 5}},
            {"id": "ranges", "rollout": {"control": "off", "ranges": [["on", 5], ["gone", 5]]}},
        ],
    });
    let found = FlagSpec::from_json("f", &flag).unwrap_err();
    let unknown: Vec<&str> = found
        .iter()
        .filter(|violation| violation.code == "unknown_variant")
        .map(|violation| violation.pointer.as_str())
        .collect();
    assert_eq!(
        unknown,
        [
            "/rules/1/variant",
            "/rules/2/split/weights/1/0",
            "/rules/3/rollout/treatment",
            "/rules/3/rollout/control",
            "/rules/4/rollout/ranges/1/0",
        ],
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|v| (v.pointer.as_str(), v.code) == ("/state", "missing"))
    );
}

#[test]
fn an_unknown_field_is_answered_with_each_known_one_once() {
    let flag = json!({
        "state": "ENABLED", "variants": {"on": true}, "colour": 1, "defaultVariant": "on",
        "rules": [{"id": "a", "hue": 1, "rollout": {"ranges": [], "tint": 1}}],
    });
    let found = FlagSpec::from_json("f", &flag).unwrap_err();
    let listed: Vec<_> = found.iter().filter(|v| v.code == "unknown_field").collect();
    assert_eq!(listed.len(), 3, "{found:#?}");
    for violation in listed {
        let (_, known) = violation.message.split_once("known: ").unwrap();
        let mut names: Vec<&str> = known.split(", ").collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{violation}");
    }
}

/// Logic over `list` whose evaluation would take for ever or for all memory.
fn bombs() -> Vec<Value> {
    let double = json!({"merge": [{"var": "accumulator"}, {"var": "accumulator"}]});
    let grow = json!({"cat": [{"var": "accumulator"}, {"var": "accumulator"}]});
    let ten = json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let nested = (0..4).fold(json!({"+": [1, 1]}), |body, _| json!({"map": [ten, body]}));
    vec![
        json!({"!!": [{"reduce": [{"var": "list"}, double, [1]]}]}),
        json!({"!!": [{"reduce": [{"var": "list"}, grow, "x"]}]}),
        json!({"!!": [{"map": [{"var": "list"}, nested]}]}),
        json!({"some": [{"var": "list"}, {"in": ["zz", {"reduce": [ten, grow, "a long text to begin with"]}]}]}),
    ]
}

#[test]
fn iterations_that_never_end_are_cut_short() {
    let list: Vec<u32> = (0..5_000).collect();
    for bomb in bombs() {
        let (rules, _) = compiled(&one_flag(
            &json!({"targeting": {"if": [bomb, "on", "off"]}}),
        ));
        let much = answer(&rules, "flag", &json!({ "list": list }), NOW);
        assert_eq!(much, "- ERROR GENERAL", "{bomb}");
        // The same rule over little data is answered.
        let little = answer(&rules, "flag", &json!({"list": [1, 2]}), NOW);
        assert!(little.ends_with("TARGETING_MATCH"), "{bomb}: {little}");
    }
}

#[test]
fn deep_and_multiplying_targeting_is_refused() {
    let deep = (0..200).fold(json!("on"), |inner, _| json!({"if": [{"var": "a"}, inner]}));
    let source = |targeting: &Value| {
        let value = one_flag(&json!({ "targeting": targeting }));
        tidegate_flags::FlagSetSource::from_json(&value, &Limits::default()).unwrap()
    };
    let compile = |targeting: &Value, evaluators: Value| {
        let mut source = source(targeting);
        source.evaluators = evaluators.as_object().unwrap().clone();
        let options = tidegate_flags::CompileOptions::default();
        tidegate_flags::compile(&source, &tidegate_flags::Segments::default(), &options).1
    };
    assert_eq!(compile(&deep, json!({}))[0].code, "too_deep");
    // A shared rule of 10,000 nodes, referred to 1,000 times.
    let large: Vec<Value> = (0..10_000)
        .map(|item| json!({"var": format!("a{item}")}))
        .collect();
    let many = vec![json!({"$ref": "large"}); 1_000];
    let warnings = compile(
        &json!({"if": [{"and": many}, "on"]}),
        json!({"large": {"or": large}}),
    );
    assert_eq!(warnings[0].code, "too_large");
    // References do not nest.
    let nested = json!({"a": {"$ref": "b"}, "b": true});
    assert_eq!(
        compile(&json!({"if": [{"$ref": "a"}, "on"]}), nested)[0].code,
        "unknown_reference"
    );
}
