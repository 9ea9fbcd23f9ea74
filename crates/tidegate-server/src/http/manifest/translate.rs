//! Between a flag definition and what a manifest says of it: pure.
//!
//! The default value of a manifest is what generated code falls back to. It is the value of the
//! default variant; of the off variant where the flag leaves its default to the caller; of the
//! type's zero where there is neither. A name other than the key is kept as the flag's metadata
//! `name`.
//!
//! A new default value points the flag to the variant that has it, or to a new variant: the value
//! of an existing variant is never changed, because a rule may be serving it to somebody.

use serde_json::{Map, Value, json};
use tidegate_flags::{FlagSpec, FlagType};

use crate::app::Violation;

/// The fields a request may have.
const FIELDS: [&str; 5] = ["key", "type", "defaultValue", "name", "description"];

/// A flag as a manifest shows it; `None` for one whose variants share no type.
pub(super) fn manifest_flag(key: &str, spec: &FlagSpec) -> Option<Value> {
    let kind = FlagType::of(spec.variants.values())?;
    let mut flag = Map::new();
    flag.insert("key".to_owned(), Value::from(key));
    flag.insert("name".to_owned(), Value::from(name_of(spec).unwrap_or(key)));
    flag.insert("type".to_owned(), Value::from(kind.as_str()));
    if let Some(description) = &spec.description {
        flag.insert("description".to_owned(), Value::from(description.clone()));
    }
    flag.insert("defaultValue".to_owned(), default_value(spec, kind));
    Some(Value::Object(flag))
}

fn name_of(spec: &FlagSpec) -> Option<&str> {
    spec.metadata.as_ref()?.get("name")?.as_str()
}

fn default_value(spec: &FlagSpec, kind: FlagType) -> Value {
    let named = spec.default_variant.name().or(spec.off_variant.as_deref());
    named
        .and_then(|name| spec.variants.get(name))
        .cloned()
        .unwrap_or_else(|| match kind {
            FlagType::Boolean => json!(false),
            FlagType::String => json!(""),
            FlagType::Integer => json!(0),
            FlagType::Float => json!(0.0),
            FlagType::Object => json!({}),
        })
}

/// Text that may be left as it is, removed or set.
#[derive(Debug, Clone, PartialEq)]
enum Text {
    Unsaid,
    Removed,
    Set(String),
}

/// A request, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    pub(super) key: String,
    kind: String,
    default_value: Option<Value>,
    name: Text,
    description: Text,
}

