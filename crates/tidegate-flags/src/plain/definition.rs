//! A flag as a flagd provider receives it, kept as text.
//!
//! The text has the flag's own metadata; the set's is folded in when it is handed out, so that a
//! new version of the set changes no flag. A parsed document costs some twenty times its text,
//! and it is needed only where somebody fetches definitions or a broken flag falls back on it.

use crate::bucketing::Bucketing;
use crate::spec::{FlagSpec, State};
use serde_json::{Map, Value, json};

/// One flag's plain definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// JSON of the flag without metadata and without the last brace.
    fields: Box<str>,
    /// JSON of its own metadata.
    metadata: Option<Box<str>>,
    /// Whether units are split anywhere in it.
    pub(crate) has_split: bool,
}

impl Plain {
    /// The plain form of `spec` with its translated targeting.
    pub(crate) fn of(spec: &FlagSpec, targeting: Option<&Value>) -> Plain {
        let mut fields = definition(spec, targeting).to_string();
        fields.pop();
        let metadata = spec.metadata.as_ref().filter(|own| !own.is_empty());
        Plain {
            fields: fields.into(),
            metadata: metadata.map(|own| Value::Object(own.clone()).to_string().into()),
            has_split: targeting.is_some_and(has_split),
        }
    }

    /// Its parts as text, for a digest.
    pub(crate) fn parts(&self) -> [&str; 2] {
        [&self.fields, self.metadata.as_deref().unwrap_or_default()]
    }

    /// Appends its JSON with `merged` metadata, the set's and its own; `of_the_set` is the set's
    /// alone, as text.
    pub(crate) fn write(&self, out: &mut String, merged: &Map<String, Value>, of_the_set: &str) {
        let own = self
            .metadata
            .is_some()
            .then(|| Value::Object(merged.clone()).to_string());
        self.write_with(out, Some(own.as_deref().unwrap_or(of_the_set)));
    }

    fn write_with(&self, out: &mut String, metadata: Option<&str>) {
        out.push_str(&self.fields);
        if let Some(metadata) = metadata.filter(|text| *text != "{}") {
            out.push_str(",\"metadata\":");
            out.push_str(metadata);
        }
        out.push('}');
    }

    /// The definition that the text says.
    pub(crate) fn to_spec(&self, dialect: Bucketing) -> Option<FlagSpec> {
        let mut text = String::new();
        self.write_with(&mut text, self.metadata.as_deref());
        let mut spec = FlagSpec::from_json("", &serde_json::from_str(&text).ok()?).ok()?;
        spec.bucketing = Some(dialect);
        Some(spec)
    }
}

fn definition(spec: &FlagSpec, targeting: Option<&Value>) -> Value {
    let is_killed = spec.killed.is_some();
    let state = if is_killed {
        State::Enabled
    } else {
        spec.state
    };
    let mut flag = json!({"state": state.as_str(), "variants": spec.variants});
    let default = if is_killed {
        spec.off_variant.as_deref()
    } else {
        spec.default_variant.name()
    };
    flag["defaultVariant"] = json!(default);
    if let Some(targeting) = targeting {
        flag["targeting"] = match targeting {
            // The schema wants an object, and null targeting means none.
            Value::Object(map) if !map.is_empty() => targeting.clone(),
            constant => json!({"if": [true, constant]}),
        };
    }
    flag
}

/// Whether logic allots units anywhere. Its depth is bounded by what was read.
fn has_split(logic: &Value) -> bool {
    match logic {
        Value::Object(object) => {
            object.contains_key("fractional") || object.values().any(has_split)
        }
        Value::Array(items) => items.iter().any(has_split),
        _ => false,
    }
}
