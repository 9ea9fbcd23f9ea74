//! From what files state and what the server has to what must be done.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::documents::{COLLECTIONS, Document};
use crate::client::{Conditions, Connection, encode};
use crate::flag::with_reason;

/// What stands between one document and the server.
#[derive(Debug)]
pub(crate) struct Step {
    /// What the file states.
    pub(crate) document: Document,
    /// What the server has, with its revision.
    current: Option<(u64, Value)>,
}

impl Step {
    /// Whether the server differs from the file.
    pub(crate) fn changes(&self) -> bool {
        self.current
            .as_ref()
            .is_none_or(|(_, spec)| *spec != self.document.spec)
    }

    /// In one word.
    pub(crate) fn action(&self) -> &'static str {
        match &self.current {
            None => "create",
            Some(_) if self.changes() => "update",
            Some(_) => "unchanged",
        }
    }

    /// For programs.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "kind": self.document.kind,
            "key": self.document.key,
            "action": self.action(),
            "revision": self.current.as_ref().map(|(revision, _)| *revision),
            "difference": self.difference(),
        })
    }

    /// A line for each top-level place that differs.
    pub(crate) fn difference(&self) -> Vec<String> {
        let Some((_, current)) = &self.current else {
            return Vec::new();
        };
        let (Value::Object(old), Value::Object(new)) = (current, &self.document.spec) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for (name, value) in old
            .iter()
            .filter(|(name, value)| new.get(*name) != Some(*value))
        {
            lines.push(match new.get(name) {
                Some(next) => format!("{name}: {value} -> {next}"),
                None => format!("{name}: {value} -> (removed)"),
            });
        }
        for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            lines.push(format!("{name}: (new) {value}"));
        }
        lines
    }
}

/// Compares every document with the server.
pub(crate) fn steps(connection: &Connection, wanted: &[Document]) -> Result<Vec<Step>> {
    wanted
        .iter()
        .map(|document| step(connection, document))
        .collect()
}

fn step(connection: &Connection, document: &Document) -> Result<Step> {
    let path = path(connection, document)?;
    let answer = connection.send_raw("GET", &path, None, Conditions::default())?;
    let current = match answer.status {
        200 => {
            let revision = answer.body["revision"]
                .as_u64()
                .context("no revision in the answer")?;
            Some((revision, answer.body["spec"].clone()))
        }
        404 => None,
        // Any other answer is the server's refusal; asking the plain way words it.
        _ => connection.get(&path).map(|_| None)?,
    };
    Ok(Step {
        document: canonical(document),
        current,
    })
}

/// The document as the server would store it, so that equal meanings compare equal.
fn canonical(document: &Document) -> Document {
    let mut document = document.clone();
    if document.kind == "flag"
        && let Ok(spec) = tidegate_flags::FlagSpec::from_json(&document.key, &document.spec)
    {
        document.spec = spec.to_json();
    }
    let canonical = match document.kind.as_str() {
        "metric" => tidegate_metrics::MetricDefinition::canonical(&document.spec).ok(),
        "journey" => tidegate_metrics::JourneyDefinition::canonical(&document.spec).ok(),
        _ => None,
    };
    if let Some(spec) = canonical {
        document.spec = spec;
    }
    document.spec = without_owned(&document, document.spec.clone());
    document
}

/// A definition without what the server owns in it: kills, and the rules of rollouts.
fn without_owned(document: &Document, mut spec: Value) -> Value {
    if document.kind != "flag" {
        return spec;
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.shift_remove("killed");
        let rules = fields.get_mut("rules").and_then(Value::as_array_mut);
        let is_left_empty = rules.is_some_and(|rules| {
            rules.retain(|rule| {
                !rule["id"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with("rollout-")
            });
            rules.is_empty()
        });
        if is_left_empty {
            fields.shift_remove("rules");
        }
    }
    spec
}

/// Does what the step needs; returns the revision afterwards.
pub(crate) fn apply_step(
    connection: &Connection,
    step: &Step,
    reason: Option<&str>,
) -> Result<u64> {
    let conditions = match &step.current {
        Some((revision, _)) if !step.changes() => return Ok(*revision),
        Some((revision, _)) => Conditions {
            revision: Some(*revision),
            ..Conditions::default()
        },
        None => Conditions {
            must_be_new: true,
            ..Conditions::default()
        },
    };
    let path = with_reason(path(connection, &step.document)?, reason);
    let answer = connection.put(&path, &step.document.spec, conditions)?;
    answer.body["revision"]
        .as_u64()
        .context("no revision in the answer")
}

fn path(connection: &Connection, document: &Document) -> Result<String> {
    let collection = COLLECTIONS
        .iter()
        .find_map(|(kind, collection)| (*kind == document.kind).then_some(*collection))
        .with_context(|| format!("kind {:?} is not known", document.kind))?;
    Ok(connection.path(&format!("{collection}/{}", encode(&document.key))))
}
