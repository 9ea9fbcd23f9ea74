//! Which flags a client asks for: flagd's selector expression.
//!
//! One pair, `flagSetId=X` or `source=Y`; text without `=` is a source, as in older flagd. The
//! header `flagd-selector` beats the selector in the body. `flagSetId=` means the unnamed set.
//! The set of a flag is its own `flagSetId` metadata, or the project's where it has none. Every
//! flag of a project has one source, which is the project: a client that was configured for
//! another source is shown nothing rather than something else.

use axum::http::HeaderMap;
use serde_json::{Map, Value};
use tonic::Status;

/// The header, and the metadata key, that carries a selector.
pub const HEADER: &str = "flagd-selector";

/// The longest expression that is looked at, in bytes.
const LONGEST: usize = 512;

/// A selection of flags within one project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selector {
    /// Every flag.
    #[default]
    Everything,
    /// The flags of one set; empty for the unnamed set.
    FlagSet(String),
    /// The flags of one source.
    Source(String),
}

/// Why an expression selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A key that is not known.
    #[error("{key:?} is no selector key; use flagSetId=<id> or source=<name>")]
    UnknownKey {
        /// The key as sent.
        key: String,
    },
    /// More than one pair.
    #[error("a selector is one key=value pair, not several")]
    SeveralPairs,
    /// Too long, or not text.
    #[error("a selector is text of at most {LONGEST} bytes")]
    NotText,
}

impl Selector {
    /// Reads an expression; empty text selects everything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(expression: &str) -> Result<Self, SelectorError> {
        if expression.len() > LONGEST {
            return Err(SelectorError::NotText);
        }
        let Some((key, value)) = expression.split_once('=') else {
            return Ok(match expression {
                "" => Self::Everything,
                source => Self::Source(source.to_owned()),
            });
        };
        let selector = match key {
            "flagSetId" => Self::FlagSet(value.to_owned()),
            "source" => Self::Source(value.to_owned()),
            other => {
                return Err(SelectorError::UnknownKey {
                    key: other.to_owned(),
                });
            }
        };
        let is_second_pair = |part: &str| part.contains('=');
        if value.split(',').skip(1).any(is_second_pair) {
            return Err(SelectorError::SeveralPairs);
        }
        Ok(selector)
    }

    /// The selector of a request: its header if it has one, else what its body says.
    ///
    /// # Errors
    /// What is wrong with the one that counts.
    pub fn of_request(headers: &HeaderMap, body: &str) -> Result<Self, SelectorError> {
        match headers.get(HEADER) {
            Some(value) => Self::parse(value.to_str().map_err(|_| SelectorError::NotText)?),
            None => Self::parse(body),
        }
    }

    /// Whether it selects everything without looking at a flag.
    #[must_use]
    pub fn is_everything(&self, project: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Source(source) => source == project,
            Self::FlagSet(_) => false,
        }
    }

    /// Whether it selects a flag of `project` with this (merged) metadata.
    #[must_use]
    pub fn admits(&self, project: &str, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::Everything => true,
            Self::Source(source) => source == project,
            Self::FlagSet(id) => {
                metadata
                    .get("flagSetId")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    == id
            }
        }
    }

    /// What top-level metadata says of it.
    pub(crate) fn echo(&self, metadata: &mut Map<String, Value>) {
        match self {
            Self::Everything => {}
            Self::FlagSet(id) => {
                metadata.insert("flagSetId".to_owned(), Value::from(id.clone()));
            }
            Self::Source(source) => {
                metadata.insert("source".to_owned(), Value::from(source.clone()));
            }
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => Ok(()),
            Self::FlagSet(id) => write!(f, "flagSetId={id}"),
            Self::Source(source) => write!(f, "source={source}"),
        }
    }
}

impl From<SelectorError> for Status {
    fn from(error: SelectorError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(id: &str) -> Selector {
        Selector::FlagSet(id.to_owned())
    }

    fn source(name: &str) -> Selector {
        Selector::Source(name.to_owned())
    }

    #[test]
    fn expressions_read_as_flagd_reads_them() {
        let unknown = |key: &str| {
            Err(SelectorError::UnknownKey {
                key: key.to_owned(),
            })
        };
        let cases = [
            ("", Ok(Selector::Everything)),
            ("flagSetId=checkout", Ok(set("checkout"))),
            ("flagSetId=", Ok(set(""))),
            ("source=./flags.json", Ok(source("./flags.json"))),
            ("./flags.json", Ok(source("./flags.json"))),
            ("source=a?b=c", Ok(source("a?b=c"))),
            ("flagsetid=x", unknown("flagsetid")),
            ("app=weather", unknown("app")),
            ("=x", unknown("")),
            ("source=a,flagSetId=b", Err(SelectorError::SeveralPairs)),
        ];
        for (expression, expected) in cases {
            assert_eq!(Selector::parse(expression), expected, "{expression}");
        }
        assert_eq!(
            Selector::parse(&"x".repeat(513)),
            Err(SelectorError::NotText)
        );
    }

    #[test]
    fn the_header_beats_the_body_even_when_it_is_wrong() {
        let mut headers = HeaderMap::new();
        assert_eq!(Selector::of_request(&headers, "flagSetId=b"), Ok(set("b")));
        headers.insert(HEADER, "flagSetId=h".parse().unwrap());
        assert_eq!(Selector::of_request(&headers, "flagSetId=b"), Ok(set("h")));
        headers.insert(HEADER, "what=h".parse().unwrap());
        assert!(Selector::of_request(&headers, "flagSetId=b").is_err());
    }

    #[test]
    fn a_flag_is_in_the_set_its_metadata_names_and_in_the_source_of_its_project() {
        let named = json!({"flagSetId": "checkout"});
        let unnamed = json!({"flagSetId": ""});
        let cases = [
            (Selector::Everything, &named, true),
            (set("checkout"), &named, true),
            (set("shop"), &named, false),
            (set(""), &named, false),
            (set(""), &unnamed, true),
            (source("shop"), &named, true),
            (source("elsewhere"), &named, false),
        ];
        for (selector, metadata, admitted) in cases {
            let metadata = metadata.as_object().unwrap();
            assert_eq!(selector.admits("shop", metadata), admitted, "{selector:?}");
        }
    }
}
