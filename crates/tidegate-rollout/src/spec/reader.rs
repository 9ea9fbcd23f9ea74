//! Reads a JSON object field by field, collecting every violation with its JSON pointer.
//!
//! It knows nothing of rollouts. Each accessor returns a usable value even after a violation, so that
//! reading goes on and the author sees all mistakes at once.

use serde_json::{Map, Value};

use super::parse::Violation;

/// The field names of one object that have been asked for, and the violations found on the way.
pub(super) struct Reader<'a> {
    pointer: String,
    fields: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    violations: &'a mut Vec<Violation>,
}

/// Escapes one reference token of a JSON pointer (RFC 6901).
fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

impl<'a> Reader<'a> {
    /// Opens `value` as an object; anything else is a violation and reads as an empty object.
    pub(super) fn open(
        value: &'a Value,
        pointer: String,
        violations: &'a mut Vec<Violation>,
    ) -> Self {
        let fields = value.as_object();
        if fields.is_none() {
            violations.push(Violation::new(&pointer, "expected an object"));
        }
        Self {
            pointer,
            fields,
            known: Vec::new(),
            violations,
        }
    }

    /// Whether the value was an object at all; without it, "missing" would only repeat the first fault.
    fn is_object(&self) -> bool {
        self.fields.is_some()
    }

    /// The pointer of a member.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    /// Records a violation of a member.
    pub(super) fn refuse(&mut self, name: &str, reason: impl Into<String>) {
        let pointer = self.at(name);
        self.violations.push(Violation::new(&pointer, reason));
    }

    /// The member, unless absent or null.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields?.get(name).filter(|value| !value.is_null())
    }

    /// All violations, for readers of nested values.
    pub(super) fn violations(&mut self) -> &mut Vec<Violation> {
        self.violations
    }

    /// A text of 1 to `max` characters; absent is a violation.
    pub(super) fn text(&mut self, name: &'static str, max: usize) -> String {
        let present = self.get(name).is_some();
        if !present && self.is_object() {
            self.refuse(name, "is required");
        }
        self.optional_text(name, max).unwrap_or_default()
    }

    /// A text of 1 to `max` characters, if present.
    pub(super) fn optional_text(&mut self, name: &'static str, max: usize) -> Option<String> {
        let value = self.get(name)?;
        match value.as_str() {
            Some(text) if !text.trim().is_empty() && text.chars().count() <= max => {
                Some(text.to_owned())
            }
            _ => {
                self.refuse(name, format!("must be a text of 1 to {max} characters"));
                None
            }
        }
    }

    /// A whole number in `0..=max`, or the default.
    pub(super) fn whole(&mut self, name: &'static str, default: u64, max: u64) -> u64 {
        let Some(value) = self.get(name) else {
            return default;
        };
        match value.as_u64() {
            Some(number) if number <= max => number,
            _ => {
                self.refuse(name, format!("must be a whole number from 0 to {max}"));
                default
            }
        }
    }

    /// A finite number accepted by `is_legal`, or the default.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        default: f64,
        legal: (&str, fn(f64) -> bool),
    ) -> f64 {
        let Some(value) = self.get(name) else {
            return default;
        };
        match value.as_f64() {
            Some(number) if number.is_finite() && legal.1(number) => number,
            _ => {
                self.refuse(name, format!("must be {}, found {value}", legal.0));
                default
            }
        }
    }

    /// A boolean, or the default.
    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(value) = self.get(name) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.refuse(name, "must be true or false");
            default
        })
    }

    /// The members of a list of at most `max`, with their pointers; absent reads as empty.
    pub(super) fn list(&mut self, name: &'static str, max: usize) -> Vec<(String, &'a Value)> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        match value.as_array() {
            Some(items) if items.len() <= max => {
                let base = self.at(name);
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| (format!("{base}/{i}"), item))
                    .collect()
            }
            _ => {
                self.refuse(name, format!("must be a list of at most {max}"));
                Vec::new()
            }
        }
    }

    /// Refuses every member that was never asked for; a near miss is named.
    pub(super) fn close(self) {
        let Some(fields) = self.fields else { return };
        for name in fields
            .keys()
            .filter(|name| !self.known.contains(&name.as_str()))
        {
            let pointer = format!("{}/{}", self.pointer, escape(name));
            let hint = super::start::nearest(name, self.known.iter().copied())
                .map(|near| format!(" (did you mean {near:?}?)"))
                .unwrap_or_default();
            self.violations.push(Violation::new(
                &pointer,
                format!("is not a known field{hint}"),
            ));
        }
    }
}
