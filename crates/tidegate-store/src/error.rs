//! What can go wrong in the store, told so that the caller can act.
//!
//! A caller asks three things of a failed call: what state am I in conflict with, may I try
//! again, and is it certain that nothing was written.
//! The enum answers the first; [`StoreError::is_retryable`] and
//! [`StoreError::is_certainly_not_applied`] answer the others.
//! Detail about the engine stays in the text, so that no caller can come to depend on it.

use crate::key::KeyError;

/// Result of every store operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// Failure of a store operation.
///
/// `Display` reads after "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The expected revision is not the current one; nothing was written.
    #[error("the object changed meanwhile: its revision is {current}")]
    Stale {
        /// Revision (or sequence) that is current.
        current: u64,
    },
    /// The thing addressed was never there; nothing was written.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for, such as `flag new-checkout`.
        what: String,
    },
    /// Creation of something that is there already; nothing was written.
    #[error("{what} exists already")]
    Exists {
        /// What was to be created.
        what: String,
        /// Revision of the one that exists.
        current: u64,
    },
    /// The key was deleted and may not be reused without an explicit revival; nothing was written.
    #[error("{what} was deleted; a deleted key is reused only by reviving it")]
    Tombstoned {
        /// What was to be written.
        what: String,
        /// Revision of the tombstone, the one to expect in a revival.
        revision: u64,
    },
    /// The request cannot be stored whatever the state is; nothing was written.
    #[error("{field} cannot be stored: {reason}")]
    Invalid {
        /// Name of the offending field, as in the Rust type.
        field: &'static str,
        /// Why, with the limit that was passed.
        reason: String,
    },
    /// The storage did not do its work: full, locked too long, read-only, failing.
    #[error("storage is unavailable: {reason}")]
    Unavailable {
        /// Whether the same call may succeed later without an operator's help.
        retryable: bool,
        /// Whether it is certain that nothing was written.
        not_applied: bool,
        /// What the engine said.
        reason: String,
    },
    /// What was read is not what was written.
    #[error("{place} is corrupt: {reason}")]
    Corrupt {
        /// Table and key, or file, that is damaged.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a newer program.
    #[error(
        "the schema is version {found} and this program knows versions up to {supported}; \
         start the program that wrote it, or restore the backup taken before the upgrade"
    )]
    SchemaTooNew {
        /// Version found in the file.
        found: i64,
        /// Highest version this program opens.
        supported: i64,
    },
}

impl StoreError {
    /// Whether repeating the identical call may succeed without anyone repairing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                retryable: true,
                ..
            }
        )
    }

    /// Whether it is certain that the call wrote nothing.
    ///
    /// False only where the engine failed while making the transaction durable: then the
    /// caller repeats the call with the same idempotency key, or reads to find out.
    pub fn is_certainly_not_applied(&self) -> bool {
        !matches!(
            self,
            Self::Unavailable {
                not_applied: false,
                ..
            }
        )
    }

    /// An [`StoreError::Invalid`] about `field`.
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    /// An [`StoreError::Corrupt`] about `place`.
    pub(crate) fn corrupt(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// An [`StoreError::NotFound`] about `what`.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }
}

impl From<KeyError> for StoreError {
    fn from(error: KeyError) -> Self {
        Self::Invalid {
            field: "key",
            reason: error.to_string(),
        }
    }
}
