//! Rows of a table (CSV) read as rows of the log, by a mapping from fields to columns.
//!
//! A mapping is compiled against the table's header once; then each record becomes one event or one
//! [`RowProblem`] that names the column, the cause and the cure.
//! A row without an id of its own gets one made of its content, so the same file read twice is the same
//! deliveries.
//!
//! Must not know: files, CSV quoting, the log.

mod kinds;
mod mapping;

pub use kinds::{ALL_KINDS, RowKind};
pub use mapping::{MappingProblem, RowMapping};

use crate::moment::{Moment, MomentError};

/// Why one record is not a row of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?}: {cause}; {cure}")]
pub struct RowProblem {
    /// Column by its name in the table.
    pub column: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub cure: &'static str,
}

/// Integers below this are seconds since 1970, above it milliseconds (year 5138 in seconds, 1973 in milliseconds).
const SECONDS_BELOW: i64 = 100_000_000_000;

/// Reads a time as tables write it: seconds or milliseconds since 1970, RFC 3339, or a date.
///
/// # Errors
/// [`MomentError`] names what was read.
pub fn read_time(text: &str) -> Result<Moment, MomentError> {
    match text.trim().parse::<i64>() {
        Ok(number) if number.abs() < SECONDS_BELOW => Moment::from_seconds(number).plausible(),
        Ok(number) => Moment::from_millis(number).plausible(),
        Err(_) => Moment::parse(text),
    }
}
