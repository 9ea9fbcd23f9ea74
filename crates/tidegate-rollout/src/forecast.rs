//! Before the start: how soon would this plan see harm of a given size?
//!
//! # How it decides
//! Under ratio `r` events carry `I = lam p0 (w r + c) kl(q(r), q(r0))` nats per second (rollouts.md 4.4). Evidence must
//! reach `ln(1/(alpha v))` plus what the prior charges for the nearest ratio of its grid. The forecast walks the
//! stages with the shares they will have and adds up. It is an expectation: half of all runs are quicker.
//! [`two_arm_bound`] leaves the prior's charge out: no test with two arms and unknown base rate is quicker
//! on average.

use serde::Serialize;

use crate::evidence::late::LATE_CAPITAL;
use crate::evidence::{RatioPrior, Shares};
use crate::spec::{Direction, Guard, RolloutSpec, Stage};

/// Traffic of the audience, as measured before the start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Traffic {
    /// New units per second, both arms.
    pub units_per_second: f64,
    /// Probability that a unit has the guarded event, in control.
    pub event_rate: f64,
}

/// What the plan would see.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct Forecast {
    /// For people.
    pub sentence: String,
    /// One row per size of harm.
    pub rows: Vec<ForecastRow>,
}

/// One size of harm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ForecastRow {
    /// Ratio treatment / control of the event.
    pub ratio: f64,
    /// Expected seconds until rollback; absent when the plan ends before.
    pub seconds: Option<f64>,
    /// Expected events above those of control until then, or until the end of the plan.
    pub excess_events: f64,
}

/// Sizes of harm in every forecast.
pub const RATIOS: [f64; 5] = [1.5, 2.0, 4.0, 10.0, 100.0];

/// Forecasts for one guard of a policy. Ratios that would push the event rate above one are capped.
pub fn forecast(spec: &RolloutSpec, guard: &Guard, traffic: Traffic) -> Forecast {
    let total: f64 = spec.guards.iter().map(|g| g.weight).sum();
    // With a bake a part of the capital is kept for harm that begins in it.
    let kept = spec.bake.map_or(0.0, |_| -(1.0 - LATE_CAPITAL).ln());
    let level = (total / (spec.alpha * guard.weight)).ln() + kept;
    let prior = RatioPrior::increase();
    let rows: Vec<ForecastRow> = RATIOS
        .iter()
        .map(|ratio| {
            let ratio = effective_ratio(guard.direction, *ratio, traffic.event_rate);
            let needed = level + prior_charge(&prior, ratio, guard.harmless_ratio());
            walk(spec, traffic, ratio, guard.harmless_ratio(), needed)
        })
        .collect();
    let doubling = rows.get(1).and_then(|row| row.seconds);
    let noun = match guard.direction {
        Direction::Increase => "a doubling",
        Direction::Decrease => "a halving",
    };
    let sentence = match doubling {
        Some(seconds) => format!(
            "sees {noun} of {} within {}",
            guard.metric,
            duration(seconds)
        ),
        None => format!(
            "would end before {noun} of {} is seen: give the stages more time or share",
            guard.metric
        ),
    };
    Forecast { sentence, rows }
}

/// Lower bound of expected time and excess events for evidence of `ln_level` nats with two arms and an unknown base rate.
#[must_use]
pub fn two_arm_bound(
    spec: &RolloutSpec,
    traffic: Traffic,
    ratio: f64,
    ln_level: f64,
) -> ForecastRow {
    walk(spec, traffic, ratio, 1.0, ln_level)
}

fn effective_ratio(direction: Direction, ratio: f64, event_rate: f64) -> f64 {
    match direction {
        Direction::Increase => ratio.min(1.0 / event_rate.max(1e-12)),
        Direction::Decrease => 1.0 / ratio,
    }
}

/// Nats the prior charges for betting elsewhere than on the true ratio.
fn prior_charge(prior: &RatioPrior, ratio: f64, harmless: f64) -> f64 {
    let beyond = (ratio / harmless).ln().abs();
    prior
        .points()
        .iter()
        .min_by(|a, b| {
            (a.ratio.ln() - beyond)
                .abs()
                .total_cmp(&(b.ratio.ln() - beyond).abs())
        })
        .map_or(0.0, |point| -point.ln_weight)
}

/// `kl(a, b)` of two coins, in nats.
fn coin_divergence(a: f64, b: f64) -> f64 {
    a * (a / b).ln() + (1.0 - a) * ((1.0 - a) / (1.0 - b)).ln()
}

