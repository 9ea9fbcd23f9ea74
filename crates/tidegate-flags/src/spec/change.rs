//! What differs between two versions of a flag, for audit entries and previews.
//!
//! The difference is taken over the JSON form, field by field; variants, metadata and
//! evaluators are compared entry by entry, rules by their id, so that moving a rule is one
//! change and editing another is one.

use super::FlagSpec;
use crate::problem::pointer_to;
use serde::Serialize;
use serde_json::{Map, Value};

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where: a JSON pointer into the flag, with a rule's id in place of its index.
    pub pointer: String,
    /// What it was; absent if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is; absent if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl FlagSpec {
    /// What changes from `self` to `next`, in field order.
    pub fn diff(&self, next: &FlagSpec) -> Vec<Change> {
        let mut changes = Vec::new();
        let (before, after) = (self.to_json(), next.to_json());
        let keyed = |value: &Value| keyed_rules(value.clone());
        if let (Value::Object(before), Value::Object(after)) = (keyed(&before), keyed(&after)) {
            compare(&before, &after, "", &mut changes);
        }
        let order = |spec: &FlagSpec| -> Value {
            spec.rules
                .iter()
                .map(|rule| Value::from(rule.id.as_str()))
                .collect()
        };
        let kept = |spec: &FlagSpec, other: &FlagSpec| -> Vec<String> {
            let ids = spec.rules.iter().map(|rule| rule.id.clone());
            ids.filter(|id| other.rule(id).is_some()).collect()
        };
        if kept(self, next) != kept(next, self) {
            changes.push(Change {
                pointer: "/rules".to_owned(),
                before: Some(order(self)),
                after: Some(order(next)),
            });
        }
        changes
    }
}

/// Replaces the list of rules by an object from id to rule.
fn keyed_rules(mut flag: Value) -> Value {
    if let Some(Value::Array(rules)) = flag.get_mut("rules").map(Value::take) {
        let by_id = rules.into_iter().map(|rule| {
            let id = rule
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            (id, rule)
        });
        flag["rules"] = Value::Object(by_id.collect());
    }
    flag
}

fn compare(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    pointer: &str,
    changes: &mut Vec<Change>,
) {
    let added = after.keys().filter(|name| !before.contains_key(*name));
    for name in before.keys().chain(added) {
        let place = pointer_to(pointer, name);
        match (before.get(name), after.get(name)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(Value::Object(was)), Some(Value::Object(is))) if is_a_collection(&place) => {
                compare(was, is, &place, changes);
            }
            (was, is) => changes.push(Change {
                pointer: place,
                before: was.cloned(),
                after: is.cloned(),
            }),
        }
    }
}

fn is_a_collection(pointer: &str) -> bool {
    matches!(
        pointer,
        "/variants" | "/metadata" | "/evaluators" | "/rules"
    )
}
