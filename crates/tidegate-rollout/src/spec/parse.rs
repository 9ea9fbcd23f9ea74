//! Reads a rollout policy from JSON: all violations at once, each with a JSON pointer and a cure.
//!
//! Unknown fields are refused, since a misspelt `min_unitz` would otherwise quietly protect nobody.
//! Limits hold before anything is copied.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::reader::Reader;
use super::{
    Bake, Direction, EndPolicy, Freeze, Guard, HarmBudget, NoDataPolicy, RolloutSpec, Stage,
};
use crate::basis_points::BasisPoints;

const MAX_STAGES: usize = 64;
const MAX_GUARDS: usize = 32;
const MAX_FREEZES: usize = 100;
const MAX_KEY: usize = 200;
const MAX_TEXT: usize = 2_000;
/// One year: longer waits are a mistyped unit.
const MAX_SECONDS: u64 = 366 * 86_400;
const MAX_COUNT: u64 = 1_000_000_000_000;
/// Less is too little to compare with, more is a stage and no holdback.
const BAKE_HOLDBACK_BP: std::ops::RangeInclusive<u16> = 100..=500;
const MIN_BAKE_SECONDS: u64 = 60;

const POSITIVE: (&str, fn(f64) -> bool) = ("a number above 0", |x| x > 0.0);
const NOT_NEGATIVE: (&str, fn(f64) -> bool) =
    ("a number of at least 0", |x| (0.0..=1e3).contains(&x));
const PROBABILITY: (&str, fn(f64) -> bool) = ("a probability above 0 and at most 0.5", |x| {
    (1e-12..=0.5).contains(&x)
});

