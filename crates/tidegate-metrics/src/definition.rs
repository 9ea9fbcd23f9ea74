//! Definitions of metrics and journeys as people write them, read with everything that is wrong.
//!
//! The canonical form is what the types serialise to. Reading is more generous: an event may be
//! written as its name, tests on properties as a map, a metric's measure as a word with its fields
//! beside it. Every violation is reported at once with its JSON pointer.

mod fields;
mod filter;
mod journey;
mod metric;

#[cfg(test)]
mod tests;

use crate::journey::{DefinitionProblem, JourneyDefinition};
use crate::measure::MetricDefinition;
use serde_json::{Map, Value, json};

/// The longest name of an event, property or description, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Tests on properties of one event.
const MAX_TESTS: usize = 16;
/// Values in one test.
const MAX_VALUES: usize = 256;
/// The longest window: a hundred years.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;
const MAX_DESCRIPTION_BYTES: usize = 2_000;

impl MetricDefinition {
    /// Reads a metric.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_json(spec: &Value) -> Result<Self, Vec<DefinitionProblem>> {
        checked(spec, metric::read, Self::problems)
    }

    /// The canonical form of a specification, its description included.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn canonical(spec: &Value) -> Result<Value, Vec<DefinitionProblem>> {
        Self::from_json(spec).map(|definition| described(spec, json!(definition)))
    }
}

impl JourneyDefinition {
    /// Reads a journey.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_json(spec: &Value) -> Result<Self, Vec<DefinitionProblem>> {
        checked(spec, journey::read, Self::problems)
    }

    /// The canonical form of a specification, its description included.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn canonical(spec: &Value) -> Result<Value, Vec<DefinitionProblem>> {
        Self::from_json(spec).map(|definition| described(spec, json!(definition)))
    }
}

/// What was read, if neither its form nor its meaning has a problem.
fn checked<T>(
    spec: &Value,
    read: fn(&Value, &mut Vec<DefinitionProblem>) -> Option<T>,
    own: fn(&T) -> Vec<DefinitionProblem>,
) -> Result<T, Vec<DefinitionProblem>> {
    let mut problems = Vec::new();
    let found = read(spec, &mut problems);
    if let Some(found) = found.filter(|_| problems.is_empty()) {
        problems = own(&found);
        if problems.is_empty() {
            return Ok(found);
        }
    }
    Err(problems)
}

/// A definition with the description of what it was read from in front.
fn described(spec: &Value, definition: Value) -> Value {
    let mut fields = Map::new();
    if let Some(description) = spec.get("description").filter(|text| text.is_string()) {
        fields.insert("description".to_owned(), description.clone());
    }
    if let Value::Object(definition) = definition {
        fields.extend(definition);
    }
    Value::Object(fields)
}
