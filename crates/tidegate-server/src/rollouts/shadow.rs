//! Does a guard fire? An injected fault, played in shadow before anybody is exposed.
//!
//! Made-up units are put through everything a real one goes through: the flag's own split, the door
//! for events, the counting, the evidence and the planner. In the treatment everything fails that the
//! guard watches; in control hardly anything does. A guard that does not call that harm would never
//! have called anything harm, whatever the reason: a misspelt variant, a split that reaches nobody, a
//! margin no fault can pass. Nothing of this is served, stored, or seen by anybody.

use std::fmt::Write as _;

use tidegate_flags::FlagSpec;
use tidegate_lake::LogHealth;
use tidegate_metrics::{Arrival, EventKind, Limits, parse_events};
use tidegate_rollout::{
    BasisPoints, Direction, RolloutEvent, RolloutSpec, RolloutState, Verdict, plan,
};

use super::GuardSource;
use super::drive::observations_of;
use super::split::Split;
use super::watch::{Arm, BASELINE_REQUESTS, Watch};

/// Made-up units per shadow.
const UNITS: usize = 4_000;
/// The share of them in the treatment: small shares need more units for the same proof.
const SHARE_BP: u16 = 2_000;
/// Of how many healthy units one has the event.
const HEALTHY_EVERY: usize = 50;

/// Whether guard number `index` calls an injected fault harm; `flag` must have the rollout's rule.
pub(super) fn fires(
    spec: &RolloutSpec,
    (key, flag): (&str, &FlagSpec),
    index: usize,
    now_us: i64,
) -> bool {
    let Some(guard) = spec.guards.get(index).cloned() else {
        return false;
    };
    let Some(source) = GuardSource::of(&guard.metric) else {
        return false;
    };
    let is_decrease = guard.direction == Direction::Decrease;
    // Guards are proven one at a time; the others have nothing to say about this one.
    let mut alone = spec.clone();
    alone.guards = vec![guard];
    let spec = &alone;
    let Some(share) = BasisPoints::new(SHARE_BP) else {
        return false;
    };
    let Some(split) = Split::at_share(&spec.flag, flag, key, share) else {
        return false;
    };
    let arms = (spec.treatment.as_str(), spec.control.as_str());
    let mut watch = Watch::new(&spec.flag, arms, vec![source.clone()], now_us);
    let play = Play {
        spec,
        source,
        is_decrease,
        now_us,
    };
    for number in 0..usize::try_from(BASELINE_REQUESTS).unwrap_or(usize::MAX) {
        let usual = play.usual(number);
        play.feed(&usual, |event| {
            watch.learn(event);
        });
    }
    watch.begin_phase(share, now_us);
    for number in 0..UNITS {
        let unit = format!("shadow-{number}");
        let Some(arm) = split.arm_of(&unit) else {
            continue;
        };
        let text = play.faulty(&unit, number, arm);
        play.feed(&text, |event| {
            watch.count(event, 0, arm);
        });
    }
    let state = at_share(spec, share, now_us);
    let seen = observations_of(spec, &watch, &LogHealth::Writing, now_us);
    plan(spec, &state, &seen, now_us).verdict == Verdict::Harmed
}

/// The state of a rollout whose first stage has just come into force at a share.
pub(super) fn at_share(spec: &RolloutSpec, share_bp: BasisPoints, at_us: i64) -> RolloutState {
    let log = [
        RolloutEvent::Started {
            at_us,
            who: "shadow".to_owned(),
        },
        RolloutEvent::StageEntered {
            at_us,
            stage: 0,
            share_bp,
        },
    ];
    RolloutState::fold(spec, &log)
}

/// Made-up events of one guard.
struct Play<'s> {
    spec: &'s RolloutSpec,
    source: GuardSource,
    is_decrease: bool,
    now_us: i64,
}