/// One thing wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where, as a JSON pointer into the spec (RFC 6901).
    pub pointer: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Violation {
    pub(super) fn new(pointer: &str, reason: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A policy that was refused, with every violation found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the rollout: {}", summary(violations))]
pub struct SpecError {
    /// At least one violation, in the order of the document.
    pub violations: Vec<Violation>,
}

fn summary(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|v| format!("{} {}", v.pointer, v.reason))
        .collect();
    parts.join("; ")
}

impl RolloutSpec {
    /// Reads a policy from the `spec` of a declarative document.
    ///
    /// # Errors
    /// Every violation of the document at once, each with its JSON pointer.
    pub fn from_json(value: &Value) -> Result<Self, SpecError> {
        let mut violations = Vec::new();
        let spec = read_spec(value, &mut violations);
        if value.is_object() {
            check_relations(&spec, &mut violations);
        }
        if violations.is_empty() {
            Ok(spec)
        } else {
            Err(SpecError { violations })
        }
    }
}

fn read_spec(value: &Value, violations: &mut Vec<Violation>) -> RolloutSpec {
    let mut at = Reader::open(value, String::new(), violations);
    let bake = read_bake(&mut at);
    let holdback_bp = read_share(&mut at, "holdback_bp", Some(BasisPoints::ZERO));
    if bake.is_some() && holdback_bp > BasisPoints::ZERO {
        at.refuse(
            "holdback_bp",
            "must not stand beside `bake`, which says how much it keeps back",
        );
    }
    let spec = RolloutSpec {
        flag: at.text("flag", MAX_KEY),
        treatment: at.text("treatment", MAX_KEY),
        control: at.text("control", MAX_KEY),
        audience: at.get("audience").cloned(),
        alpha: at.number("alpha", 0.01, PROBABILITY),
        stages: read_stages(&mut at),
        guards: read_guards(&mut at),
        no_data: read_no_data(&mut at),
        at_end: read_at_end(&mut at),
        deadline_seconds: at
            .get("deadline_seconds")
            .is_some()
            .then(|| at.whole("deadline_seconds", MAX_SECONDS, MAX_SECONDS)),
        blind: at.boolean("blind", false),
        reason: at.optional_text("reason", MAX_TEXT),
        freezes: read_freezes(&mut at),
        harm_budget: read_harm_budget(&mut at),
        holdback_bp: bake.map_or(holdback_bp, |bake| bake.holdback_bp),
        bake,
        staleness_seconds: at.whole("staleness_seconds", 300, MAX_SECONDS),
        srm_alpha: at.number("srm_alpha", 0.001, PROBABILITY),
        cooldown_seconds: at.whole("cooldown_seconds", 300, MAX_SECONDS),
    };
    at.close();
    spec
}

fn read_share(
    at: &mut Reader<'_>,
    name: &'static str,
    default: Option<BasisPoints>,
) -> BasisPoints {
    let Some(value) = at.get(name) else {
        if default.is_none() {
            at.refuse(name, "is required");
        }
        return default.unwrap_or_default();
    };
    let share = value
        .as_u64()
        .and_then(|n| u16::try_from(n).ok())
        .and_then(BasisPoints::new);
    share.unwrap_or_else(|| {
        at.refuse(
            name,
            format!("must be whole basis points from 0 to 10000, found {value}"),
        );
        BasisPoints::ZERO
    })
}

fn read_bake(at: &mut Reader<'_>) -> Option<Bake> {
    let value = at.get("bake")?;
    let pointer = at.at("bake");
    let mut at = Reader::open(value, pointer, at.violations());
    let holdback_bp = read_share(&mut at, "holdback_bp", None);
    if at.get("holdback_bp").is_some() && !BAKE_HOLDBACK_BP.contains(&holdback_bp.get()) {
        at.refuse(
            "holdback_bp",
            "must lie between 100 and 500: 1 to 5 % keep control to be compared with",
        );
    }
    if at.get("seconds").is_none() {
        at.refuse("seconds", "is required");
    }
    let seconds = at.whole("seconds", MIN_BAKE_SECONDS, MAX_SECONDS);
    if seconds < MIN_BAKE_SECONDS {
        at.refuse(
            "seconds",
            "must be at least 60: the bake is watched in 24 periods",
        );
    }
    at.close();
    Some(Bake {
        holdback_bp,
        seconds,
    })
}

fn read_stages(at: &mut Reader<'_>) -> Vec<Stage> {
    let items = at.list("stages", MAX_STAGES);
    items
        .into_iter()
        .map(|(pointer, value)| {
            let mut at = Reader::open(value, pointer, at.violations());
            let stage = Stage {
                share_bp: read_share(&mut at, "share_bp", None),
                min_seconds: at.whole("min_seconds", 0, MAX_SECONDS),
                min_units: at.whole("min_units", 0, MAX_COUNT),
                min_events: at.whole("min_events", 0, MAX_COUNT),
                approval: at.boolean("approval", false),
            };
            at.close();
            stage
        })
        .collect()
}

fn read_guards(at: &mut Reader<'_>) -> Vec<Guard> {
    let items = at.list("guards", MAX_GUARDS);
    items
        .into_iter()
        .map(|(pointer, value)| {
            let mut at = Reader::open(value, pointer, at.violations());
            let metric = at.text("metric", MAX_KEY);
            let direction = match at.get("direction").map(|v| (v, v.as_str())) {
                None | Some((_, Some("increase"))) => Direction::Increase,
                Some((_, Some("decrease"))) => Direction::Decrease,
                Some((found, _)) => {
                    at.refuse(
                        "direction",
                        format!("must be \"increase\" or \"decrease\", the change that harms; found {found}"),
                    );
                    Direction::Increase
                }
            };
            let margin = at.number("margin", 0.0, NOT_NEGATIVE);
            if direction == Direction::Decrease && margin >= 1.0 {
                at.refuse("margin", "must be below 1 when a decrease harms: 1 tolerates losing everything");
            }
            let guard = Guard {
                metric,
                direction,
                margin,
                tolerance: at.number("tolerance", 1.0, POSITIVE),
                weight: at.number("weight", 1.0, POSITIVE),
            };
            at.close();
            guard
        })
        .collect()
}

fn read_no_data(at: &mut Reader<'_>) -> NoDataPolicy {
    let Some(value) = at.get("no_data") else {
        return NoDataPolicy::Hold;
    };
    if value.as_str() == Some("hold") {
        return NoDataPolicy::Hold;
    }
    let policy = value
        .as_object()
        .filter(|fields| fields.len() == 1)
        .and_then(|fields| {
            let (name, body) = fields.iter().next()?;
            let body = body.as_object().filter(|body| body.len() == 1)?;
            let after_seconds = body
                .get("after_seconds")?
                .as_u64()
                .filter(|s| *s <= MAX_SECONDS)?;
            match name.as_str() {
                "roll_back" => Some(NoDataPolicy::RollBack { after_seconds }),
                "synthetic_load" => Some(NoDataPolicy::SyntheticLoad { after_seconds }),
                _ => None,
            }
        });
    policy.unwrap_or_else(|| {
        at.refuse(
            "no_data",
            "must be \"hold\", {\"roll_back\":{\"after_seconds\":N}} or {\"synthetic_load\":{\"after_seconds\":N}}",
        );
        NoDataPolicy::Hold
    })
}

fn read_at_end(at: &mut Reader<'_>) -> EndPolicy {
    match at.get("at_end").map(Value::as_str) {
        None | Some(Some("extend")) => EndPolicy::Extend,
        Some(Some("ask")) => EndPolicy::Ask,
        Some(Some("ship")) => EndPolicy::Ship,
        Some(_) => {
            at.refuse("at_end", "must be \"extend\", \"ask\" or \"ship\"");
            EndPolicy::Extend
        }
    }
}

fn read_instant(at: &mut Reader<'_>, name: &'static str) -> Option<i64> {
    let Some(value) = at.get(name) else {
        at.refuse(name, "is required");
        return None;
    };
    let instant = value
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    if instant.is_none() {
        at.refuse(
            name,
            "must be an RFC 3339 instant with an offset, such as 2026-12-24T18:00:00+01:00",
        );
    }
    instant.map(Timestamp::as_microsecond)
}

fn read_freezes(at: &mut Reader<'_>) -> Vec<Freeze> {
    let items = at.list("freezes", MAX_FREEZES);
    items
        .into_iter()
        .filter_map(|(pointer, value)| {
            let mut at = Reader::open(value, pointer, at.violations());
            let (from_us, until_us) = (
                read_instant(&mut at, "from"),
                read_instant(&mut at, "until"),
            );
            let reason = at.text("reason", MAX_TEXT);
            if let (Some(from), Some(until)) = (from_us, until_us)
                && until <= from
            {
                at.refuse("until", "must be after `from`");
            }
            at.close();
            Some(Freeze {
                from_us: from_us?,
                until_us: until_us?,
                reason,
            })
        })
        .collect()
}

fn read_harm_budget(at: &mut Reader<'_>) -> Option<HarmBudget> {
    let value = at.get("harm_budget")?;
    let pointer = at.at("harm_budget");
    let mut at = Reader::open(value, pointer, at.violations());
    for name in ["excess_failures", "units_per_second"] {
        if at.get(name).is_none() {
            at.refuse(name, "is required");
        }
    }
    let budget = HarmBudget {
        excess_failures: at.number("excess_failures", 1.0, POSITIVE),
        units_per_second: at.number("units_per_second", 1.0, POSITIVE),
        reaction_seconds: at.number("reaction_seconds", 5.0, POSITIVE),
    };
    at.close();
    Some(budget)
}

/// Rules that tie several fields together.
fn check_relations(spec: &RolloutSpec, violations: &mut Vec<Violation>) {
    let mut refuse = |pointer: &str, reason: &str| violations.push(Violation::new(pointer, reason));
    if !spec.treatment.is_empty() && spec.treatment == spec.control {
        refuse(
            "/treatment",
            "must differ from control: both arms would get the same variant",
        );
    }
    if spec.stages.is_empty() {
        refuse("/stages", "needs at least one stage");
    }
    for (i, stage) in spec.stages.iter().enumerate() {
        let previous = i.checked_sub(1).and_then(|p| spec.stages.get(p));
        if stage.share_bp == BasisPoints::ZERO {
            refuse(
                &format!("/stages/{i}/share_bp"),
                "must be above 0: a stage exposes somebody",
            );
        } else if previous.is_some_and(|p| p.share_bp >= stage.share_bp) {
            refuse(
                &format!("/stages/{i}/share_bp"),
                "must be above the stage before it: shares only rise, rolling back is not a stage",
            );
        }
    }
    for (i, guard) in spec.guards.iter().enumerate() {
        if spec
            .guards
            .iter()
            .take(i)
            .any(|g| g.metric == guard.metric && g.direction == guard.direction)
        {
            refuse(
                &format!("/guards/{i}/metric"),
                "is guarded twice in the same direction",
            );
        }
    }
    match (spec.guards.is_empty(), spec.blind) {
        (true, false) => refuse(
            "/guards",
            "is empty: name a guard, or say `blind: true` with a reason to ramp by clock alone",
        ),
        (false, true) => refuse(
            "/blind",
            "must not be true beside guards: remove one of the two",
        ),
        (true, true) if spec.reason.is_none() => {
            refuse(
                "/reason",
                "is required when blind: say why nobody needs to watch",
            );
        }
        _ => {}
    }
    if spec.blind && spec.harm_budget.is_some() {
        refuse("/harm_budget", "needs guards: harm cannot be bounded blind");
    }
    if spec.blind && spec.bake.is_some() {
        refuse(
            "/bake",
            "needs guards: a bake that is not watched waits for nothing",
        );
    }
    let last = spec.stages.last().map_or(BasisPoints::ZERO, |s| s.share_bp);
    let before = spec
        .stages
        .iter()
        .rev()
        .nth(1)
        .map_or(BasisPoints::ZERO, |s| s.share_bp);
    let is_held_back = spec.holdback_bp > BasisPoints::ZERO;
    if is_held_back && last.min(spec.holdback_bp.complement()) <= before {
        let pointer = match spec.bake {
            Some(_) => "/bake/holdback_bp",
            None => "/holdback_bp",
        };
        refuse(
            pointer,
            "leaves the last stage no larger than the one before it",
        );
    }
}