impl Sent {
    /// A new flag: key, type and default value are needed.
    pub(super) fn read_new(document: &Value) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let sent = Self::read(document, &mut violations);
        if sent.default_value.is_none() && document.is_object() {
            violations.push(Violation::at(
                "/defaultValue",
                "missing",
                "a new flag needs it",
            ));
        }
        if violations.is_empty() {
            Ok(sent)
        } else {
            Err(violations)
        }
    }

    /// A change of the flag `key`: key and type are needed, and the key must be the same.
    pub(super) fn read_change(document: &Value, key: &str) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let sent = Self::read(document, &mut violations);
        if !sent.key.is_empty() && sent.key != key {
            let message = format!("the path names {key:?} and the body {:?}", sent.key);
            violations.push(Violation::at("/key", "mismatch", message));
        }
        if violations.is_empty() {
            Ok(sent)
        } else {
            Err(violations)
        }
    }

    fn read(document: &Value, violations: &mut Vec<Violation>) -> Self {
        let empty = Map::new();
        let fields = document.as_object().unwrap_or_else(|| {
            violations.push(Violation::at("", "invalid_type", "a flag is a JSON object"));
            &empty
        });
        for unknown in fields
            .keys()
            .filter(|field| !FIELDS.contains(&field.as_str()))
        {
            let message = format!("unknown field; use {}", FIELDS.join(", "));
            violations.push(Violation::at(
                format!("/{unknown}"),
                "unrecognized_key",
                message,
            ));
        }
        let mut needed = |field: &str| match fields.get(field) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(Value::String(_)) => {
                let message = "must not be empty";
                violations.push(Violation::at(format!("/{field}"), "too_small", message));
                String::new()
            }
            Some(_) => {
                let message = "must be text";
                violations.push(Violation::at(format!("/{field}"), "invalid_type", message));
                String::new()
            }
            None if fields.is_empty() => String::new(),
            None => {
                violations.push(Violation::at(format!("/{field}"), "missing", "is needed"));
                String::new()
            }
        };
        let (key, kind) = (needed("key"), needed("type"));
        let default_value = fields.get("defaultValue").cloned();
        check_type(&kind, default_value.as_ref(), violations);
        let name = text(fields, "name", violations);
        let description = text(fields, "description", violations);
        Self {
            key,
            kind,
            default_value,
            name,
            description,
        }
    }

    /// The definition of a new flag with this default value and no rules.
    pub(super) fn definition(&self) -> Value {
        let value = self.default_value.clone().unwrap_or(Value::Null);
        let mut definition = match &value {
            Value::Bool(is_on) => json!({
                "state": "ENABLED",
                "variants": { "on": true, "off": false },
                "defaultVariant": if *is_on { "on" } else { "off" },
                "offVariant": "off",
            }),
            _ => json!({
                "state": "ENABLED",
                "variants": { "default": value },
                "defaultVariant": "default",
            }),
        };
        self.describe(&mut definition);
        definition
    }

    /// `spec` with what this request says of it.
    ///
    /// # Errors
    /// The type cannot change.
    pub(super) fn applied_to(&self, spec: &FlagSpec) -> Result<Value, Violation> {
        let is = FlagType::of(spec.variants.values()).map_or("mixed", FlagType::as_str);
        if is != self.kind {
            let message = format!("the type cannot change from {is} to {}", self.kind);
            return Err(Violation::at("/type", "type_change", message));
        }
        let mut definition = spec.to_json();
        if let Some(value) = &self.default_value {
            let name = match spec
                .variants
                .iter()
                .find(|(_, existing)| *existing == value)
            {
                Some((name, _)) => name.clone(),
                None => {
                    let name = free_name(&spec.variants);
                    definition["variants"][&name] = value.clone();
                    name
                }
            };
            definition["defaultVariant"] = Value::from(name);
        }
        self.describe(&mut definition);
        Ok(definition)
    }

    fn describe(&self, definition: &mut Value) {
        let Some(fields) = definition.as_object_mut() else {
            return;
        };
        apply(&self.description, fields, "description");
        let mut metadata = match fields.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        match &self.name {
            // The key is the name of a flag without one.
            Text::Set(name) if *name == self.key => drop(metadata.remove("name")),
            name => apply(name, &mut metadata, "name"),
        }
        if !metadata.is_empty() {
            fields.insert("metadata".to_owned(), Value::Object(metadata));
        }
    }
}

fn apply(text: &Text, fields: &mut Map<String, Value>, field: &str) {
    match text {
        Text::Unsaid => {}
        Text::Removed => drop(fields.remove(field)),
        Text::Set(text) => drop(fields.insert(field.to_owned(), Value::from(text.clone()))),
    }
}

fn text(fields: &Map<String, Value>, field: &str, violations: &mut Vec<Violation>) -> Text {
    match fields.get(field) {
        None => Text::Unsaid,
        Some(Value::Null) => Text::Removed,
        Some(Value::String(text)) => Text::Set(text.clone()),
        Some(_) => {
            let message = "must be text or null";
            violations.push(Violation::at(format!("/{field}"), "invalid_type", message));
            Text::Unsaid
        }
    }
}

fn check_type(kind: &str, value: Option<&Value>, violations: &mut Vec<Violation>) {
    let fits: fn(&Value) -> bool = match kind {
        "boolean" => Value::is_boolean,
        "string" => Value::is_string,
        "integer" => |value| value.is_i64() || value.is_u64(),
        "float" => Value::is_f64,
        "object" => Value::is_object,
        "" => return,
        other => {
            let message =
                format!("{other:?} is no type; use boolean, string, integer, float or object");
            violations.push(Violation::at("/type", "invalid_enum_value", message));
            return;
        }
    };
    if value.is_some_and(|value| !fits(value)) {
        let message = format!("is not of the type {kind}");
        violations.push(Violation::at("/defaultValue", "invalid_type", message));
    }
}