/// Adds up information stage by stage until `needed` nats are there.
fn walk(
    spec: &RolloutSpec,
    traffic: Traffic,
    ratio: f64,
    harmless: f64,
    needed: f64,
) -> ForecastRow {
    let is_harm = (ratio > harmless) == (ratio > 1.0) && (ratio - harmless).abs() > 1e-9;
    let (mut left, mut seconds, mut excess_events) = (needed, 0.0, 0.0);
    for (index, stage) in spec.stages.iter().enumerate() {
        let Some(treatment_bp) = spec.target_bp(index) else {
            break;
        };
        let shares = Shares {
            treatment_bp,
            control_bp: treatment_bp.complement(),
        };
        let (w, c) = (treatment_bp.fraction(), shares.control_bp.fraction());
        let base = traffic.units_per_second * traffic.event_rate;
        let information = if shares.is_informative() && is_harm {
            base * w.mul_add(ratio, c)
                * coin_divergence(
                    shares.treatment_probability(ratio),
                    shares.treatment_probability(harmless),
                )
        } else {
            0.0
        };
        let lasts = stage_seconds((spec, index), stage, w, traffic);
        let needs = if information > 0.0 {
            left / information
        } else {
            f64::INFINITY
        };
        let spent = lasts.min(needs);
        excess_events += (ratio - 1.0) * base * w * spent;
        seconds += spent;
        if needs <= lasts {
            return ForecastRow {
                ratio,
                seconds: Some(seconds),
                excess_events,
            };
        }
        left -= information * lasts;
    }
    ForecastRow {
        ratio,
        seconds: None,
        excess_events,
    }
}

/// Expected length of a stage under this traffic, a bake included.
fn stage_seconds(
    (spec, index): (&RolloutSpec, usize),
    stage: &Stage,
    share: f64,
    traffic: Traffic,
) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "policy limits are far below 2^52"
    )]
    let (time, units, events) = (
        spec.min_seconds(index) as f64,
        stage.min_units as f64,
        stage.min_events as f64,
    );
    let for_units = units / (traffic.units_per_second * share);
    let for_events = events / (traffic.units_per_second * traffic.event_rate);
    time.max(for_units).max(for_events)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.ceil()),
        s if s < 5_400.0 => format!("{:.0} minutes", (s / 60.0).ceil()),
        s => format!("{:.0} hours", (s / 3_600.0).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(seconds: u64) -> RolloutSpec {
        RolloutSpec::from_json(&json!({
            "flag": "f", "treatment": "on", "control": "off",
            "stages": [{"share_bp": 500, "min_seconds": seconds}],
            "guards": [{"metric": "errors"}]
        }))
        .unwrap()
    }

    #[test]
    fn the_two_arm_bound_reproduces_the_published_table() {
        // 100 requests/s, 0.5 % errors, 5 % share against all stable, alpha 0.01.
        let traffic = Traffic {
            units_per_second: 100.0,
            event_rate: 0.005,
        };
        let level = 100_f64.ln();
        let cases = [
            (2.0, 509.0, 12.7),
            (4.0, 79.0, 5.9),
            (10.0, 15.0, 3.4),
            (100.0, 0.74, 1.8),
        ];
        for (ratio, seconds, failures) in cases {
            let bound = two_arm_bound(&spec(100_000), traffic, ratio, level);
            let found = bound.seconds.unwrap();
            assert!((found / seconds - 1.0).abs() < 0.03, "{ratio}: {found}");
            assert!((bound.excess_events - failures).abs() < 0.06, "{ratio}");
        }
    }

    #[test]
    fn a_bake_is_time_to_see_harm_and_keeps_a_part_of_the_capital() {
        let traffic = Traffic {
            units_per_second: 100.0,
            event_rate: 0.005,
        };
        let ending = |bake: serde_json::Value| {
            let mut spec = json!({
                "flag": "f", "treatment": "on", "control": "off",
                "stages": [{"share_bp": 500, "min_seconds": 60}, {"share_bp": 10_000}],
                "guards": [{"metric": "errors"}],
            });
            match bake {
                serde_json::Value::Null => spec["holdback_bp"] = json!(500),
                bake => spec["bake"] = bake,
            }
            let spec = RolloutSpec::from_json(&spec).unwrap();
            forecast(&spec, &spec.guards[0], traffic)
        };
        let without = ending(serde_json::Value::Null);
        let with = ending(json!({"holdback_bp": 500, "seconds": 86_400}));
        assert!(without.rows[1].seconds.is_none(), "{without:?}");
        assert!(with.rows[1].seconds.is_some(), "{with:?}");
        assert!(
            with.rows[4].seconds > without.rows[4].seconds,
            "a fifth of the capital waits: {with:?} {without:?}"
        );
    }

    #[test]
    fn a_short_plan_says_that_it_would_miss_a_doubling() {
        let traffic = Traffic {
            units_per_second: 100.0,
            event_rate: 0.005,
        };
        let long = spec(100_000);
        let seen = forecast(&long, &long.guards[0], traffic);
        assert!(
            seen.sentence
                .starts_with("sees a doubling of errors within"),
            "{}",
            seen.sentence
        );
        let short = spec(60);
        let missed = forecast(&short, &short.guards[0], traffic);
        assert!(
            missed.sentence.starts_with("would end before a doubling"),
            "{}",
            missed.sentence
        );
        assert!(missed.rows[4].seconds.unwrap() < 3.0);
    }
}
