//! What SQLite says, in the terms of [`StoreError`].
//!
//! | result code | meaning here |
//! |---|---|
//! | `BUSY`, `LOCKED`, pool timeout | waited long enough: unavailable, retry |
//! | `FULL` | the disk or the size limit is full: unavailable, retry once there is room |
//! | `READONLY`, `CANTOPEN`, all else | an operator must act: unavailable, no retry |
//! | `IOERR` | the disk failed: unavailable, no retry, and the store stops writing |
//! | `CORRUPT`, `NOTADB`, a value that cannot be decoded | corrupt |
//!
//! A failure before `COMMIT` wrote nothing.
//! A failure of `COMMIT` itself may have: the frames may be in the log and only the sync may
//! have failed, so only `BUSY` is then certain.

use sqlx::error::DatabaseError;

use crate::error::StoreError;

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOTADB: u32 = 26;

impl From<sqlx::Error> for StoreError {
    /// A failure of anything but `COMMIT`.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => {
                unavailable(true, "another write holds the database for too long")
            }
            sqlx::Error::ColumnDecode { index, source } => {
                Self::corrupt(format!("column {index}"), source.to_string())
            }
            sqlx::Error::Decode(source) => Self::corrupt("a row", source.to_string()),
            sqlx::Error::Database(database) => from_code(database.as_ref()),
            _ => unavailable(false, &error.to_string()),
        }
    }
}

fn from_code(error: &dyn DatabaseError) -> StoreError {
    let reason = error.message();
    match primary_code(error) {
        Some(BUSY | LOCKED | FULL) => unavailable(true, reason),
        Some(CORRUPT | NOTADB) => StoreError::corrupt("the database file", reason),
        _ => unavailable(false, reason),
    }
}

/// A failure of `COMMIT`.
pub(super) fn of_commit(error: sqlx::Error) -> StoreError {
    let was_only_busy = code_of(&error).is_some_and(|code| code == BUSY);
    match StoreError::from(error) {
        StoreError::Unavailable {
            retryable, reason, ..
        } => StoreError::Unavailable {
            retryable,
            not_applied: was_only_busy,
            reason,
        },
        StoreError::Corrupt { place, reason } => StoreError::Unavailable {
            retryable: false,
            not_applied: false,
            reason: format!("{place}: {reason}"),
        },
        other => other,
    }
}

/// Whether the disk itself failed, after which nothing that was not synced may be relied on.
pub(super) fn is_disk_failure(error: &sqlx::Error) -> bool {
    code_of(error) == Some(IOERR)
}

fn code_of(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error().and_then(primary_code)
}

/// The low byte of the extended result code.
fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    let code = error.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

/// A failure that wrote nothing.
pub(super) fn unavailable(retryable: bool, reason: &str) -> StoreError {
    StoreError::Unavailable {
        retryable,
        not_applied: true,
        reason: reason.to_owned(),
    }
}
