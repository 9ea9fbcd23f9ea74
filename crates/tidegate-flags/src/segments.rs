//! Segments: named parts of the audience that rules of many flags share.
//!
//! A unit is in a segment when it is listed in `units` or the condition `when` holds; a
//! segment that states neither holds nobody.

use crate::limits::Limits;
use crate::problem::Violation;
use crate::spec::fields::Fields;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A named part of the audience.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// For people.
    pub description: Option<String>,
    /// Targeting keys of members listed one by one.
    pub units: Vec<String>,
    /// A JsonLogic condition that makes a unit a member.
    pub when: Option<Value>,
}

/// Segment key to segment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Segments(pub BTreeMap<String, Segment>);

impl Segment {
    /// Reads one segment.
    ///
    /// # Errors
    /// Every violation, each with a pointer inside the segment.
    pub fn from_json(value: &Value, limits: &Limits) -> Result<Segment, Vec<Violation>> {
        let mut report = Vec::new();
        let segment = Fields::of(value, "", &mut report).map(|mut fields| {
            let description = fields.string("description").map(str::to_owned);
            let units = fields.strings("units");
            if units.len() > limits.units {
                fields.refuse(
                    "units",
                    "too_many",
                    format!("at most {} units", limits.units),
                );
            }
            let when = fields.take("when").cloned();
            fields.finish();
            Segment {
                description,
                units,
                when,
            }
        });
        match segment {
            Some(segment) if report.is_empty() => Ok(segment),
            _ => Err(report),
        }
    }

    /// The segment as JSON, absent fields left out.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        if let Some(description) = &self.description {
            object.insert("description".to_owned(), json!(description));
        }
        if !self.units.is_empty() {
            object.insert("units".to_owned(), json!(self.units));
        }
        if let Some(when) = &self.when {
            object.insert("when".to_owned(), when.clone());
        }
        Value::Object(object)
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Segment, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Segment::from_json(&value, &Limits::default()).map_err(|violations| {
            let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
            serde::de::Error::custom(list.join("; "))
        })
    }
}
