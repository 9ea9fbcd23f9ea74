//! The closed set of ways a use case can fail, and nothing about any transport.
//!
//! Each transport has one table from kind to its own words: [`crate::http::problem`] for HTTP,
//! the gRPC edge for status codes. A fault of storage is never the caller's mistake, so it is
//! `Unavailable` or `Internal`, never a 4xx.

use serde::Serialize;

/// One thing wrong with a request, at a place in its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON pointer into the document that was sent; empty means the document itself.
    pub pointer: String,
    /// Stable code of the rule that was broken.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Line in the text, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the line, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Violation {
    /// A violation without a position in text.
    pub fn at(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            code: code.to_owned(),
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

impl From<tidegate_flags::Violation> for Violation {
    fn from(violation: tidegate_flags::Violation) -> Self {
        Self {
            pointer: violation.pointer,
            code: violation.code.to_owned(),
            message: violation.message,
            line: violation.line,
            column: violation.column,
        }
    }
}

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The request contradicts the rules; every broken rule is listed.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// The caller is known and may not do this.
    #[error("the caller may not do this: {0}")]
    Forbidden(String),
    /// The addressed thing does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The addressed thing exists, or its key is taken by a tombstone.
    #[error("{0}")]
    Conflict(String),
    /// The caller's revision is not the current one.
    #[error("the revision sent is stale; the current one is {current}")]
    Stale {
        /// The revision to read, merge with and send.
        current: u64,
    },
    /// The request needs `If-Match` and has none.
    #[error("the request needs If-Match with the revision it is based on")]
    PreconditionRequired,
    /// Too much of something for now.
    #[error("{reason}")]
    RateLimited {
        /// Which limit.
        reason: String,
        /// Whole seconds until another try makes sense.
        retry_after_seconds: u32,
    },
    /// A part this needs is not there at the moment; nothing was changed.
    #[error("{reason}")]
    Unavailable {
        /// Which part.
        reason: String,
        /// Whole seconds until another try makes sense.
        retry_after_seconds: u32,
    },
    /// A broken promise inside. The detail goes to the log, never to the caller.
    #[error("internal error: {0}")]
    Internal(String),
}

impl AppError {
    /// One violation at one place.
    pub fn invalid(pointer: &str, code: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::at(pointer, code, message)])
    }
}

impl From<Vec<tidegate_flags::Violation>> for AppError {
    fn from(violations: Vec<tidegate_flags::Violation>) -> Self {
        Self::Invalid(violations.into_iter().map(Violation::from).collect())
    }
}
