//! Refusals in the words of the protocol that was spoken.
//!
//! What is wrong is said once, as a [`Problem`]; each protocol has its own form for it. A call that
//! speaks gRPC is answered in gRPC wherever it knocked, because its client can read nothing else.
//! What the framework refuses by itself (a query, a path, a form, a body that proved too large) is
//! plain text at first; [`Speech::translate`] turns it into the same forms, for every route there
//! is and every route to come.

use axum::Json;
use axum::body::to_bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tonic::{Code, Status};

use super::problem::Problem;
use crate::grpc::is_grpc;
use crate::otlp::Encoding;
use crate::otlp::answer::Refusal;

/// The longest refusal of the framework that is repeated, in bytes.
const LONGEST_REFUSAL: usize = 4096;

/// In which words a refusal is answered, since each protocol has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// RFC 9457 problem documents.
    Problem,
    /// OFREP: `{"errorCode","errorDetails"}`; 401 and 403 carry no body.
    Ofrep,
    /// The OpenFeature manifest API: `{"error":{"message","status"}}`.
    Manifest,
    /// gRPC or Connect, whichever the request speaks.
    Rpc,
    /// OTLP: `google.rpc.Status` in the encoding of the request, or gRPC.
    Otlp,
}

impl Dialect {
    /// What is spoken at `path`, where no route says it.
    fn of_path(path: &str) -> Self {
        match path {
            path if path.starts_with("/ofrep/") => Self::Ofrep,
            path if path.starts_with("/openfeature/") => Self::Manifest,
            path if path.starts_with("/flagd.") => Self::Rpc,
            path if path.starts_with("/v1/") => Self::Otlp,
            path if path.starts_with("/opentelemetry.") => Self::Otlp,
            _ => Self::Problem,
        }
    }
}

/// How one request is answered where it is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speech {
    dialect: Dialect,
    is_grpc: bool,
    /// Of an OTLP request; JSON where it has none that is known.
    encoding: Encoding,
}

impl Speech {
    /// The words for a request with these headers on a route of `dialect`.
    pub(crate) fn new(dialect: Dialect, headers: &HeaderMap) -> Self {
        Self {
            dialect,
            is_grpc: is_grpc(headers),
            encoding: super::otlp::encoding_of(headers).unwrap_or(Encoding::Json),
        }
    }

    /// The words for a request that met no route.
    pub(crate) fn of_path(path: &str, headers: &HeaderMap) -> Self {
        Self::new(Dialect::of_path(path), headers)
    }

    /// Refuses.
    pub(crate) fn say(self, problem: Problem) -> Response {
        let retry_after = problem.retry_after_seconds();
        let mut response = match self.dialect {
            Dialect::Otlp => self.say_in_otlp(&problem),
            _ if self.is_grpc => status_of(&problem).into_http(),
            Dialect::Problem => return problem.into_response(),
            Dialect::Ofrep => in_ofrep(&problem),
            Dialect::Manifest => super::manifest::refusal(&problem),
            Dialect::Rpc => super::connect::refusal(problem.status(), &status_of(&problem)),
        };
        if let Some(seconds) = retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// In OTLP another try is announced in the body too.
    fn say_in_otlp(self, problem: &Problem) -> Response {
        let refusal = Refusal {
            http: problem.status().as_u16(),
            code: status_of(problem).code(),
            message: problem.sentence(),
            retry_after_seconds: problem.retry_after_seconds(),
        };
        match self.is_grpc {
            true => crate::grpc::otlp::refused(&refusal),
            false => super::otlp::refused(&refusal, self.encoding),
        }
    }

    /// `response`, unless it is a refusal of the framework's own: then the same in our words.
    /// `body_limit` is what the route takes.
    pub(crate) async fn translate(self, response: Response, body_limit: usize) -> Response {
        if !is_of_the_framework(&response) {
            return response;
        }
        let status = response.status();
        let text = to_bytes(response.into_body(), LONGEST_REFUSAL).await;
        let detail = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        self.say(match status {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(body_limit),
            _ => Problem::unreadable(status, &detail.unwrap_or_default()),
        })
    }
}

/// None of our refusals is plain text.
fn is_of_the_framework(response: &Response) -> bool {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    (status.is_client_error() || status.is_server_error())
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

fn in_ofrep(problem: &Problem) -> Response {
    let status = problem.status();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => status.into_response(),
        _ => {
            let said = json!({ "errorCode": "GENERAL", "errorDetails": problem.sentence() });
            (status, Json(said)).into_response()
        }
    }
}

fn status_of(problem: &Problem) -> Status {
    let code = match problem.status() {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_server_error() => Code::Internal,
        _ => Code::InvalidArgument,
    };
    Status::new(code, problem.sentence())
}
