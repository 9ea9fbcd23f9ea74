//! What is wrong with an input: violations refuse it, warnings accompany it.
//!
//! A violation names the place as a JSON pointer (RFC 6901), and line and column when
//! the text was at hand. A warning is about something that compiles but cannot be meant.

use serde::Serialize;
use std::fmt;

/// One reason why an input is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON pointer to the place, `""` for the whole input.
    pub pointer: String,
    /// Line in the text, from 1, if the text was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the line, from 1, if the text was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Stable name of the rule that was broken, in lower snake case.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Violation {
    /// A violation at `pointer`, without a text position.
    pub fn new(pointer: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Violation {
            pointer: pointer.into(),
            line: None,
            column: None,
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line} column {column}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

/// Something that compiles but cannot be meant, or a flag that had to be set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Key of the flag it is about, `None` for the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// JSON pointer inside the flag (or the set).
    pub pointer: String,
    /// Stable name of the warning, in lower snake case.
    pub code: &'static str,
    /// What is odd and what it leads to.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(flag) = &self.flag {
            write!(f, "flag {flag:?}")?;
        }
        if !self.pointer.is_empty() {
            write!(f, " at {}", self.pointer)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// `pointer` extended by one reference token, escaped as RFC 6901 asks.
pub(crate) fn pointer_to(pointer: &str, token: &str) -> String {
    let mut longer = String::with_capacity(pointer.len() + token.len() + 1);
    longer.push_str(pointer);
    longer.push('/');
    for character in token.chars() {
        match character {
            '~' => longer.push_str("~0"),
            '/' => longer.push_str("~1"),
            other => longer.push(other),
        }
    }
    longer
}
