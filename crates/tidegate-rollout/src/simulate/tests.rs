//! The simulation is itself under test: reproducible, within alpha, and near the bound.

use serde_json::json;

use super::*;

fn spec(alpha: f64, stages: &serde_json::Value, guards: usize) -> RolloutSpec {
    let guards: Vec<_> = (0..guards)
        .map(|i| json!({"metric": format!("errors-{i}")}))
        .collect();
    RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off",
        "alpha": alpha, "stages": stages, "guards": guards,
    }))
    .unwrap()
}

fn service(shape: Shape) -> Workload {
    Workload {
        requests_per_second: 100.0,
        error_rate: 0.005,
        shape,
    }
}

fn ramp() -> serde_json::Value {
    json!([
        {"share_bp": 100, "min_seconds": 120},
        {"share_bp": 500, "min_seconds": 120},
        {"share_bp": 2500, "min_seconds": 120},
        {"share_bp": 5000, "min_seconds": 120}
    ])
}

#[test]
fn false_rollbacks_stay_within_alpha_whatever_the_service_is_like() {
    let spec = spec(0.05, &ramp(), 2);
    for shape in Shape::ALL {
        let row = simulate_healthy(&spec, &service(shape), 4_000, 7);
        assert!(row.rate_upper_99 <= 0.05, "{shape:?}: {row:?}");
    }
}

#[test]
fn harm_is_caught_near_the_two_arm_bound() {
    let spec = spec(0.01, &json!([{"share_bp": 500, "min_seconds": 100_000}]), 1);
    for (ratio, allowed) in [(2.0, 1.5), (4.0, 1.5), (10.0, 1.5), (100.0, 2.5)] {
        let row = simulate_harmed(&spec, &service(Shape::Plain), ratio, 2_000, 11);
        assert_eq!(row.caught, row.histories, "{row:?}");
        assert!(row.seconds_ratio.unwrap() <= allowed, "{row:?}");
        assert!(row.excess_ratio.unwrap() <= allowed, "{row:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_does_not() {
    let spec = spec(0.05, &ramp(), 1);
    let run = |seed| simulate(&spec, &service(Shape::HeavyUsers), 20, seed);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).healthy.mean_seconds, run(4).healthy.mean_seconds);
}

#[test]
fn the_upper_limit_agrees_with_known_values() {
    // 0 of n: 1 - 0.01^(1/n); 5 of 100 from tables.
    assert!((upper_limit(0, 100, 0.99) - (1.0 - 0.01_f64.powf(0.01))).abs() < 1e-9);
    assert!((upper_limit(5, 100, 0.975) - 0.1128).abs() < 1e-4);
    assert_eq!(upper_limit(7, 7, 0.99), 1.0);
}

/// A ramp that ends in a bake of half an hour with 5 % held back.
fn baking(alpha: f64) -> RolloutSpec {
    RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off", "alpha": alpha, "at_end": "ship",
        "stages": [{"share_bp": 500, "min_seconds": 120}, {"share_bp": 10_000}],
        "guards": [{"metric": "errors"}],
        "bake": {"holdback_bp": 500, "seconds": 1_800},
    }))
    .unwrap()
}

#[test]
fn a_bake_keeps_alpha_over_the_whole_rollout() {
    for shape in [Shape::Plain, Shape::HeavyUsers] {
        let row = simulate_healthy(&baking(0.05), &service(shape), 2_000, 7);
        assert!(row.rate_upper_99 <= 0.05, "{shape:?}: {row:?}");
        assert!(row.mean_seconds > 1_800.0, "{shape:?}: {row:?}");
    }
}

#[test]
fn harm_that_begins_in_the_bake_is_caught_sooner_than_by_evidence_from_the_start() {
    let with = baking(0.01);
    let mut without = with.clone();
    // The same holdback for the same time, without anybody looking for a beginning.
    without.bake = None;
    without.stages[1].min_seconds = 1_800;
    let service = Workload {
        requests_per_second: 400.0,
        ..service(Shape::Plain)
    };
    let [watched, unwatched] =
        [&with, &without].map(|spec| simulate_late(spec, &service, 4.0, 60, 3));
    assert!(watched.histories >= 58, "{watched:?}");
    assert_eq!(watched.caught, watched.histories, "{watched:?}");
    assert!(
        watched.mean_seconds < 0.8 * unwatched.mean_seconds,
        "{watched:?} against {unwatched:?}"
    );
}
