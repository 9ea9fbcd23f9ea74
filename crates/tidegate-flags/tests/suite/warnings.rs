//! What compiles but cannot be meant is warned about; what is sound is not.

use crate::support::{compiled, one_flag};
use serde_json::{Value, json};

fn codes(fields: &Value) -> Vec<(&'static str, String)> {
    let (_, warnings) = compiled(&one_flag(fields));
    warnings
        .into_iter()
        .map(|warning| (warning.code, warning.pointer))
        .collect()
}

#[test]
fn oddities_are_named_with_their_place() {
    let rollout = |share: u16| json!({"treatment": "on", "control": "off", "share_bp": share});
    let cases = [
        (
            json!({"variants": {"on": true, "off": "no"}}),
            "mixed_types",
            "/variants",
        ),
        (
            json!({"variants": {"on": 9_007_199_254_740_993_i64, "off": 0}}),
            "unsafe_integer",
            "/variants/on",
        ),
        (
            json!({"rules": [{"id": "a", "variant": "on"}, {"id": "b", "variant": "off"}]}),
            "unreachable_rule",
            "/rules/1",
        ),
        (
            json!({"rules": [{"id": "a", "variant": "on"}], "targeting": {"if": [{"var": "x"}, "on"]}}),
            "unreachable_targeting",
            "/targeting",
        ),
        (
            json!({"rules": [{"id": "a", "if": false, "variant": "on"}]}),
            "unreachable_rule",
            "/rules/0",
        ),
        (
            json!({"rules": [{"id": "a", "rollout": rollout(0)}]}),
            "empty_share",
            "/rules/0/rollout",
        ),
        (
            json!({"rules": [{"id": "a", "rollout": rollout(10_000)}]}),
            "full_share",
            "/rules/0/rollout",
        ),
        (
            json!({"rules": [{"id": "a", "split": {"weights": [["on", 10_000], ["off", 0]]}}]}),
            "empty_share",
            "/rules/0/split",
        ),
        (
            json!({"rules": [{"id": "a", "segments": ["nobody"], "variant": "on"}]}),
            "unknown_segment",
            "/rules/0/segments",
        ),
        (
            json!({"rules": [{"id": "a", "from": 1_700_000_000_000_i64, "variant": "on"}]}),
            "milliseconds",
            "/rules/0",
        ),
        (
            json!({"rules": [{"id": "a", "prerequisites": [{"flag": "gone", "variants": ["on"]}], "variant": "on"}]}),
            "unknown_prerequisite",
            "/rules/0/prerequisites/0",
        ),
        (
            json!({"targeting": {"if": [{"var": "x"}, "gone"]}}),
            "unknown_variant",
            "/targeting/if/1",
        ),
        (
            json!({"targeting": {"fractional": [["on", 1], ["gone", 1]]}}),
            "unknown_variant",
            "/targeting/fractional/1",
        ),
        (
            json!({"targeting": {"fractional": [["on", 1]]}}),
            "single_entry",
            "/targeting/fractional",
        ),
        (
            json!({"targeting": {"fractional": [["on", 0], ["off", 0]]}}),
            "empty_split",
            "/targeting/fractional",
        ),
        (
            json!({"targeting": {"fractional": [["on", 1.5], ["off", 1]]}}),
            "malformed_entry",
            "/targeting/fractional",
        ),
        (
            json!({"targeting": {"fractional": [["on", 2_147_483_647], ["off", 1]]}}),
            "excess_weight",
            "/targeting/fractional",
        ),
        (
            json!({"targeting": {"if": [true, "on"]}}),
            "constant_targeting",
            "/targeting",
        ),
        (
            json!({"targeting": {"if": [{"==": [{"var": "targetingkey"}, "a"]}, "on"]}}),
            "misspelt_attribute",
            "/targeting/if/0/==/0/var",
        ),
        (
            json!({"targeting": {"if": [{"sem_ver": [{"var": "v"}, "="]}, "on"]}}),
            "wrong_arity",
            "/targeting/if/0/sem_ver",
        ),
        (
            json!({"targeting": {"if": [{"starts_with": [{"var": "v"}]}, "on"]}}),
            "wrong_arity",
            "/targeting/if/0/starts_with",
        ),
        (json!({"colour": "red"}), "unknown_field", "/colour"),
        (
            json!({"targeting": {"$ref": "gone"}}),
            "unknown_reference",
            "/targeting",
        ),
        (
            json!({"targeting": {"if": [{"nope": 1}, "on"]}}),
            "unknown_operator",
            "/targeting/if/0/nope",
        ),
    ];
    for (fields, code, pointer) in cases {
        let found = codes(&fields);
        assert!(
            found.contains(&(code, pointer.to_owned())),
            "{fields}: {found:?}"
        );
    }
}

#[test]
fn sound_flags_are_left_alone() {
    for fields in [
        json!({}),
        json!({"rules": [
            {"id": "a", "units": ["u"], "variant": "on"},
            {"id": "b", "rollout": {"treatment": "on", "control": "off", "share_bp": 500}},
        ]}),
        json!({"targeting": {"if": [{"in": [{"var": "plan"}, ["pro"]]}, {"fractional": [["on", 1], ["off", 1]]}]}}),
        json!({"variants": {"on": 1, "off": 0.5}}),
    ] {
        assert_eq!(codes(&fields), [], "{fields}");
    }
}
