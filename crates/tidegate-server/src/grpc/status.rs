//! How a failure reads over gRPC: the one table from our words to status codes.
//!
//! Clients of flagd act on the code alone: NOT_FOUND is FLAG_NOT_FOUND, INVALID_ARGUMENT is
//! TYPE_MISMATCH, DATA_LOSS is PARSE_ERROR, UNKNOWN is GENERAL. They retry UNAVAILABLE and UNKNOWN
//! three times with growing pauses, so a failure that repeating cannot cure avoids both where
//! the table leaves a choice. The message names OpenFeature's own code, which the status cannot.

use tidegate_flags::ErrorCode;
use tonic::{Code, Status};

use crate::access::Refusal;

/// The status of a failed evaluation.
#[must_use]
pub(crate) fn of_evaluation(code: ErrorCode, detail: &str) -> Status {
    let status = match code {
        ErrorCode::FlagNotFound => Code::NotFound,
        ErrorCode::TypeMismatch | ErrorCode::TargetingKeyMissing | ErrorCode::InvalidContext => {
            Code::InvalidArgument
        }
        ErrorCode::ParseError => Code::DataLoss,
        _ => Code::Unknown,
    };
    Status::new(status, format!("{}: {detail}", code.as_str()))
}

/// The status of a flag that does not exist, or that the selector leaves out.
#[must_use]
pub(crate) fn flag_not_found(key: &str) -> Status {
    of_evaluation(
        ErrorCode::FlagNotFound,
        &format!("there is no flag {key:?} in the selection"),
    )
}

/// The end of a stream whose caller is not let in any more. Why is for the log.
#[must_use]
pub(crate) fn dismissed(refusal: Refusal) -> Status {
    tracing::debug!(%refusal, "a stream was ended");
    Status::unauthenticated("the token that opened the stream is not let in any more")
}
