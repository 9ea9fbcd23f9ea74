//! One stored flag: a flagd definition extended by the fields a person edits.
//!
//! The flagd fields keep their meaning (`state`, `variants`, `defaultVariant`, `targeting`,
//! `metadata`); ours are `rules` (evaluated before `targeting`, which is the tail),
//! `offVariant` and `killed`, `bucketing`, `description`, `tags` and `evaluators`. A value
//! of [`FlagSpec`] is well formed by itself: every variant it names is its own. What needs
//! the rest of the set (segments, prerequisites, references) is checked by
//! [`compile`](crate::compile).
//!
//! Reading collects all violations; writing orders fields one way and leaves absent ones
//! out, so read-write-read is stable.

pub(crate) mod change;
pub(crate) mod edit;
pub(crate) mod fields;
pub(crate) mod moment;
pub(crate) mod read;
pub(crate) mod rollout;
pub(crate) mod rule;

use crate::bucketing::Bucketing;
use crate::limits::Limits;
use crate::problem::Violation;
use rule::Rule;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Whether a flag is evaluated at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Evaluated.
    Enabled,
    /// Answers DISABLED: each caller uses its own default.
    Disabled,
}

impl State {
    /// `ENABLED` or `DISABLED`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Enabled => "ENABLED",
            State::Disabled => "DISABLED",
        }
    }
}

/// What a flag serves when nothing else decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultVariant {
    /// The field is absent: the caller's own default.
    Absent,
    /// The field is null: the caller's own default.
    Null,
    /// This variant.
    Named(String),
}

impl DefaultVariant {
    /// The variant's name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            DefaultVariant::Named(name) => Some(name),
            DefaultVariant::Absent | DefaultVariant::Null => None,
        }
    }
}

/// A kill in force: the off variant past all rules and targeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Why, for people.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When, in Unix seconds.
    pub at: i64,
}

/// One flag as it is stored and edited.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagSpec {
    /// Whether the flag is evaluated.
    pub state: State,
    /// Variant name to value, in order; never empty.
    pub variants: Map<String, Value>,
    /// What is served when nothing else decides.
    pub default_variant: DefaultVariant,
    /// The flag's own flagd targeting, which follows the rules.
    pub targeting: Option<Value>,
    /// Flag metadata: strings, numbers and booleans.
    pub metadata: Option<Map<String, Value>>,
    /// Ordered rules; the first that applies decides.
    pub rules: Vec<Rule>,
    /// The variant that a kill serves.
    pub off_variant: Option<String>,
    /// A kill in force.
    pub killed: Option<Kill>,
    /// The pinned bucketing dialect; `None` means v2.
    pub bucketing: Option<Bucketing>,
    /// For people.
    pub description: Option<String>,
    /// For finding.
    pub tags: Vec<String>,
    /// Shared rules of this flag's own, by name, before those of the set.
    pub evaluators: Option<Map<String, Value>>,
}

impl FlagSpec {
    /// Reads the definition of flag `key`; unknown fields are refused.
    ///
    /// # Errors
    /// Every violation, each with a pointer inside the flag.
    pub fn from_json(key: &str, value: &Value) -> Result<FlagSpec, Vec<Violation>> {
        read::strict(key, value, &Limits::default())
    }

    /// As [`FlagSpec::from_json`] with limits of the caller's.
    ///
    /// # Errors
    /// Every violation, each with a pointer inside the flag.
    pub fn from_json_within(
        key: &str,
        value: &Value,
        limits: &Limits,
    ) -> Result<FlagSpec, Vec<Violation>> {
        read::strict(key, value, limits)
    }

    /// The definition as JSON: fields in a fixed order, absent ones left out.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        if let Some(description) = &self.description {
            put("description", json!(description));
        }
        if !self.tags.is_empty() {
            put("tags", json!(self.tags));
        }
        put("state", json!(self.state.as_str()));
        put("variants", Value::Object(self.variants.clone()));
        match &self.default_variant {
            DefaultVariant::Absent => {}
            DefaultVariant::Null => {
                put("defaultVariant", Value::Null);
            }
            DefaultVariant::Named(name) => {
                put("defaultVariant", json!(name));
            }
        }
        if let Some(name) = &self.off_variant {
            put("offVariant", json!(name));
        }
        if let Some(Kill { reason, by, at }) = &self.killed {
            put("killed", json!({"reason": reason, "by": by, "at": at}));
        }
        if let Some(bucketing) = self.bucketing {
            put("bucketing", json!(bucketing.as_str()));
        }
        if !self.rules.is_empty() {
            put("rules", self.rules.iter().map(Rule::to_json).collect());
        }
        if let Some(targeting) = &self.targeting {
            put("targeting", targeting.clone());
        }
        for (name, map) in [
            ("evaluators", &self.evaluators),
            ("metadata", &self.metadata),
        ] {
            if let Some(map) = map {
                put(name, Value::Object(map.clone()));
            }
        }
        Value::Object(object)
    }

    /// The dialect in force: the pinned one, else v2.
    pub fn dialect(&self) -> Bucketing {
        self.bucketing.unwrap_or_default()
    }

    /// The rule called `id`.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }
}

impl Serialize for FlagSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FlagSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FlagSpec, D::Error> {
        let value = Value::deserialize(deserializer)?;
        FlagSpec::from_json("", &value).map_err(|violations| {
            let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
            serde::de::Error::custom(list.join("; "))
        })
    }
}
