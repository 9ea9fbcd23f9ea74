//! The plan shapes that are measured.

use serde_json::{Value, json};
use tidegate_rollout::RolloutSpec;

/// Name and policy of every plan shape.
pub(crate) fn all() -> Vec<(&'static str, RolloutSpec)> {
    let ramp = json!([
        {"share_bp": 100, "min_seconds": 120},
        {"share_bp": 500, "min_seconds": 240},
        {"share_bp": 2500, "min_seconds": 240},
        {"share_bp": 5000, "min_seconds": 600},
    ]);
    let long = json!([{"share_bp": 500, "min_seconds": 3600}]);
    let restless: Vec<Value> = (1..=30)
        .map(|i| json!({"share_bp": 300 * i, "min_seconds": 40}))
        .collect();
    let open_all = json!([
        {"share_bp": 500, "min_seconds": 240},
        {"share_bp": 10000, "min_seconds": 600},
    ]);
    let bake = json!({"holdback_bp": 500, "seconds": 1200});
    vec![
        ("constant 5 %, 1 guard", spec(&long, 1)),
        ("1-5-25-50 %, 1 guard", spec(&ramp, 1)),
        ("1-5-25-50 %, 5 guards", spec(&ramp, 5)),
        ("30 steps of 3 %, 2 guards", spec(&json!(restless), 2)),
        (
            "5-100 % with a bake, 1 guard",
            with(&json!({"bake": bake}), &open_all, 1),
        ),
    ]
}

/// A plan that stays at 5 % long enough for every rival.
pub(crate) fn constant(seconds: u64) -> RolloutSpec {
    spec(&json!([{"share_bp": 500, "min_seconds": seconds}]), 1)
}

fn spec(stages: &Value, guards: usize) -> RolloutSpec {
    with(&json!({}), stages, guards)
}

fn with(more: &Value, stages: &Value, guards: usize) -> RolloutSpec {
    let guards: Vec<Value> = (0..guards)
        .map(|i| json!({"metric": format!("errors-{i}")}))
        .collect();
    let mut spec = json!({
        "flag": "f", "treatment": "on", "control": "off",
        "alpha": 0.01, "stages": stages, "guards": guards,
    });
    let more = more.as_object().into_iter().flatten();
    for (name, value) in more {
        spec[name] = value.clone();
    }
    RolloutSpec::from_json(&spec).unwrap()
}
