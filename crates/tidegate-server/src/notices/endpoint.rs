//! A webhook endpoint: where notices go, which of them, and which keys sign them.
//!
//! The definition is an object of the store. Its address can carry a secret (chat services put one
//! into the path), so nothing but its origin is ever shown; its keys are names from which secrets are
//! derived ([`super::signature`]), so there is no secret in it to show.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::Violation;
use crate::egress::destination::Destination;

/// Most event patterns of one endpoint.
const MAX_EVENTS: usize = 50;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 100;
/// Keys that may be live at once.
pub const MAX_KEYS: usize = 2;

/// An endpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where notices are posted to.
    pub url: String,
    /// What it is told, as patterns: `*`, `flag.*`, `rollout.rolled-back`.
    pub events: Vec<String>,
    /// Whether it is asked before a rollout raises a share.
    pub asks: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Live keys, the newest first.
    pub keys: Vec<KeyName>,
}

/// One key of an endpoint, by the name it is derived from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyName {
    /// Its name; random, and no secret.
    pub id: String,
    /// When it was made, Unix microseconds.
    pub created_us: i64,
    /// When it stops signing, Unix microseconds; the newest key has no end.
    pub expires_us: Option<i64>,
}

/// What somebody wants an endpoint to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its key in the project.
    pub key: String,
    /// Where notices are posted to.
    pub url: String,
    /// What it is told; everything if nothing is said.
    #[serde(default = "everything")]
    pub events: Vec<String>,
    /// Whether it is asked before a rollout raises a share.
    #[serde(default)]
    pub asks: bool,
    /// What it is for.
    pub description: Option<String>,
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Wanted {
    /// Everything that is wrong with it, its address aside.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut refuse = |pointer: String, message: &str| {
            violations.push(Violation::at(pointer, "bad-endpoint", message));
        };
        if self.events.len() > MAX_EVENTS {
            refuse("/events".to_owned(), "at most 50 patterns");
        }
        for (index, pattern) in self.events.iter().enumerate().take(MAX_EVENTS) {
            if !is_pattern(pattern) {
                let cure = "must be *, a family such as flag.*, or a type such as flag.kill";
                refuse(format!("/events/{index}"), cure);
            }
        }
        if self.events.is_empty() && !self.asks {
            refuse(
                "/events".to_owned(),
                "is empty, and the endpoint is not asked either",
            );
        }
        if self
            .description
            .as_ref()
            .is_some_and(|text| text.len() > 1000)
        {
            refuse("/description".to_owned(), "has more than 1000 bytes");
        }
        violations
    }
}

impl Endpoint {
    /// Reads a stored definition.
    #[must_use]
    pub fn from_stored(spec: &Value) -> Option<Self> {
        serde_json::from_value(spec.clone()).ok()
    }

    /// Whether it is told of events of this type.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        wants(&self.events, event)
    }

    /// The keys that sign at `now_us`, the newest first.
    pub fn live_keys(&self, now_us: i64) -> impl Iterator<Item = &KeyName> {
        let is_live = move |key: &&KeyName| key.expires_us.is_none_or(|end| now_us < end);
        self.keys.iter().filter(is_live).take(MAX_KEYS)
    }

    /// Scheme, host and port of its address; the rest may be a secret.
    #[must_use]
    pub fn origin(&self) -> String {
        Destination::parse(&self.url).map_or_else(|_| "unreadable".to_owned(), |to| to.origin())
    }
}

/// Whether one of the patterns matches the type of an event.
#[must_use]
pub fn wants(patterns: &[String], event: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix(".*") {
            Some(family) => event
                .strip_prefix(family)
                .is_some_and(|rest| rest.starts_with('.')),
            None => pattern == "*" || pattern == event,
        })
}

/// Whether a text is a pattern.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_type = text.split_once('.').is_some_and(|(family, rest)| {
        is_word(family) && (rest == "*" || rest.split('.').all(is_word))
    });
    text.len() <= MAX_PATTERN && (text == "*" || is_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_say_what_an_endpoint_is_told() {
        let told = |patterns: &[&str], event: &str| {
            let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
            wants(&patterns, event)
        };
        assert!(told(&["*"], "flag.kill"));
        assert!(told(&["flag.*"], "flag.kill") && told(&["rollout.*", "flag.kill"], "flag.kill"));
        assert!(!told(&[], "flag.kill") && !told(&["flag.*"], "flags.kill"));
        assert!(!told(&["flag.kill"], "flag.killed") && !told(&["rollout.*"], "flag.kill"));
        for good in ["*", "flag.*", "flag.revive-kill", "webhook.test"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in [
            "",
            "flag",
            "flag.",
            ".*",
            "flag.**",
            "Flag.kill",
            "flag.*.kill",
            "a b.c",
        ] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_signs_until_its_end_and_two_at_most() {
        let key = |id: &str, expires_us| KeyName {
            id: id.to_owned(),
            created_us: 0,
            expires_us,
        };
        let endpoint = Endpoint {
            url: "https://chat.example/T0K3N".to_owned(),
            events: everything(),
            asks: false,
            description: None,
            keys: vec![
                key("new", None),
                key("old", Some(100)),
                key("older", Some(50)),
            ],
        };
        let live = |now_us| -> Vec<&str> {
            endpoint
                .live_keys(now_us)
                .map(|key| key.id.as_str())
                .collect()
        };
        assert_eq!(live(99), ["new", "old"]);
        assert_eq!(live(100), ["new"]);
        assert_eq!(endpoint.origin(), "https://chat.example");
    }
}
