//! How long one plan takes: five guards, one of them a five-rung latency ladder, after six phases.

use std::time::Instant;

use serde_json::json;
use tidegate_rollout::{
    ArmCounts, BasisPoints, GuardObservation, Measured, Observations, Phase, RolloutEvent,
    RolloutSpec, RolloutState, Rung, SourceStatus, plan,
};

const ROLLOUTS: u32 = 1_000;

fn spec() -> RolloutSpec {
    let guards: Vec<_> = (0..5)
        .map(|i| json!({"metric": format!("guard-{i}")}))
        .collect();
    let stages: Vec<_> = (1..=6)
        .map(|i| json!({"share_bp": 800 * i, "min_seconds": 60}))
        .collect();
    RolloutSpec::from_json(&json!({
        "flag": "f", "treatment": "on", "control": "off", "stages": stages, "guards": guards,
    }))
    .unwrap()
}

fn observations() -> Observations {
    let phases: Vec<Phase> = (1..=6_u16)
        .map(|i| {
            let treatment_bp = BasisPoints::new(800 * i).unwrap();
            let units = ArmCounts {
                treatment: 800 * u64::from(i),
                control: 10_000,
            };
            let control_bp = treatment_bp.complement();
            Phase {
                treatment_bp,
                control_bp,
                started_us: i64::from(i),
                units,
                exposed: units,
            }
        })
        .collect();
    let counts = |rate: u64| {
        phases
            .iter()
            .map(|p| ArmCounts {
                treatment: p.units.treatment / rate,
                control: p.units.control / rate,
            })
            .collect::<Vec<_>>()
    };
    let ladder = [0.5, 0.9, 0.95, 0.99, 0.999]
        .map(|quantile| Rung {
            quantile,
            threshold_ms: 100.0,
            slow: counts(40),
            first_requests: Some(phases.iter().map(|p| p.units).collect()),
        })
        .to_vec();
    let guards = (0..5)
        .map(|i| GuardObservation {
            metric: format!("guard-{i}"),
            source: SourceStatus::Ok,
            as_of_us: 1_000,
            proven: true,
            dropped_samples: 0,
            measured: if i == 0 {
                Measured::LatencyLadder {
                    rungs: ladder.clone(),
                }
            } else {
                Measured::FirstEvents {
                    phases: counts(200),
                }
            },
        })
        .collect();
    Observations {
        watermark: 1,
        as_of_us: 1_000,
        last_unit_us: Some(1_000),
        phases: phases.clone(),
        guards,
        multiply_exposed_units: 0,
        counts_units_once_over_all_guards: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn table() {
    let (spec, observations) = (spec(), observations());
    let log: Vec<RolloutEvent> = vec![
        RolloutEvent::Started {
            at_us: 0,
            who: "ann".to_owned(),
        },
        RolloutEvent::StageEntered {
            at_us: 6,
            stage: 5,
            share_bp: BasisPoints::new(4_800).unwrap(),
        },
    ];
    let state = RolloutState::fold(&spec, &log);
    let mut bytes = 0;
    let started = Instant::now();
    for i in 0..ROLLOUTS {
        bytes += plan(&spec, &state, &observations, i64::from(i))
            .canonical_bytes()
            .len();
    }
    let elapsed = started.elapsed();
    println!("## Speed\n");
    println!(
        "{ROLLOUTS} rollouts with 5 guards (one a five-rung ladder) after 6 phases, planned and serialized on one core of the build machine: {:.0} ms, {:.1} us per plan, {} bytes per plan.",
        elapsed.as_secs_f64() * 1e3,
        elapsed.as_secs_f64() * 1e6 / f64::from(ROLLOUTS),
        bytes / usize::try_from(ROLLOUTS).unwrap_or(1),
    );
    println!("Goal: 500 ms.");
}
