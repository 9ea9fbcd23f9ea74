//! Every method against values computed with 60 digits (`spec/stats/comparisons.json`).

#![expect(clippy::unwrap_used, reason = "test helpers")]

use serde_json::Value;
use tidegate_stats::count_eprocess::{self, CountOptions, Phase};
use tidegate_stats::fixed::{self, FixedOptions};
use tidegate_stats::proportions::{self, Count, ProportionOptions};
use tidegate_stats::sequential::{self, SequentialOptions};
use tidegate_stats::{ArmSummary, Comparison, Relative, Tail};

const VECTORS: &str = include_str!("../../../spec/stats/comparisons.json");

/// The relative error allowed.
const BAR: f64 = 1e-10;

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn tail(row: &Value) -> Tail {
    serde_json::from_value(row["tail"].clone()).unwrap()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts in a test"
)]
fn count(number: f64) -> u64 {
    number as u64
}

/// Says where `actual` departs from the oracle's number or null.
fn departure(name: &str, actual: Option<f64>, expected: &Value, scale: f64) -> Option<String> {
    match (actual, expected.as_f64()) {
        (None, None) => None,
        (Some(actual), Some(expected))
            if (actual - expected).abs() <= BAR * expected.abs().max(scale) =>
        {
            None
        }
        (actual, expected) => Some(format!("{name} is {actual:?}, oracle {expected:?}")),
    }
}

fn compare(row: &Value) -> Comparison {
    let arms = numbers(&row["arms"]);
    let control = ArmSummary::new(count(arms[0]), arms[1], arms[2]).unwrap();
    let treatment = ArmSummary::new(count(arms[3]), arms[4], arms[5]).unwrap();
    let alpha = row["alpha"].as_f64().unwrap();
    let tail = tail(row);
    if row["method"] == "fixed" {
        let options = FixedOptions {
            alpha,
            tail,
            ..FixedOptions::default()
        };
        return fixed::compare(&control, &treatment, &options).unwrap();
    }
    let tune_at = row["tune_at"].as_f64().unwrap();
    let options = SequentialOptions {
        alpha,
        tail,
        tune_at,
        burn_in_events: 0,
        ..Default::default()
    };
    sequential::compare(&control, &treatment, &options).unwrap()
}

fn set_name(relative: &Relative) -> Value {
    serde_json::to_value(relative.set).unwrap()
}

#[test]
fn means_agree_to_1e_10() {
    let vectors = vectors();
    let mut failures = Vec::new();
    for row in vectors["means"].as_array().unwrap() {
        let actual = compare(row);
        let ln_p = row["ln_p"].as_f64().unwrap();
        // An error of ln p is a relative error of p.
        if (actual.ln_p - ln_p).abs() > BAR {
            failures.push(format!("{row}: ln p is {}, oracle {ln_p}", actual.ln_p));
        }
        // Ends are differences; they cannot be better known than their terms.
        let scale = 1e-5 * actual.absolute.estimate.abs().max(actual.standard_error);
        let relative_scale = 1e-5 * actual.relative.estimate.map_or(0.0, f64::abs);
        failures.extend(
            [
                departure("lower", actual.absolute.lower, &row["absolute"][0], scale),
                departure("upper", actual.absolute.upper, &row["absolute"][1], scale),
                departure(
                    "lift from",
                    actual.relative.lower,
                    &row["relative"]["lower"],
                    relative_scale,
                ),
                departure(
                    "lift to",
                    actual.relative.upper,
                    &row["relative"]["upper"],
                    relative_scale,
                ),
            ]
            .into_iter()
            .flatten()
            .map(|text| format!("{row}: {text}")),
        );
        if set_name(&actual.relative) != row["relative"]["set"] {
            failures.push(format!("{row}: set is {:?}", actual.relative.set));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn scores_agree_to_1e_10() {
    let vectors = vectors();
    for row in vectors["scores"].as_array().unwrap() {
        let counts: Vec<u64> = numbers(&row["counts"]).into_iter().map(count).collect();
        let control = Count {
            successes: counts[0],
            units: counts[1],
        };
        let treatment = Count {
            successes: counts[2],
            units: counts[3],
        };
        let alpha = row["alpha"].as_f64().unwrap();
        let options = ProportionOptions {
            alpha,
            ..ProportionOptions::default()
        };
        let actual = proportions::compare(control, treatment, &options).unwrap();
        let ends = [
            departure("ln p", Some(actual.ln_p), &row["ln_p"], 1.0),
            departure("lower", actual.absolute.lower, &row["absolute"][0], 0.01),
            departure("upper", actual.absolute.upper, &row["absolute"][1], 0.01),
            departure(
                "lift from",
                actual.relative.lower,
                &row["relative"][0],
                0.01,
            ),
            departure("lift to", actual.relative.upper, &row["relative"][1], 0.01),
        ];
        for end in ends.into_iter().flatten() {
            panic!("{row}: {end}");
        }
    }
}

#[test]
fn count_processes_agree_to_1e_10() {
    let vectors = vectors();
    for row in vectors["counts"].as_array().unwrap() {
        let phases: Vec<Phase> = row["phases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|phase| {
                let phase = numbers(phase);
                Phase {
                    treatment_share: phase[0],
                    events_control: count(phase[1]),
                    events_treatment: count(phase[2]),
                }
            })
            .collect();
        let options = CountOptions {
            alpha: row["alpha"].as_f64().unwrap(),
            tail: tail(row),
            null_ratio: row["null_ratio"].as_f64().unwrap(),
            tune_at_events: row["tune_at_events"].as_f64().unwrap(),
        };
        let actual = count_eprocess::compare(&phases, &options).unwrap();
        let ln_p = (-row["ln_e"].as_f64().unwrap()).min(0.0);
        assert!(
            (actual.ln_p - ln_p).abs() <= BAR,
            "{row}: ln p is {}",
            actual.ln_p
        );
    }
}
