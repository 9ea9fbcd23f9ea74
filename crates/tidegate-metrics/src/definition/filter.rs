//! The events a definition means: a name, or an object with kind, name and tests on properties.

use super::fields::Fields;
use super::{MAX_NAME_BYTES, MAX_TESTS, MAX_VALUES};
use crate::journey::DefinitionProblem;
use crate::{EventFilter, EventKind, PropertyFilter, PropertyTest, Scalar};
use serde_json::Value;

const KINDS: [(&str, EventKind); 4] = [
    ("track", EventKind::Track),
    ("exposure", EventKind::Exposure),
    ("request", EventKind::Request),
    ("evaluation", EventKind::Evaluation),
];

/// Reads the events at a place.
pub(super) fn read(
    value: &Value,
    at: String,
    problems: &mut Vec<DefinitionProblem>,
) -> EventFilter {
    if let Value::String(name) = value {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            problems.push(DefinitionProblem::new(at, "is a text of 1 to 200 bytes"));
        }
        return EventFilter::named(name);
    }
    let mut fields = Fields::open(value, at, problems);
    let kind = fields.choice("kind", &KINDS).unwrap_or(EventKind::Track);
    let name = fields.name("name", "the name of the event");
    let tests = fields.get("properties");
    let properties = match tests {
        None => Vec::new(),
        Some(tests) => {
            let at = fields.pointer("properties");
            read_tests(tests, &at, fields.problems)
        }
    };
    fields.finish();
    EventFilter {
        kind,
        name,
        properties,
    }
}

/// A list of `{property, is}`, or a map of properties and what they equal.
fn read_tests(
    value: &Value,
    at: &str,
    problems: &mut Vec<DefinitionProblem>,
) -> Vec<PropertyFilter> {
    let tests: Vec<PropertyFilter> = match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let mut fields = Fields::open(item, format!("{at}/{index}"), problems);
                let property = fields.name("property", "the property's key");
                let test = fields.need("is", "what must hold, such as {\"equals\": \"DE\"}");
                let at = fields.pointer("is");
                let is = test.map(|test| read_test(test, &at, fields.problems));
                fields.finish();
                PropertyFilter {
                    property,
                    is: is.unwrap_or(PropertyTest::Present),
                }
            })
            .collect(),
        Value::Object(items) => items
            .iter()
            .map(|(property, value)| PropertyFilter {
                property: property.clone(),
                is: read_test(value, &format!("{at}/{property}"), problems),
            })
            .collect(),
        _ => {
            let detail = "is a list of {property, is}, or a map of properties and values";
            problems.push(DefinitionProblem::new(at, detail));
            Vec::new()
        }
    };
    if tests.len() > MAX_TESTS {
        problems.push(DefinitionProblem::new(at, "has at most 16 tests"));
    }
    tests
}

/// A test; a bare value or list means "equals" and "one of".
fn read_test(value: &Value, at: &str, problems: &mut Vec<DefinitionProblem>) -> PropertyTest {
    let mut refuse = |detail: &str| {
        problems.push(DefinitionProblem::new(at, detail));
        PropertyTest::Present
    };
    match value {
        Value::String(word) if word == "present" => PropertyTest::Present,
        Value::String(word) if word == "absent" => PropertyTest::Absent,
        Value::Array(values) => match scalars(values) {
            Some(values) => PropertyTest::OneOf(values),
            None => refuse("is a list of 1 to 256 texts, numbers or truth values"),
        },
        Value::Object(test) => {
            let one = test.iter().next().filter(|_| test.len() == 1);
            let Some((word, operand)) = one else {
                return refuse("holds one test: equals, not_equals, one_of, at_least or at_most");
            };
            match (word.as_str(), scalar(operand), operand) {
                ("equals", Some(value), _) => PropertyTest::Equals(value),
                ("not_equals", Some(value), _) => PropertyTest::NotEquals(value),
                ("at_least", Some(Scalar::Number(least)), _) => PropertyTest::AtLeast(least),
                ("at_most", Some(Scalar::Number(most)), _) => PropertyTest::AtMost(most),
                ("one_of", _, Value::Array(values)) => match scalars(values) {
                    Some(values) => PropertyTest::OneOf(values),
                    None => refuse("is a list of 1 to 256 texts, numbers or truth values"),
                },
                ("equals" | "not_equals" | "one_of" | "at_least" | "at_most", _, _) => {
                    refuse("has the wrong type; at_least and at_most take numbers, one_of a list")
                }
                _ => refuse("is no test; use equals, not_equals, one_of, at_least or at_most"),
            }
        }
        other => match scalar(other) {
            Some(value) => PropertyTest::Equals(value),
            None => refuse("is a text, a number or a truth value"),
        },
    }
}

fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Bool(truth) => Some(Scalar::Bool(*truth)),
        Value::Number(number) => number.as_f64().map(Scalar::Number),
        Value::String(text) => Some(Scalar::Text(text.clone())),
        _ => None,
    }
}

fn scalars(values: &[Value]) -> Option<Vec<Scalar>> {
    let found: Option<Vec<Scalar>> = values.iter().map(scalar).collect();
    found.filter(|found| (1..=MAX_VALUES).contains(&found.len()))
}
