//! What is answered, and how it is written down.
//!
//! A request that was taken is answered by 200 and an export response: empty if everything was
//! taken, else a partial success with the number of rejected records and the reasons. A number of
//! 0 with a message is a warning. A request that was not taken is answered by `google.rpc.Status`,
//! in the encoding of the request; over gRPC in the trailers. Clients try again by the code
//! alone, so the codes are chosen by that:
//!
//! | refusal | HTTP | gRPC | again? |
//! |---|---|---|---|
//! | malformed | 400 | INVALID_ARGUMENT | no |
//! | too large, too many records | 413 | RESOURCE_EXHAUSTED without RetryInfo | no |
//! | unknown type or encoding of content | 415 | INVALID_ARGUMENT, UNIMPLEMENTED | no |
//! | too much at once | 429 + Retry-After | RESOURCE_EXHAUSTED with RetryInfo | yes |
//! | the disk is full or broken | 503 + Retry-After | UNAVAILABLE with RetryInfo | yes |
//!
//! OTLP: opentelemetry-proto, `docs/specification.md`.

use std::fmt::Write as _;

use prost::Message;
use prost_types::Any;
use serde_json::json;
use tonic::Code;

use super::map::Tally;
use super::{Encoding, RequestError, Signal};
use crate::app::AppError;

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status over HTTP.
    pub http: u16,
    /// The status over gRPC, and the code in the body over HTTP.
    pub code: Code,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Seconds until another try makes sense; none if none does.
    pub retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// One that no repetition cures.
    #[must_use]
    pub fn for_good(http: u16, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            code,
            message: message.into(),
            retry_after_seconds: None,
        }
    }

    /// One that waiting cures.
    #[must_use]
    pub fn for_now(code: Code, message: impl Into<String>, seconds: u32) -> Self {
        Self {
            http: if code == Code::Unavailable { 503 } else { 429 },
            code,
            message: message.into(),
            retry_after_seconds: Some(seconds),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let (http, code) = match error {
            RequestError::Malformed { .. } => (400, Code::InvalidArgument),
            RequestError::TooLarge { .. } | RequestError::TooMany { .. } => {
                (413, Code::ResourceExhausted)
            }
        };
        Self::for_good(http, code, error.to_string())
    }
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        match error {
            AppError::RateLimited {
                reason,
                retry_after_seconds,
            } => Self::for_now(Code::ResourceExhausted, reason, retry_after_seconds),
            AppError::Unavailable {
                reason,
                retry_after_seconds,
            } => Self::for_now(Code::Unavailable, reason, retry_after_seconds),
            other => {
                tracing::error!(error = %other, "an export failed inside");
                let reason = "something is wrong inside; the server's log has the detail";
                Self::for_now(Code::Unavailable, reason, 5)
            }
        }
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// A code of gRPC.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What is wrong.
    #[prost(string, tag = "2")]
    pub message: String,
    /// More about it.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// A refusal as `google.rpc.Status`.
#[must_use]
pub fn rpc_status(refusal: &Refusal) -> RpcStatus {
    let retry_info = |seconds: u32| Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo {
            retry_delay: Some(prost_types::Duration {
                seconds: seconds.into(),
                nanos: 0,
            }),
        }
        .encode_to_vec(),
    };
    RpcStatus {
        code: refusal.code.into(),
        message: refusal.message.clone(),
        details: refusal
            .retry_after_seconds
            .map(retry_info)
            .into_iter()
            .collect(),
    }
}

/// A refusal as the body of an HTTP answer.
#[must_use]
pub fn refusal_body(refusal: &Refusal, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => rpc_status(refusal).encode_to_vec(),
        Encoding::Json => {
            let mut status = json!({ "code": i32::from(refusal.code), "message": refusal.message });
            if let Some(seconds) = refusal.retry_after_seconds {
                status["details"] = json!([{
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": format!("{seconds}s"),
                }]);
            }
            status.to_string().into_bytes()
        }
    }
}

/// What became of a request that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records rejected.
    pub rejected: usize,
    /// Why, or a warning; empty if there is nothing to say.
    pub message: String,
}

impl From<&Tally> for Taken {
    fn from(tally: &Tally) -> Self {
        let mut message = tally.reasons.join("; ");
        if tally.quarantined > 0 {
            let separator = if message.is_empty() { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(
                message,
                "{separator}{} events claim to be more than a day ahead and are set apart; \
                 check the sender's clock",
                tally.quarantined
            );
        }
        Self {
            rejected: tally.rejected,
            message,
        }
    }
}

/// `ExportLogsPartialSuccess` and its sisters, which differ in names only.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `ExportLogsServiceResponse` and its sisters.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// The export response.
#[must_use]
pub fn success_body(taken: &Taken, signal: Signal, encoding: Encoding) -> Vec<u8> {
    let is_full = taken.rejected == 0 && taken.message.is_empty();
    match encoding {
        Encoding::Protobuf => {
            let partial = PartialSuccess {
                rejected: i64::try_from(taken.rejected).unwrap_or(i64::MAX),
                message: taken.message.clone(),
            };
            let partial_success = (!is_full).then_some(partial);
            ExportResponse { partial_success }.encode_to_vec()
        }
        Encoding::Json if is_full => b"{}".to_vec(),
        Encoding::Json => {
            let rejected = match signal {
                Signal::Logs => "rejectedLogRecords",
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
            };
            // A whole number of 64 bits is text in protobuf's JSON.
            let partial = json!({
                rejected: taken.rejected.to_string(),
                "errorMessage": taken.message,
            });
            json!({ "partialSuccess": partial })
                .to_string()
                .into_bytes()
        }
    }
}
