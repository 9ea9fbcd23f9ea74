//! The peers, set up as their documentation advises.

use crate::{FLAGS, USERS, flag_key, microseconds, nanoseconds, tidegate, user_key};
use datalogic_rs::{Engine, ParsedData};
use serde_json::{Value, json};
use unleash_types::client_features::ClientFeatures;
use unleash_yggdrasil::{Context, EngineState};

/// Unleash's rule for the same: a constraint on `plan`, two variants of equal weight.
fn unleash_feature(index: usize) -> Value {
    let variant = |name: &str| json!({"name": name, "weight": 500, "stickiness": "userId"});
    json!({
        "name": flag_key(index),
        "enabled": true,
        "strategies": [{
            "name": "default",
            "constraints": [{
                "contextName": "plan", "operator": "IN", "values": ["pro", "team", "enterprise"],
            }],
        }],
        "variants": [variant("on"), variant("off")],
    })
}

pub fn yggdrasil() -> f64 {
    let features: Vec<Value> = (0..FLAGS).map(unleash_feature).collect();
    let document = json!({"version": 2, "features": features});
    let features: ClientFeatures = serde_json::from_value(document).unwrap();
    let engine = EngineState::default();
    let warnings = engine.apply_client_features(features);
    assert!(warnings.is_none_or(|warnings| warnings.is_empty()));
    let contexts: Vec<Context> = (0..USERS)
        .map(|user| {
            let properties = json!({"plan": "team", "country": "NL", "version": "2.1.0"});
            let context = json!({"userId": user_key(user), "properties": properties});
            serde_json::from_value(context).unwrap()
        })
        .collect();
    let key = flag_key(FLAGS / 2);
    let single = nanoseconds("yggdrasil 0.21, get_variant", |user| {
        engine.get_variant(&key, &contexts[user], &None).name == "on"
    });
    microseconds("yggdrasil 0.21, all 1,000 flags", |user| {
        let resolved = engine.resolve_all(&contexts[user], &None).unwrap();
        resolved
            .values()
            .filter(|toggle| toggle.variant.name == "on")
            .count()
    });
    single
}

/// Prepared contexts, then contexts converted each time.
pub fn datalogic() -> (f64, f64) {
    let engine = Engine::new();
    let rule = tidegate::flag()["targeting"].to_string();
    let logic = engine.compile(rule.as_str()).unwrap();
    let contexts: Vec<Value> = (0..USERS)
        .map(|user| {
            let mut context = tidegate::attributes(user);
            let injected = json!({"flagKey": flag_key(FLAGS / 2), "timestamp": 1_700_000_000});
            context.insert("$flagd".to_owned(), injected);
            Value::Object(context)
        })
        .collect();
    let parsed: Vec<ParsedData> = contexts
        .iter()
        .map(|context| ParsedData::from_json(&context.to_string()).unwrap())
        .collect();
    let mut session = engine.session();
    let prepared = nanoseconds("datalogic-rs 5, contexts prepared", |user| {
        let is_on = session
            .eval_borrowed(&logic, &parsed[user])
            .unwrap()
            .as_str()
            == Some("on");
        session.reset();
        is_on
    });
    let unprepared = nanoseconds("datalogic-rs 5, contexts as JSON each time", |user| {
        let is_on = session
            .eval_borrowed(&logic, &contexts[user])
            .unwrap()
            .as_str()
            == Some("on");
        session.reset();
        is_on
    });
    (prepared, unprepared)
}
