//! The common path allocates nothing.

use crate::support::{NOW, compiled, object, source};
use serde_json::{Map, Value, json};
use tidegate_flags::{CompileOptions, Segments, compile};

fn thousand_flags() -> Value {
    let flag = json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [
            {"in": [{"var": "plan"}, ["pro", "team", "enterprise"]]},
            {"fractional": [["on", 50], ["off", 50]]},
        ]},
    });
    let flags: Map<String, Value> = (0..1_000)
        .map(|index| (format!("flag-{index}"), flag.clone()))
        .collect();
    json!({ "flags": flags })
}

#[test]
fn evaluating_a_list_and_a_split_among_a_thousand_flags_allocates_nothing() {
    let (rules, _) = compiled(&thousand_flags());
    let handle = rules.handle("flag-500").unwrap();
    let users: Vec<Value> = (0..100)
        .map(|user| json!({"targetingKey": format!("user-{user}"), "plan": "team"}))
        .collect();
    let contexts: Vec<_> = users
        .iter()
        .map(|user| rules.bind(object(user), NOW))
        .collect();
    let mut on = 0;
    let info = allocation_counter::measure(|| {
        for context in &contexts {
            on += usize::from(rules.evaluate(handle, context).variant == Some("on"));
            on += usize::from(rules.evaluate_key("flag-501", context).variant == Some("on"));
            rules.evaluate_all(context, |_, answer| {
                on += usize::from(answer.value == Some(&Value::Bool(true)));
            });
        }
    });
    assert_eq!(info.count_total, 0);
    assert!((49_000..51_500).contains(&on), "{on}");
}

#[test]
fn rules_with_rollouts_versions_and_schedules_allocate_nothing() {
    let document = json!({"flags": {"f": {
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "rules": [
            {"id": "team", "units": ["alice", "bob"], "variant": "on"},
            {"id": "new", "if": {"sem_ver": [{"var": "version"}, ">=", "3.0.0"]}, "variant": "on"},
            {"id": "ramp", "from": 0, "until": 4_000_000_000_i64, "if": {"==": [{"var": "country"}, "NL"]},
             "rollout": {"treatment": "on", "control": "off", "share_bp": 2_500, "by": "company"}},
        ],
    }}});
    let (rules, _) = compiled(&document);
    let handle = rules.handle("f").unwrap();
    let user =
        json!({"targetingKey": "carol", "version": "2.9.1", "country": "NL", "company": "c7"});
    let context = rules.bind(object(&user), NOW);
    let info = allocation_counter::measure(|| {
        std::hint::black_box(rules.evaluate(handle, &context));
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(
        rules.evaluate(handle, &context).reason.as_str(),
        "TARGETING_MATCH"
    );
}

#[test]
fn a_compiled_flag_holds_little_more_than_its_own_text() {
    const MOST_BYTES_EACH: i64 = 2_048;
    let mut document = thousand_flags();
    document["metadata"] = json!({"flagSetId": "shop", "version": "7"});
    let source = source(&document);
    let mut rules = None;
    let held = allocation_counter::measure(|| {
        rules = Some(compile(&source, &Segments::default(), &CompileOptions::default()).0);
    });
    let flags = i64::try_from(rules.unwrap().len()).unwrap();
    let each = held.bytes_current / flags;
    assert!(each <= MOST_BYTES_EACH, "{each} bytes for each flag");
}