/// A variant name that is not taken: `default`, `default-2`, and so on.
fn free_name(variants: &Map<String, Value>) -> String {
    let taken = |name: &String| variants.contains_key(name);
    std::iter::once("default".to_owned())
        .chain((2_u32..).map(|number| format!("default-{number}")))
        .find(|name| !taken(name))
        .unwrap_or_else(|| "default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(definition: &Value) -> FlagSpec {
        FlagSpec::from_json("flag", definition).unwrap()
    }

    #[test]
    fn a_new_flag_reads_back_as_it_was_sent() {
        for (kind, value) in [
            ("boolean", json!(true)),
            ("boolean", json!(false)),
            ("string", json!("x")),
            ("integer", json!(7)),
            ("float", json!(7.5)),
            ("object", json!({"a": [1, null]})),
        ] {
            let sent = json!({
                "key": "flag", "name": "A flag", "type": kind, "description": "why",
                "defaultValue": value,
            });
            let definition = Sent::read_new(&sent).unwrap().definition();
            assert_eq!(manifest_flag("flag", &spec(&definition)), Some(sent));
        }
    }

    #[test]
    fn a_change_touches_nothing_that_a_manifest_does_not_know() {
        let before = json!({
            "state": "ENABLED",
            "variants": {"a": 1, "b": 2},
            "defaultVariant": "a",
            "targeting": {"if": [{"var": "beta"}, "b", "a"]},
            "metadata": {"owner": "team", "name": "Old"},
        });
        let change = json!({"key": "flag", "type": "integer", "name": null, "defaultValue": 3});
        let changed = Sent::read_change(&change, "flag")
            .unwrap()
            .applied_to(&spec(&before))
            .unwrap();
        assert_eq!(changed["variants"], json!({"a": 1, "b": 2, "default": 3}));
        assert_eq!(changed["defaultVariant"], "default");
        assert_eq!(changed["targeting"], before["targeting"]);
        assert_eq!(changed["metadata"], json!({"owner": "team"}));

        let change = json!({"key": "flag", "type": "integer", "defaultValue": 2});
        let changed = Sent::read_change(&change, "flag")
            .unwrap()
            .applied_to(&spec(&before))
            .unwrap();
        assert_eq!(changed["defaultVariant"], "b");
        assert_eq!(changed["variants"], before["variants"]);
        assert_eq!(changed["metadata"], before["metadata"]);
    }

    #[test]
    fn a_type_does_not_change() {
        let flag = spec(&json!({"state": "ENABLED", "variants": {"a": "x"}}));
        let change = json!({"key": "flag", "type": "boolean", "defaultValue": true});
        let refused = Sent::read_change(&change, "flag")
            .unwrap()
            .applied_to(&flag)
            .unwrap_err();
        assert_eq!(
            (refused.pointer.as_str(), refused.code.as_str()),
            ("/type", "type_change")
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let wrong = |sent: Value| -> Vec<(String, String)> {
            let violations = Sent::read_new(&sent).unwrap_err();
            violations
                .into_iter()
                .map(|found| (found.pointer, found.code))
                .collect()
        };
        let said = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        assert_eq!(wrong(json!([])), said(&[("", "invalid_type")]));
        assert_eq!(
            wrong(json!({"key": "", "type": 5, "name": [], "owner": "x"})),
            said(&[
                ("/owner", "unrecognized_key"),
                ("/key", "too_small"),
                ("/type", "invalid_type"),
                ("/name", "invalid_type"),
                ("/defaultValue", "missing"),
            ])
        );
        assert_eq!(
            wrong(json!({"key": "a", "type": "integer", "defaultValue": 1.5})),
            said(&[("/defaultValue", "invalid_type")])
        );
        assert_eq!(
            wrong(json!({"key": "a", "type": "number", "defaultValue": 1.5})),
            said(&[("/type", "invalid_enum_value")])
        );
        let mismatch = Sent::read_change(&json!({"key": "a", "type": "string"}), "b");
        assert_eq!(mismatch.unwrap_err()[0].code, "mismatch");
    }
}
