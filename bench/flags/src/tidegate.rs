//! The house's own evaluator.

use crate::{FLAGS, USERS, flag_key, microseconds, nanoseconds, user_key};
use serde_json::{Map, Value, json};
use tidegate_flags::{
    CompileOptions, Context, Limits, Resolution, Ruleset, Segments, compile, parse_flag_set,
};

pub struct Figures {
    pub by_handle: f64,
    pub by_key: f64,
    pub binding: f64,
    pub all_microseconds: f64,
}

const NOW: i64 = 1_700_000_000;

pub fn flag() -> Value {
    json!({
        "state": "ENABLED",
        "variants": {"on": true, "off": false},
        "defaultVariant": "off",
        "targeting": {"if": [
            {"in": [{"var": "plan"}, ["pro", "team", "enterprise"]]},
            {"fractional": [["on", 50], ["off", 50]]}
        ]}
    })
}

pub fn attributes(user: usize) -> Map<String, Value> {
    let attributes = json!({
        "targetingKey": user_key(user), "plan": "team", "country": "NL", "version": "2.1.0",
    });
    attributes.as_object().unwrap().clone()
}

fn rules() -> Ruleset {
    let flags: Map<String, Value> = (0..FLAGS).map(|index| (flag_key(index), flag())).collect();
    let text = json!({ "flags": flags }).to_string();
    let source = parse_flag_set(&text, &Limits::default()).unwrap();
    let (rules, warnings) = compile(&source, &Segments::default(), &CompileOptions::default());
    assert!(warnings.is_empty());
    rules
}

fn is_on(resolution: &Resolution<'_>) -> bool {
    matches!(resolution.value, Some(Value::Bool(true)))
}

pub fn measure() -> Figures {
    let rules = rules();
    let users: Vec<Map<String, Value>> = (0..USERS).map(attributes).collect();
    let contexts: Vec<Context<'_>> = users.iter().map(|user| rules.bind(user, NOW)).collect();
    let key = flag_key(FLAGS / 2);
    let handle = rules.handle(&key).unwrap();
    let by_handle = nanoseconds("tidegate, by handle, context bound", |user| {
        is_on(&rules.evaluate(handle, &contexts[user]))
    });
    let by_key = nanoseconds("tidegate, by key, context bound", |user| {
        is_on(&rules.evaluate_key(&key, &contexts[user]))
    });
    let binding = nanoseconds("tidegate, by key, context bound each time", |user| {
        is_on(&rules.evaluate_key(&key, &rules.bind(&users[user], NOW)))
    });
    let all_microseconds = microseconds("tidegate, all 1,000 flags", |user| {
        let mut on = 0;
        rules.evaluate_all(&contexts[user], |_, answer| {
            on += usize::from(is_on(&answer))
        });
        on
    });
    Figures {
        by_handle,
        by_key,
        binding,
        all_microseconds,
    }
}
