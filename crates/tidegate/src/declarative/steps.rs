//! From what files state to what the server would do, or did, about it.
//!
//! The server decides; this only sends, and puts file names to the places it complains about.

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::documents::Stated;
use crate::client::{Conditions, Connection};

/// What is asked of the server.
#[derive(Debug)]
pub(super) enum Act<'a> {
    /// To check everything and change nothing.
    Plan,
    /// To do all of it, or nothing.
    Apply {
        /// Why, for the audit trail.
        reason: Option<&'a str>,
        /// What a plan printed, if only that is to be done.
        plan: Option<Value>,
    },
}

/// What becomes of one document.
#[derive(Debug)]
pub(super) struct Row<'a> {
    stated: &'a Stated,
    /// As the server said it.
    pub(super) answer: Value,
}

impl Row<'_> {
    /// Kind and key.
    pub(super) fn name(&self) -> String {
        let document = &self.stated.document;
        format!("{} {}", document.kind, document.key)
    }

    /// In one word.
    pub(super) fn action(&self) -> &str {
        self.answer["action"].as_str().unwrap_or("-")
    }

    /// Whether the server differs from the file.
    pub(super) fn changes(&self) -> bool {
        self.action() != "unchanged"
    }

    /// A line for each place that differs; a new object is not told place by place.
    pub(super) fn difference(&self) -> Vec<String> {
        if self.action() == "create" {
            return Vec::new();
        }
        let places = self.answer["difference"].as_array().into_iter().flatten();
        places
            .map(|place| {
                let pointer = place["pointer"].as_str().unwrap_or_default();
                match (place.get("before"), place.get("after")) {
                    (Some(before), Some(after)) => format!("{pointer}: {before} -> {after}"),
                    (Some(before), None) => format!("{pointer}: {before} -> (removed)"),
                    (None, after) => {
                        format!("{pointer}: (new) {}", after.unwrap_or(&Value::Null))
                    }
                }
            })
            .collect()
    }

    /// What compiles but cannot be meant, with its file and place.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.answer["warnings"].as_array().into_iter().flatten();
        warnings
            .map(|warning| {
                let part = |name: &str| warning[name].as_str().unwrap_or_default();
                format!("{} {}", self.stated.place(part("pointer")), part("message"))
            })
            .collect()
    }
}

/// Sends everything in one request.
pub(super) fn ask<'a>(
    connection: &Connection,
    wanted: &'a [Stated],
    act: &Act<'_>,
) -> Result<Vec<Row<'a>>> {
    let mut changes = Vec::new();
    for stated in wanted {
        let document = &stated.document;
        let mut change = json!({
            "kind": document.kind,
            "key": document.key,
            "spec": without_owned(&document.kind, document.spec.clone()),
        });
        if let Act::Apply {
            plan: Some(plan), ..
        } = act
        {
            change["revision"] = planned_revision(plan, stated)?.into();
        }
        changes.push(change);
    }
    let (path, body) = match act {
        Act::Plan => ("changes/check", json!({ "changes": changes })),
        Act::Apply { reason, .. } => ("changes", json!({ "changes": changes, "reason": reason })),
    };
    let path = connection.path(path);
    let answer = connection.send_raw("POST", &path, Some(&body), Conditions::default())?;
    if answer.status >= 400 {
        return Err(refused(connection, wanted, &answer));
    }
    let rows = answer.body["rows"].as_array().cloned().unwrap_or_default();
    if rows.len() != wanted.len() {
        bail!(
            "the server answered about {} of {} objects",
            rows.len(),
            wanted.len()
        );
    }
    Ok(wanted
        .iter()
        .zip(rows)
        .map(|(stated, answer)| Row { stated, answer })
        .collect())
}

/// The revision a plan saw; 0 for an object that was not there.
fn planned_revision(plan: &Value, stated: &Stated) -> Result<u64> {
    let document = &stated.document;
    let mut rows = plan["rows"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["kind"] == *document.kind && row["key"] == *document.key);
    row.and_then(|row| row["revision"].as_u64())
        .ok_or_else(|| anyhow!("{} is not in the plan; plan again", stated.place("")))
}

/// The server's refusal, each violation with the file it is in.
fn refused(
    connection: &Connection,
    wanted: &[Stated],
    answer: &crate::client::Answer,
) -> anyhow::Error {
    let violations = answer.body["violations"].as_array();
    let lines: Option<Vec<String>> = violations
        .filter(|violations| !violations.is_empty())
        .map(|violations| violations.iter().map(|one| placed(wanted, one)).collect());
    match lines {
        Some(lines) => anyhow!("{}", lines.join("\n  ")),
        None => connection.refusal(answer),
    }
}

fn placed(wanted: &[Stated], violation: &Value) -> String {
    let part = |name: &str| violation[name].as_str().unwrap_or_default();
    let below = part("pointer").strip_prefix("/changes/");
    let found = below.and_then(|below| {
        let (index, rest) = below.split_once('/').unwrap_or((below, ""));
        let stated = wanted.get(index.parse::<usize>().ok()?)?;
        let rest = rest.strip_prefix("spec").unwrap_or("");
        Some(stated.place(rest))
    });
    match found {
        Some(place) => format!("{place} {}", part("message")),
        None => format!("{} {}", part("pointer"), part("message")),
    }
}

/// A definition without the rules of rollouts, which the server owns; what becomes of a kill it
/// decides itself.
fn without_owned(kind: &str, mut spec: Value) -> Value {
    if kind != "flag" {
        return spec;
    }
    if let Some(fields) = spec.as_object_mut() {
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
