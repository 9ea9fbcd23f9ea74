//! One JSON object read field by field, collecting violations.

use super::{MAX_NAME_BYTES, MAX_SECONDS};
use crate::journey::DefinitionProblem;
use serde_json::{Map, Value};

/// An object under reading. Accessors answer something usable after a violation, so that reading
/// goes on and the author sees all mistakes at once.
pub(super) struct Fields<'a, 'p> {
    pub(super) at: String,
    object: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    pub(super) problems: &'p mut Vec<DefinitionProblem>,
}

impl<'a, 'p> Fields<'a, 'p> {
    pub(super) fn open(
        value: &'a Value,
        at: String,
        problems: &'p mut Vec<DefinitionProblem>,
    ) -> Self {
        let object = value.as_object();
        if object.is_none() {
            problems.push(DefinitionProblem::new(at.clone(), "is an object"));
        }
        Self {
            at,
            object,
            known: Vec::new(),
            problems,
        }
    }

    pub(super) fn pointer(&self, name: &str) -> String {
        let name = name.replace('~', "~0").replace('/', "~1");
        format!("{}/{name}", self.at)
    }

    pub(super) fn refuse(&mut self, name: &str, detail: &str) {
        let pointer = self.pointer(name);
        self.problems.push(DefinitionProblem::new(pointer, detail));
    }

    /// A member that is not null.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.object?.get(name).filter(|value| !value.is_null())
    }

    /// The same, and a violation if it is missing.
    pub(super) fn need(&mut self, name: &'static str, cure: &str) -> Option<&'a Value> {
        let found = self.get(name);
        if found.is_none() && self.object.is_some() {
            self.refuse(name, &format!("is required: {cure}"));
        }
        found
    }

    pub(super) fn name(&mut self, name: &'static str, cure: &str) -> String {
        let Some(value) = self.need(name, cure) else {
            return String::new();
        };
        match value.as_str() {
            Some(text) if !text.is_empty() && text.len() <= MAX_NAME_BYTES => text.to_owned(),
            _ => {
                self.refuse(name, "is a text of 1 to 200 bytes");
                String::new()
            }
        }
    }

    pub(super) fn seconds(&mut self, name: &'static str) -> Option<u64> {
        let value = self.get(name)?;
        let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_SECONDS);
        if seconds.is_none() {
            self.refuse(
                name,
                "is a whole number of seconds, at most a hundred years",
            );
        }
        seconds
    }

    pub(super) fn number(&mut self, name: &'static str) -> Option<f64> {
        let value = self.get(name)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.refuse(name, "is a number");
        }
        number
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.get(name)?;
        let found = words
            .iter()
            .find(|(word, _)| value.as_str() == Some(word))
            .map(|(_, meant)| *meant);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(name, &format!("is one of {}", words.join(", ")));
        }
        found
    }

    /// Refuses what was never asked for.
    pub(super) fn finish(self) {
        let Some(object) = self.object else { return };
        for name in object
            .keys()
            .filter(|name| !self.known.contains(&name.as_str()))
        {
            let known = self.known.join(", ");
            let pointer = self.pointer(name);
            let detail = format!("is no field here; the fields are {known}");
            self.problems.push(DefinitionProblem::new(pointer, &detail));
        }
    }
}
