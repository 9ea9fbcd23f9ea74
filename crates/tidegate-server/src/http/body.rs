//! Bodies of requests: bytes within limits, JSON read strictly.
//!
//! Strictly: no duplicate key silently wins, nesting is bounded before anything is built, and a
//! syntax error is answered with its line and column.

use serde_json::Value;
use tidegate_flags::{Limits, parse_json};

use crate::app::AppError;

/// The JSON document in `bytes`.
///
/// # Errors
/// Every violation of form, with its place.
pub(crate) fn json(bytes: &[u8], limits: &Limits) -> Result<Value, AppError> {
    parse_json(bytes, limits).map_err(|violation| AppError::Invalid(vec![violation.into()]))
}
