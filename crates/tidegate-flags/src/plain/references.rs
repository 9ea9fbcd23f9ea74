//! `{"$ref": name}` replaced by the shared rule of that name.
//!
//! Shared rules do not nest: a reference inside one is left as it is, and lowering refuses
//! it. What is copied is counted, so that a short rule cannot become a huge one.

use super::Refusal;
use crate::logic::lower::{MAX_LEVELS, operation};
use crate::problem::pointer_to;
use serde_json::{Map, Value};

/// The shared rules one flag sees, and how many nodes it may still copy.
pub(crate) struct References<'r> {
    own: Option<&'r Map<String, Value>>,
    shared: &'r Map<String, Value>,
    limit: usize,
    left: usize,
}

impl<'r> References<'r> {
    /// The flag's own rules come before those of the set.
    pub(crate) fn new(
        own: Option<&'r Map<String, Value>>,
        shared: &'r Map<String, Value>,
        limit: usize,
    ) -> References<'r> {
        References {
            own,
            shared,
            limit,
            left: limit,
        }
    }

    /// `value` with its references replaced.
    pub(crate) fn inline(&mut self, value: &Value, pointer: &str) -> Result<Value, Refusal> {
        self.replace(value, pointer, 0)
    }

    fn replace(&mut self, value: &Value, pointer: &str, level: usize) -> Result<Value, Refusal> {
        if level > MAX_LEVELS {
            return Err(refusal("too_deep", pointer, "nested too deeply".to_owned()));
        }
        self.count(1, pointer)?;
        if let Some(("$ref", [name])) = operation(value) {
            return self.shared_rule(name, pointer);
        }
        Ok(match value {
            Value::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let place = pointer_to(pointer, &index.to_string());
                    list.push(self.replace(item, &place, level + 1)?);
                }
                Value::Array(list)
            }
            Value::Object(map) => {
                let mut object = Map::new();
                for (name, item) in map {
                    let place = pointer_to(pointer, name);
                    object.insert(name.clone(), self.replace(item, &place, level + 1)?);
                }
                Value::Object(object)
            }
            scalar => scalar.clone(),
        })
    }

    fn shared_rule(&mut self, name: &Value, pointer: &str) -> Result<Value, Refusal> {
        let name = name.as_str().unwrap_or_default();
        let found = self
            .own
            .and_then(|own| own.get(name))
            .or_else(|| self.shared.get(name));
        let Some(rule) = found else {
            let message = format!("no shared rule {name:?} in $evaluators");
            return Err(refusal("unknown_reference", pointer, message));
        };
        self.count(node_count(rule), pointer)?;
        Ok(rule.clone())
    }

    fn count(&mut self, nodes: usize, pointer: &str) -> Result<(), Refusal> {
        match self.left.checked_sub(nodes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let message = format!("more than {} nodes after inlining", self.limit);
                Err(refusal("too_large", pointer, message))
            }
        }
    }
}

fn refusal(code: &'static str, pointer: &str, message: String) -> Refusal {
    Refusal {
        code,
        pointer: pointer.to_owned(),
        message,
    }
}

fn node_count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(node_count).sum(),
        Value::Object(map) => map.values().map(node_count).sum(),
        _ => 0,
    }
}
