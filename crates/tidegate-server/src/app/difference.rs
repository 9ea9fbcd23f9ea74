//! What differs between two JSON documents, place by place, for audit entries and plans.

use serde_json::Value;
use tidegate_store::FieldChange;

/// The most places listed; beyond it the last entry says how many more there are.
const MOST: usize = 200;

/// The places where `after` differs from `before`, as JSON pointers, in document order.
#[must_use]
pub(crate) fn difference(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let mut found = Vec::new();
    walk(String::new(), before, after, &mut found);
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(FieldChange {
            pointer: String::new(),
            before: None,
            after: Some(Value::from(format!("and {more} more places"))),
        });
    }
    found
}

fn walk(
    pointer: String,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<FieldChange>,
) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for (key, value) in old {
                walk(child(&pointer, key), Some(value), new.get(key), found);
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                walk(child(&pointer, key), None, Some(value), found);
            }
        }
        (old, new) if old != new => {
            found.push(FieldChange {
                pointer,
                before: old.cloned(),
                after: new.cloned(),
            });
        }
        _ => {}
    }
}

fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_changed_place_is_named_once() {
        let before = json!({"state": "ENABLED", "variants": {"on": true, "a/b": 1}, "gone": 1});
        let after = json!({"state": "DISABLED", "variants": {"on": true, "a/b": 2}, "new": [1]});
        let pointers: Vec<String> = difference(Some(&before), Some(&after))
            .into_iter()
            .map(|change| change.pointer)
            .collect();
        assert_eq!(pointers, ["/state", "/variants/a~1b", "/gone", "/new"]);
    }

    #[test]
    fn equal_documents_do_not_differ_and_long_lists_end_with_their_count() {
        let same = json!({"a": [1, 2]});
        assert!(difference(Some(&same), Some(&same)).is_empty());
        let many: serde_json::Map<_, _> = (0..300).map(|n| (n.to_string(), json!(n))).collect();
        let listed = difference(Some(&json!({})), Some(&Value::Object(many)));
        assert_eq!(listed.len(), MOST + 1);
        assert_eq!(listed[MOST].after, Some(json!("and 100 more places")));
    }
}
