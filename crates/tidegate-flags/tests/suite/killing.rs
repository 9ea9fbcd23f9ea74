//! A kill serves the off variant past everything.

use crate::support::{NOW, answer, compiled, flagd_json, one_flag};
use serde_json::{Value, json};
use tidegate_flags::{EditError, FlagSpec};

fn spec(fields: &Value) -> FlagSpec {
    FlagSpec::from_json("flag", &one_flag(fields)["flags"]["flag"]).unwrap()
}

fn served(spec: &FlagSpec) -> (String, Value) {
    let (rules, _) = compiled(&json!({"flags": {"flag": spec.to_json()}}));
    let plain = flagd_json(&rules)["flags"]["flag"].clone();
    (
        answer(&rules, "flag", &json!({"targetingKey": "u"}), NOW),
        plain,
    )
}

#[test]
fn a_kill_serves_the_off_variant_past_rules_targeting_state_and_broken_targeting() {
    for fields in [
        json!({"targeting": {"if": [{"==": [{"var": "a"}, 1]}, "off", "on"]}}),
        json!({"rules": [{"id": "all", "variant": "on"}]}),
        json!({"state": "DISABLED"}),
        json!({"targeting": {"no_such_operator": []}}),
        json!({"targeting": {"$ref": "nowhere"}}),
        json!({"defaultVariant": "on"}),
    ] {
        let killed = spec(&fields).kill("checkout errors", "alice", NOW).unwrap();
        let (got, plain) = served(&killed);
        // STATIC: constant until the flag changes, and an unkill is a change.
        assert_eq!(got, "off STATIC", "{fields}");
        assert_eq!(plain["state"], "ENABLED");
        assert_eq!(plain["defaultVariant"], "off");
        assert_eq!(plain.get("targeting"), None);
        let revived = killed.unkill().unwrap();
        assert_eq!(revived.killed, None);
        assert_eq!(revived.targeting, spec(&fields).targeting);
    }
}

#[test]
fn what_off_means_must_be_beyond_doubt() {
    let two_strings = json!({
        "state": "ENABLED", "variants": {"new": "new", "old": "old"}, "defaultVariant": "old",
    });
    let flag = FlagSpec::from_json("f", &two_strings).unwrap();
    let refused = flag.kill("errors", "alice", NOW).unwrap_err();
    assert_eq!(
        refused,
        EditError::NoOffVariant {
            variants: vec!["new".into(), "old".into()]
        }
    );
    assert!(refused.to_string().contains("offVariant"));
    assert_eq!(flag.kill("", "alice", NOW), Err(EditError::NoReason));
    assert_eq!(flag.unkill(), Err(EditError::NotKilled));
    let named = FlagSpec {
        off_variant: Some("old".to_owned()),
        ..flag
    };
    assert_eq!(
        served(&named.kill("errors", "alice", NOW).unwrap()).0,
        "old STATIC"
    );
}

#[test]
fn a_kill_is_a_change_that_reads_well_and_round_trips() {
    let flag = spec(&json!({}));
    let killed = flag.kill("errors tripled", "alice", NOW).unwrap();
    let pointers: Vec<String> = flag.diff(&killed).into_iter().map(|c| c.pointer).collect();
    assert_eq!(pointers, ["/offVariant", "/killed"]);
    assert_eq!(
        FlagSpec::from_json("flag", &killed.to_json()).unwrap(),
        killed
    );
}
