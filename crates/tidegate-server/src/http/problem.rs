//! RFC 9457 problem documents: the one table from [`AppError`] to HTTP.
//!
//! `type` is stable and names a section of `docs/errors.md`; `violations` lists every broken rule
//! at once, each with a JSON pointer. An internal fault has a fixed body: its detail is logged.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::{AppError, Violation};

const CONTENT_TYPE_PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A problem document on its way out.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_revision: Option<u64>,
    /// What this kind of problem says beside that, under names of its own.
    #[serde(flatten)]
    more: Box<Map<String, Value>>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail,
            violations: Vec::new(),
            current_revision: None,
            more: Box::default(),
            retry_after_seconds: None,
        }
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// After how many whole seconds another try makes sense.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// Every broken rule with its place.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// All that is wrong as one text, for protocols that have no room for more.
    pub(crate) fn sentence(&self) -> String {
        if self.violations.is_empty() {
            return self.detail.clone();
        }
        let each = self.violations.iter().map(|violation| {
            let Violation {
                pointer, message, ..
            } = violation;
            if pointer.is_empty() {
                message.clone()
            } else {
                format!("{pointer}: {message}")
            }
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// No credential, or one that is not let in. Says nothing about why.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "/docs/errors#unauthenticated",
            "A valid credential is needed",
            "send a token as `Authorization: Bearer <token>` or `X-API-Key: <token>`".to_owned(),
        )
    }

    /// A webhook that does not prove its sender.
    pub(crate) fn unproven(detail: String) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "/docs/errors#unauthenticated",
            "The sender is not proven",
            detail,
        )
    }

    /// The body is larger than the route takes.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "/docs/errors#too-large",
            "The body is too large",
            format!("this route takes at most {limit} bytes; send less at a time"),
        )
    }

    /// A batch of which nothing could be taken; `said` is what the answer to any batch says.
    pub(crate) fn nothing_taken(status: StatusCode, detail: String, said: Value) -> Self {
        let mut problem = Self::new(
            status,
            "/docs/errors#nothing-taken",
            "Nothing of the batch could be taken",
            detail,
        );
        if let Value::Object(said) = said {
            problem.more = Box::new(said);
        }
        problem
    }

    /// The path is not written in its one canonical form.
    pub(crate) fn path_not_canonical() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "/docs/errors#path-not-canonical",
            "The path is not canonical",
            "write the path without empty, `.` or `..` segments and without encoded slashes"
                .to_owned(),
        )
    }

    /// The path names something in bytes that are no text.
    pub(crate) fn path_not_text() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "/docs/errors#path-not-canonical",
            "The path is not text",
            "what a path encodes with % must be UTF-8".to_owned(),
        )
    }

    /// What the framework could not read, in its own words.
    pub(crate) fn unreadable(status: StatusCode, detail: &str) -> Self {
        if status.is_server_error() {
            return AppError::Internal(detail.to_owned()).into();
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Self::unsupported_media_type(detail.to_owned());
        }
        let rule = Violation::at("", "unreadable", detail);
        AppError::Invalid(vec![rule]).into()
    }

    /// A body of a kind that the route does not read.
    pub(crate) fn unsupported_media_type(detail: String) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "/docs/errors#unsupported-media-type",
            "The body is of another kind",
            detail,
        )
    }

    /// The caller is known, and not let in here.
    pub(crate) fn forbidden(reason: String) -> Self {
        AppError::Forbidden(reason).into()
    }

    /// The caller sends more than its limit.
    pub(crate) fn too_often(retry_after_seconds: u32) -> Self {
        let reason = "this credential sends more requests than its limit".to_owned();
        AppError::RateLimited {
            reason,
            retry_after_seconds,
        }
        .into()
    }

    /// Every connection is taken, and this one is kept for stops.
    pub(crate) fn crowded() -> Self {
        let reason = "every connection is taken, and the few left are for stops".to_owned();
        AppError::Unavailable {
            reason,
            retry_after_seconds: 1,
        }
        .into()
    }

    /// A request to a door without sign-in that a page from elsewhere made.
    pub(crate) fn foreign_page() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "/docs/errors#forbidden",
            "Not from this machine",
            "without sign-in only programs and pages of this machine are answered".to_owned(),
        )
    }

    /// A port of this machine, addressed by a name that is none of this machine's.
    pub(crate) fn misdirected() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "/docs/errors#misdirected",
            "Addressed to another machine",
            "this port is for programs on this machine; address it as localhost".to_owned(),
        )
    }

    /// Nothing lives at the path.
    pub(crate) fn no_such_route(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "/docs/errors#not-found",
            "Nothing lives here",
            format!("{path:?} is not a path of this server; see /api/v1/openapi.json"),
        )
    }

    /// The path exists, the method does not.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "/docs/errors#method-not-allowed",
            "The path does not take this method",
            "see the Allow header for those it takes".to_owned(),
        )
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        match error {
            AppError::Invalid(violations) => {
                let detail = match violations.as_slice() {
                    [only] => only.message.clone(),
                    many => format!("{} rules are broken; each is listed", many.len()),
                };
                let mut problem = Self::new(
                    StatusCode::BAD_REQUEST,
                    "/docs/errors#invalid",
                    "The request is invalid",
                    detail,
                );
                problem.violations = violations;
                problem
            }
            AppError::Forbidden(_) => Self::new(
                StatusCode::FORBIDDEN,
                "/docs/errors#forbidden",
                "The caller may not do this",
                detail,
            ),
            AppError::NotFound(_) => Self::new(
                StatusCode::NOT_FOUND,
                "/docs/errors#not-found",
                "Not found",
                detail,
            ),
            AppError::Conflict(_) => Self::new(
                StatusCode::CONFLICT,
                "/docs/errors#conflict",
                "Conflict",
                detail,
            ),
            AppError::Stale { current } => {
                let mut problem = Self::new(
                    StatusCode::PRECONDITION_FAILED,
                    "/docs/errors#stale",
                    "Somebody changed it first",
                    format!(
                        "{detail}; read it, merge, and send again with If-Match: \"{current}\""
                    ),
                );
                problem.current_revision = Some(current);
                problem
            }
            AppError::PreconditionRequired => Self::new(
                StatusCode::PRECONDITION_REQUIRED,
                "/docs/errors#precondition-required",
                "If-Match is needed",
                format!("{detail}, or `If-None-Match: *` to create"),
            ),
            AppError::RateLimited {
                retry_after_seconds,
                ..
            } => {
                let mut problem = Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "/docs/errors#rate-limited",
                    "Too many requests",
                    detail,
                );
                problem.retry_after_seconds = Some(retry_after_seconds);
                problem
            }
            AppError::Unavailable {
                retry_after_seconds,
                ..
            } => {
                let mut problem = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "/docs/errors#unavailable",
                    "A needed part is not available",
                    detail,
                );
                problem.retry_after_seconds = Some(retry_after_seconds);
                problem
            }
            AppError::Internal(_) => {
                tracing::error!(error = %detail, "a use case failed inside");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "/docs/errors#internal",
                    "Something is wrong inside",
                    "the server's log has the detail; nothing was changed".to_owned(),
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after = self.retry_after_seconds;
        let mut response = (status, Json(self)).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, CONTENT_TYPE_PROBLEM);
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
