//! A journey: steps, their order, windows, exclusions, re-entry.

use super::MAX_NAME_BYTES;
use super::fields::Fields;
use super::{filter, metric};
use crate::EventFilter;
use crate::journey::{
    Counted, DefinitionProblem, Exclusion, JourneyDefinition, JourneyKey, MAX_EXCLUSIONS,
    MAX_STEPS, Reentry, Step, StepOrder, TimedFrom,
};
use serde_json::Value;

const ORDERS: [(&str, StepOrder); 3] = [
    ("ordered", StepOrder::Ordered),
    ("strict", StepOrder::Strict),
    ("any", StepOrder::Any),
];
const REENTRIES: [(&str, Reentry); 2] = [
    ("once", Reentry::Once),
    ("every_completion", Reentry::EveryCompletion),
];

const TIMED_FROM: [(&str, TimedFrom); 2] = [
    ("latest_start", TimedFrom::LatestStart),
    ("first_entry", TimedFrom::FirstEntry),
];

const COUNTED: [(&str, Counted); 3] = [
    ("unit", Counted::Unit),
    ("unit_and_value", Counted::UnitAndValue),
    ("value", Counted::Value),
];

/// Reads a journey; `None` only together with a violation.
pub(super) fn read(
    spec: &Value,
    problems: &mut Vec<DefinitionProblem>,
) -> Option<JourneyDefinition> {
    let mut fields = Fields::open(spec, String::new(), problems);
    metric::description(&mut fields);
    let cure = "a list of events, such as [\"view\", \"start\", \"purchase\"]";
    let steps = match fields.need("steps", cure) {
        Some(value) => list(&mut fields, "steps", value, MAX_STEPS, step),
        None => Vec::new(),
    };
    let order = fields.choice("order", &ORDERS).unwrap_or_default();
    let within_seconds = fields.seconds("within_seconds");
    let exclusions = match fields.get("exclusions") {
        Some(value) => list(&mut fields, "exclusions", value, MAX_EXCLUSIONS, exclusion),
        None => Vec::new(),
    };
    let reentry = fields.choice("reentry", &REENTRIES).unwrap_or_default();
    let timed_from = fields.choice("timed_from", &TIMED_FROM).unwrap_or_default();
    let key = match fields.get("key") {
        Some(value) => Some(key(value, fields.pointer("key"), fields.problems)),
        None => None,
    };
    fields.finish();
    Some(JourneyDefinition {
        steps,
        order,
        within_seconds,
        exclusions,
        reentry,
        timed_from,
        key,
    })
}

/// A property's name, or `{property, counts}`.
fn key(value: &Value, at: String, problems: &mut Vec<DefinitionProblem>) -> JourneyKey {
    if let Value::String(property) = value {
        if property.is_empty() || property.len() > MAX_NAME_BYTES {
            problems.push(DefinitionProblem::new(at, "is a text of 1 to 200 bytes"));
        }
        return JourneyKey {
            property: property.clone(),
            counts: Counted::default(),
        };
    }
    let mut fields = Fields::open(value, at, problems);
    let property = fields.name("property", "the property that the events share");
    let counts = fields.choice("counts", &COUNTED).unwrap_or_default();
    fields.finish();
    JourneyKey { property, counts }
}

fn list<T>(
    fields: &mut Fields<'_, '_>,
    name: &str,
    value: &Value,
    most: usize,
    read: fn(&Value, String, &mut Vec<DefinitionProblem>) -> T,
) -> Vec<T> {
    let Some(items) = value.as_array() else {
        fields.refuse(name, "is a list");
        return Vec::new();
    };
    // What is too many is refused by the definition itself; the rest need not be read.
    let items = items.iter().take(most + 1).enumerate();
    items
        .map(|(index, item)| {
            let at = format!("{}/{index}", fields.pointer(name));
            read(item, at, fields.problems)
        })
        .collect()
}

/// An event's name, a filter, or `{event, within_seconds}`.
fn step(value: &Value, at: String, problems: &mut Vec<DefinitionProblem>) -> Step {
    if value.get("event").is_none() {
        return Step {
            event: filter::read(value, at, problems),
            within_seconds: None,
        };
    }
    let mut fields = Fields::open(value, at, problems);
    let event = event(&mut fields);
    let within_seconds = fields.seconds("within_seconds");
    fields.finish();
    Step {
        event,
        within_seconds,
    }
}

fn exclusion(value: &Value, at: String, problems: &mut Vec<DefinitionProblem>) -> Exclusion {
    let mut fields = Fields::open(value, at, problems);
    let event = event(&mut fields);
    let cure = "the step after which the event drops a chain, counted from 1";
    let after = fields.need("after_step", cure);
    let after_step = after.and_then(Value::as_u64);
    let after_step = after_step.and_then(|step| usize::try_from(step).ok());
    if after.is_some() && after_step.is_none() {
        fields.refuse("after_step", "is a step, counted from 1");
    }
    fields.finish();
    Exclusion {
        event,
        after_step: after_step.unwrap_or(1),
    }
}

fn event(fields: &mut Fields<'_, '_>) -> EventFilter {
    match fields.need("event", "an event's name, or {kind, name, properties}") {
        Some(value) => filter::read(value, fields.pointer("event"), fields.problems),
        None => EventFilter::named("-"),
    }
}
