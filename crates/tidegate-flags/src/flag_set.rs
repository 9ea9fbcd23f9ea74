//! A flagd document: `flags`, `$evaluators`, `metadata`.
//!
//! What makes the whole text unusable (syntax, duplicate keys, limits, a wrong top level)
//! refuses the document. What is wrong with one flag stays with that flag, so that the
//! others are served.

use crate::document;
use crate::limits::Limits;
use crate::problem::{Violation, Warning, pointer_to};
use crate::spec::fields::Fields;
use crate::spec::{FlagSpec, read};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The flags of one set, read but not compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlagSetSource {
    /// Key to definition, or to what is wrong with it, in order of the document.
    pub flags: Vec<(String, Result<FlagSpec, Vec<Violation>>)>,
    /// Shared rules by name (`$evaluators`).
    pub evaluators: Map<String, Value>,
    /// Set metadata; each flag's own overrides it key by key.
    pub metadata: Map<String, Value>,
    /// Oddities met while reading.
    pub warnings: Vec<Warning>,
}

impl From<BTreeMap<String, FlagSpec>> for FlagSetSource {
    fn from(flags: BTreeMap<String, FlagSpec>) -> FlagSetSource {
        let flags = flags
            .into_iter()
            .map(|(key, spec)| (key, Ok(spec)))
            .collect();
        FlagSetSource {
            flags,
            ..FlagSetSource::default()
        }
    }
}

/// Reads a flagd document; `flags` is an object, or an array of flags that carry `key`.
///
/// # Errors
/// Violations with line and column (syntax, duplicate keys, limits) or pointer (shape).
/// A flag that is wrong by itself is no error here: it is kept with its violations.
pub fn parse_flag_set(text: &str, limits: &Limits) -> Result<FlagSetSource, Vec<Violation>> {
    let document = document::read(text, limits.document_bytes, limits.depth, usize::MAX)
        .map_err(|violation| vec![violation])?;
    FlagSetSource::from_json(&document, limits)
}

impl FlagSetSource {
    /// Reads a flagd document that is already JSON.
    ///
    /// # Errors
    /// As [`parse_flag_set`], without text positions.
    pub fn from_json(document: &Value, limits: &Limits) -> Result<FlagSetSource, Vec<Violation>> {
        let mut report = Vec::new();
        let mut set = FlagSetSource::default();
        if let Some(mut fields) = Fields::of(document, "", &mut report) {
            fields.require("flags");
            let flags = fields.take("flags");
            set.evaluators = fields.object("$evaluators").cloned().unwrap_or_default();
            set.metadata = read_metadata(&mut fields);
            if let Some(flags) = flags {
                set.read_flags(flags, limits, &mut report);
            }
        }
        if report.is_empty() {
            Ok(set)
        } else {
            Err(report)
        }
    }

    /// Reads definitions that are already apart, without copying them into one document.
    pub fn from_flags<'v>(
        flags: impl IntoIterator<Item = (&'v str, &'v Value)>,
        limits: &Limits,
    ) -> FlagSetSource {
        let mut set = FlagSetSource::default();
        for (key, value) in flags {
            set.read_flag(key, value, limits);
        }
        set
    }

    /// The document as JSON, flags that are wrong left out.
    pub fn to_json(&self) -> Value {
        let flags = self
            .flags
            .iter()
            .filter_map(|(key, spec)| spec.as_ref().ok().map(|spec| (key.clone(), spec.to_json())));
        let mut object = Map::new();
        object.insert("flags".to_owned(), Value::Object(flags.collect()));
        for (name, map) in [
            ("$evaluators", &self.evaluators),
            ("metadata", &self.metadata),
        ] {
            if !map.is_empty() {
                object.insert(name.to_owned(), Value::Object(map.clone()));
            }
        }
        Value::Object(object)
    }

    fn read_flags(&mut self, flags: &Value, limits: &Limits, report: &mut Vec<Violation>) {
        match flags {
            Value::Object(map) if map.len() <= limits.flags => {
                for (key, value) in map {
                    self.read_flag(key, value, limits);
                }
            }
            Value::Array(list) if list.len() <= limits.flags => {
                self.read_list(list, limits, report);
            }
            Value::Object(_) | Value::Array(_) => {
                let message = format!("at most {} flags", limits.flags);
                report.push(Violation::new("/flags", "too_many", message));
            }
            _ => {
                let message = "expected an object, or a list of flags with \"key\"";
                report.push(Violation::new("/flags", "wrong_type", message));
            }
        }
    }

    fn read_list(&mut self, list: &[Value], limits: &Limits, report: &mut Vec<Violation>) {
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        for (index, item) in list.iter().enumerate() {
            let place = format!("/flags/{index}");
            let Some(key) = item.get("key").and_then(Value::as_str) else {
                let message = "a flag in a list carries its \"key\"";
                report.push(Violation::new(place, "missing", message));
                continue;
            };
            if seen.insert(key, ()).is_some() {
                let message = format!("flag {key:?} is defined twice");
                report.push(Violation::new(
                    pointer_to(&place, "key"),
                    "duplicate_key",
                    message,
                ));
            }
            let mut flag = item.clone();
            if let Value::Object(fields) = &mut flag {
                fields.shift_remove("key");
            }
            self.read_flag(key, &flag, limits);
        }
    }

    fn read_flag(&mut self, key: &str, value: &Value, limits: &Limits) {
        let spec = match read::lenient(key, value, limits) {
            Ok((spec, extra)) => {
                self.warnings
                    .extend(extra.into_iter().map(|violation| Warning {
                        flag: Some(key.to_owned()),
                        pointer: violation.pointer,
                        code: violation.code,
                        message: violation.message,
                    }));
                Ok(spec)
            }
            Err(violations) => Err(violations),
        };
        self.flags.push((key.to_owned(), spec));
    }
}

fn read_metadata(fields: &mut Fields<'_, '_>) -> Map<String, Value> {
    let metadata = fields.object("metadata").cloned().unwrap_or_default();
    for (name, value) in &metadata {
        if !read::is_metadata(value) {
            let place = pointer_to(&fields.pointer_to("metadata"), name);
            let message = "metadata is a string, a number or a boolean";
            fields
                .report()
                .push(Violation::new(place, "wrong_type", message));
        }
    }
    metadata
}
