//! Taking a JSON object apart field by field, collecting every violation.
//!
//! Derived deserialization stops at the first error and cannot say where inside the
//! document it stood; a person who sends a flag wants all that is wrong with it at once.

use crate::document::kind_of;
use crate::problem::{Violation, pointer_to};
use serde_json::{Map, Value};

/// One object being read; [`Fields::finish`] reports the fields nobody asked for.
pub(crate) struct Fields<'v, 'r> {
    object: &'v Map<String, Value>,
    pointer: String,
    taken: Vec<&'static str>,
    report: &'r mut Vec<Violation>,
}

impl<'v, 'r> Fields<'v, 'r> {
    /// Starts on `value`, or reports that it is no object.
    pub(crate) fn of(
        value: &'v Value,
        pointer: &str,
        report: &'r mut Vec<Violation>,
    ) -> Option<Fields<'v, 'r>> {
        if let Value::Object(object) = value {
            return Some(Fields {
                object,
                pointer: pointer.to_owned(),
                taken: Vec::new(),
                report,
            });
        }
        let message = format!("expected an object, this is {}", kind_of(value));
        report.push(Violation::new(pointer, "not_an_object", message));
        None
    }

    /// The field's value, whatever its type; null counts as a value.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        if !self.taken.contains(&name) {
            self.taken.push(name);
        }
        self.object.get(name)
    }

    /// The field's value as `convert` reads it; a value it refuses is reported.
    fn take_as<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        convert: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let converted = convert(value);
        if converted.is_none() {
            let message = format!("expected {expected}, this is {}", kind_of(value));
            self.refuse(name, "wrong_type", message);
        }
        converted
    }

    /// An optional string.
    pub(crate) fn string(&mut self, name: &'static str) -> Option<&'v str> {
        self.take_as(name, "a string", Value::as_str)
    }

    /// A string that must be there and hold something.
    pub(crate) fn required_string(&mut self, name: &'static str) -> Option<&'v str> {
        self.require(name);
        let text = self.string(name)?;
        if text.is_empty() {
            self.refuse(name, "empty", "must not be empty");
            return None;
        }
        Some(text)
    }

    /// An optional list of strings, empty if absent.
    pub(crate) fn strings(&mut self, name: &'static str) -> Vec<String> {
        let all_text = |value: &'v Value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        self.take_as(name, "a list of strings", all_text)
            .unwrap_or_default()
    }

    /// An optional list.
    pub(crate) fn list(&mut self, name: &'static str) -> &'v [Value] {
        self.take_as(name, "a list", |value| value.as_array().map(Vec::as_slice))
            .unwrap_or_default()
    }

    /// An optional object.
    pub(crate) fn object(&mut self, name: &'static str) -> Option<&'v Map<String, Value>> {
        self.take_as(name, "an object", Value::as_object)
    }

    /// An optional share or weight in basis points, 0 to 10,000.
    pub(crate) fn basis_points(&mut self, name: &'static str) -> Option<u16> {
        self.take_as(
            name,
            "a whole number from 0 to 10000 (basis points)",
            basis_points,
        )
    }

    /// Reports if the field is absent.
    pub(crate) fn require(&mut self, name: &'static str) {
        if !self.object.contains_key(name) {
            self.refuse(name, "missing", format!("field {name:?} is required"));
        }
    }

    /// Reports `message` about the field.
    pub(crate) fn refuse(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        let pointer = self.pointer_to(name);
        self.report.push(Violation::new(pointer, code, message));
    }

    /// Pointer to a field of this object.
    pub(crate) fn pointer_to(&self, name: &str) -> String {
        pointer_to(&self.pointer, name)
    }

    /// The report, for reading what lies inside a field.
    pub(crate) fn report(&mut self) -> &mut Vec<Violation> {
        self.report
    }

    /// Reports every field that was not taken.
    pub(crate) fn finish(self) {
        for name in self.object.keys() {
            if !self.taken.contains(&name.as_str()) {
                let message = format!("unknown field {name:?}; known: {}", self.taken.join(", "));
                let pointer = pointer_to(&self.pointer, name);
                self.report
                    .push(Violation::new(pointer, "unknown_field", message));
            }
        }
    }
}

/// A whole number from 0 to 10,000.
pub(crate) fn basis_points(value: &Value) -> Option<u16> {
    let points = u16::try_from(value.as_u64()?).ok()?;
    (points <= WHOLE).then_some(points)
}

/// 100 % in basis points.
pub(crate) const WHOLE: u16 = 10_000;