impl Play<'_> {
    /// A request of control before the first stage: latencies from 1 to 100 ms.
    fn usual(&self, number: usize) -> String {
        let latency = number % 100 + 1;
        self.event(
            &format!("usual-{number}"),
            &self.spec.control,
            latency,
            false,
        )
    }

    /// What a unit does under the fault; nothing beyond being there, if it does not do what the
    /// guard counts.
    fn faulty(&self, unit: &str, number: usize, arm: Arm) -> String {
        let is_healthy_event = number.is_multiple_of(HEALTHY_EVERY);
        let counts = match (arm, self.is_decrease) {
            (Arm::Treatment, false) | (Arm::Control, true) => true,
            (Arm::Treatment, true) => false,
            (Arm::Control, false) => is_healthy_event,
        };
        let variant = match arm {
            Arm::Treatment => &self.spec.treatment,
            Arm::Control => &self.spec.control,
        };
        let latency = if counts { 100_000 } else { 1 };
        self.event(unit, variant, latency, counts)
    }

    fn event(&self, unit: &str, variant: &str, latency: usize, counts: bool) -> String {
        let (kind, name) = match &self.source {
            GuardSource::Errors(name) | GuardSource::Latency(name) => {
                (EventKind::Request, name.as_deref().unwrap_or("shadow"))
            }
            GuardSource::Conversions(name) if counts => (EventKind::Track, name.as_str()),
            GuardSource::Conversions(_) | GuardSource::Source(_) => (EventKind::Track, "shadow"),
        };
        let failed = counts && matches!(self.source, GuardSource::Errors(_));
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = format!(
            "{{\"time\":\"2026-01-01T00:00:00Z\",\"unit\":{},\"kind\":\"{}\",\"name\":{}",
            quoted(unit),
            kind.as_str(),
            quoted(name)
        );
        // Writing into a text cannot fail.
        let _ = write!(
            text,
            ",\"value\":{latency},\"properties\":{{\"error\":{failed}}},\"flags\":{{{}:{}}}}}",
            quoted(&self.spec.flag),
            quoted(variant)
        );
        text
    }

    fn feed(&self, text: &str, mut take: impl FnMut(&tidegate_metrics::Event)) {
        let limits = Limits::default();
        if let Ok(batch) = parse_events(text.as_bytes(), &limits, Arrival::at(self.now_us)) {
            batch.accepted.iter().for_each(&mut take);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1_767_225_600_000_000;

    fn policy(guards: Value) -> RolloutSpec {
        RolloutSpec::from_json(&json!({
            "flag": "f", "treatment": "on", "control": "off",
            "stages": [{"share_bp": 100, "min_seconds": 60}], "guards": guards,
        }))
        .unwrap()
    }

    fn flag(rule: &str) -> FlagSpec {
        let definition = json!({
            "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
            "rules": [{"id": rule, "rollout":
                {"treatment": "on", "control": "off", "share_bp": 0}}],
        });
        FlagSpec::from_json("f", &definition).unwrap()
    }

    fn fired(guards: &Value, rule: &str) -> Vec<bool> {
        let spec = policy(guards.clone());
        (0..spec.guards.len())
            .map(|index| fires(&spec, ("r", &flag(rule)), index, NOW))
            .collect()
    }

    #[test]
    fn every_sort_of_guard_fires_under_its_own_fault() {
        let guards = json!([
            {"metric": "errors"}, {"metric": "errors/a \"b\""}, {"metric": "latency/checkout"},
            {"metric": "conversions/paid", "direction": "decrease"},
            {"metric": "conversions/complained", "direction": "increase"},
        ]);
        assert_eq!(fired(&guards, "rollout-r"), [true; 5]);
    }

    #[test]
    fn a_guard_that_no_fault_can_move_or_that_watches_another_split_does_not() {
        let unreachable = json!([{"metric": "errors", "margin": 1000.0}]);
        assert_eq!(fired(&unreachable, "rollout-r"), [false]);
        assert_eq!(
            fired(&json!([{"metric": "errors"}]), "rollout-other"),
            [false]
        );
    }
}
